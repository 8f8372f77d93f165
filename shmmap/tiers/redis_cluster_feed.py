"""What changes in a Redis Cluster: a tracking connection to each of its primaries.

What the whole feed proves is what all of them have proven. A sign of life of one is its answer to
CLUSTER INFO and CLUSTER NODES, behind all that it had to tell by then. It counts only

    - if the node says that it is a primary, and that the cluster is up
    - if every primary that it knows of is one that is listened to here
    - if its `currentEpoch` is what it was as the feed began: who votes for a replica raises it
      first, so an election shows before the winner's own announcement has come to anybody

So a write that was acknowledged before the signs were asked for was made at a node that is listened
to: see docs/design/tiers.md. Slots may move among these nodes while they are listened to; the first
one that a node gets from another raises its epoch. Where that happens, a node comes or goes, or a
replica takes the place of its primary, the feed ends, and the next one begins anew.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

from ..errors import StoreUnavailable
from ..memory._clock_cy import monotonic
from .redis_feed import SILENCE_S, RedisFeed, wait_for
from .store import AllChanged, Changed, Proven

Address = tuple[str, int]
_SIGNS = (("CLUSTER", "INFO"), ("CLUSTER", "NODES"))


class SeenNode(NamedTuple):
    """A line of CLUSTER NODES. `hostname`: "" where it has none."""

    id: str
    address: str
    flags: frozenset[str]
    hostname: str = ""

    @property
    def is_primary(self) -> bool:
        """Whether it takes writes, as far as whoever was asked knows."""
        return "master" in self.flags and not self.flags & {"fail", "noaddr", "handshake"}


def name_of(address: Address) -> str:
    """Return what a node is called: see `store.Given`."""
    return f"{address[0]}:{address[1]}"


def text(answer: Any) -> str:
    """Return an answer as text."""
    return answer.decode() if isinstance(answer, bytes) else str(answer or "")


def nodes_of(answer: Any) -> list[SeenNode]:
    """Read the answer to CLUSTER NODES."""
    seen = []
    for line in text(answer).splitlines():
        words = line.split(" ")
        if len(words) < 8:
            raise StoreUnavailable(f"CLUSTER NODES has {line!r}, which is not understood")
        address, _, rest = words[1].partition("@")
        seen.append(SeenNode(words[0], address, frozenset(words[2].split(",")),
                             rest.partition(",")[2].partition(",")[0]))
    return seen


class ClusterFeed:
    """See `store.Feed`."""

    def __init__(
        self, answer: Any, asked: Address, prefix: bytes,
        asking: Callable[[], AbstractContextManager[None]], connect: Callable[[Address], Any],
        address_of: Callable[[Any, Any, Address], Address],
    ) -> None:
        self._asking = asking
        self._feeds: list[RedisFeed] = []
        self._unproven: set[int] = set()
        self._epochs: dict[str, str] = {}
        self._asked_at = 0.0
        self._first = 0
        primaries = [node for node in nodes_of(answer) if node.is_primary]
        self._primaries = {node.id for node in primaries}
        addresses, names = [], set()
        for node in primaries:
            host, _, port = node.address.rpartition(":")
            addresses.append(address_of(host.strip("[]"), port, asked))
            names |= {name_of(addresses[-1])}
            if node.hostname:  # by which others may have been sent there
                names |= {name_of(address_of(node.hostname, port, asked))}
        self.sources = tuple(sorted(names))
        try:
            for node, address in zip(primaries, addresses, strict=True):
                connection = connect(address)
                self._feeds.append(RedisFeed(connection, prefix, asking, _SIGNS,
                                             partial(self._judge, node.id)))
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        """Hear a first sign of each, before anything is said to be right: see `_judge`."""
        self.prove()
        until = monotonic() + SILENCE_S
        while not isinstance(self.next(0.05), Proven):
            if monotonic() > until:
                raise StoreUnavailable("the nodes of the cluster have not all answered")

    def _judge(self, expected: str, answer: Any) -> bool:
        """Judge a sign of a node: first that the cluster is up, and had no election, then whom the
        node knows."""
        words = text(answer)
        if "cluster_state:" in words:
            said = dict(line.partition(":")[::2] for line in words.splitlines())
            if said["cluster_state"] != "ok":
                raise StoreUnavailable("a node says that the cluster is down")
            epoch = said.get("cluster_current_epoch", "")
            if self._epochs.setdefault(expected, epoch) != epoch:
                raise StoreUnavailable(
                    "there was an election in the cluster, or a node got its first slot of another")
            return False
        seen = nodes_of(answer)
        if not any(node.is_primary and {"myself"} <= node.flags and node.id == expected
                   for node in seen):
            raise StoreUnavailable("a node is no primary any more")
        if not {node.id for node in seen if node.is_primary} <= self._primaries:
            raise StoreUnavailable("the cluster has another primary now")
        return True

    def prove(self) -> None:
        """Ask all for a sign of life."""
        for feed in self._feeds:
            feed.prove()
        self._unproven = set(range(len(self._feeds)))
        self._asked_at = monotonic()

    def next(self, timeout_s: float) -> Changed | AllChanged | Proven | None:
        """Return what comes next; None: nothing within that time."""
        until = monotonic() + timeout_s
        while True:
            count = len(self._feeds)
            self._first = (self._first + 1) % count  # nobody waits for one that has much to tell
            ready = [at % count for at in range(self._first, self._first + count)
                     if self._feeds[at % count].has_more()]
            for at in ready:
                event = self._feeds[at].next(0.001)
                if isinstance(event, Proven):
                    self._unproven.discard(at)
                    if not self._unproven:
                        self._asked_at = 0.0
                        return event
                elif event is not None:
                    return event
            if not ready:
                if self._asked_at and monotonic() - self._asked_at > SILENCE_S:
                    raise StoreUnavailable(
                        f"nothing was heard of a node for {SILENCE_S:g} s on its tracking "
                        "connection")
                left_s = until - monotonic()
                if left_s <= 0:
                    return None
                wait_for(self._feeds, left_s)
            elif monotonic() > until:
                return None

    def close(self) -> None:
        """Let the connections go."""
        for feed in self._feeds:
            feed.close()
