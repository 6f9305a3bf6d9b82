--- A game server of the example group: a small world with players, who talk, walk and own things.
--
--     lua5.4 gameserver.lua NAME HOST:PORT MAP FILES      FILES: what the name of each player's file begins with
--
-- One loop: the sockets of players (gates bring them), then the agent. What players say is in README.md.

local agent = require "agent"
local socket = require "socket"

local TICK_S = 0.05
local SIZE = 100 -- of the map, both ways
local MAX_LINE, MAX_WAITING = 1024, 65536 -- bytes: of a line, and for a player who does not read
local GOODBYE_S = 5 -- how long somebody may take to hang up, once he was told to
local SAVES_PER_TICK = 10

io.stdout:setvbuf "line"
local NAME, PLACE, MAP, FILES = table.unpack(arg)
assert(FILES, "usage: gameserver.lua NAME HOST:PORT MAP FILES")

local players, count = {}, 0 -- name -> player { name, x, y, items, connection }
local connections = {} -- socket -> connection { heard, waiting, player, ends_at }
local open, why_closed = true, ""

local app = agent.join { info = function() return { players = count, map = MAP, open = open } end }

-- ---- players and their files ----

local function store(player)
  local path = FILES .. player.name
  local file = assert(io.open(path .. ".new", "w"))
  file:write(("at %d %d\n"):format(player.x, player.y))
  for item, number in pairs(player.items) do
    file:write(("item %s %d\n"):format(item, number))
  end
  assert(file:close())
  assert(os.rename(path .. ".new", path)) -- the old file or the new one, never half of one
end

