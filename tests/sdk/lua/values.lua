--- What Lua's own values become in JSON, and what cannot become any. Ends with an error at the first difference.

if os.getenv "COMMA" then -- what a locale does to the numbers of Lua 5.1 and 5.2, with no locale installed
  local plain_format, plain_tonumber = string.format, tonumber
  function string.format(pattern, ...) -- luacheck: ignore
    local text = plain_format(pattern, ...)
    if pattern:find("^%%%.%d+[gf]$") then text = text:gsub("%.", ",") end
    return text
  end
  function tonumber(text, base) -- luacheck: ignore
    if base then return plain_tonumber(text, base) end
    if type(text) == "string" and text:find(".", 1, true) then return nil end
    return plain_tonumber((text:gsub(",", ".")))
  end
end

local agent = require "agent"

local function is(value, json)
  local text, why = agent.encode(value)
  if text ~= json then error(("%s instead of %s (%s)"):format(tostring(text), json, tostring(why)), 2) end
end

local function isnt(value, pattern)
  local text, why = agent.encode(value)
  if text or not why:find(pattern) then error(("%s, %s: expected %s"):format(tostring(text), tostring(why), pattern), 2) end
end

local function nested(depth)
  local value = "x"
  for _ = 1, depth do value = { value } end
  return value
end

local itself = {}
itself[1] = itself

is(nil, "null")
is(agent.null, "null")
is({}, "{}")
is(agent.array {}, "[]")
is(agent.object {}, "{}")
is({ 1, agent.null, 3 }, "[1,null,3]")
is({ { {} }, agent.array() }, "[[{}],[]]")
is(agent.object { [7] = "x" }, '{"7":"x"}')
is(setmetatable({}, { __jsontype = "array" }), "[]") -- dkjson's
is(setmetatable({ a = 1 }, { __index = { b = 2 } }), '{"a":1}')
is('"\\/\b\f\n\r\t\0\31\127', [["\"\\/\b\f\n\r\t\u0000\u001f\u007f"]])
is("大区1😀", '"大区1😀"')
is("\255ok\192\128\237\160\128大\229\164", '"\239\191\189ok' .. ("\239\191\189"):rep(5) .. '大' .. ("\239\191\189"):rep(2) .. '"')
is(0.1, "0.1")
is(-1.5, "-1.5")
is(1 / 3, "0.3333333333333333")
is(0.1 + 0.2, "0.30000000000000004")
is(2 ^ 55, "3.602879701896397e+16")
is(2 ^ 53 - 1, math.type and "9007199254740991.0" or "9007199254740991")
is(123456789, "123456789")
is(5e-324, "4.94065645841247e-324")
is(1e300, "1e+300")
is(agent.int "9223372036854775807", "9223372036854775807")
is(agent.int "-9007199254740993", "-9007199254740993")
is(nested(64), ("["):rep(64) .. '"x"' .. ("]"):rep(64))

isnt(0 / 0, "NaN")
isnt(math.huge, "infinity")
isnt({ -math.huge }, "infinity")
isnt({ 1, nil, 3 }, "array has")
isnt({ 1, x = 2 }, "key x")
isnt({ [1001] = "ada" }, "agent.object")
isnt({ [true] = 1 }, "a boolean as key")
isnt({ print }, "a function is not JSON")
isnt({ x = coroutine.create(function() end) }, "a thread is not JSON")
isnt(nested(65), "nested deeper than 64")
isnt(itself, "nested deeper than 64")

assert(agent.decode '{"a":[1.25e2]}'.a[1] == 125)
assert(agent.decode "0.5" == 0.5)
assert(#agent.decode "[null,null]" == 2)
assert(tostring(agent.decode "9007199254740993") == "9007199254740993")
assert(agent.decode "9007199254740993" == agent.int "9007199254740993")
assert(not pcall(agent.int, "1.5") and not pcall(agent.int, "9223372036854775808"))
assert(agent.decode(nil) == nil)
