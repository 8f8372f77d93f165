"""RateLimiter: so many in so long, counted once for all processes of the machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from math import ceil, inf
from typing import Any, NamedTuple

from ._public import public
from .checks import Key, seconds, shown
from .errors import EntryTooLarge, MapClosed, ShmMapError
from .locks.keeping import note, notes_of, reason_for
from .map import ShmMap
from .operations.changes import Patience
from .windows import ALGORITHMS, Found, Rate

_ON_ERROR = ("raise", "allow", "deny")
MOST_TIMES = 100_000  # 8 bytes each, written anew by each hit
_LONG_S = 3e9  # a ttl of so many seconds is none


@public
class RateLimit(NamedTuple):
    """What a RateLimiter answers; true where the hit is allowed, of `peek` where one would be.

    Attributes:
        allowed: whether it is.
        limit: how many are allowed in all.
        remaining: how many more would be allowed now.
        reset_after: seconds until nothing is counted any more.
        retry_after: seconds after which this hit would be allowed; 0.0: it is; inf: it costs more
            than is ever allowed.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_after: float
    retry_after: float

    def __bool__(self) -> bool:
        return self.allowed

    def headers(self) -> dict[str, str]:
        """Return the header fields that tell a client, in whole seconds."""
        fields = {
            "X-RateLimit-Limit": str(self.limit), "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(ceil(self.reset_after)),
        }
        if not self.allowed and self.retry_after != inf:
            fields["Retry-After"] = str(ceil(self.retry_after))
        return fields


