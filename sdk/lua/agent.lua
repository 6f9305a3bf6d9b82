--- What a game server in Lua needs to be run by `agent`: its record in globaldb, and a link to its daemon.
--
--     local agent = require "agent"
--     local app = agent.join { info = function() return { players = online } end }
--     app:command("kick", { arguments = { { name = "player", type = "int" } } }, function(args, request) ... end)
--     while true do  tick()  app:poll()  end
--
-- What goes over the wire is docs/sdk.md, to the byte; how to use this file is README.md beside it.
--
--     game loop ──► App:poll ──┬─► Record ──► Stream ──► globaldb   HMSET info pid lastupdate (goes on without a daemon)
--                              ├─► Link ────► Stream ──► daemon     frames: declare, answers, events
--                              └─► handlers that sleep              (coroutines)
--
-- Rules for the next editor:
-- * One file for Lua 5.1, 5.2, 5.3, 5.4 and LuaJIT, with LuaSocket and nothing else. No globals.
-- * poll() never waits: every socket has the time-out 0, and nothing but `resolve` may ask the DNS. It never raises
--   either: whatever a handler does ends in an ERROR frame and in on_error.
-- * Declarations do raise: they are the programmer's mistakes, and he is there to see them.
-- * The only clock is `new_clock`: LuaSocket knows the wall clock alone, and somebody will set it back.
-- * Nothing that the other end does may make a buffer grow: every one has its limit below.
-- * Numbers pass through the C locale's hands: format and read them with `encode_number` and `read_number` only.

local socket = require "socket"

local byte, char, find, format = string.byte, string.char, string.find, string.format
local gsub, match, rep, sub = string.gsub, string.match, string.rep, string.sub
local concat, insert = table.concat, table.insert
local floor, huge, min, max = math.floor, math.huge, math.min, math.max

local agent = { VERSION = "0.1.0" }

local MAX_DEPTH = 64
local MAX_FRAME_BYTES = 1024 * 1024
local MAX_QUEUE_BYTES = 1024 * 1024
local MAX_ANSWER_BYTES = 64 * 1024
local MAX_KEPT_BYTES = 4 * 1024 -- of an answer that is remembered
local MAX_KEPT_IDS = 1024
local MAX_EVENT_BYTES = 8 * 1024
local MAX_INFO_BYTES = 64 * 1024
local MAX_TEXT_BYTES = 1024 -- of a reason that operators read
local MAX_RESP_LINE_BYTES = 4 * 1024
local MAX_SLEEPING = 1000 -- handlers that sleep at the same time
local MAX_COMMANDS, MAX_ARGUMENTS, MAX_NAME_CHARS, MAX_LINE_CHARS, MAX_DEFAULT_BYTES = 200, 32, 64, 200, 1000

local READ_BYTES = 64 * 1024
local FRAMES_PER_POLL, BYTES_PER_POLL = 100, 256 * 1024 -- then the game has its turn; the rest is read at the next poll
local PROGRESS_PER_SECOND = 50

local CONNECT_S, JOIN_S, ANSWER_S = 5, 10, 5
local LINK_RETRY_S, LINK_RETRY_MAX_S = 0.2, 5
local RECORD_RETRY_S, RECORD_RETRY_MAX_S = 1, 10
local HEARTBEAT_S, HEARTBEAT_MIN_S, HEARTBEAT_MAX_S = 5, 0.05, 3600
local EARLY = 0.9 -- a heartbeat is due after this part of its time: the poll that sends it may come late
local MAX_STEP_S = 10 -- the longest wait of this file but the heartbeat

---- text ------------------------------------------------------------------------------------------------------------

local REPLACEMENT = "\239\191\189" -- U+FFFD

-- Well-formed UTF-8 (Unicode, table 3-7): no overlong forms, no surrogates, nothing above U+10FFFF.
local SEQUENCES = {
  "^[%z\1-\127]+()",
  "^[\225-\236\238\239][\128-\191][\128-\191]()",
  "^[\194-\223][\128-\191]()",
  "^\224[\160-\191][\128-\191]()",
  "^\237[\128-\159][\128-\191]()",
  "^\240[\144-\191][\128-\191][\128-\191]()",
  "^[\241-\243][\128-\191][\128-\191][\128-\191]()",
  "^\244[\128-\143][\128-\191][\128-\191]()",
}

local function sequence_end(text, i)
  for k = 1, #SEQUENCES do
    local after = match(text, SEQUENCES[k], i)
    if after then return after end
  end
end

--- The same text, with U+FFFD where it is not UTF-8: one wrong name in an answer must not cost the answer.
local function scrub(text)
  if not find(text, "[\128-\255]") then return text end
  local parts, from, i = {}, 1, 1
  while i <= #text do
    local after = sequence_end(text, i)
    if not after then
      parts[#parts + 1] = sub(text, from, i - 1) .. REPLACEMENT
      from, after = i + 1, i + 1
    end
    i = after
  end
  if #parts == 0 then return text end
  return concat(parts) .. sub(text, from)
end

local function utf8_char(code)
  if code < 0x80 then return char(code) end
  local tail = char(0x80 + code % 0x40)
  code = floor(code / 0x40)
  if code < 0x20 then return char(0xC0 + code) .. tail end
  tail = char(0x80 + code % 0x40) .. tail
  code = floor(code / 0x40)
  if code < 0x10 then return char(0xE0 + code) .. tail end
  return char(0xF0 + floor(code / 0x40), 0x80 + code % 0x40) .. tail
end

--- At most MAX_TEXT_BYTES of whatever a handler gave as text, cut between characters.
local function reason_text(value)
  local ok, text = pcall(tostring, value)
  text = ok and type(text) == "string" and text or "?"
  if #text > MAX_TEXT_BYTES then text = gsub(sub(text, 1, MAX_TEXT_BYTES), "[\192-\255]?[\128-\191]*$", "") end
  return scrub(text)
end

local function trace(problem)
  return debug.traceback(reason_text(problem), 2)
end

---- JSON ------------------------------------------------------------------------------------------------------------
-- agent.null is null. An empty table is an object unless it is an agent.array(); decoded arrays are. An integer that
-- this Lua's numbers cannot hold exactly (5.1, 5.2 and LuaJIT beyond 2^53) is an agent.int: it has the digits, prints
-- them and is sent back as it came, and arithmetic on it is an error rather than somebody else's player id.

local null = setmetatable({}, { __tostring = function() return "null" end })
local Array = { __jsontype = "array" } -- the metafield is that of dkjson, whose marks are understood too
local Object = { __jsontype = "object" }
local Int = {
  __tostring = function(int) return int.digits end,
  __eq = function(a, b) return a.digits == b.digits end,
}
Int.__index = Int

agent.null = null
function agent.array(list) return setmetatable(list or {}, Array) end
function agent.object(map) return setmetatable(map or {}, Object) end

local math_type = math.type or function() return "float" end
local HAS_INTEGERS = math.type ~= nil
local EXACT = 9007199254740992 -- 2^53

-- Of two numbers without leading zeros the longer one is greater, and of the same length strings compare like numbers.
local function above(digits, limit)
  return #digits > #limit or #digits == #limit and digits > limit
end

--- The number that `text` writes; nil when it has more than 64 bits.
local function exact_int(text)
  local sign, digits = match(text, "^(%-?)0*(%d+)$")
  if above(digits, sign == "" and "9223372036854775807" or "9223372036854775808") then return nil end
  if HAS_INTEGERS or not above(digits, "9007199254740992") then return tonumber(sign .. digits) end
  return setmetatable({ digits = sign .. digits }, Int)
end

--- An integer of up to 64 bits from its digits: a number where this Lua holds it exactly, otherwise an agent.int.
function agent.int(text)
  local int = match(tostring(text), "^%-?%d+$") and exact_int(tostring(text))
  if not int then error("agent.int: not the digits of a whole number of 64 bits", 2) end
  return int
end

--- tonumber for "1.5" in a locale that writes 1,5: Lua 5.1 and 5.2 ask the C library.
local function read_number(text)
  local number = tonumber(text)
  if number then return number end
  return tonumber((gsub(text, "%.", match(format("%.1f", 0.5), "^0(.-)5$"))))
end

local function shortest(number)
  for digits = 15, 16 do
    local text = format("%." .. digits .. "g", number)
    if tonumber(text) == number then return text end
  end
  return format("%.17g", number)
end

local function encode_number(number)
  if number ~= number or number == huge or number == -huge then error("NaN and infinity are not JSON", 0) end
  if math_type(number) == "integer" then return format("%d", number) end
  if not HAS_INTEGERS and number % 1 == 0 and number < EXACT and number > -EXACT then return format("%.0f", number) end
  local text = gsub(shortest(number), "[^%d%+%-eE]+", ".")
  if HAS_INTEGERS and not find(text, "[%.eE]") then text = text .. ".0" end
  return text
end

--- Epoch seconds as text.
local function time_text(seconds)
  return (gsub(format("%.6f", seconds), "[^%d%-]+", "."))
end

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }
local UNESCAPES = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

