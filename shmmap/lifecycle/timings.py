"""How long operations took, by all workers of a map: histograms of powers of two."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

from .._public import public
from ..memory.events import TIMED
from ..memory.layout import constants
from ..memory.words import ControlWords

K = constants()
_BUCKETS, _SHIFT = K["TIMED_BUCKETS"], K["TIMED_SHIFT"]
EDGES_S = tuple((1 << _SHIFT + at) / 1e9 for at in range(_BUCKETS - 1))
"""Where each bucket ends, in seconds; the last one has no end."""


@public
class Histogram(NamedTuple):
    """How often something took how long.

    Attributes:
        counts: of each bucket: the first is of less than 16 ns, each other one reaches to twice the
            time of the one before, and the last one has all that took longer.

    >>> Histogram((0,) * 10 + (99, 1)).percentile(50) < 16e-6
    True
    """

    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """How many there were."""
        return sum(self.counts)

    @property
    def seconds(self) -> float:
        """About how long they took together: each counts as three quarters of its bucket's end."""
        return sum(count * 0.75 * EDGES_S[min(at, len(EDGES_S) - 1)]
                   for at, count in enumerate(self.counts))

    def percentile(self, percent: float) -> float:
        """Return the seconds that so many in 100 did not exceed; 0.0 where there were none. It is
        taken to lie evenly in its bucket, so it is off by less than a factor of two.

        Raises:
            ValueError: `percent` is not from 0 to 100.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"percent={percent!r} must be from 0 to 100")
        rank = self.total * percent / 100
        for at, so_far in enumerate(accumulate(self.counts)):
            count = self.counts[at]
            if count and so_far >= rank:
                start = EDGES_S[at - 1] if at else 0.0
                end = EDGES_S[at] if at < len(EDGES_S) else start
                return start + (end - start) * max(0.0, 1 - (so_far - rank) / count)
        return 0.0

    def since(self, earlier: Histogram) -> Histogram:
        """Return what has come since an earlier one, of the same map."""
        return Histogram(tuple(map(grown, self.counts, earlier.counts)))

    def __repr__(self) -> str:
        if not self.total:
            return "<Histogram: empty>"
        times = ", ".join(f"{percent:g} % within {in_units(self.percentile(percent))}"
                          for percent in (50, 99))
        return f"<Histogram: {self.total:,}, {times}>"


def grown(now: int, before: int) -> int:
    """Return by how much a count has grown; one that is less than before has begun anew."""
    return now - before if now >= before else now


def in_units(seconds: float) -> str:
    """Return a span of time as people read it.

    >>> in_units(4.2e-7), in_units(0.00123), in_units(12)
    ('420 ns', '1.23 ms', '12 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def read_timings(control: ControlWords) -> dict[str, Histogram]:
    """Return each histogram of a map, by its name."""
    first = control.first + (K["C_HISTOGRAMS"] >> 3)
    found = {}
    for name, which in TIMED.items():
        start = first + which * _BUCKETS
        found[name] = Histogram(tuple(control.words[start:start + _BUCKETS]))
    return found