@public
class RateLimiter:
    """So many hits of a key in so long, exact for all processes that have the map.

    Each key has one entry of 16 or 24 bytes ("moving": 8 bytes a hit), which expires when nothing
    is counted any more. A hit is one step: read, computed, and written if nobody has written
    meanwhile, else tried again. No lock is held, so no death leaves one. Where the map evicts, a
    count may be lost with its entry: give limits a map with room, `on_full="raise"`.

    Args:
        m: the map.
        limit: how many are allowed in `per`.
        per: seconds, or a timedelta.
        algorithm: "bucket" (default): `burst` at once, then one every per / limit. "fixed": from
            the first hit on. "sliding": two counts, an estimate between them. "moving": the time
            of each hit, so never more than `limit` in any span of `per`.
        burst: "bucket" only: how many at once; default: `limit`.
        prefix: what is counted, "rate" by default. Limiters with one prefix, algorithm and `per`
            count together, each against its own limit: so a deploy may change the limit. With
            another algorithm or `per`, or another prefix, they count apart.
        on_error: what a hit comes to where the map cannot be used just now: "raise" (default),
            "allow" or "deny": counted in `stats().uncached`, and logged once.

    Threads, tasks and forked children may share one.

    >>> with ShmMap("doctest", size="1MB", ephemeral=True) as m:
    ...     limiter = RateLimiter(m, 2, per=60)
    ...     [bool(limiter.hit("ada")) for _ in range(3)], limiter.peek("ada").remaining
    ([True, True, False], 0)
    """

    def __init__(
        self, m: ShmMap, limit: int, per: float | timedelta, *, algorithm: str = "bucket",
        burst: int | None = None, prefix: str = "rate", on_error: str = "raise",
    ) -> None:
        per_s = seconds(per, "per")
        if not _is_count(limit):
            raise ValueError(f"limit={limit!r} must be a whole number, 1 or more, less than 2**32")
        if not 1e-6 <= per_s < _LONG_S:
            raise ValueError(f"per={per!r} must be 1e-6 seconds or more, and less than "
                             f"{_LONG_S:.0e}")
        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm={algorithm!r} must be one of {', '.join(ALGORITHMS)}")
        if algorithm == "moving" and limit > MOST_TIMES:
            raise ValueError(f"limit={limit:,} is too much for algorithm=\"moving\", which keeps "
                             f"the time of each hit: at most {MOST_TIMES:,}; the others keep a few "
                             "bytes")
        if burst is not None and algorithm != "bucket":
            raise ValueError(f"burst= is for algorithm=\"bucket\", not for {algorithm!r}")
        if burst is not None and not _is_count(burst):
            raise ValueError(f"burst={burst!r} must be a whole number, 1 or more, less than 2**32")
        if burst is not None and not burst * per_s / limit < _LONG_S:
            raise ValueError(f"burst={burst:,} with limit={limit:,} and per={per!r} is too much: "
                             f"that many come back in {burst * per_s / limit:.3g} seconds, which "
                             f"must be less than {_LONG_S:.0e}")
        if on_error not in _ON_ERROR:
            raise ValueError(f"on_error={on_error!r} must be one of {', '.join(_ON_ERROR)}")
        if not isinstance(m, ShmMap):
            raise TypeError(f"m={m!r} must be the handle of a map, not its name")
        self.map = m
        self.algorithm = algorithm
        self.rate = Rate(limit, max(1, round(per_s * 1e9)), burst or limit)
        self.prefix = prefix
        self.on_error = on_error
        self._ask = ALGORITHMS[algorithm]
        self._kind = f"{algorithm}/{self.rate.per_ns / 1e9:.12g}s"

    def __repr__(self) -> str:
        per = f"{self.rate.per_ns / 1e9:.12g} s"
        return (f"<{type(self).__name__}: map {self.map.name!r}, prefix {shown(self.prefix)}, "
                f"{self.rate.limit} in {per}, {self.algorithm}>")

    def hit(self, key: Key, cost: int = 1) -> RateLimit:
        """Count a hit, or one that costs more, if it is allowed; one that is not changes nothing.

        Raises:
            EditConflict: others have hit this key each time for `lock_timeout` seconds.
            ShmMapError: the map cannot be used just now, unless `on_error` says otherwise.
        """
        tries = self._tries(key, cost)
        while (answer := next(tries)) is None:
            pass
        return answer

    async def ahit(self, key: Key, cost: int = 1) -> RateLimit:
        """Do the same in a coroutine: between two tries its event loop goes on."""
        tries = self._tries(key, cost)
        while (answer := next(tries)) is None:
            await asyncio.sleep(0)
        return answer

    def test(self, key: Key, cost: int = 1) -> RateLimit:
        """Tell what such a hit would come to, without counting it: `remaining` is what is left
        before it."""
        try:
            state, now, _ = self._look(key)
            would = self._ask(self.rate, state, now, _checked(cost))
            before = self._ask(self.rate, state, now, 0)
            return self._answer(would._replace(remaining=before.remaining))
        except ShmMapError as error:
            return self._failed(error, key)

    def peek(self, key: Key) -> RateLimit:
        """Tell how it stands: `allowed` and `retry_after` are those of a hit of 1."""
        try:
            state, now, _ = self._look(key)
            would = self._ask(self.rate, state, now, 1)
            is_now = self._ask(self.rate, state, now, 0)
            return self._answer(is_now._replace(allowed=would.allowed, retry_ns=would.retry_ns))
        except ShmMapError as error:
            return self._failed(error, key)

    def reset(self, key: Key) -> bool:
        """Forget the hits of a key; tell whether there were any."""
        return self.map.delete(self._place(key))

    def _place(self, key: Key) -> Key:
        """Return what the map calls a key: what two rates keep of it are two entries."""
        return self.prefix, self._kind, key

    def _look(self, key: Key) -> tuple[bytes, int, int]:
        """Return a key's state, the time, and the state's version."""
        m: Any = self.map
        place = self._place(key)
        state, version = m.get_versioned(place, b"")
        if not isinstance(state, bytes):
            raise TypeError(f"map {m.name!r}, key {shown(place)} holds a {type(state).__name__}, "
                            "no rate: give the limiter another prefix=")
        return state, m._live.clock.now_ns(), version

    def _tries(self, key: Key, cost: int) -> Iterator[RateLimit | None]:
        """Count a hit: yield None for each try that came too late, then the answer."""
        patience: Patience | None = None
        try:
            while (answer := self._try(key, _checked(cost))) is None:
                patience = patience or Patience(self.map, key, "a rate limiter")
                patience.once_more()
                yield None
        except ShmMapError as error:
            answer = self._failed(error, key)
        yield answer

    def _try(self, key: Key, cost: int) -> RateLimit | None:
        """Count a hit; None: somebody has counted another one meanwhile."""
        state, now, version = self._look(key)
        found = self._ask(self.rate, state, now, cost)
        if found.allowed and not self.map.cas(
            self._place(key), found.state, version, found.lasts_ns / 1e9
        ):
            return None
        return self._answer(found)

    def _answer(self, found: Found) -> RateLimit:
        retry = inf if found.retry_ns < 0 else found.retry_ns / 1e9
        return RateLimit(found.allowed, self.rate.limit, found.remaining, found.reset_ns / 1e9,
                         retry)

    def _failed(self, error: ShmMapError, key: Key) -> RateLimit:
        if self.on_error == "raise" or isinstance(error, MapClosed):
            raise error
        allowed = self.on_error == "allow"
        m: Any = self.map
        cannot = "cannot be counted" + " just now" * (not isinstance(error, EntryTooLarge))
        note(m, notes_of(m), reason_for(error), f"{shown(key)} {cannot} ({type(error).__name__}: "
             f"{error}); it is {'allowed' if allowed else 'denied'}")
        return RateLimit(allowed, self.rate.limit, 0, 0.0, 0.0 if allowed else 1.0)


def _is_count(number: object) -> bool:
    return type(number) is not bool and isinstance(number, int) and 1 <= number < 1 << 32


def _checked(cost: int) -> int:
    if not _is_count(cost):
        raise ValueError(f"cost={cost!r} must be a whole number, 1 or more, less than 2**32")
    return cost
