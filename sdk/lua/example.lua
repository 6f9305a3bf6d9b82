--- A small game whose main loop takes 50 ms: how this SDK fits into one. What it can do is written in ../README.md.
--
--     AGENT_DAEMON=127.0.0.1:8889 AGENT_PROCESS=... lua5.4 sdk/lua/example.lua
--
-- Plain Lua cannot catch signals: SIGTERM ends it at once, after it has saved when the daemon stops it.

package.path = (arg[0]:match("^.*/") or "./") .. "?.lua;" .. package.path
local agent = require "agent"
local socket = require "socket"

local TICK_S = 0.05
local STEP_S = 0.1 -- of saving
local LEAVE_S = 0.2 -- one player, while nobody may come in

io.stdout:setvbuf("line")

local players = agent.array { 1001, 1002, 1003 }
local open, executed, leave_at = true, 0, 0

local app = agent.join {
  info = function() return { players = #players, map = "plains" } end,
  on_error = function(text) print("agent: " .. text) end,
}

local function remove(player)
  for i, there in ipairs(players) do
    if there == player then return table.remove(players, i) end
  end
  agent.refuse("no player " .. tostring(player))
end

--- A command that counts as executed.
local function command(name, spec, handler)
  app:command(name, spec, function(args, request)
    executed = executed + 1
    return handler(args, request)
  end)
end

app:command("status", { help = "what goes on here", danger = "read", answer = "{players, map, open, executed}" }, function()
  return { players = #players, map = "plains", open = open, executed = executed }
end)

command("kick", {
  help = "throw a player out",
  answer = "{kicked, reason}",
  arguments = {
    { name = "player", type = "int", help = "player id" },
    { name = "reason", default = "no reason given" },
  },
}, function(args)
  remove(args.player)
  app:event("player_left", { player = args.player })
  return { kicked = args.player, reason = args.reason }
end)

command("broadcast", {
  help = "tell everybody something",
  answer = "{heard, text}",
  arguments = { { name = "text" } },
}, function(args)
  print("broadcast: " .. args.text)
  io.flush()
  return { heard = #players, text = args.text }
end)

command("give", {
  help = "give a player something",
  answer = "its arguments",
  arguments = {
    { name = "player", type = "int" },
    { name = "item" },
    { name = "count", type = "int", default = 1 },
    { name = "rate", type = "float", default = 1.0 },
    { name = "silent", type = "bool", default = false },
    { name = "extra", type = "json", default = agent.null },
  },
}, function(args)
  return args
end)

command("unlock", {
  help = "open the vault",
  danger = "red",
  answer = "{unlocked}",
  arguments = { { name = "password", secret = true } },
}, function(args)
  if args.password ~= "open sesame" then return nil, "wrong password" end
  return { unlocked = true }
end)

command("slow", {
  help = "answer after so many seconds",
  answer = "{slept}",
  arguments = { { name = "seconds", type = "float" } },
}, function(args)
  agent.sleep(args.seconds) -- the game goes on meanwhile
  return { slept = args.seconds }
end)

command("crash", { help = "end at once with exit code 3", danger = "red" }, function()
  os.exit(3)
end)

local how = os.getenv("GAME_SAVE") or ""
app:on_save(function(save)
  if how == "decline" then return nil, "a match is running" end
  if how == "silent" then return agent.later end -- and never done
  local steps = tonumber(how) or 5
  for step = 1, steps do
    agent.sleep(STEP_S)
    save:progress(step, steps, "players")
    if how == "die" and step == 2 then os.exit(4) end
  end
  return "saved " .. #players .. " players"
end)

app:on_entry(function(now_open, reason)
  open, leave_at = now_open, socket.gettime() + LEAVE_S
  return open and "open" or "closed: " .. reason
end)

local function tick()
  if not open and not os.getenv("GAME_STAY") and #players > 0 and socket.gettime() >= leave_at then
    table.remove(players)
    leave_at = socket.gettime() + LEAVE_S
  end
end

local announced = false
while true do
  tick()
  app:poll()
  announced = announced or app:event("server_started", { map = "plains" })
  socket.sleep(TICK_S)
end
