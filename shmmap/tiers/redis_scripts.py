"""What Redis and Valkey do in one step, in their own language.

A version is compared with what lies there: `ARGV[1]` says whether it is a stamp, bytes 3 to 14 of
the value, or the first 24 hexadecimal digits of its SHA-1 (see `stored`); "" is that of nothing.
"""

from __future__ import annotations

_VERSION = """
local data = redis.call('GET', KEYS[1])
local version = ''
if data and ARGV[1] == '1' then version = string.sub(data, 3, 14)
elseif data then version = string.sub(redis.sha1hex(data), 1, 24) end
if version ~= ARGV[2] then return 0 end
"""

SET_IF = _VERSION + """
if ARGV[4] == 'keep' and data then redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')
elseif ARGV[4] == 'keep' or ARGV[4] == '' then redis.call('SET', KEYS[1], ARGV[3])
else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
return 1
"""
"""ARGV: is it stamped, the version, the bytes, milliseconds to live ('': for ever; 'keep')."""

DELETE_IF = _VERSION + """
redis.call('DEL', KEYS[1])
return 1
"""

_IS_VALUE = """
local head, is_value = redis.pcall('GETRANGE', KEYS[1], 0, 15), true
if head == '' then is_value = redis.call('EXISTS', KEYS[1]) == 1
elseif type(head) == 'string' and #head == 15 then
  is_value = string.sub(head, 1, 2) ~= '\\213\\1' or string.byte(head, 15) ~= 254
end
"""
"""A tombstone is none: see `stored`."""

SET_ONLY = _IS_VALUE + """
if is_value ~= (ARGV[1] == 'present') then return 0 end
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""

BURY = _IS_VALUE + """
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return is_value and 1 or 0
"""

TOUCH = _IS_VALUE + """
if not is_value then return 0 end
if ARGV[1] == '' then redis.call('PERSIST', KEYS[1])
else redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 1
"""

TAKE_LOCK = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if redis.replicate_commands then redis.replicate_commands() end
local time = redis.call('TIME')
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local token = math.max(last + 1, time[1] * 1000000 + time[2])
redis.call('SET', KEYS[2], string.format('%.0f', token), 'EX', 31536000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return token
"""
"""KEYS: the lock, its last token, which is kept for a year. ARGV: the holder, milliseconds.

A token is the server's time in microseconds, or one more than the last: so tokens go on rising
where the store has lost its data. `replicate_commands`: before Redis 7 a script that has asked for
the time may not write without it."""

RENEW_LOCK = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

FREE_LOCK = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""

_IN_TIME = """
if redis.replicate_commands then redis.replicate_commands() end
local time = redis.call('TIME')
local elapsed = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[1])
if elapsed < 0 or elapsed > tonumber(ARGV[2]) then return -1 end
"""
"""ARGV: when it began and within what, in milliseconds. Before it began: by another server's clock,
which says nothing, or by one that was set back."""

PUT_IF = _IN_TIME + """
local there = redis.pcall('GETRANGE', KEYS[1], 2, 13)
if type(there) ~= 'string' or (there == '' and redis.call('EXISTS', KEYS[1]) == 1) then return 0 end
if there ~= ARGV[3] then return 0 end
if ARGV[5] == '' then redis.call('SET', KEYS[1], ARGV[4])
else redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5]) end
return 1
"""
"""ARGV: two of _IN_TIME; the version, the bytes, milliseconds to live."""

PUT_LATEST = _IN_TIME + """
local stamp, believed = ARGV[3], ARGV[4]
if stamp ~= '' then
  local there = redis.pcall('GETRANGE', KEYS[1], 2, 13)
  if type(there) == 'string' and #there == #stamp then
    local later, sane = 0, 0
    for i = 1, #stamp do
      local mine, theirs = string.byte(stamp, i), string.byte(there, i)
      if later == 0 then later = theirs - mine end
      if sane == 0 and i <= #believed then sane = string.byte(believed, i) - theirs end
    end
    if later > 0 and sane >= 0 then return 0 end
  end
end
if ARGV[5] == 'remove' then redis.call('DEL', KEYS[1])
elseif ARGV[6] == '' then redis.call('SET', KEYS[1], ARGV[7])
else redis.call('SET', KEYS[1], ARGV[7], 'PX', ARGV[6]) end
return 1
"""
"""ARGV: when it began and within what, in milliseconds (before it began: by another server's
clock, which says nothing, or by one that was set back); the stamp, and the last time that is
believed of another one; 'remove' or 'put', milliseconds to live, the bytes.

Stamps are compared byte by byte: strings would be compared by the server's locale."""