local function load_player(name)
  local player = { name = name, x = SIZE // 2, y = SIZE // 2, items = {} }
  local file = io.open(FILES .. name)
  if not file then return player end -- his first time here
  for line in file:lines() do
    local x, y = line:match "^at (%d+) (%d+)$"
    local item, number = line:match "^item ([%w_]+) (%-?%d+)$"
    if x then player.x, player.y = math.tointeger(x), math.tointeger(y) end
    if item then player.items[item] = math.tointeger(number) end
  end
  file:close()
  return player
end

-- ---- lines to players ----

local function tell(connection, ...)
  local line = table.concat({ ... }, " "):gsub("%c", " ") -- one line, whatever an operator has typed
  if #connection.waiting < MAX_WAITING then connection.waiting = connection.waiting .. line .. "\n" end
end

local function tell_all(...)
  for _, player in pairs(players) do
    tell(player.connection, ...)
  end
  return count
end

--- The last line to somebody. Closing at once, with lines of his unread, would take it back: he is to hang up.
local function dismiss(connection, ...)
  local player = connection.player
  if player then
    store(player)
    connection.player, players[player.name], count = nil, nil, count - 1
    if not open then
      print(("%s has left, %d are still here"):format(player.name, count))
      if count == 0 then app:event("empty", { reason = why_closed }) end
    end
  end
  tell(connection, ...)
  connection.ends_at = connection.ends_at or socket.gettime() + GOODBYE_S
end

-- ---- lines from players ----

local says = {} -- word -> function(player, rest of the line)

function says.say(player, text) tell_all("said", player.name, text) end

function says.move(player, rest)
  local dx, dy = rest:match "^(%-?%d) (%-?%d)$"
  if not dx then return tell(player.connection, "error say: move DX DY, one digit each") end
  player.x = math.max(0, math.min(SIZE - 1, player.x + math.tointeger(dx)))
  player.y = math.max(0, math.min(SIZE - 1, player.y + math.tointeger(dy)))
  tell(player.connection, "at", player.x, player.y)
end

function says.bye(player) dismiss(player.connection, "bye see you") end

local function enter(connection, line)
  local server, name = line:match "^enter (%S+) ([%w_]+)$" -- nothing else may become the name of a file
  if server ~= NAME or #name > 32 then return dismiss(connection, "no", NAME, "say: enter SERVER NAME") end
  if not open then return dismiss(connection, "no", NAME, why_closed) end
  if players[name] then return dismiss(connection, "no", NAME, "you are here already") end
  local player = load_player(name)
  players[name], count = player, count + 1
  player.connection, connection.player = connection, player
  tell(connection, "welcome", NAME, MAP, player.x, player.y)
end

local function hear(connection, line)
  if connection.ends_at then return end -- nobody hears him any more
  if not connection.player then return enter(connection, line) end
  local word, rest = line:match "^(%a+) ?(.*)$"
  if not says[word] then return tell(connection.player.connection, "error what is that?") end
  says[word](connection.player, rest)
end

-- ---- for operators ----

local function player_called(name) return players[name] or agent.refuse("no player " .. name .. " on " .. NAME) end

app:command("status", { help = "how the game is", danger = "read", answer = "{players, map, open}" }, function()
  return { players = count, map = MAP, open = open }
end)

app:command("broadcast", { help = "tell everybody on this map", answer = "{heard}", arguments = { { name = "text" } } },
  function(args) return { heard = tell_all("notice", args.text) } end)

app:command("kick", {
  help = "throw a player out",
  answer = "{kicked}",
  arguments = { { name = "player" }, { name = "reason", default = "no reason given" } },
}, function(args)
  dismiss(player_called(args.player).connection, "bye", args.reason)
  app:event("player_kicked", { player = args.player, reason = args.reason })
  return { kicked = args.player }
end)

app:command("give", {
  help = "give a player something",
  answer = "{player, item, now}",
  arguments = { { name = "player" }, { name = "item" }, { name = "count", type = "int", default = 1 } },
}, function(args)
  local player = player_called(args.player)
  if not args.item:match "^[%w_]+$" then return nil, "an item is letters, digits and _" end
  player.items[args.item] = (player.items[args.item] or 0) + args.count
  tell(player.connection, "item", args.item, player.items[args.item])
  return { player = player.name, item = args.item, now = player.items[args.item] }
end)

app:on_entry(function(now_open, reason)
  open, why_closed = now_open, reason
  if open then return "everybody may come in" end
  return ("nobody may come in, %d players are asked to leave"):format(tell_all("leave", NAME, reason))
end)

-- Saved and dismissed one by one: what somebody did after he was saved would be lost.
app:on_save(function(save)
  open, why_closed = false, "it is being stopped"
  local all, done = count, 0
  while next(players) do
    dismiss(select(2, next(players)).connection, "bye", NAME, "is being stopped, you are saved")
    done = done + 1
    save:progress(done, all, "players")
    if done % SAVES_PER_TICK == 0 then agent.sleep(TICK_S) end -- the loop goes on meanwhile
  end
  return all .. " players saved"
end)

-- ---- the loop ----

local function hang_up(sock, connection)
  dismiss(connection) -- saves him who is still here
  connections[sock] = nil
  sock:close()
end

--- false when he has hung up.
local function read(sock, connection)
  local data, err, part = sock:receive(8192)
  connection.heard = connection.heard .. (data or part)
  for line in connection.heard:gmatch "([^\n]*)\n" do
    hear(connection, line)
  end
  connection.heard = connection.heard:match "[^\n]*$"
  if #connection.heard > MAX_LINE then return false end
  return err ~= "closed"
end

local function write(sock, connection)
  local last, _, part = sock:send(connection.waiting)
  connection.waiting = connection.waiting:sub((last or part or 0) + 1)
end

local host, port = PLACE:match "^(.*):(%d+)$"
local door = assert(socket.bind(host, tonumber(port), 512))
door:settimeout(0)

while true do
  local readers, now = { door }, socket.gettime()
  for sock, connection in pairs(connections) do
    if connection.waiting ~= "" then write(sock, connection) end
    if connection.ends_at and connection.waiting == "" then sock:shutdown "send" end
    if connection.ends_at and now > connection.ends_at then hang_up(sock, connection) else readers[#readers + 1] = sock end
  end
  for _, sock in ipairs((socket.select(readers, nil, TICK_S))) do
    if sock == door then
      local new = door:accept()
      if new then new:settimeout(0) new:setoption("tcp-nodelay", true) connections[new] = { heard = "", waiting = "" } end
    elseif not read(sock, connections[sock]) then
      hang_up(sock, connections[sock])
    end
  end
  app:poll()
end
