"""How Redis and Valkey count a hit of a rate limit: each algorithm of `windows`, in their language.

The same steps, the same state, byte for byte, and the same answers, in microseconds of the server's
own clock: a number of Lua is a double, which has no nanoseconds since 1970. Every whole number here
stays below 2**53, where doubles are exact; what does not is multiplied and divided digit by digit.
"""

from __future__ import annotations

from .store import SHARE

_HEAD = """
local limit, per, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local UNIT = 4294967296
local fmod, max = math.fmod, math.max

-- floor(a * b / c), and what is left over; c is less than 3e15
local function parts(a, b, c)
  local left = fmod(a, c)
  local whole, rest, sum = (a - left) / c * b, 0, 0
  local _, bits = math.frexp(c)
  local base, place = math.ldexp(1, max(1, 52 - bits)), 1
  while place * base <= b do place = place * base end
  while place >= 1 do
    local digit = math.floor(b / place)
    b = b - digit * place
    local step = rest * base + left * digit  -- less than c * (2 * base - 1), so than 2**53
    rest = fmod(step, c)
    sum = sum * base + (step - rest) / c
    place = place / base
  end
  return whole + sum, rest
end
"""

_FIND: dict[str, str] = {}
"""`find(state, now, cost)` returns what `windows.Found` has, in this order."""

_FIND["fixed"] = """
local function find(state, now, cost)
  local start, count = now, 0
  if #state == 16 then start, count = struct.unpack('<I8I8', state) end
  if not (start - per < now and now < start + per) then start, count = now, 0 end
  now = max(now, start)
  local left = start + per - now
  local allowed = count + cost <= limit
  if allowed then count = count + cost end
  local retry = allowed and 0 or cost <= limit and left or -1
  return allowed, max(0, limit - count), count > 0 and left or 0, retry,
    struct.pack('<I8I8', start, count), left
end
"""

_FIND["sliding"] = """
local function find(state, now, cost)
  local start, before, count = now, 0, 0
  if #state == 24 then start, before, count = struct.unpack('<I8I8I8', state) end
  if start > now + per then start, before, count = now, 0, 0 end
  now = max(now, start)
  local since = fmod(now - start, per)
  local passed = (now - start - since) / per
  if passed > 0 then start, before, count = now - since, passed == 1 and count or 0, 0 end
  local faded, rest = parts(before, per - since, per)
  if rest > 0 then faded = faded + 1 end
  local allowed = count + faded + cost <= limit
  if allowed then count = count + cost end
  local retry = 0
  if allowed then retry = 0
  elseif cost > limit then retry = -1
  elseif count + cost <= limit then
    retry = per - since - (parts(limit - cost - count, per, before))
  else retry = per - since + per - (parts(limit - cost, per, count)) end
  local reset = (count > 0 and 2 * per or before > 0 and per or 0) - since
  return allowed, max(0, limit - count - faded), max(0, reset), retry,
    struct.pack('<I8I8I8', start, before, count), 2 * per - since
end
"""

_FIND["moving"] = """
local function find(state, now, cost)
  local many = math.floor(#state / 8)
  local function at(n) return (struct.unpack('<I8', state, 8 * n - 7)) end
  if many > 0 and at(many) > now + per then many = 0 end
  if many > 0 then
    now = max(now, at(many))
    local low, high = 0, many
    while low < high do
      local middle = math.floor((low + high) / 2)
      if at(middle + 1) <= now - per then low = middle + 1 else high = middle end
    end
    state, many = string.sub(state, 8 * low + 1, 8 * many), many - low
  else state = '' end
  local too_many = many + cost - limit
  local allowed, retry = too_many <= 0, 0
  if allowed then
    state = state .. string.rep(struct.pack('<I8', now), cost)
    many = many + cost
  else retry = cost <= limit and at(too_many) + per - now or -1 end
  return allowed, max(0, limit - many), many > 0 and at(many) + per - now or 0, retry, state, per
end
"""

_FIND["bucket"] = """
-- how long so many hits and 2**-32ths of one take to leak, rounded up
local function span(whole, part)
  local more, left = parts(part, per, UNIT)
  local time, rest = parts(whole, per, limit)
  local sum = rest + more
  rest = fmod(sum, limit)
  return time + (sum - rest) / limit + ((left > 0 or rest > 0) and 1 or 0)
end
local function find(state, now, cost)
  local at, part, whole = now, 0, 0
  if #state == 16 then at, part, whole = struct.unpack('<I8I4I4', state) end
  if at > now + per then at, part, whole = now, 0, 0 end
  if whole >= burst then part, whole = 0, burst end
  local was_whole, was_part = whole, part
  if now > at then
    local gone, rest = parts(now - at, limit, per)
    whole, part = whole - gone, part - parts(rest, UNIT, per)
    if part < 0 then whole, part = whole - 1, part + UNIT end
    if whole < 0 then whole, part = 0, 0 end
  end
  local allowed = whole + cost < burst or (whole + cost == burst and part == 0)
  local retry = 0
  if allowed then whole = whole + cost
  elseif cost > burst then retry = -1
  else retry = at - now + span(was_whole + cost - burst, was_part) end
  local empty = span(whole, part)
  return allowed, burst - whole - (part > 0 and 1 or 0), empty, retry,
    struct.pack('<I8I4I4', max(now, at), part, whole), max(1, empty)
end
"""

TIME = "redis.call('TIME')"
_TAIL = f"""
if redis.replicate_commands then redis.replicate_commands() end
local time = {TIME}
local now = time[1] * 1000000 + time[2]
local cost, more, state = tonumber(ARGV[4]), tonumber(ARGV[5]), redis.call('GET', KEYS[1]) or ''
local allowed, remaining, reset, retry, new, lasts = find(state, now, cost)
if ARGV[6] == '0' then
  local _, left, until_none = find(state, now, 0)
  return {{allowed and cost or 0, remaining, reset, retry, 0, left, until_none, 0}}
end
if not allowed then return {{0, remaining, reset, retry}} end
more = math.min(more, math.floor(remaining / {SHARE}))
if more > 0 then
  cost = cost + more
  allowed, remaining, reset, retry, new, lasts = find(state, now, cost)
end
redis.call('SET', KEYS[1], new, 'PX', string.format('%.0f', math.ceil(lasts / 1000)))
return {{cost, remaining, reset, retry}}
"""

HIT = {algorithm: _HEAD + find + _TAIL for algorithm, find in _FIND.items()}
"""KEYS: the hits of a key. ARGV: limit, microseconds, burst; the cost, how many more at most; '0':
only look. Returns what is taken, what remains, when nothing is counted any more, when it would be
allowed; of a look also how it stands. `replicate_commands`: see redis_scripts.TAKE_LOCK."""
