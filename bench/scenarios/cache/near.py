"""What does a near cache bring for objects, at each consistency, beside stores that unpickle?"""

from __future__ import annotations

from typing import Any, ClassVar

from ...core.peer import Peer
from ...core.scenario import Plot, Scenario, Setup
from ...load.mixed_workers import Point, Stage
from ...load.operation_mix import SKEW, Mix
from ...load.signed_values import SignedObjects
from ...peers import ShmMapPeer
from ...peers.own_map import remove
from ..families import NEAR_CACHE
from ..latency import Latency
from ..load import OBJECTS, Load

BESIDE = ("dict", "TTLCache+lock", "shmmap", "lmdb", "diskcache.Cache", "redis")


class Near(ShmMapPeer):
    """The map through a near cache that has room for all that is asked for."""

    name = "near, linearizable"
    setting = "near=2,000 entries, which is more than are asked for"
    options: ClassVar[dict[str, Any]] = {}

    def make(self, room: int, value_bytes: int) -> None:
        super().make(room, value_bytes)
        self.maker, self.handle = self.handle, None

    def open(self) -> None:
        import shmmap

        self.handle = shmmap.ShmMap.attach(self.address, near=2_000, **self.options)

    def shut(self) -> None:
        if self.made:
            remove(self.maker)
        self.handle.close()


class NearCopy(Near):
    """Each reader gets an object of its own."""

    name = "near, near_copy"
    options: ClassVar = {"near_copy": True}


class NearSession(Near):
    """Never older than what this handle has seen."""

    name = "near, session"
    options: ClassVar = {"consistency": "session"}


class NearBounded(Near):
    """At most a tenth of a second old."""

    name = "near, 0.1 s stale"
    options: ClassVar = {"consistency": "bounded", "max_staleness": 0.1}


class NearBoundedWorkers(NearBounded):
    """The same in workers; their parent, which verifies what they wrote, reads what there is."""

    def open(self) -> None:
        if self.made:
            self.handle = self.maker
        else:
            super().open()


NEAR: tuple[type[Peer], ...] = (Near, NearCopy, NearSession, NearBounded)


class NearGet(Latency):
    """Reads of a few objects, again and again, in one process."""

    def able(self, setup: Setup) -> list[type[Peer]]:
        """List the stores to compare."""
        return [*(peer for peer in super().able(setup) if peer.name in BESIDE), *NEAR]


class NearLoad(Load):
    """Two processes read and write one map of objects."""

    def chosen(self, setup: Setup, stage: Stage) -> list[type[Peer]]:
        """List the handles to compare."""
        return [ShmMapPeer, *NEAR[:-1], NearBoundedWorkers]


def shares(setup: Setup) -> list[Stage]:
    """Vary the share of reads: {"read share": 0.95}. Keys are drawn with Zipf's weights."""
    points = tuple(
        Point({"read share": share}, Mix(share, skew=SKEW))
        for share in setup.scale.read_shares
    )
    return [Stage(SignedObjects(), OBJECTS, points, "get_object", "set_object")]


SCENARIOS: tuple[Scenario, ...] = (
    NearGet("cache-near-get", "get of 64 records of ten fields, near and not", "get_object", "hot",
            family=NEAR_CACHE),
    NearLoad("cache-near-load", "2 processes, 1,000 small dicts, share of reads", shares,
             (Plot("", "Near cache, 2 processes, small dicts: throughput", "read share", "per_s"),),
             family=NEAR_CACHE),
)
