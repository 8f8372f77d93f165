"""How a rate is limited: what is kept of a key's hits, and what the next one finds.

Each algorithm is a pure function of the state, the time and the cost: `RateLimiter` reads a state,
asks, and writes the new one if nobody has written meanwhile. A state is a few bytes; what has
another length counts for nothing. Times are nanoseconds of the map's clock, which all processes of
a machine share; a time that lies far ahead is damage, and counts for nothing.

No state says what the limit was: it has hits, and the limit of whoever asks is held against them.
So a limit, or a burst, that changes from one hit to the next is the new one from then on, and the
hits are not forgotten. What `per` was is not said either: `RateLimiter` has it in the key.

    fixed    a count, from the first hit on for `per`; then anew. Twice the limit can pass around
             the end of a window
    sliding  two counts: of this window, and of the one before, as if its hits had been spread
             evenly: an estimate, after the sliding window counter of proxies and gateways
    moving   the time of each hit of the last `per`: exact for every span; 8 bytes a hit
    bucket   how full a bucket was, and when: it leaks limit / per (a leaky bucket as a meter,
             ITU-T I.371); `burst` fit in at once, then one every per / limit
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple


class Rate(NamedTuple):
    """What is allowed: `limit` units in `per_ns`; `burst`: how many at once, for a bucket."""

    limit: int
    per_ns: int
    burst: int


class Found(NamedTuple):
    """What a hit comes to. `state`: what to keep if it is allowed, for `lasts_ns`."""

    allowed: bool
    remaining: int
    reset_ns: int  # until nothing is counted any more
    retry_ns: int  # until this hit would be allowed; -1: never
    state: bytes
    lasts_ns: int


class Hit(NamedTuple):
    """What a hit came to. `taken`: how many units were counted; 0: it is refused."""

    taken: int
    remaining: int
    reset_ns: int
    retry_ns: int


Algorithm = Callable[[Rate, bytes, int, int], Found]
_TWO, _THREE = struct.Struct("<QQ"), struct.Struct("<QQQ")
_UNIT = 1 << 32  # of a bucket's level: parts of a hit


def fixed(rate: Rate, state: bytes, now: int, cost: int) -> Found:
    """See the head of this module."""
    start, count = _TWO.unpack(state) if len(state) == _TWO.size else (now, 0)
    if not start - rate.per_ns < now < start + rate.per_ns:
        start, count = now, 0
    now = max(now, start)
    left = start + rate.per_ns - now
    allowed = count + cost <= rate.limit
    count += cost * allowed
    retry = 0 if allowed else left if cost <= rate.limit else -1
    return Found(allowed, max(0, rate.limit - count), left if count else 0, retry,
                 _TWO.pack(start, count), left)


def sliding(rate: Rate, state: bytes, now: int, cost: int) -> Found:
    """See the head of this module."""
    limit, per = rate.limit, rate.per_ns
    start, before, count = _THREE.unpack(state) if len(state) == _THREE.size else (now, 0, 0)
    if start > now + per:
        start, before, count = now, 0, 0
    now = max(now, start)
    passed = (now - start) // per
    if passed:
        start += passed * per
        before, count = (count if passed == 1 else 0), 0
    since = now - start

    def used() -> int:
        faded: int = -before * (per - since) // per  # of a negative number: rounded away from 0
        total: int = count - faded
        return total

    allowed = used() + cost <= limit
    count += cost * allowed
    if allowed:
        retry = 0
    elif cost > limit:
        retry = -1
    elif count + cost <= limit:  # once enough of the former window's hits have faded
        retry = per - (limit - cost - count) * per // before - since
    else:
        retry = per - since + (per - (limit - cost) * per // count)
    reset = (2 * per if count else per if before else 0) - since
    return Found(allowed, max(0, limit - used()), max(0, reset), retry,
                 _THREE.pack(start, before, count), 2 * per - since)


def moving(rate: Rate, state: bytes, now: int, cost: int) -> Found:
    """See the head of this module."""
    times = array("Q", state[: len(state) // 8 * 8])
    if times and times[-1] > now + rate.per_ns:
        times = array("Q")
    if times:
        now = max(now, times[-1])
        del times[: bisect_right(times, now - rate.per_ns)]
    too_many = len(times) + cost - rate.limit
    allowed = too_many <= 0
    retry = 0
    if allowed:
        times.extend([now] * cost)
    else:
        retry = times[too_many - 1] + rate.per_ns - now if cost <= rate.limit else -1
    reset = times[-1] + rate.per_ns - now if times else 0
    return Found(allowed, max(0, rate.limit - len(times)), reset, retry, times.tobytes(),
                 rate.per_ns)


def bucket(rate: Rate, state: bytes, now: int, cost: int) -> Found:
    """See the head of this module."""
    at, level = _TWO.unpack(state) if len(state) == _TWO.size else (now, 0)
    if at > now + rate.per_ns:
        at, level = now, 0
    room, wanted, per, leaks = rate.burst * _UNIT, cost * _UNIT, rate.per_ns, rate.limit * _UNIT
    if level > room:  # of a larger burst: full, as of then
        level = room
    left = max(0, level - (now - at) * leaks // per) if now > at else level
    allowed = left + wanted <= room
    if allowed:
        left += wanted
        retry = 0
    elif cost > rate.burst:
        retry = -1
    else:  # rounded up, as is `empty`: never too many pass
        retry = at - (room - level - wanted) * per // leaks - now
    empty = -(-left * per // leaks)
    return Found(allowed, (room - left) // _UNIT, empty, retry, _TWO.pack(max(now, at), left),
                 max(1, empty))


ALGORITHMS: dict[str, Algorithm] = {
    "fixed": fixed, "sliding": sliding, "moving": moving, "bucket": bucket,
}
