"""How many operations a second, and how slow the slowest, when processes share one store?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from ..core.peer import Peer
from ..core.progress import Progress
from ..core.results import Row
from ..core.scenario import Plot, Scenario, Setup, take_turns
from ..core.workloads import VALUE_BYTES
from ..load.mixed_workers import Point, Stage
from ..load.operation_mix import SKEW, Mix
from ..load.peer_under_load import LoadLane, PeerUnderLoad
from ..load.signed_values import Counters, SignedBytes, SignedObjects
from ..peers import Dict
from .families import SEVERAL_PROCESSES

SIZED_BYTES = 16 * 10**6  # payload of a store whose values are large
OBJECTS = 1_000
CROWD_ENTRIES = 10_000
CROWD = ("shmmap", "lmdb", "redis", "memcached")  # that many processes suit


class Load(NamedTuple):
    """Workers read and write one store of each shared peer.

    Attributes:
        stages: what is measured, for a setup.
        only: names of peers; none: all that are shared.
        control: `dict` runs too; every process has its own, so it shows what the cores can give.
    """

    name: str
    title: str
    stages: Callable[[Setup], list[Stage]]
    plots: tuple[Plot, ...]
    quick: bool = False
    only: tuple[str, ...] = ()
    control: bool = False
    family: str = SEVERAL_PROCESSES

    def chosen(self, setup: Setup, stage: Stage) -> list[type[Peer]]:
        """List the peers of a stage."""
        return [
            kind for kind in setup.peers
            if (kind.shared or (self.control and kind is Dict))
            and (not self.only or kind.name in self.only) and stage.suits(kind)
        ]

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        stretches = 1 + setup.scale.load_repetitions
        return stretches * sum(
            len(self.chosen(setup, stage)) * len(stage.points) for stage in self.stages(setup)
        )

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Measure every peer at every point."""
        scale = setup.scale
        stretches = 1 + scale.load_repetitions
        rows: list[Row] = []
        for stage in self.stages(setup):
            with ExitStack() as stack:
                peers = []
                for kind in self.chosen(setup, stage):
                    peers.append(PeerUnderLoad(kind, stage, stretches))
                    stack.callback(peers[-1].close)
                for point in stage.points:
                    lanes = [LoadLane(self.name, peer, point, scale.load_seconds) for peer in peers]
                    rows += take_turns(lanes, stretches, progress)
        return rows


def shares(setup: Setup) -> list[Stage]:
    """Vary the share of reads: {"read share": 0.95}."""
    scale = setup.scale
    points = tuple(Point({"read share": share}, Mix(share)) for share in scale.read_shares)
    return [Stage(SignedBytes(VALUE_BYTES), scale.keys, points)]


def processes(setup: Setup) -> list[Stage]:
    """Vary the number of processes: {"processes": 2}."""
    points = tuple(Point({"processes": n}, processes=n) for n in setup.processes)
    return [Stage(SignedBytes(VALUE_BYTES), setup.scale.keys, points)]


def crowd(setup: Setup) -> list[Stage]:
    """Have more processes than cores: {"processes": 64}."""
    points = tuple(Point({"processes": n}, processes=n) for n in setup.scale.many)
    return [Stage(SignedBytes(VALUE_BYTES), min(CROWD_ENTRIES, setup.scale.keys), points)]


def skews(setup: Setup) -> list[Stage]:
    """Draw keys alike or with Zipf's weights: {"keys": "uniform"}, {"keys": "zipf 0.99"}."""
    points = (
        Point({"keys": "uniform"}, Mix()), Point({"keys": f"zipf {SKEW}"}, Mix(skew=SKEW)),
    )
    return [Stage(SignedBytes(VALUE_BYTES), setup.scale.keys, points)]


def sizes(setup: Setup) -> list[Stage]:
    """Vary the length of values: {"value bytes": 4096}. The larger, the fewer there are."""
    scale = setup.scale
    return [
        Stage(
            SignedBytes(length), max(1, min(scale.keys, SIZED_BYTES // length)),
            (Point({"value bytes": length}),),
        )
        for length in scale.sizes
    ]


def hot_key(setup: Setup) -> list[Stage]:
    """Have all processes read one key: {"processes": 2}."""
    points = tuple(Point({"processes": n}, Mix(1.0), n) for n in setup.processes)
    return [Stage(SignedBytes(VALUE_BYTES), 1, points)]


def counter(setup: Setup) -> list[Stage]:
    """Have all processes raise one counter: {"processes": 2}. The sum is checked."""
    points = tuple(Point({"processes": n}, Mix(1.0), n) for n in setup.processes)
    return [Stage(Counters(), 1, points, "incr", "incr")]


def objects(setup: Setup) -> list[Stage]:
    """Read and write small dicts, which most stores pickle."""
    entries = min(OBJECTS, setup.scale.keys)
    return [Stage(SignedObjects(), entries, (Point({}),), "get_object", "set_object")]


def _rate_and_tail(title: str, x: str, log: str = "y") -> tuple[Plot, ...]:
    """Picture the throughput and the tail over one axis."""
    return (
        Plot("", f"{title}: throughput", x, "per_s", log),
        Plot("p99", f"{title}: 99 of 100 operations within", x, "p99_ns", log),
    )


SCENARIOS: tuple[Scenario, ...] = (
    Load("load-reads", "2 processes, share of reads from 100 to 0 %", shares,
         _rate_and_tail("2 processes, share of reads", "read share"), quick=True),
    Load("load-processes", "1 to 8 processes, 95 % reads", processes,
         _rate_and_tail("95 % reads, number of processes", "processes"), control=True),
    Load("load-zipf", "2 processes, 95 % reads, keys uniform and Zipf 0.99", skews,
         (Plot("", "2 processes, 95 % reads: how keys are drawn", "keys", "per_s", "y"),)),
    Load("load-sizes", "2 processes, 95 % reads, values from 8 B to 1 MB", sizes,
         _rate_and_tail("2 processes, 95 % reads, bytes of a value", "value bytes", "xy")),
    Load("load-hot-key", "1 to 8 processes read one key", hot_key,
         _rate_and_tail("All read one key, number of processes", "processes")),
    Load("load-counter", "1 to 8 processes raise one counter; the sum is checked", counter,
         _rate_and_tail("All raise one counter, number of processes", "processes")),
    Load("load-crowd", "up to 64 processes, 95 % reads: fairness and tails", crowd,
         (Plot("", "Up to 64 processes, 95 % reads: throughput", "processes", "per_s", "xy"),
          Plot("fairness", "Up to 64 processes: slowest to fastest", "processes", "fairness", "x"),
          Plot("p999", "Up to 64 processes: 999 of 1,000 within", "processes", "p999_ns", "xy")),
         only=CROWD),
    Load("load-objects", "2 processes, 95 % reads, small dicts as values", objects,
         (Plot("", "2 processes, 95 % reads of small dicts", "", "per_s", "y"),)),
)
