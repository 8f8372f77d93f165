"""What was promised, as data. The verdict is computed from the run's figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

PASS, MISS, NONE = "PASS", "MISS", "not measured"


class Target(NamedTuple):
    """A limit for one figure (its name as results.metrics gives it)."""

    metric: str
    relation: str  # "<=", "<" or ">="
    limit: float
    engine: str = ""  # the engine it holds for; "": both
    unit: str = "x"

    @property
    def scenario(self) -> str:
        """The scenario that the figure comes from."""
        return self.metric.partition("/")[0]

    def verdict(self, measured: float | None) -> str:
        """Judge a figure.

        >>> Target("a/b", "<=", 5.0).verdict(5.0), Target("a/b", "<", 5.0).verdict(5.0)
        ('PASS', 'MISS')
        """
        if measured is None:
            return NONE
        met = {
            "<=": measured <= self.limit, "<": measured < self.limit, ">=": measured >= self.limit,
        }[self.relation]
        return PASS if met else MISS


_GETS = ("get-hot", "get-shuffled", "get-insertion")
_READERS = ("readers-hot", "readers-shuffled")
_TRACES = (
    "zipf-0.6", "zipf-0.8", "zipf-0.9", "zipf-0.99", "zipf-1.1", "zipf-wide", "scans", "loop",
    "loop-long", "loop-mixed", "drift", "drift-fast", "recency", "recency-wide",
)

TARGETS = (
    *(Target(f"{name}/shmmap:dict ns", "<=", 5.0, "compiled") for name in _GETS),
    Target("set-shuffled/shmmap:dict ns", "<=", 10.0, "compiled"),
    Target("set-insertion/shmmap:dict ns", "<=", 10.0, "compiled"),
    *(Target(f"{name}/shmmap:TTLCache+lock ns", "<", 1.0, "compiled") for name in _GETS),
    *(Target(f"{name}/lmdb:shmmap ns", ">=", 3.0, "compiled") for name in _GETS),
    *(Target(f"{name}/shmmap gain", ">=", 1.8, "compiled") for name in _READERS),
    *(Target(f"{name}/shmmap ns", "<", 3000.0, "pure", "ns") for name in _GETS),
    *(
        Target(f"values/{peer}:shmmap@value={value} {figure}", ">=", 2.0, "compiled")
        for value in ("record", "session of 20 fields", "list of 50 records")
        for peer in ("lmdb, pickled", "lmdb, msgspec") for figure in ("get_ns", "set_ns")
        if value == "record" or peer == "lmdb, pickled"
    ),
    Target("memory-64/shmmap amplification", "<=", 1.62),
    Target("memory-116/shmmap amplification", "<=", 1.38),
    Target("memory-116-default/shmmap amplification", "<=", 1.38),
    Target("memory-1040/shmmap amplification", "<=", 1.05),
    Target("memory-mixed/shmmap amplification", "<=", 1.38),
    *(
        Target(f"memory-churn-{name}/shmmap@when=after churn amplification", "<=", limit)
        for name, limit in (("64", 1.62), ("116", 1.38), ("1040", 1.05), ("mixed", 1.38),
                            ("ttl-64", 1.62), ("ttl-116", 1.38), ("ttl-1040", 1.05),
                            ("ttl-mixed", 1.38))
    ),
    # LRU is all but the best that there is where the only rule is what was asked for lately
    *(
        Target(f"hit-{name}/shmmap@entries={entries} over_lru", ">=",
               -0.5 if name == "recency" else 0.0, unit="")
        for name in (*_TRACES, "sizes")
        for entries in (1_000, 10_000)
    ),
    Target("cache-near-get/shmmap:near, linearizable ns", ">=", 5.0, "compiled"),
    Target("cache-snapshot/snapshot@entries=100000 held_most_ns", "<=", 5e6, "compiled", "ns"),
    *(
        Target(f"resize/shmmap@change={change},what=writes,when=during,processes=2 {figure}", "<=",
               1e6, "compiled", "ns")
        for change in ("16 to 256 shards", "256 to 16 shards")
        for figure in ("over_ns", "own_most_ns")
    ),
    Target("cache-crowd/shmmap calls", "<=", 1, unit=""),
    *(
        Target(f"{name}/shmmap@entries={entries} refused", "<=", 0, unit="")
        for name in ("filled", "filled-64")
        for entries in (1_000, 100_000)
    ),
)


def judge(
    figures: Mapping[str, float], engine: str, scenarios: list[str]
) -> list[dict[str, Any]]:
    """Judge every target of this engine whose scenario was asked for."""
    return [
        {
            "metric": target.metric,
            "relation": target.relation,
            "limit": target.limit,
            "unit": target.unit,
            "measured": figures.get(target.metric),
            "verdict": target.verdict(figures.get(target.metric)),
            "scenario": target.scenario,
        }
        for target in TARGETS
        if target.engine in ("", engine) and target.scenario in scenarios
    ]
