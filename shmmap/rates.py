"""RateLimiter: so many in so long, counted once for all processes of the machine, or of several."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from math import ceil, inf
from typing import TYPE_CHECKING, Any, NamedTuple

from ._public import public
from .checks import LONG_S, Key, seconds, shown
from .counters.counter import Counter, Rule, Step
from .counters.in_map import MapCounter
from .errors import EntryTooLarge, MapClosed, ShmMapError
from .in_asyncio import in_thread
from .locks.keeping import note, notes_of, reason_for
from .map import ShmMap
from .windows import ALGORITHMS, Hit, Rate

if TYPE_CHECKING:
    from .tiers.tiered import Tiered

_MACHINES = ("store", "shares")
_ON_ERROR = ("raise", "allow", "deny")
MOST_TIMES = 100_000  # 8 bytes each, written anew by each hit


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
    """So many hits of a key in so long, exact for all processes that have the map, or for all
    machines that have a tier.

    Each key has one entry of 16 or 24 bytes ("moving": 8 bytes a hit), which expires when nothing
    is counted any more. A hit is one step: in a map it is read, computed, and written if nobody has
    written meanwhile, else tried again. No lock is held, so no death leaves one. Where the map or
    the store evicts, a count may be lost with its entry: give limits a map with room,
    `on_full="raise"`.

    Args:
        m: the map; or a `Tiered`: then several machines count together.
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
        machines: with a tier: "store" (default): the store counts each hit, exactly, by its own
            clock. "shares": a machine takes several at once and has them in its map, so most hits
            ask nobody. Never more are allowed by that, but some may be refused that others have
            taken and not used; not for "moving". See docs/guide/rates.md.

    Threads, tasks and forked children may share one.

    >>> with ShmMap("doctest", size="1MB", ephemeral=True) as m:
    ...     limiter = RateLimiter(m, 2, per=60)
    ...     [bool(limiter.hit("ada")) for _ in range(3)], limiter.peek("ada").remaining
    ([True, True, False], 0)
    """

    def __init__(
        self, m: ShmMap | Tiered, limit: int, per: float | timedelta, *,
        algorithm: str = "bucket", burst: int | None = None, prefix: str = "rate",
        on_error: str = "raise", machines: str | None = None,
    ) -> None:
        per_s = seconds(per, "per")
        if not _is_count(limit):
            raise ValueError(f"limit={limit!r} must be a whole number, 1 or more, less than 2**32")
        if not 1e-6 <= per_s < LONG_S:
            raise ValueError(f"per={per!r} must be 1e-6 seconds or more, and less than "
                             f"{LONG_S:.0e}")
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
        if burst is not None and not burst * per_s / limit < LONG_S:
            raise ValueError(f"burst={burst:,} with limit={limit:,} and per={per!r} is too much: "
                             f"that many come back in {burst * per_s / limit:.3g} seconds, which "
                             f"must be less than {LONG_S:.0e}")
        if on_error not in _ON_ERROR:
            raise ValueError(f"on_error={on_error!r} must be one of {', '.join(_ON_ERROR)}")
        tier = _tier_of(m)
        if machines is not None and tier is None:
            raise ValueError(f"machines={machines!r} is for a Tiered: a map is one machine's")
        if machines not in (None, *_MACHINES):
            raise ValueError(f"machines={machines!r} must be one of {', '.join(_MACHINES)}")
        machines = "" if tier is None else machines or "store"
        here: ShmMap = m if isinstance(m, ShmMap) else m.map
        self.map, self.tier = here, tier
        self.algorithm = algorithm
        self.machines = machines
        self.rate = Rate(limit, max(1, round(per_s * 1e9)), burst or limit)
        self.prefix = prefix
        self.on_error = on_error
        kind = f"{algorithm}/{self.rate.per_ns / 1e9:.12g}s"
        self._counter = _counter(here, tier, machines, Rule(self.rate, algorithm, prefix, kind))

    def __repr__(self) -> str:
        per = f"{self.rate.per_ns / 1e9:.12g} s"
        where = "" if self.tier is None else (
            f"store {self.tier.store.where}, machines={self.machines!r}, ")
        return (f"<{type(self).__name__}: map {self.map.name!r}, {where}prefix "
                f"{shown(self.prefix)}, {self.rate.limit} in {per}, {self.algorithm}>")

    def hit(self, key: Key, cost: int = 1) -> RateLimit:
        """Count a hit, or one that costs more, if it is allowed; one that is not changes nothing.

        Raises:
            EditConflict: others have hit this key each time for `lock_timeout` seconds.
            StoreUnavailable: of a tier; the hit may or may not have been counted.
            ShmMapError: it cannot be counted just now. `on_error` says otherwise for all of these.
        """
        try:
            tries = self._counter.tries(key, _checked(cost))
            while not isinstance(step := next(tries), Hit):
                pass
            return self._answer(step)
        except ShmMapError as error:
            return self._failed(error, key)

    async def ahit(self, key: Key, cost: int = 1) -> RateLimit:
        """Do the same in a coroutine. Between two tries its event loop goes on, and so it does
        while a store is asked: in a thread, which counts the hit also if the task is cancelled."""
        try:
            tries = self._counter.tries(key, _checked(cost))
            step = next(tries)
            while not isinstance(step, Hit):
                if step is Step.ASKS:
                    step = await in_thread(next, tries)
                else:
                    await asyncio.sleep(0)
                    step = next(tries)
            return self._answer(step)
        except ShmMapError as error:
            return self._failed(error, key)

    def test(self, key: Key, cost: int = 1) -> RateLimit:
        """Tell what such a hit would come to, without counting it: `remaining` is what is left
        before it. In a coroutine that has a tier: `await asyncio.to_thread(limiter.test, key)`."""
        try:
            would, stands = self._counter.look(key, _checked(cost))
            return self._answer(would._replace(remaining=stands.remaining))
        except ShmMapError as error:
            return self._failed(error, key)

    def peek(self, key: Key) -> RateLimit:
        """Tell how it stands: `allowed` and `retry_after` are those of a hit of 1. For coroutines
        see `test`."""
        try:
            would, stands = self._counter.look(key, 1)
            return self._answer(stands._replace(taken=would.taken, retry_ns=would.retry_ns))
        except ShmMapError as error:
            return self._failed(error, key)

    def reset(self, key: Key) -> bool:
        """Forget the hits of a key; tell whether there were any. With machines="shares": other
        machines go on with what they have taken."""
        return self._counter.reset(key)

    def _answer(self, hit: Hit) -> RateLimit:
        retry = inf if hit.retry_ns < 0 else hit.retry_ns / 1e9
        return RateLimit(hit.taken > 0, self.rate.limit, hit.remaining, hit.reset_ns / 1e9, retry)

    def _failed(self, error: ShmMapError, key: Key) -> RateLimit:
        if self.on_error == "raise" or isinstance(error, MapClosed):
            raise error
        allowed = self.on_error == "allow"
        m: Any = self.map
        cannot = "cannot be counted" + " just now" * (not isinstance(error, EntryTooLarge))
        note(m, notes_of(m), reason_for(error), f"{shown(key)} {cannot} ({type(error).__name__}: "
             f"{error}); it is {'allowed' if allowed else 'denied'}")
        return RateLimit(allowed, self.rate.limit, 0, 0.0, 0.0 if allowed else 1.0)


def _counter(m: ShmMap, tier: Tiered | None, machines: str, rule: Rule) -> Counter:
    """Return what counts. What a tier needs is imported where there is one."""
    if tier is None:
        return MapCounter(m, rule)
    if machines == "shares":
        from .counters.shares import ShareCounter

        return ShareCounter(tier, rule)
    from .counters.in_store import StoreCounter

    return StoreCounter(tier, rule)


def _tier_of(m: Any) -> Tiered | None:
    """Return the tier that a limiter was given; None: a map. Raises TypeError for what is
    neither."""
    if isinstance(m, ShmMap):
        return None
    from .tiers.tiered import Tiered

    if not isinstance(m, Tiered):
        raise TypeError(f"m={m!r} must be the handle of a map, not its name, or a Tiered")
    return m


def _is_count(number: object) -> bool:
    return type(number) is not bool and isinstance(number, int) and 1 <= number < 1 << 32


def _checked(cost: int) -> int:
    if not _is_count(cost):
        raise ValueError(f"cost={cost!r} must be a whole number, 1 or more, less than 2**32")
    return cost
