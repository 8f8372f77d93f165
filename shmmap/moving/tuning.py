"""The tuner of the shard count: how many shards a map should have, by what its workers wait for.

After each round the sweeping process takes an `Observation` of the map (see `observing`): what all
workers have counted, how long they have waited for the locks of shards, how full the map is. What
two of them differ in is a round. The `Tuner` decides by rounds, and by nothing else: no map here.

It asks for twice the shards where many writes wait, for half of them where the map is nearly empty
and writes would hardly wait at half. In between it leaves the map alone: a load that asks for
more with so many shards never asks for fewer with twice as many. See docs/design/auto-shards.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .._public import public
from ..checks import flag, number, seconds, shown, whole
from ..memory.geometry import SHARD_LIMIT
from ..memory.layout import constants
from .wish import read_rate

K = constants()
LEAST_CHANGES = 1_000  # in a round: of fewer nothing is said about one in a hundred
HOT_FROM = 4  # shards, from which on half of all waits in one of them is no accident
CLASSES = K["WAIT_CLASSES"]
_STEP = 1 << K["WAIT_SHIFT"]


class _Settings(NamedTuple):
    least: int
    most: int
    operations: float
    wait_share: float
    wait_p99: float
    fill: float
    rounds: int
    pause: float
    rate: int | None
    dry_run: bool


@public
class AutoShards(_Settings):
    """When the gate `auto-shards` changes a map's number of shards: `ShmMap(auto_shards=...)`.

    The process that sweeps the map decides, by what it was told; by these defaults if by nothing.

    - `least`, `most`: it makes neither fewer nor more shards than that: powers of two
    - `operations`: fewer a second, of all processes, never ask for more shards
    - `wait_share`: this part of the writes waited for a lock: more shards
    - `wait_p99`: one write in a hundred waited longer than so many seconds: more shards
    - `fill`: less than this part of the slots is in use, and writes would hardly wait with half of
      the shards: fewer. 0: never fewer
    - `rounds`: so many rounds of the sweeper in a row must ask for the same
    - `pause`: seconds from one change to the next, at least
    - `rate`: entries a second that a change moves at most; None: as fast as can be
    - `dry_run`: only log what would be done, and why, with the logger "shmmap"

    Raises:
        TypeError, ValueError: one of them cannot be that.

    >>> AutoShards(most=64, dry_run=True).most
    64
    """

    __slots__ = ()

    def __new__(
        cls, least: int = 16, most: int = 256, operations: float = 5_000, wait_share: float = 0.05,
        wait_p99: float = 0.001, fill: float = 0.1, rounds: int = 3, pause: float = 300.0,
        rate: int | None = 1_000, dry_run: bool = False,
    ) -> AutoShards:
        """Check them."""
        least, most = whole(least, "least"), whole(most, "most")
        for what, shards in (("least", least), ("most", most)):
            if not 1 <= shards <= SHARD_LIMIT or shards & (shards - 1):
                raise ValueError(f"{what}={shown(shards)} must be a power of two from 1 to "
                                 f"{SHARD_LIMIT}")
        if least > most:
            raise ValueError(f"least={least} must not be more than most={most}")
        operations, wait_share, fill = (
            number(value, what) for value, what in (
                (operations, "operations"), (wait_share, "wait_share"), (fill, "fill"))
        )
        wait_p99, pause = seconds(wait_p99, "wait_p99"), seconds(pause, "pause")
        for what, value, low, high in (
            ("operations", operations, 0.0, 1e18), ("wait_share", wait_share, 1e-9, 1.0),
            ("wait_p99", wait_p99, 1e-9, 3e9), ("fill", fill, 0.0, 0.5),
            ("pause", pause, 0.0, 3e9),
        ):
            if not low <= value <= high:
                raise ValueError(f"{what}={shown(value)} must be from {low:g} to {high:g}")
        rounds, rate = whole(rounds, "rounds"), read_rate(rate) or None
        if not 1 <= rounds <= 1_000_000:
            raise ValueError(f"rounds={shown(rounds)} must be from 1 to 1,000,000")
        return super().__new__(
            cls, least, most, operations, wait_share, wait_p99, fill, rounds, pause, rate,
            flag(dry_run, "dry_run"),
        )


DEFAULTS = AutoShards()


class Observation(NamedTuple):
    """What was seen of a map at one time. Counts are of all its life, or its generation's.

    Attributes:
        now_ns: when, by the map's clock.
        operations: reads, writes and deletes of all workers, the dead ones' too.
        changes: those of them that take the lock of a shard.
        waits: of each shard, how many waits there were of each class of time (see WAITS0).
        used, slots: slots in use, and in all.
        shards: how many.
        generation: the number of the geometry; `waits` start anew with it.
        is_moving: entries are on their way to another geometry.
        changed_ns: when the last move made progress, by the map's clock; 0: there was none.
    """

    now_ns: int
    operations: int
    changes: int
    waits: tuple[tuple[int, ...], ...]
    used: int
    slots: int
    shards: int
    generation: int = 0
    is_moving: bool = False
    changed_ns: int = 0


class Decision(NamedTuple):
    """How many shards the map should have (None: as many as it has), and why."""

    shards: int | None
    why: str


class Round(NamedTuple):
    """What was done between two observations.

    Attributes:
        per_s: operations a second.
        changes: operations that take a lock.
        waits: how many of them waited, by class of time.
        hottest: the part of all waits that was in one shard, the one with most; 0.0: none waited.
        filled: the part of the slots that is in use.
    """

    per_s: float
    changes: int
    waits: tuple[int, ...]
    hottest: float
    filled: float

    @property
    def is_telling(self) -> bool:
        """Whether there was enough to do to say what one write in a hundred meets."""
        return self.changes >= LEAST_CHANGES

    def share(self, times: float = 1.0) -> float:
        """Return the part of the changes that waited; `times`: were there so many times the
        waits."""
        return min(1.0, times * sum(self.waits) / max(self.changes, 1))

    def p99_s(self, times: float = 1.0) -> float:
        """Return how long, in seconds, 99 of 100 changes waited at most; 0.0: they did not wait.
        Within a class of times it is estimated. `times`: as in `share`."""
        above, wanted = 0.0, self.changes / 100
        for kind in reversed(range(CLASSES)):
            here = times * self.waits[kind]
            if above + here > wanted:
                part = (above - wanted) / here  # from 0 down to -1: from its end to its beginning
                return float(K["WAIT_FIRST_NS"] * _STEP ** (kind + part)) / 1e9
            above += here
        return 0.0


def between(previous: Observation, current: Observation) -> Round | str:
    """Return the round between two observations, or why there is none."""
    spent_ns = current.now_ns - previous.now_ns
    if spent_ns <= 0:
        return "the clock was put back"
    if current.is_moving:
        return "entries are being moved"
    if previous.is_moving or (previous.generation, previous.shards) != (
        current.generation, current.shards
    ):
        return "the geometry has changed since the last look"
    operations = current.operations - previous.operations
    changes = current.changes - previous.changes
    by_shard = [
        [now - before for now, before in zip(here, there, strict=True)]
        for here, there in zip(current.waits, previous.waits, strict=True)
    ]
    if operations < 0 or changes < 0 or any(count < 0 for each in by_shard for count in each):
        return "counters have fallen: a worker has gone as they were read"
    waits = tuple(map(sum, zip(*by_shard, strict=True))) or (0,) * CLASSES
    most = max(map(sum, by_shard), default=0)
    return Round(
        operations * 1e9 / spent_ns, changes, waits, most / sum(waits) if most else 0.0,
        current.used / current.slots if current.slots else 1.0,
    )


class Tuner:
    """Decides how many shards a map should have. It has to be asked once a round, in turn.

    `settings`: see `AutoShards`.
    """

    def __init__(self, settings: AutoShards = DEFAULTS) -> None:
        self.settings = settings
        self._wants = 0  # 1: more, -1: fewer
        self._in_a_row = 0
        self._quiet_from_ns: int | None = None  # the last change, or the clock was put back
        self._seen_ns = 0  # the last change that was seen

    def decide(
        self, previous: Observation | None, current: Observation,
        refusal: Callable[[int], str] = lambda shards: "",
    ) -> Decision:
        """Decide by the round between two observations.

        Args:
            previous: what was given as `current` before; None: there was nothing.
            current: what was seen now.
            refusal: says why the map cannot have so many shards; "": it can. It is asked only once
                everything else is for the change.
        """
        self._heed_pause(previous, current)
        if previous is None:
            return self._no(0, "the first look")
        found = between(previous, current)
        if isinstance(found, str):
            return self._no(0, found)
        wants, why = self._wish(found, current.shards)
        if not wants:
            return self._no(0, why)
        self._in_a_row = self._in_a_row + 1 if wants == self._wants else 1
        self._wants = wants
        shards = 2 * current.shards if wants > 0 else current.shards // 2
        return self._judge(current, shards, why, refusal)

    def _no(self, wants: int, why: str) -> Decision:
        if not wants:
            self._wants = self._in_a_row = 0
        return Decision(None, why)

    def _heed_pause(self, previous: Observation | None, current: Observation) -> None:
        """Note from when on it is to be quiet. A change in times to come was now, or earlier; where
        the clock was put back nobody knows how much of the pause is over: it begins anew."""
        if current.changed_ns != self._seen_ns:
            self._seen_ns = current.changed_ns
            self._quiet_from_ns = min(current.changed_ns, current.now_ns)
        if previous is not None and current.now_ns < previous.now_ns:
            self._quiet_from_ns = current.now_ns

    def _wish(self, found: Round, shards: int) -> tuple[int, str]:
        """Tell whether a round asks for more shards (1), fewer (-1) or neither (0), and why."""
        said = self.settings
        share, p99_s = found.share(), found.p99_s()
        seen = (f"{found.per_s:,.0f} operations/s, {share:.2%} of {found.changes:,} changes waited"
                f", 99 of 100 for {p99_s * 1e3:.3g} ms at most, {found.filled:.0%} in use")
        if found.is_telling and (share >= said.wait_share or p99_s >= said.wait_p99):
            if found.per_s < said.operations:
                return 0, f"{seen}: fewer than {said.operations:,.0f} operations/s"
            if shards >= HOT_FROM and found.hottest > 0.5:
                return 0, (f"{seen}: {found.hottest:.0%} of the waits are in one shard; more of "
                           "them do not part the writers of one key")
            limit = (f"{said.wait_share:.2%} waited or more" if share >= said.wait_share
                     else f"over {said.wait_p99 * 1e3:.3g} ms")
            return 1, f"{seen}: {limit}"
        if found.filled >= said.fill:
            return 0, f"{seen}: all is well"
        if found.share(2.0) > said.wait_share / 2 or found.p99_s(2.0) > said.wait_p99 / 2:
            return 0, f"{seen}: nearly empty, but with half of the shards too many would wait"
        return -1, f"{seen}: less than {said.fill:.0%} in use"

    def _judge(
        self, current: Observation, shards: int, why: str, refusal: Callable[[int], str],
    ) -> Decision:
        """Decide about what the last rounds ask for."""
        said = self.settings
        if shards > current.shards and shards > said.most:
            return self._no(self._wants, f"{why}; but {said.most} shards are the most")
        if shards < current.shards and shards < said.least:
            return self._no(self._wants, f"{why}; but {said.least} shards are the least")
        if self._in_a_row < said.rounds:
            return self._no(self._wants, f"{why}; round {self._in_a_row} of {said.rounds} in a row")
        if self._quiet_from_ns is not None:
            left = said.pause - (current.now_ns - self._quiet_from_ns) / 1e9
            if left > 0:
                return self._no(self._wants, f"{why}; but the last change was less than "
                                             f"{said.pause:,.0f} s ago")
        refused = refusal(shards)
        if refused:
            return self._no(self._wants, f"{why}; but {refused}")
        self._quiet_from_ns = current.now_ns
        self._wants = self._in_a_row = 0
        return Decision(shards, f"{why}, {said.rounds} rounds in a row")
