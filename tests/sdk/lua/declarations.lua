--- Every declaration that breaks the contract raises, at the line that made it, and says what is wrong.

local agent = require "agent"

local function nothing() end

local function wrong(pattern, name, spec, handler)
  local app = agent.join {}
  local ok, why = pcall(function() app:command(name, spec, handler or nothing) end)
  if ok or not why:find(pattern) or not why:find("^[^:]*declarations.lua:%d+: command ") then
    error(("%s: expected %s"):format(tostring(why), pattern), 2)
  end
end

local function wrong_argument(pattern, argument)
  wrong("argument 1: .*" .. pattern, "kick", { arguments = { argument } })
end

local function right(name, spec)
  agent.join {}:command(name, spec, nothing)
end

local function many(count)
  local arguments = {}
  for i = 1, count do arguments[i] = { name = "a" .. i } end
  return arguments
end

wrong("its name", "", {})
wrong("its name", nil, {})
wrong("its name", "1up", {})
wrong("its name", "a b", {})
wrong("its name", "剑", {})
wrong("its name", ("x"):rep(65), {})
wrong("agent's own", "help", {})
wrong("not a table", "kick", "throws a player out")
wrong("handler is not a function", "kick", {}, 5)
wrong("no field hlep", "kick", { hlep = "x" })
wrong("help is not one line", "kick", { help = "two\nlines" })
wrong("help is not one line", "kick", { help = ("剑"):rep(201) })
wrong("help is not one line", "kick", { help = "\255" })
wrong("answer is not one line", "kick", { answer = 5 })
wrong("danger is none of", "kick", { danger = "deadly" })
wrong("arguments is not a list", "kick", { arguments = 5 })
wrong("arguments is not a list", "kick", { arguments = { player = "int" } })
wrong("more than 32", "kick", { arguments = many(33) })
wrong("two arguments", "kick", { arguments = { { name = "a" }, { name = "a" } } })
wrong_argument("not a table", "player")
wrong_argument("its name", {})
wrong_argument("type is none of", { name = "a", type = "number" })
wrong_argument("no field defualt", { name = "a", defualt = 1 })
wrong_argument("secret is not", { name = "a", secret = 1 })
wrong_argument("help is not one line", { name = "a", help = "\0" })
wrong_argument("default is not of the type str", { name = "a", default = 1 })
wrong_argument("default is not of the type int", { name = "a", type = "int", default = 1.5 })
wrong_argument("default is not of the type int", { name = "a", type = "int", default = 2 ^ 60 + 0.0 })
wrong_argument("default is not of the type float", { name = "a", type = "float", default = 0 / 0 })
wrong_argument("default is not of the type bool", { name = "a", type = "bool", default = "yes" })
wrong_argument("a function is not JSON", { name = "a", type = "json", default = { print } })
wrong_argument("more than 1000 bytes", { name = "a", default = ("x"):rep(1000) })

right(("x"):rep(64), { help = ("剑"):rep(200), danger = "red", answer = "{}", arguments = many(32) })
right("a-b_C9", { arguments = { { name = "a", type = "int", default = agent.null }, { name = "b", type = "json", default = {} } } })

local app = agent.join {}
for i = 1, 200 do app:command("c" .. i, nothing) end
app:command("c7", nothing) -- takes the place of the first
local ok, why = pcall(app.command, app, "c201", nothing)
assert(not ok and why:find "more than 200 commands")
assert(not pcall(app.on_save, app, nil) and not pcall(app.on_entry, app, {}))
assert(not pcall(agent.join, { inof = nothing }) and not pcall(agent.join, { pid = "5" }) and not pcall(agent.join, 5))
