"""Counting in the store behind a tier: exact for all machines, a round trip a hit.

The store counts, in one step and by its own clock, so it does not matter what the machines' clocks
say. The names begin with RATES and then the tier's prefix. They do not begin with that prefix
itself: of what does, the store tells every machine at each change, and would so of each hit.

A hit is never asked for twice: where the store does not answer, it may have been counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..checks import Key
from ..tiers.tiered import Tiered
from ..windows import Hit, Rate
from .counter import Rule, Step

RATES = b"rate:"


def in_microseconds(rate: Rate) -> Rate:
    """Return a rate whose time is whole microseconds, rounded up."""
    return rate._replace(per_ns=-(-rate.per_ns // 1000) * 1000)


class StoreCounter:
    """See `counter.Counter`.

    Raises:
        TypeError: the store cannot count.
    """

    def __init__(self, tier: Tiered, rule: Rule) -> None:
        if not callable(getattr(tier.store, "hit", None)):
            kind = type(tier.store)
            raise TypeError(
                f"store {tier.store.where} ({kind.__module__}.{kind.__qualname__}) cannot count "
                "for a RateLimiter: it has no method hit(...), which shmmap.tiers.store.Store "
                "describes. Give the limiter a map, which counts for one machine"
            )
        self.tier = tier
        self.rule = rule
        self.rate = in_microseconds(rule.rate)

    def tries(self, key: Key, cost: int) -> Iterator[Step | Hit]:
        """Count one hit."""
        yield Step.ASKS
        yield self.count(key, cost)

    def count(self, key: Key, cost: int, more: int = 0) -> Hit:
        """Ask the store to count a hit, and what else is taken along."""
        return self._ask(key, lambda name: self.tier.store.hit(
            name, self.rule.algorithm, self.rate, cost, more))[0]

    def look(self, key: Key, cost: int) -> tuple[Hit, Hit]:
        """Return what a hit would come to, and how it stands."""
        would, stands = self._ask(key, lambda name: self.tier.store.hit(
            name, self.rule.algorithm, self.rate, cost, counts=False))
        return would, stands

    def reset(self, key: Key) -> bool:
        """Forget the hits of a key."""
        name = self.name_of(key)
        return bool(self.tier._tell(lambda: self.tier.store.delete([name])))

    def name_of(self, key: Key) -> bytes:
        """Return what the store calls the hits of a key."""
        return RATES + self.tier._names.name_of(self.rule.place(key))

    def _ask(self, key: Key, act: Callable[[bytes], list[Hit]]) -> list[Hit]:
        name = self.name_of(key)
        found: list[Hit] = self.tier._tell(lambda: act(name))
        return found
