"""Counting in shares: a machine takes several hits from the store at once, and has them in its map.

The store counts a share as hits when it is taken. All processes of the machine use it, by the map,
exactly; what is not used is lost. So no more is allowed than the rule says, whoever dies between
any two steps, as long as what can still be used is still counted:

    fixed, sliding  the store counts a share until its window ends: so long it can be used
    bucket          the hits leak out of the store's bucket in the order in which they came in, and
                    can be used for a while after that, in which no more than a tenth of the burst
                    leaks. The store's bucket is smaller by this tenth

For a bucket: let `b` be the burst, `r` what leaks in a second, `s` the tenth, `level` the store's.
At any time, all that machines can still use is in the bucket, or among the last `s` that leaked: at
most `level + s`. In the next `t` seconds the store gives at most `b - s - level + r t`. Together
that is `b + r t`: what a bucket allows. `moving` is no algorithm for shares: it has the time of
each hit, and that of a share's is not known yet.

The time is the machine's, from just before the store was asked: so a share ends a bit too early.

How large a share is: at most a tenth of what remains in the store, and at most four times what was
used of the share before. So a key that is hit once takes 1, and what a machine can keep from others
is small. One process at a time asks for a share: it puts a mark. The others take one hit each
meanwhile, and wait for nobody; a mark whose process has died ends by itself.

A refusal is kept, too, until the store would allow the hit: who knocks all the time does not reach
the store.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from ..checks import Key
from ..errors import MapClosed, ShmMapError
from ..operations.changes import Patience
from ..tiers.store import SHARE
from ..tiers.store_keys import RESERVED
from ..tiers.tiered import Tiered
from ..windows import Hit
from .counter import Rule, Step
from .in_store import StoreCounter, in_microseconds

ALGORITHMS = ("bucket", "fixed", "sliding")
GROWTH = 4  # of a share: so many times what was used of the one before
MARK_NS = 1_000_000_000  # that a process asks for a share, or has died
_FIELDS = struct.Struct("<9Q")
_TICK_NS = 2000  # the store's clock has microseconds, and what it tells is rounded up


class Share(NamedTuple):
    """What a machine has of one key. Times are of the machine's clock.

    Attributes:
        unused: hits of the share that have not been used; of a bucket some may have leaked since.
        used: those that have.
        ends: when none of it can be used any more; of a bucket: one less each `per / limit` before.
        remained: hits that were left in the store when it was asked last.
        clears: when nothing is counted any more, for answers only.
        refused, refused_until: a hit of such a cost is refused until then.
        asking_until: until then another process asks for a share.
    """

    unused: int = 0
    used: int = 0
    ends: int = 0
    remained: int = 0
    clears: int = 0
    refused: int = 0
    refused_until: int = 0
    asking_until: int = 0

    def refuses(self, cost: int, now: int) -> bool:
        """Tell whether a hit is known to be refused now."""
        return cost >= self.refused and now < self.refused_until


class ShareCounter:
    """See `counter.Counter`."""

    def __init__(self, tier: Tiered, rule: Rule) -> None:
        if rule.algorithm not in ALGORITHMS:
            raise ValueError(
                f"machines=\"shares\" is for algorithm={', '.join(ALGORITHMS)}, not for "
                f"{rule.algorithm!r}, which has the time of each hit: say machines=\"store\""
            )
        self.tier = tier
        self.rule = rule
        self._rate = rate = in_microseconds(rule.rate)
        spare = rate.burst // SHARE
        self._spare_ns = spare * rate.per_ns // rate.limit
        self._store = StoreCounter(tier, rule._replace(
            rate=rate._replace(burst=rate.burst - spare)))
        self._label: tuple[Any, ...] = (
            RESERVED, "share", tier.store.where, tier.prefix, rule.prefix,
            f"{rule.kind}/{rate.limit}/{rate.burst}",
        )

    def tries(self, key: Key, cost: int) -> Iterator[Step | Hit]:
        """Count one hit: by the share, where it has enough."""
        place = self._place(key)
        more = 0
        try:
            hit, share, now, version = yield from self._use(place, cost)
            if hit is None and share.refuses(cost, now):
                hit = self._refusal(share, now)
            if hit is not None:
                yield hit
                return
            if share.used and now >= share.asking_until and self._write(
                place, share._replace(asking_until=now + MARK_NS), now, version
            ):
                more = GROWTH * share.used
        except MapClosed:
            raise
        except ShmMapError:  # the map is in nobody's way
            pass
        yield Step.ASKS
        answer, used = self._ask(place, key, cost, more), None
        if not answer.taken:
            with suppress(ShmMapError):  # another one's share may have come meanwhile
                used, *_ = yield from self._use(place, cost)
        yield used or answer

    def _use(
        self, place: Key, cost: int
    ) -> Generator[Step, None, tuple[Hit | None, Share, int, int]]:
        """Take a hit from the share. Return None where that has too little; the share, the time,
        and the entry's version."""
        patience: Patience | None = None
        while True:
            share, now, version = self._read(place)
            left = self.left(share, now) - cost
            if left < 0:
                return None, share, now, version
            if self._write(
                place, share._replace(unused=left, used=share.used + cost), now, version
            ):  # what has leaked is gone: `unused` does not have it any more
                hit = Hit(cost, left + share.remained, max(0, share.clears - now), 0)
                return hit, share, now, version
            patience = patience or Patience(self.tier.map, place, "a rate limiter")
            patience.once_more()
            yield Step.AGAIN

    def _ask(self, place: Key, key: Key, cost: int, more: int) -> Hit:
        """Have the store count a hit, and put what is taken along, or a refusal, into the map."""
        asked = self._now()
        hit = self._store.count(key, cost, more)
        left = max(0, hit.taken - cost)
        with suppress(ShmMapError):  # the hit is counted
            self._note(place, hit, cost, asked, is_share=more > 0)
        return Hit(min(cost, hit.taken), hit.remaining + left, hit.reset_ns, hit.retry_ns)

    def _note(self, place: Key, hit: Hit, cost: int, asked: int, is_share: bool) -> None:
        while True:
            share, now, version = self._read(place)
            if hit.taken and (is_share or not share.used):
                share = self._joined(share, hit, cost, asked, now)
            elif not hit.taken and hit.retry_ns > 0:
                share = share._replace(
                    refused=cost, refused_until=asked + hit.retry_ns, remained=hit.remaining,
                    clears=asked + hit.reset_ns, asking_until=0,
                )
            else:
                return
            if self._write(place, share, now, version):
                return

    def _joined(self, share: Share, hit: Hit, cost: int, asked: int, now: int) -> Share:
        """Return a new share. What is left of the one before is used for this hit, as far as it
        goes: so all that can be used later came in now, and lasts as long. Where the one before is
        larger (this process was stopped, and another one has asked), it stays."""
        clears = asked + hit.reset_ns
        ends = clears - _TICK_NS
        if self.rule.algorithm == "sliding":
            ends -= self._rate.per_ns
        elif self.rule.algorithm == "bucket":
            ends += self._spare_ns
        left = self.left(share, now)
        new = Share(hit.taken - max(0, cost - left), cost, ends, hit.remaining, clears)
        return new if self.left(new, now) >= left else share

    def left(self, share: Share, now: int) -> int:
        """Return how many hits of a share can be used now."""
        lasts = share.ends - now
        if lasts <= 0:
            return 0
        if self.rule.algorithm == "bucket":
            return min(share.unused, lasts * self._rate.limit // self._rate.per_ns)
        return share.unused

    def look(self, key: Key, cost: int) -> tuple[Hit, Hit]:
        """Return what a hit would come to, and how it stands: by the share, where that says so."""
        left = 0
        try:
            share, now, _ = self._read(self._place(key))
            left = self.left(share, now)
            stands = Hit(0, left + share.remained, max(0, share.clears - now), 0)
            if left >= cost:
                return stands._replace(taken=cost), stands
            if share.refuses(cost, now):
                refusal = self._refusal(share, now)
                return refusal, refusal
        except MapClosed:
            raise
        except ShmMapError:
            pass
        would, stands = self._store.look(key, cost)
        return would, stands._replace(remaining=stands.remaining + left)

    def _refusal(self, share: Share, now: int) -> Hit:
        return Hit(0, self.left(share, now) + share.remained, max(0, share.clears - now),
                   share.refused_until - now)

    def reset(self, key: Key) -> bool:
        """Forget the hits of a key, and this machine's share: others use what they have."""
        self.tier.map.delete(self._place(key))
        return self._store.reset(key)

    def _place(self, key: Key) -> Key:
        return (*self._label, key)

    def _now(self) -> int:
        m: Any = self.tier.map
        now: int = m._live.clock.now_ns()
        return now

    def _read(self, place: Key) -> tuple[Share, int, int]:
        """Return a key's share, the time, and the entry's version. A share that was taken by
        another map, or is none, counts for nothing."""
        m: Any = self.tier.map
        found, version = m.get_versioned(place)
        share, nonce = Share(), 0
        if type(found) is bytes and len(found) == _FIELDS.size:
            nonce, *fields = _FIELDS.unpack(found)
            if nonce == m._live.nonce:
                share = Share(*fields)
        return share, self._now(), version

    def _write(self, place: Key, share: Share, now: int, version: int) -> bool:
        """Write a share, if the entry still has that version; tell whether that was done."""
        m: Any = self.tier.map
        until = max(share.ends, share.clears, share.refused_until, share.asking_until)
        return bool(m.cas(place, _FIELDS.pack(m._live.nonce, *share), version,
                          max(1, until - now) / 1e9))
