--- Without AGENT_PROCESS nothing happens: no socket, no output, no error.

local socket = require "socket"
local agent = require "agent"

function socket.tcp() error "a socket" end
socket.dns = setmetatable({}, { __index = function() error "the DNS" end })

local app = agent.join { info = function() error "info" end }
app:command("kick", function() end)
for _ = 1, 10 do app:poll() end
assert(app:event("server_started", {}) == false and app:joined() == false)
app:close()
