-- A game in Lua that has nothing to do: lua host.lua FOLDER_OF_THE_SDK, with AGENT_… in its environment (bench/poll.py).
-- An order on stdin, `TURN PAUSE_MS COUNT`: so many turns of `sdk` or `nothing`; answered with µs of CPU time for each.

package.path = arg[1] .. "/?.lua;" .. package.path
local agent = require "agent"
local socket = require "socket"

local MOST_TURNS = 10000 -- until it has joined
local FIRST_TURNS = 50 -- after it has joined: globaldb is reached, the record written

local app = agent.join { info = function() return { host = "bench", players = 0 } end }

local function sdk() app:poll() end
local turns = { sdk = sdk, nothing = function() end }

local function us(turn, pause_s, count)
  local began = os.clock() -- CPU time
  if pause_s > 0 then
    for _ = 1, count do
      turn()
      socket.sleep(pause_s)
    end
  else
    for _ = 1, count do turn() end
  end
  return (os.clock() - began) / count * 1e6
end

local function say(what)
  io.write(what, "\n")
  io.flush()
end

for _ = 1, MOST_TURNS do
  if app:joined() then break end
  us(sdk, 0.001, 1)
end
if not app:joined() then error "the daemon does not let us in" end
us(sdk, 0.01, FIRST_TURNS)
say "joined"
for line in io.lines() do
  local turn, pause_ms, count = line:match "(%S+) (%S+) (%S+)"
  say(us(turns[turn], pause_ms / 1000, tonumber(count)))
end