local function escape(control)
  return ESCAPES[control] or format("\\u%04x", byte(control))
end

local function encode_string(text)
  return '"' .. gsub(scrub(text), '[%z\1-\31\127"\\]', escape) .. '"'
end

local encode_value

local function encode_array(list, out, depth)
  local count, there = #list, 0
  for key in pairs(list) do
    if type(key) ~= "number" or key < 1 or key > count or key % 1 ~= 0 then
      error("an array has the key " .. reason_text(key) .. ": fill holes with agent.null", 0)
    end
    there = there + 1
  end
  if there ~= count then error("an array has holes: fill them with agent.null", 0) end
  for i = 1, count do
    out[#out + 1] = i == 1 and "[" or ","
    encode_value(list[i], out, depth)
  end
  out[#out + 1] = count == 0 and "[]" or "]"
end

local function encode_key(key, marked)
  if type(key) == "string" then return encode_string(key) end
  if type(key) == "number" and marked then return '"' .. encode_number(key) .. '"' end
  if type(key) == "number" then error("a table has numbers as keys that are not 1, 2, 3…: make it an agent.object", 0) end
  error("a table has a " .. type(key) .. " as key", 0)
end

local function encode_object(map, out, depth, marked)
  local before = "{"
  for key, value in pairs(map) do
    out[#out + 1] = before .. encode_key(key, marked) .. ":"
    encode_value(value, out, depth)
    before = ","
  end
  out[#out + 1] = before == "{" and "{}" or "}"
end

local function encode_table(value, out, depth)
  local meta = getmetatable(value)
  if meta == Int then
    out[#out + 1] = value.digits
    return
  end
  if depth > MAX_DEPTH then error("nested deeper than " .. MAX_DEPTH, 0) end
  local mark = type(meta) == "table" and meta.__jsontype
  if mark == "array" or mark ~= "object" and value[1] ~= nil then return encode_array(value, out, depth + 1) end
  encode_object(value, out, depth + 1, mark == "object")
end

function encode_value(value, out, depth)
  local kind = type(value)
  if kind == "string" then out[#out + 1] = encode_string(value)
  elseif kind == "number" then out[#out + 1] = encode_number(value)
  elseif kind == "boolean" then out[#out + 1] = value and "true" or "false"
  elseif value == nil or rawequal(value, null) then out[#out + 1] = "null"
  elseif kind == "table" then encode_table(value, out, depth)
  else error("a " .. kind .. " is not JSON", 0) end
end

local function encoded(value, depth)
  local out = {}
  encode_value(value, out, depth or 1)
  return concat(out)
end

--- JSON, or nil and why not. `depth` is how deep in its document the value will stand.
function agent.encode(value, depth)
  local ok, text = pcall(encoded, value, depth)
  if ok then return text end
  return nil, reason_text(text)
end

local decode_value

local function wrong(i)
  error("not JSON at byte " .. i, 0)
end

local function skip_blanks(text, i)
  return find(text, "[^ \t\r\n]", i) or #text + 1
end

--- The character of \uXXXX (or of a pair of them) whose `u` is at i. Half a pair becomes U+FFFD.
local function decode_unicode(text, i)
  local code = tonumber(match(text, "^u(%x%x%x%x)", i) or wrong(i), 16)
  if code < 0xD800 or code > 0xDFFF then return utf8_char(code), i + 5 end
  local low = tonumber(match(text, "^\\u(%x%x%x%x)", i + 5) or "0", 16)
  if code > 0xDBFF or low < 0xDC00 or low > 0xDFFF then return REPLACEMENT, i + 5 end
  return utf8_char(0x10000 + (code - 0xD800) * 0x400 + (low - 0xDC00)), i + 11
end

local function decode_escape(text, i)
  local plain = UNESCAPES[sub(text, i, i)]
  if plain then return plain, i + 1 end
  return decode_unicode(text, i)
end

--- `i` is behind the opening quote.
local function decode_string(text, i)
  local parts
  while true do
    local stop = find(text, '[%z\1-\31"\\]', i) or wrong(#text + 1)
    local mark = byte(text, stop)
    if mark ~= 34 and mark ~= 92 then wrong(stop) end
    local plain = sub(text, i, stop - 1)
    if mark == 34 then return parts and concat(parts) .. plain or plain, stop + 1 end
    parts = parts or {}
    parts[#parts + 1] = plain
    parts[#parts + 1], i = decode_escape(text, stop + 1)
  end
end

local function decode_number(text, i)
  local whole, fraction, exponent, after = match(text, "^(%-?%d+)(%.?%d*)([eE]?[%+%-]?%d*)()", i)
  if not whole or match(whole, "^%-?0%d") or fraction == "." then wrong(i) end
  if exponent ~= "" and not match(exponent, "^[eE][%+%-]?%d+$") then
    if match(exponent, "^[eE]") then wrong(i) end
    after = after - #exponent -- a sign or digits that do not belong to it: whoever reads on says so
  end
  if fraction == "" and not match(exponent, "^[eE]") then
    return exact_int(whole) or error("an integer of more than 64 bits at byte " .. i, 0), after
  end
  local number = read_number(sub(text, i, after - 1)) or wrong(i)
  if number == huge or number == -huge then error("a number without bounds at byte " .. i, 0) end
  return number, after
end

local function decode_array(text, i, depth)
  local list, count = setmetatable({}, Array), 0
  i = skip_blanks(text, i)
  if byte(text, i) == 93 then return list, i + 1 end
  while true do
    count = count + 1
    list[count], i = decode_value(text, i, depth)
    i = skip_blanks(text, i)
    local mark = byte(text, i)
    if mark == 93 then return list, i + 1 end
    if mark ~= 44 then wrong(i) end
    i = i + 1
  end
end

local function decode_object(text, i, depth)
  local map, key = {}, nil
  i = skip_blanks(text, i)
  if byte(text, i) == 125 then return map, i + 1 end
  while true do
    i = skip_blanks(text, i)
    if byte(text, i) ~= 34 then wrong(i) end
    key, i = decode_string(text, i + 1)
    i = skip_blanks(text, i)
    if byte(text, i) ~= 58 then wrong(i) end
    map[key], i = decode_value(text, i + 1, depth)
    i = skip_blanks(text, i)
    local mark = byte(text, i)
    if mark == 125 then return map, i + 1 end
    if mark ~= 44 then wrong(i) end
    i = i + 1
  end
end

local WORDS = { t = { "true", true }, f = { "false", false }, n = { "null", null } }

function decode_value(text, i, depth)
  i = skip_blanks(text, i)
  local first = sub(text, i, i)
  if first == '"' then return decode_string(text, i + 1) end
  if first == "{" or first == "[" then
    if depth > MAX_DEPTH then error("nested deeper than " .. MAX_DEPTH, 0) end
    return (first == "{" and decode_object or decode_array)(text, i + 1, depth + 1)
  end
  local word = WORDS[first]
  if not word then return decode_number(text, i) end
  if sub(text, i, i + #word[1] - 1) ~= word[1] then wrong(i) end
  return word[2], i + #word[1]
end

local function decoded(text)
  local value, after = decode_value(text, 1, 1)
  after = skip_blanks(text, after)
  if after <= #text then wrong(after) end
  return value
end

--- The value, or nil and what is wrong with the text. null is agent.null.
function agent.decode(text)
  local ok, value = pcall(decoded, text)
  if ok then return value end
  return nil, reason_text(value)
end

---- the clock -------------------------------------------------------------------------------------------------------

--- Seconds that never go back. The wall clock is all there is, so its steps are added up: one back counts as none, one
--- of hours (somebody set the clock, or the machine slept) as MAX_STEP_S.
local function new_clock()
  local before, now = socket.gettime(), 0
  return function()
    local at = socket.gettime()
    local step = at - before
    before = at
    if step > 0 then now = now + min(step, MAX_STEP_S) end
    return now
  end
end

--- Seconds ± a quarter. Not math.random: that belongs to the game, which may have seeded it to play something again.
local function new_jitter(seed)
  local state = floor(seed) % 2147483647
  return function(seconds)
    state = (state * 16807 + 1) % 2147483647
    return seconds * (0.75 + 0.5 * state / 2147483647)
  end
end

---- addresses -------------------------------------------------------------------------------------------------------

local function is_numeric(host)
  if find(host, ":", 1, true) then return find(host, "^[%x:%.]+$") ~= nil end
  local parts = { match(host, "^(%d+)%.(%d+)%.(%d+)%.(%d+)$") }
  for _, part in ipairs(parts) do
    if #part > 3 or tonumber(part) > 255 then return false end
  end
  return #parts == 4
end

--- The numeric address of a host. The one place that may ask the DNS, which may take its time: where addresses become
--- known (agent.join, and once for a globaldb that the daemon tells by its name), never in order to connect again.
local function resolve(host)
  if is_numeric(host) then return host end
  local ok, ip = pcall(socket.dns.toip, host)
  return ok and ip or nil
end

--- "host:port", "[v6]:port" -> host, port; nil when it is neither.
local function parse_address(text, default_port)
  local host, port = match(text, "^%[([%x:%.]+)%](.*)$")
  if not host then host, port = match(text, "^([^:%[%]/@%s]+)(.*)$") end
  if not host then return nil end
  if port == "" and default_port then return host, default_port end
  port = tonumber(match(port, "^:(%d+)$") or "")
  if not port or port < 1 or port > 65535 then return nil end
  return host, port
end

local function unquote(text)
  return (gsub(text, "%%(%x%x)", function(hex) return char(tonumber(hex, 16)) end))
end

--- redis://[[user]:password@]host[:port] -> {host, port, user, password}; nil and what is wrong, without the password.
local function parse_url(url)
  local scheme, rest = match(url, "^(%a+)://(.*)$")
  if scheme == "rediss" then
    return nil, "rediss:// (TLS) cannot be spoken from Lua: the record is not reported from here, the link works"
  end
  if scheme ~= "redis" then return nil, "it is not redis://[[user]:password@]host[:port]" end
  local login, place = match(rest, "^(.*)@(.-)$")
  local host, port = parse_address(gsub(place or rest, "/0?$", ""), 6379)
  if not host then return nil, "it is not redis://[[user]:password@]host[:port]" end
  local user, password = match(login or "", "^([^:]*):?(.*)$")
  return { host = host, port = port, user = unquote(user), password = unquote(password) }
end

---- a connection that never waits -----------------------------------------------------------------------------------

local Stream = {}
Stream.__index = Stream

--- A connection under way to a numeric address; nil and why when it failed at once.
function Stream.open(ip, port)
  local sock, why = socket.tcp()
  if not sock then return nil, why end
  sock:settimeout(0)
  local connected, reason = sock:connect(ip, port)
  -- What other errors there are depends on the system ("timeout", "Operation already in progress"): finish_connect
  -- finds out whether one of them is final.
  if not connected and reason ~= "timeout" and not find(tostring(reason), "progress") then
    sock:close()
    return nil, reason
  end
  return setmetatable({ sock = sock, connecting = true, parts = {}, queued = 0, rest = "", sent = 0 }, Stream)
end

--- Not by select: it cannot look at descriptors above 1,023, which a game server has. An end that has a peer is
--- connected; otherwise SO_ERROR says whether there will ever be one.
function Stream:finish_connect()
  local ip, port = self.sock:getpeername()
  if not ip then
    local ok, failed = pcall(self.sock.getoption, self.sock, "error")
    if ok and failed then return false, failed end
    return true
  end
  local own_ip, own_port = self.sock:getsockname()
  if ip == own_ip and tostring(port) == tostring(own_port) then
    return false, "connected to itself" -- as TCP on one machine can, where nobody listens
  end
  self.sock:setoption("tcp-nodelay", true)
  self.connecting = false
  return true
end

--- Puts bytes into the queue; false when it is full.
function Stream:send(data)
  if self.queued + #data > MAX_QUEUE_BYTES then return false end
  self.parts[#self.parts + 1] = data
  self.queued = self.queued + #data
  return true
end

--- Goes on connecting or sending, as far as that goes at once; false and why when the connection is over.
function Stream:pump()
  if self.connecting then return self:finish_connect() end
  if self.queued == 0 then return true end
  if self.sent == #self.rest then
    self.rest, self.parts, self.sent = concat(self.parts), {}, 0
  end
  local last, why, reached = self.sock:send(self.rest, self.sent + 1)
  local now_sent = last or reached or self.sent
  self.queued = self.queued - (now_sent - self.sent)
  self.sent = now_sent
  if self.sent == #self.rest then self.rest, self.sent = "", 0 end
  if last or why == "timeout" then return true end
  return false, why
end

--- What has come, perhaps ""; nil and why when the connection is over.
function Stream:receive()
  local data, why, partial = self.sock:receive(READ_BYTES)
  if data then return data end
  if partial and partial ~= "" or why == "timeout" then return partial or "" end
  return nil, why
end

function Stream:close()
  self.sock:close()
end

---- frames ----------------------------------------------------------------------------------------------------------

local REQUEST, REPLY, ERROR, NOTICE = 1, 2, 3, 4
local HEAD_BYTES = 7 -- what `length` counts beside dst, src and body

local function be32(number)
  return char(floor(number / 16777216) % 256, floor(number / 65536) % 256, floor(number / 256) % 256, number % 256)
end

--- `seq` is four bytes as they stand in the frame: nobody here calculates with somebody else's numbers.
local function pack(kind, seq, body)
  return concat { be32(HEAD_BYTES + #body), char(kind), seq, "\0\0", body }
end

local function message(name, fields)
  return encoded({ name, agent.object(fields) })
end

local function error_message(code, text)
  return message("error", { code = code, text = reason_text(text) })
end

--- name, fields; nil and what is wrong.
local function read_message(body)
  local whole, why = agent.decode(body)
  if type(whole) ~= "table" then return nil, why or "no list" end
  if type(whole[1]) ~= "string" or type(whole[2]) ~= "table" then return nil, "no name or no fields" end
  return whole[1], whole[2]
end

local Reader = {}
Reader.__index = Reader

local function new_reader()
  return setmetatable({ parts = {}, held = 0, wanted = 4, buffer = "", at = 1 }, Reader)
end

--- Only where `next` has said that there is no whole frame. Joins what has come once per frame, not once per chunk.
function Reader:feed(data)
  self.parts[#self.parts + 1] = data
  self.held = self.held + #data
  if self.held < self.wanted then return end
  self.buffer, self.at = concat(self.parts), 1
  self.parts, self.held = {}, 0
end

function Reader:keep_rest(wanted)
  local rest = sub(self.buffer, self.at)
  self.parts, self.held, self.wanted = { rest }, #rest, wanted
  self.buffer, self.at = "", 1
end

--- {kind, seq, body}; nil while there is no whole one; nil and why when this is not a stream of frames.
function Reader:next()
  local buffer, at = self.buffer, self.at
  if buffer == "" then return nil end
  if #buffer - at + 1 < 4 then return self:keep_rest(4) end
  local b1, b2, b3, b4 = byte(buffer, at, at + 3)
  local length = ((b1 * 256 + b2) * 256 + b3) * 256 + b4
  if length > MAX_FRAME_BYTES then return nil, "a frame of " .. format("%.0f", length) .. " bytes" end
  if length < HEAD_BYTES then return nil, "a frame that is shorter than its head" end
  if #buffer - at + 1 < 4 + length then return self:keep_rest(4 + length) end
  local kind, dst_len, src_len = byte(buffer, at + 4), byte(buffer, at + 9, at + 10)
  if length < HEAD_BYTES + dst_len + src_len then return nil, "a frame that is shorter than its addresses" end
  if kind < REQUEST or kind > NOTICE then return nil, "a frame of the kind " .. kind end
  local stop = at + 4 + length
  self.at = stop
  if stop > #buffer then self.buffer, self.at, self.wanted = "", 1, 4 end
  return { kind = kind, seq = sub(buffer, at + 5, at + 8), body = sub(buffer, at + 11 + dst_len + src_len, stop - 1) }
end

---- requests --------------------------------------------------------------------------------------------------------
-- One of the daemon's requests, as its handler sees it. It is settled exactly once. The answer goes to the newest
-- (stream, seq) that asked for it; where that link is gone nobody is told, until somebody asks again.

local later = setmetatable({}, { __tostring = function() return "agent.later" end })
local Refusal = { __tostring = function(refusal) return "refused: " .. reason_text(refusal.reason) end }

--- What a handler returns that will call request:answer or request:refuse itself, at another time.
agent.later = later

--- Ends the handler that calls it, however deep: ERROR `refused`, and operators read the reason.
function agent.refuse(reason)
  error(setmetatable({ reason = reason }, Refusal), 0)
end

--- In a handler: goes on with it after so many seconds, and with the game meanwhile. Like coroutine.yield(), which goes
--- on at the next poll.
function agent.sleep(seconds)
  return coroutine.yield(later, seconds)
end

local Request = {}
Request.__index = Request

local function new_request(class, app, what, frame, fields)
  return setmetatable({
    app = app, what = what, seq = frame.seq, stream = app.link.stream,
    id = fields.id, user = fields.user, command = fields.command, reason = fields.reason, left_s = fields.left_s,
  }, class)
end

function Request:asked_again(frame)
  self.seq, self.stream = frame.seq, self.app.link.stream
end

function Request:deliver(kind, body)
  local link = self.app.link
  if link.stream and link.stream == self.stream then link:send(kind, self.seq, body) end
end

--- False where it is settled already.
function Request:settle(kind, body, kept)
  if self.settled then return false end
  self.settled = true
  if kept then self.kind, self.body = kind, body end
  self:deliver(kind, body)
  return true
end

function Request:settle_error(code, reason)
  return self:settle(ERROR, error_message(code, reason), true)
end

function Request:refuse(reason)
  return self:settle_error("refused", reason == nil and "refused" or reason)
end

--- Its handler failed: on_error hears everything, the operator one line.
function Request:fail(problem, traceback)
  local text = reason_text(problem)
  self.app:problem(self.what .. ": " .. (traceback or text))
  return self:settle_error("internal", self.what .. " failed: " .. match(text, "^[^\r\n]*"))
end

--- The answer of a GM command: anything that JSON can say.
function Request:answer(value)
  if self.settled then return false end
  local json, why = agent.encode(value, 3)
  if json and #json > MAX_ANSWER_BYTES then
    json, why = nil, "an answer of " .. #json .. " bytes; at most " .. MAX_ANSWER_BYTES .. " are allowed"
  end
  if not json then return self:fail("its answer cannot be sent: " .. why) end
  return self:settle(REPLY, '["gm.answer",{"answer":' .. json .. "}]", #json <= MAX_KEPT_BYTES)
end

--- What a handler returned.
function Request:returned(value, reason)
  if rawequal(value, later) then return end
  if value == nil and reason ~= nil then return self:refuse(reason) end
  self:answer(value)
end

--- entry.set and process.save are answered with a text; there `false` is a no as well.
local Consent = setmetatable({}, { __index = Request })
Consent.__index = Consent

function Consent:answer(text)
  if self.settled then return false end
  return self:settle(REPLY, message(self.reply, { text = type(text) == "string" and reason_text(text) or "" }))
end

function Consent:returned(value, reason)
  if rawequal(value, later) then return end
  if value == false or value == nil and reason ~= nil then return self:refuse(reason) end
  self:answer(value)
end

local Entry = setmetatable({ reply = "entry.state" }, { __index = Consent })
Entry.__index = Entry

local Save = setmetatable({ reply = "process.saved" }, { __index = Consent })
Save.__index = Save

function Save:done(text) return self:answer(text) end
function Save:decline(reason) return self:refuse(reason) end

local function count_of(number)
  if type(number) ~= "number" or number ~= number then return 0 end
  local bounded = floor(max(-EXACT, min(EXACT, number)))
  return HAS_INTEGERS and math.tointeger(bounded) or bounded
end

--- Operators see "saving done/total". As often as one likes: what is too much for a human is left out.
function Save:progress(done, total, text)
  local link = self.app.link
  if self.settled or not link.stream or link.stream ~= self.stream then return false end
  local now = self.app.clock()
  if now - (self.window_at or -huge) >= 1 then self.window_at, self.window_count = now, 0 end
  if self.window_count >= PROGRESS_PER_SECOND and done ~= total then return false end
  self.window_count = self.window_count + 1
  local fields = { done = count_of(done), total = count_of(total), text = text == nil and "" or reason_text(text) }
  return link:tell(message("save.progressed", fields))
end

--- The last MAX_KEPT_IDS GM commands by their id.
local Memory = {}
Memory.__index = Memory

local function new_memory()
  return setmetatable({ by_id = {}, ids = {}, at = 0 }, Memory)
end

function Memory:add(request)
  self.at = self.at % MAX_KEPT_IDS + 1
  local oldest = self.ids[self.at]
  if oldest then self.by_id[oldest] = nil end
  self.ids[self.at], self.by_id[request.id] = request.id, request
end

---- what the daemon asks --------------------------------------------------------------------------------------------
-- name -> function(app, frame, fields). Each settles its request, now or later; none raises.

local ASKED = {}

local function reject(app, frame, code, text)
  app.link:send(ERROR, frame.seq, error_message(code, text))
end

local function repeat_answer(request, frame)
  request:asked_again(frame)
  if not request.settled then return end -- it runs, and will answer the newest
  if request.body then return request:deliver(request.kind, request.body) end
  request:deliver(ERROR, error_message("forgotten", "it was run; its answer was too long to be kept"))
end

ASKED["gm.execute"] = function(app, frame, fields)
  local id, name, arguments = fields.id, fields.command, fields.arguments
  if type(id) ~= "string" or type(name) ~= "string" or type(arguments) ~= "table" then
    return reject(app, frame, "bad_request", "gm.execute: id, command or arguments are missing")
  end
  local known = app.memory.by_id[id]
  if known then return repeat_answer(known, frame) end
  if fields.again == true then return reject(app, frame, "forgotten", "no command with this id was run here") end
  local command = app.commands[name]
  if not command then return reject(app, frame, "bad_request", "no command " .. reason_text(name)) end
  local request = new_request(Request, app, "command " .. name, frame, fields)
  app.memory:add(request)
  if #app.sleeping >= MAX_SLEEPING then return request:refuse(MAX_SLEEPING .. " commands are running already") end
  app:run(request, command.handler, arguments, request)
end

ASKED["process.save"] = function(app, frame, fields)
  if not app.save_handler then return reject(app, frame, "bad_request", "this process has not declared that it saves") end
  local running = app.saving
  if running and not running.settled then return running:asked_again(frame) end
  app.saving = new_request(Save, app, "save", frame, fields)
  app:run(app.saving, app.save_handler, app.saving)
end

ASKED["entry.set"] = function(app, frame, fields)
  if not app.entry_handler then return reject(app, frame, "bad_request", "this process has not declared entry") end
  if type(fields.open) ~= "boolean" then return reject(app, frame, "bad_request", "entry.set: open is missing") end
  local reason = type(fields.reason) == "string" and fields.reason or ""
  local request = new_request(Entry, app, "entry", frame, fields)
  app:run(request, app.entry_handler, fields.open, reason, request)
end

---- the link --------------------------------------------------------------------------------------------------------

local Link = {}
Link.__index = Link

local function new_link(app)
  return setmetatable({
    app = app, number = 0, pending = {}, retry_at = 0, retry_s = LINK_RETRY_S, joined = false,
  }, Link)
end

function Link:poll(now)
  local stream = self.stream
  if not stream then
    if self.ip and now >= self.retry_at then self:connect(now) end
    return
  end
  local ok, why = stream:pump()
  if not ok then return self:lost(why) end
  if not self.joined then self:come_in(now) end
  if self.stream == stream and not stream.connecting then self:take() end
  if self.joined and self.app.changed then self:declare() end
  if self.stream and self.stream.queued > 0 and not self.stream.connecting then
    ok, why = self.stream:pump()
    if not ok then self:lost(why) end
  end
end

function Link:connect(now)
  local stream, why = Stream.open(self.ip, self.port)
  if not stream then return self:lost(why) end
  self.stream, self.reader, self.pending, self.asked = stream, new_reader(), {}, false
  self.deadline = now + CONNECT_S
end

--- From the connection to the answer to session.join.
function Link:come_in(now)
  if not self.stream.connecting and not self.asked then
    self.asked, self.deadline = true, now + JOIN_S
    self:ask("session.join", self.app.identity, Link.welcomed)
  end
  if now > self.deadline then
    self:lost(self.stream.connecting and "no connection within 5 s" or "session.join was not answered within 10 s")
  end
end

function Link:lost(why)
  if self.stream then self.stream:close() end
  self.stream, self.joined = nil, false
  self.retry_at = self.app.clock() + self.app.jitter(self.retry_s)
  self.retry_s = min(self.retry_s * 2, LINK_RETRY_MAX_S)
  self:report(why)
end

--- Once for each reason, not once for each try.
function Link:report(why)
  if self.reported == why then return end
  self.reported = why
  self.app:problem("link to the daemon: " .. reason_text(why))
end

function Link:send(kind, seq, body)
  if HEAD_BYTES + #body > MAX_FRAME_BYTES then return self.app:problem("link to the daemon: a frame of over 1 MiB") end
  if self.stream and not self.stream:send(pack(kind, seq, body)) then self:lost("the daemon does not read") end
end

--- A notice; false when it was not sent. That the queue is full costs the notice, not the link.
function Link:tell(body)
  if not self.joined or not self.stream:send(pack(NOTICE, "\0\0\0\0", body)) then return false end
  local ok, why = self.stream:pump()
  if not ok then self:lost(why) end
  return ok
end

function Link:ask(name, fields, answered)
  self.number = self.number % 4294967295 + 1
  local seq = be32(self.number)
  self.pending[seq] = answered
  self:send(REQUEST, seq, message(name, fields))
end

--- What has come, until the turn is the game's again.
function Link:take()
  local stream, bytes = self.stream, 0
  for _ = 1, FRAMES_PER_POLL do
    local frame, why = self.reader:next()
    if why then return self:lost(why) end
    if frame then
      bytes = bytes + #frame.body
      self:heard(frame)
    else
      local data, over = stream:receive()
      if not data then return self:lost(over) end
      if data == "" then return end
      self.reader:feed(data)
    end
    if self.stream ~= stream or bytes > BYTES_PER_POLL then return end
  end
end

function Link:heard(frame)
  if frame.kind == NOTICE then return end
  local answered = frame.kind ~= REQUEST and self.pending[frame.seq]
  if frame.kind ~= REQUEST and not answered then return end
  local name, fields = read_message(frame.body)
  if not name then return self:lost("a body that is not JSON [name, fields]: " .. fields) end
  if answered then
    self.pending[frame.seq] = nil
    return answered(self, frame.kind == REPLY and fields or nil, fields)
  end
  local handler = self.joined and ASKED[name]
  if not handler then return reject(self.app, frame, "bad_request", "no request " .. name .. " is known here") end
  handler(self.app, frame, fields)
end

--- The answer to session.join; `fields` is nil where it was an ERROR.
function Link:welcomed(fields, told)
  if not fields then return self:lost("refused: " .. reason_text(told.text)) end
  self.joined, self.retry_s, self.reported = true, LINK_RETRY_S, nil
  self.app.record:told(fields.globaldb, fields.heartbeat_s)
  self:declare()
end

function Link:declare()
  self.app.changed = false
  self:ask("application.declare", self.app:declaration(), Link.declared)
end

function Link:declared(fields, told)
  if not fields then self.app:problem("application.declare: " .. reason_text(told.text)) end
end

---- the record in globaldb ------------------------------------------------------------------------------------------

local Record = {}
Record.__index = Record

local function new_record(app)
  return setmetatable({
    app = app, heartbeat_s = HEARTBEAT_S, beat_at = 0, retry_at = 0, retry_s = RECORD_RETRY_S, last_info = "{}",
  }, Record)
end

--- What the daemon told at join. AGENT_GLOBALDB wins over its address.
function Record:told(url, heartbeat_s)
  if type(heartbeat_s) == "number" and heartbeat_s > 0 then
    self.heartbeat_s = max(HEARTBEAT_MIN_S, min(HEARTBEAT_MAX_S, heartbeat_s))
    self.beat_at = min(self.beat_at, self.app.clock() + self.heartbeat_s * EARLY)
  end
  if type(url) == "string" and url ~= "" and not self.fixed then self:use(url) end
end

function Record:use(url)
  if url == self.url then return end
  self.url = url
  self:hang_up()
  local place, why = parse_url(url)
  if place then
    place.ip = resolve(place.host)
    why = "its name " .. place.host .. " is not known; an address would need no DNS"
  end
  self.place = place and place.ip and place or nil
  self.retry_at, self.retry_s = 0, RECORD_RETRY_S
  if not self.place then self:report(why) end
end

function Record:poll(now)
  if not self.place or self.telling then return end
  local stream = self.stream
  if not stream then
    if now >= self.retry_at then self:connect(now) end
    return
  end
  local ok, why = stream:pump()
  if not ok then return self:lost(why) end
  if stream.connecting then
    if now > self.deadline then self:lost("no connection within 5 s") end
    return
  end
  local data, over = stream:receive()
  if not data then return self:lost(over) end
  if data ~= "" then why = self:heard(data) end
  if self.waiting and now > self.deadline then why = "no answer within 5 s" end
  if why then return self:lost(why) end
  if not self.waiting then self:say_next(now) end
end

function Record:connect(now)
  local stream, why = Stream.open(self.place.ip, self.place.port)
  if not stream then return self:lost(why) end
  self.stream, self.buffer, self.waiting, self.deadline = stream, "", nil, now + CONNECT_S
  self.authenticated, self.indexed = self.place.password == "", false
end

function Record:hang_up()
  if self.stream then self.stream:close() end
  self.stream, self.waiting = nil, nil
end

function Record:lost(why)
  self:hang_up()
  local pause_s = max(RECORD_RETRY_S, min(RECORD_RETRY_MAX_S, self.app.jitter(self.retry_s)))
  self.retry_at, self.beat_at = self.app.clock() + pause_s, 0 -- what was lost is told again at once then
  self.retry_s = min(self.retry_s * 2, RECORD_RETRY_MAX_S)
  self:report(why)
end

function Record:report(why)
  if self.reported == why then return end
  self.reported = why
  local place = self.place and " " .. self.place.host .. ":" .. format("%d", self.place.port) or ""
  self.app:problem("globaldb" .. place .. ": " .. reason_text(why))
end

--- One command at a time; `answered(self, sign, text)` takes its answer and returns what is wrong with it.
function Record:say(answered, ...)
  local words = { ... }
  local parts = { "*" .. #words .. "\r\n" }
  for i = 1, #words do
    parts[i + 1] = "$" .. #words[i] .. "\r\n" .. words[i] .. "\r\n"
  end
  if not self.stream:send(concat(parts)) then return self:lost("its queue is full") end
  self.waiting, self.deadline = answered, self.app.clock() + ANSWER_S
  local ok, why = self.stream:pump()
  if not ok then self:lost(why) end
end

function Record:say_next(now)
  local key = self.app.key
  if not self.authenticated then
    local place = self.place
    if place.user == "" then return self:say(Record.let_in, "AUTH", place.password) end
    return self:say(Record.let_in, "AUTH", place.user, place.password)
  end
  if not self.counted then
    if not self.indexed then return self:say(Record.looked_up, "HEXISTS", "process", key) end
    -- Before it is sent: where its answer is lost, it may have been counted.
    self.counted = true
    return self:say(Record.obeyed, "HINCRBY", "process:" .. key, "startcount", "1")
  end
  if now >= self.beat_at then
    self.beat_at = now + self.heartbeat_s * EARLY
    self:say(Record.beaten, "HMSET", "process:" .. key, "info", self:info(), "pid", format("%.0f", self.app.pid),
      "lastupdate", time_text(socket.gettime()))
  end
end

--- One line is the whole answer of every command that is sent here. Returns what is wrong.
function Record:heard(data)
  if not self.waiting then return "it answers what was not asked" end
  self.buffer = self.buffer .. data
  if #self.buffer > MAX_RESP_LINE_BYTES then return "its answer is too long" end
  local sign, text, rest = match(self.buffer, "^([%+:%-])([^\r\n]*)\r\n(.*)$")
  if not sign then
    if not find(self.buffer, "^[%+:%-][^\r\n]*\r?$") then return "its answer is not one of Redis" end
    return nil
  end
  if rest ~= "" then return "it answers what was not asked" end
  if sign == "-" then return text end
  local answered = self.waiting
  self.buffer, self.waiting = "", nil
  return answered(self, sign, text)
end

function Record:obeyed() end

function Record:let_in()
  self.authenticated = true
end

function Record:looked_up(sign, text)
  if sign ~= ":" then return "its answer to HEXISTS is not a number" end
  self.indexed = true
  if text == "0" then self:say(Record.obeyed, "HSET", "process", self.app.key, time_text(socket.gettime())) end
end

function Record:beaten()
  self.retry_s, self.reported = RECORD_RETRY_S, nil
end

--- The game's own statistics as JSON. Where they cannot be had, the last ones: its loop turns, so it is alive.
function Record:info()
  local told = self.app.options.info
  if not told then return self.last_info end
  self.telling = true
  local ok, info = xpcall(told, trace)
  self.telling = false
  local json, why = nil, info
  if ok then json, why = self:info_json(info) end
  if json then
    self.last_info, self.info_reported = json, nil
  elseif self.info_reported ~= why then
    self.info_reported = why
    self.app:problem("info: " .. why)
  end
  return self.last_info
end

function Record:info_json(info)
  if type(info) ~= "table" then return nil, "it returned a " .. type(info) .. ", not a table" end
  local json, why = agent.encode(info)
  if not json then return nil, why end
  if byte(json) ~= 123 then return nil, "it returned a list, not a table with names" end
  if #json > MAX_INFO_BYTES then return nil, #json .. " bytes; at most " .. MAX_INFO_BYTES .. " are sent" end
  return json
end

---- what the application declares -----------------------------------------------------------------------------------
-- The contract's rules, checked where the mistake was made. Every check returns nil or what is wrong.

local DANGERS = { read = true, write = true, red = true }
local COMMAND_FIELDS = { help = true, danger = true, answer = true, arguments = true }
local ARGUMENT_FIELDS = { name = true, type = true, default = true, secret = true, help = true }

local function is_whole(value)
  if getmetatable(value) == Int then return true end
  if type(value) ~= "number" or value % 1 ~= 0 then return false end
  return math_type(value) == "integer" or value > -EXACT and value < EXACT
end

local TYPES = {
  str = function(value) return type(value) == "string" end,
  int = is_whole,
  float = function(value) return type(value) == "number" and value == value and value ~= huge and value ~= -huge end,
  bool = function(value) return type(value) == "boolean" end,
  json = function() return true end,
}

local function wrong_name(name)
  if type(name) ~= "string" or not match(name, "^[A-Za-z][A-Za-z0-9_%-]*$") or #name > MAX_NAME_CHARS then
    return "its name is not letters, digits, _ and -, beginning with a letter, at most 64"
  end
end

local function wrong_line(line, field)
  if line == nil then return nil end
  local bad = type(line) ~= "string" or find(line, "[%z\1-\31\127]") or scrub(line) ~= line
  if bad or select(2, gsub(line, "[^\128-\191]", "")) > MAX_LINE_CHARS then
    return field .. " is not one line of at most " .. MAX_LINE_CHARS .. " characters"
  end
end

local function wrong_field(fields, known)
  for field in pairs(fields) do
    if not known[field] then return "no field " .. reason_text(field) .. " is known" end
  end
end

local function wrong_default(argument, kind)
  local default = argument.default
  if default == nil then return nil end
  if not rawequal(default, null) and not TYPES[kind](default) then return "its default is not of the type " .. kind end
  local json, why = agent.encode(default)
  if not json then return "its default: " .. why end
  if #json > MAX_DEFAULT_BYTES then return "its default has more than " .. MAX_DEFAULT_BYTES .. " bytes" end
end

local function wrong_argument(argument)
  if type(argument) ~= "table" then return "it is not a table" end
  local problem = wrong_name(argument.name) or wrong_field(argument, ARGUMENT_FIELDS) or wrong_line(argument.help, "help")
  if problem then return problem end
  local kind = argument.type == nil and "str" or argument.type
  if not TYPES[kind] then return "type is none of str, int, float, bool, json" end
  if argument.secret ~= nil and type(argument.secret) ~= "boolean" then return "secret is not true or false" end
  return wrong_default(argument, kind)
end

local function wrong_arguments(arguments)
  if arguments == nil then return nil end
  if type(arguments) ~= "table" then return "arguments is not a list" end
  local names, there = {}, 0
  for _ in pairs(arguments) do there = there + 1 end
  if there ~= #arguments then return "arguments is not a list" end
  if there > MAX_ARGUMENTS then return "more than " .. MAX_ARGUMENTS .. " arguments" end
  for i, argument in ipairs(arguments) do
    local problem = wrong_argument(argument)
    if problem then return "argument " .. i .. ": " .. problem end
    if names[argument.name] then return "two arguments have the name " .. argument.name end
    names[argument.name] = true
  end
end

local function wrong_command(name, spec, handler)
  if type(spec) ~= "table" then return "what describes it is not a table" end
  if type(handler) ~= "function" then return "its handler is not a function" end
  if name == "help" then return "this name is the agent's own" end
  if spec.danger ~= nil and not DANGERS[spec.danger] then return "danger is none of read, write, red" end
  return wrong_name(name) or wrong_field(spec, COMMAND_FIELDS) or wrong_line(spec.help, "help")
    or wrong_line(spec.answer, "answer") or wrong_arguments(spec.arguments)
end

local function argument_document(argument)
  local default = argument.default
  if argument.type == "int" and type(default) == "number" then default = count_of(default) end
  return agent.object {
    name = argument.name, type = argument.type or "str", help = argument.help or "",
    default = default, secret = argument.secret or nil,
  }
end

local function command_document(name, spec)
  local arguments = agent.array()
  for i, argument in ipairs(spec.arguments or {}) do
    arguments[i] = argument_document(argument)
  end
  return agent.object {
    name = name, help = spec.help or "", danger = spec.danger or "write", answer = spec.answer or "",
    arguments = arguments,
  }
end

---- the application -------------------------------------------------------------------------------------------------

local App = {}
App.__index = App

--- Declares a GM command, or puts another in its place (code that is loaded anew while the game runs). Raises.
--- handler(args, request) returns the answer; nil and a reason refuse; agent.later promises request:answer(value).
function App:command(name, spec, handler)
  if handler == nil and type(spec) == "function" then spec, handler = {}, spec end
  local problem = wrong_command(name, spec, handler)
  local known = self.commands[name or ""]
  if not problem and not known and #self.names >= MAX_COMMANDS then problem = "more than " .. MAX_COMMANDS .. " commands" end
  if problem then error("command " .. reason_text(name) .. ": " .. problem, 2) end
  if not known then insert(self.names, name) end
  self.commands[name] = { document = command_document(name, spec), handler = handler }
  self.changed = true
end

--- handler(save): save everything, save:progress(done, total, text) meanwhile; a return (or save:done()) says that it
--- is done, nil and a reason (or save:decline(reason)) that the game has to go on.
function App:on_save(handler)
  if type(handler) ~= "function" then error("on_save: the handler is not a function", 2) end
  self.save_handler, self.changed = handler, true
end

--- handler(open, reason, request): false lets nobody in any more, true lets them in again.
function App:on_entry(handler)
  if type(handler) ~= "function" then error("on_entry: the handler is not a function", 2) end
  self.entry_handler, self.changed = handler, true
end

--- Tells operators that something happened. False when it was not sent: without a link an event is lost.
function App:event(name, data)
  if not self.link.joined then return false end
  local json, why = agent.encode(data, 3)
  if json and #json > MAX_EVENT_BYTES then json, why = nil, #json .. " bytes; at most " .. MAX_EVENT_BYTES .. " are allowed" end
  if json and type(name) ~= "string" then json, why = nil, "its name is not a string" end
  if not json then
    self:problem("event " .. reason_text(name) .. ": " .. why)
    return false
  end
  local head = '["event.raised",{"name":' .. encode_string(name) .. ',"at":' .. time_text(socket.gettime())
  return self.link:tell(head .. ',"data":' .. json .. "}]")
end

--- Whether the daemon knows this process and can reach it now.
function App:joined()
  return self.link.joined
end

--- To be called from the game's loop, ten times a second or more. Does what can be done at once and returns.
function App:poll()
  if not self.active then return end
  local ok, why = xpcall(self.stepping, trace)
  if not ok then
    self.in_poll = false
    self:problem("a mistake in agent.lua: " .. why)
  end
end

function App:step()
  local now = self.clock()
  if self.in_poll then return self.record:poll(now) end -- from a handler that takes long: it is still alive
  self.in_poll = true
  self.record:poll(now)
  self.link:poll(now)
  if #self.sleeping > 0 then self:wake(now) end
  self.in_poll = false
end

--- Ends both connections, for good.
function App:close()
  if self.link.stream then self.link.stream:close() end
  self.link.stream, self.link.joined = nil, false
  self.record:hang_up()
  self.active = false
end

--- A handler lives in a coroutine: its errors end there, and it may sleep.
function App:run(request, handler, ...)
  local thread = coroutine.create(function(...) return handler(...) end) -- Lua 5.1 takes no C function here
  self:stepped(request, thread, coroutine.resume(thread, ...))
end

function App:stepped(request, thread, ok, value, more)
  if not ok then
    if getmetatable(value) == Refusal then return request:refuse(value.reason) end
    return request:fail(value, debug.traceback(thread, reason_text(value)))
  end
  if coroutine.status(thread) == "dead" then return request:returned(value, more) end
  if value ~= nil and not (rawequal(value, later) and type(more) == "number") then
    return request:fail("its handler yielded to somebody else: return agent.later instead")
  end
  insert(self.sleeping, { request = request, thread = thread, wake_at = self.clock() + (more or 0) })
end

function App:wake(now)
  local sleeping = self.sleeping
  self.sleeping = {}
  for _, sleeper in ipairs(sleeping) do
    if now >= sleeper.wake_at then
      self:stepped(sleeper.request, sleeper.thread, coroutine.resume(sleeper.thread))
    else
      insert(self.sleeping, sleeper)
    end
  end
end

function App:declaration()
  local commands = agent.array()
  for i, name in ipairs(self.names) do
    commands[i] = self.commands[name].document
  end
  return { saves = self.save_handler ~= nil, entry = self.entry_handler ~= nil, commands = commands }
end

function App:problem(text)
  local heard = self.options.on_error
  if heard then
    pcall(heard, text)
  else
    io.stderr:write("agent: ", text, "\n")
  end
end

---- joining ---------------------------------------------------------------------------------------------------------

local OPTIONS = { info = "function", on_error = "function", pid = "number", environment = "table" }

local function check_options(options)
  if type(options) ~= "table" then error("agent.join: the options are not a table", 3) end
  for name, value in pairs(options) do
    if not OPTIONS[name] then error("agent.join: no option " .. reason_text(name) .. " is known", 3) end
    if type(value) ~= OPTIONS[name] then error("agent.join: " .. name .. " is not a " .. OPTIONS[name], 3) end
  end
end

local function own_pid()
  local file = io.open("/proc/self/stat", "r")
  local pid = file and tonumber(match(file:read("*l") or "", "^%d+"))
  if file then file:close() end
  return pid
end

--- Lua has no getpid: Linux says it in /proc, elsewhere agent.join { pid = ... } has to.
local function find_pid(app)
  local pid = app.options.pid or own_pid()
  if not pid then app:problem("agent.join: the option pid is missing, and /proc does not say it") end
  return count_of(pid)
end

local function daemon_address(app, text)
  if text == "" then return nil end
  local host, port = parse_address(text)
  local ip = host and resolve(host)
  if not ip then app:problem("link to the daemon: AGENT_DAEMON is not host:port, or has a name that is not known") end
  return ip, port
end

local function start(app, variable)
  app.key, app.pid = variable("AGENT_PROCESS"), find_pid(app)
  app.jitter = new_jitter(socket.gettime() * 1000 + app.pid)
  app.link.ip, app.link.port = daemon_address(app, variable("AGENT_DAEMON"))
  app.identity = {
    protocol = 1, key = app.key, incarnation = variable("AGENT_INCARNATION"), token = variable("AGENT_TOKEN"),
    pid = app.pid, sdk = "lua " .. agent.VERSION .. " (" .. _VERSION .. ")",
  }
  app.record.counted = app.identity.incarnation ~= "" -- by the daemon that started this run
  local globaldb = variable("AGENT_GLOBALDB")
  app.record.fixed = globaldb ~= ""
  if app.record.fixed then app.record:use(globaldb) end
end

--- The application of this process. Without AGENT_PROCESS in the environment nobody supervises it, and it does nothing.
---   info()          -> a table for the record, `players` in it; called at every heartbeat
---   on_error(text)  hears what goes wrong here; without it stderr does
---   pid             where /proc is missing
---   environment     a table instead of the process's own
function agent.join(options)
  options = options or {}
  check_options(options)
  local app = setmetatable({
    options = options, commands = {}, names = {}, sleeping = {}, memory = new_memory(), clock = new_clock(),
    changed = false, in_poll = false,
  }, App)
  app.link, app.record = new_link(app), new_record(app)
  app.stepping = function() app:step() end -- xpcall of Lua 5.1 hands on no arguments
  local function variable(name)
    return options.environment and options.environment[name] or not options.environment and os.getenv(name) or ""
  end
  app.active = variable("AGENT_PROCESS") ~= ""
  if app.active then start(app, variable) end
  return app
end

return agent
