--- A game whose handlers do what games do wrong. Its stdout: "problem …" per on_error, and every 20 turns of its loop
--- "turn <how many> <seconds of the longest poll> <KiB of memory>".
---
---   HURRY=20        its clock runs so many times as fast
---   NO_DNS=1        asking the DNS is an error
---   DESCRIPTORS=n   it has so many files open before it joins

local socket = require "socket"

local real, began, set_by = socket.gettime, socket.gettime(), 0
local hurry = tonumber(os.getenv "HURRY" or 1)
function socket.gettime() return began + (real() - began) * hurry + set_by end

if os.getenv "NO_DNS" then socket.dns.toip = error end

local files = {}
for i = 1, tonumber(os.getenv "DESCRIPTORS" or 0) do files[i] = assert(io.open "/dev/null") end

setmetatable(_G, { __newindex = function(_, name) error("the global " .. name) end })
local agent = require "agent"

local infos = {
  good = function() return { players = 3 } end,
  raises = function() error "no statistics" end,
  refuses = function() agent.refuse "not now" end,
  list = function() return { 1, 2 } end,
  number = function() return 5 end,
  huge = function() return { text = ("x"):rep(70000) } end,
  nan = function() return { load = 0 / 0 } end,
}
local info, kept, counted = infos.good, nil, 0

local app
app = agent.join {
  info = function() return info() end,
  on_error = function(text)
    print("problem " .. text:gsub("\n", "\\n"))
    io.flush()
    error "on_error fails as well"
  end,
}

local function command(name, handler, ...)
  app:command(name, { arguments = { ... } }, handler)
end

command("set_clock", function(args) set_by = set_by + args.by end, { name = "by", type = "float" })
command("set_info", function(args) info = infos[args.how] end, { name = "how" })
command("count", function() counted = counted + 1 return counted end)
command("raise", function() error "first line\nsecond line" end)
command("raise_table", function() error {} end)
command("raise_asleep", function() agent.sleep(0.01) error "asleep" end)
command("yield_elsewhere", function() coroutine.yield "CALL" end)
command("doze", function(args) agent.sleep(args.seconds) end, { name = "seconds", type = "float" })
command("yield", function() coroutine.yield() return "woke up" end)
command("answer_function", function() return { print } end)
command("answer_long", function(args) return ("x"):rep(args.bytes) end, { name = "bytes", type = "int" })
command("answer_false", function() return false end)
command("answer_nothing", function() end)
command("answer_then_raise", function(_, request) request:answer "answered" error "afterwards" end)
command("refuse", function() return nil, "no" end)
command("refuse_deep", function() (function() agent.refuse "no, deep down" end)() end)
command("refuse_table", function() return nil, {} end)
command("keep", function(_, request) kept = request return agent.later end)
command("release", function() return { kept:answer "at last", kept:answer "twice", kept:refuse "twice" } end)
command("flood", function(args)
  local sent, data = 0, ("x"):rep(8000)
  for i = 1, args.events do
    sent = sent + (app:event("flood", data) and 1 or 0)
    if i % 20 == 0 then agent.sleep(0) end
  end
  return sent
end, { name = "events", type = "int" })
command("bad_events", function()
  return { app:event("x", ("x"):rep(8192)), app:event("x", { print }), app:event(nil, 1), app:event("x", ("x"):rep(8190)) }
end)
command("progress", function()
  app.saving:progress(1, 2)
  app.saving:done()
  return app.saving:progress(2, 2)
end)
command("declare_more", function(args)
  for i = 1, 199 do app:command("more" .. i, { help = ("x"):rep(args.chars) }, print) end
end, { name = "chars", type = "int" })
command("poll_inside", function() app:poll() return "polled" end)
app:on_save(function() return agent.later end)
app:on_entry(function(open, reason)
  if not open then return false, reason end
end)

local turns, longest = 0, 0
while true do
  local before = real()
  app:poll()
  longest = math.max(longest, real() - before)
  turns = turns + 1
  if turns % 20 == 0 then
    print(("turn %d %.3f %d"):format(turns, longest, math.floor(collectgarbage "count")))
    io.flush()
  end
  socket.sleep(0.005)
end
