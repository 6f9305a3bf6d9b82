--- Joins its daemon, then prints how many microseconds a poll takes that has nothing to do.

local socket = require "socket"
local app = require "agent".join { info = function() return {} end }

while not (app:joined() and app.record.stream and not app.record.waiting) do
  app:poll()
  socket.sleep(0.01)
end
local count, before = 20000, os.clock()
for _ = 1, count do app:poll() end
print((os.clock() - before) / count * 1e6)
