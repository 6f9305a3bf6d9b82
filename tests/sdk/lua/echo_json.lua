--- Each line of stdin is a JSON text in hexadecimal; the same line of stdout is "ok " and what it is encoded as, or "no "
--- and why it is not JSON.

local agent = require "agent"

local function unhex(line)
  return (line:gsub("%x%x", function(two) return string.char(tonumber(two, 16)) end))
end

for line in io.lines() do
  local value, why = agent.decode(unhex(line))
  if value == nil then
    print("no " .. why)
  else
    print("ok " .. (agent.encode(value):gsub(".", function(c) return ("%02x"):format(c:byte()) end)))
  end
end
