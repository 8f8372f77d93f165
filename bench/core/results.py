"""What comes of a scenario: rows of figures, each figure with all its repetitions."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple

from .timing import paired_ratio

FORMAT = 2  # of the JSON
OURS = "shmmap"
HIT_PREFIX = "hit-"  # what the names of scenarios of hit ratios begin with


class Unit(NamedTuple):
    """How a figure is told.

    Attributes:
        label: as on an axis.
        better: "lower", "higher", or "" where neither is.
        ratio: whether peers are divided by each other.
    """

    label: str
    better: str = ""
    ratio: bool = False


UNITS = {
    "ns": Unit("ns an operation", "lower", True),
    "get_ns": Unit("ns a get", "lower", True),
    "set_ns": Unit("ns a set", "lower", True),
    "net_ns": Unit("ns an operation, less the empty loop", "lower"),
    "p50_ns": Unit("median of single operations, ns", "lower"),
    "p99_ns": Unit("99 of 100 within, ns", "lower"),
    "p999_ns": Unit("999 of 1,000 within, ns", "lower"),
    "most_ns": Unit("longest, ns", "lower"),
    "per_s": Unit("operations a second, all processes", "higher", True),
    "gain": Unit("throughput of two to that of one", "higher"),
    "fairness": Unit("slowest process to fastest", "higher"),
    "amplification": Unit("memory to payload", "lower"),
    "slots": Unit("slots bought for an entry", "lower"),
    "refused": Unit("maps that were full too early", "lower"),
    "hit_percent": Unit("hits in 100 reads", "higher"),
    "byte_hit_percent": Unit("bytes of hits in 100 bytes read", "higher"),
    "over_lru": Unit("hits in 100 reads, less those of LRU"),
    "near_percent": Unit("reads in 100 that did not reach the store", "higher"),
    "asked_per_s": Unit("requests to the store a second", "lower"),
    "ms": Unit("ms", "lower", True),
    "net_ms": Unit("ms, less what an empty interpreter takes", "lower"),
    "cpu_us": Unit("processor time a request, us", "lower", True),
    "share": Unit("share"),
    "wait_p99_ns": Unit("99 of 100 that waited for a lock within, ns", "lower"),
    "waited_p99_ns": Unit("99 of 100 waited for a lock for at most, ns", "lower"),
    "metadata_bytes": Unit("bytes that are not slots", "lower"),
    "own_most_ns": Unit("longest, less its waits for a processor, ns", "lower"),
    "over_ns": Unit("longest, less that of the control, ns", "lower"),
    "entries_per_s": Unit("entries moved a second", "higher"),
    "bytes": Unit("bytes"),
    "peak_bytes": Unit("bytes of /dev/shm at the peak", "lower"),
    "over_bytes": Unit("the same, less the larger of before and after", "lower"),
    "private_bytes": Unit("bytes that the mover has alone, at its peak", "lower"),
    "calls": Unit("calls of the factory", "lower"),
    "let_through": Unit("hits let through in all, of one key with a limit"),
    "held_most_ns": Unit("all shards held, the longest, ns", "lower"),
    "held_ns": Unit("all shards held, median, ns", "lower"),
    "pause_ns": Unit("longest pause of the writer, ns", "lower"),
    "writes_per_s": Unit("writes a second meanwhile", "higher"),
    "torn": Unit("share of listings that were true at no moment", "lower"),
    "spread": Unit("fullest shard to the mean", "lower"),
    "chi2": Unit("chi-square to its degrees of freedom"),
    "chi2_p": Unit("p of the chi-square test"),
    "ks_p": Unit("p of the Kolmogorov-Smirnov test"),
    "cycles": Unit("cycles an entry", "lower"),
    "cache_misses": Unit("cache misses an entry", "lower"),
    "count": Unit("number"),
}


class Row(NamedTuple):
    """What one peer did in one scenario at one point.

    Attributes:
        scenario: its name.
        peer: the store, the design or the setting.
        point: what the scenario varies, and what it was here: {"shards": 4}.
        samples: figure -> one number for each repetition. Figures are named in UNITS.
        facts: what else is to be told, no figure of which is judged.
        problem: what was answered wrongly; such a row is shown, and not judged.
    """

    scenario: str
    peer: str
    point: dict[str, Any]
    samples: dict[str, list[float]]
    facts: dict[str, Any]
    problem: str

    @classmethod
    def of(
        cls, scenario: str, peer: str, samples: dict[str, list[float]], problem: str = "",
        point: dict[str, Any] | None = None, facts: dict[str, Any] | None = None,
    ) -> Row:
        """Make a row; every figure must have a unit."""
        unknown = samples.keys() - UNITS.keys()
        assert not unknown, f"{scenario}: {unknown} are in no table of units"
        return cls(scenario, peer, point or {}, samples, facts or {}, problem)

    def label(self) -> str:
        """Name the row among those of its scenario.

        >>> Row.of("a", "dict", {}, point={"shards": 4, "share": 0.5}).label()
        'dict@shards=4,share=0.5'
        """
        point = ",".join(f"{name}={value}" for name, value in self.point.items())
        return f"{self.peer}@{point}" if point else self.peer

    def median(self, figure: str) -> float:
        """Return the median over the repetitions."""
        return statistics.median(self.samples[figure])


def metrics(rows: Iterable[Row]) -> dict[str, float]:
    """Name the figures of sound rows, and of each pair that has our map in it the ratio.

    "get-hot/shmmap ns", "get-hot/shmmap:dict ns", "load/lmdb:shmmap@processes=2 per_s"
    """
    sound = [row for row in rows if not row.problem]
    found = {}
    for row in sound:
        for figure in row.samples:
            found[f"{row.scenario}/{row.label()} {figure}"] = row.median(figure)
    ours = {(row.scenario, str(row.point)): row for row in sound if row.peer == OURS}
    for row in sound:
        mine = ours.get((row.scenario, str(row.point)))
        if mine is None or row.peer == OURS:
            continue
        for figure in row.samples.keys() & mine.samples.keys():
            if UNITS[figure].ratio:
                for above, below in ((mine, row), (row, mine)):
                    pair = f"{above.peer}:{below.label()}"
                    ratio = paired_ratio(above.samples[figure], below.samples[figure])[0]
                    found[f"{row.scenario}/{pair} {figure}"] = ratio
    return found


def problems(results: dict[str, Any]) -> list[str]:
    """List what went wrong: wrong answers by scenario and row, and scenarios that failed."""
    wrong = [
        f"{row.scenario}, {row.label()}: {row.problem}"
        for row in (Row(**row) for row in results["rows"])
        if row.problem
    ]
    return wrong + [f"{name} failed: {why}" for name, why in results["failures"].items()]
