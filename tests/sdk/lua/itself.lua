--- On one machine TCP can connect a port to itself, where nobody listens; the other end would repeat every word.

local socket = require "socket"

local closed = 0
function socket.tcp()
  local sock = {}
  function sock.settimeout() end
  function sock.connect() return nil, "timeout" end
  function sock.getpeername() return "127.0.0.1", 40000 end
  function sock.getsockname() return "127.0.0.1", 40000 end
  function sock.setoption() error "taken for a connection" end
  function sock.close() closed = closed + 1 end
  return sock
end

local told = {}
local app = require "agent".join {
  environment = { AGENT_PROCESS = "大区1.192.168.1.11.game1", AGENT_DAEMON = "127.0.0.1:40000" },
  on_error = function(text) told[#told + 1] = text end,
}
for _ = 1, 5 do app:poll() end
assert(closed == 1 and #told == 1 and told[1]:find "itself", told[1])
