"""What a scenario is, what it is given, and how the peers of one take turns."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple, Protocol

from .peer import Peer
from .progress import Progress
from .results import Row
from .workloads import Scale, Workload


class Setup(NamedTuple):
    """What every scenario is given.

    Attributes:
        workload: keys and values.
        peers: the stores to compare.
        processes: numbers of worker processes, where that is varied.
    """

    workload: Workload
    peers: list[type[Peer]]
    processes: tuple[int, ...]

    @property
    def scale(self) -> Scale:
        """How much of everything."""
        return self.workload.scale


class Plot(NamedTuple):
    """A picture of a scenario's rows: one line for each peer.

    Attributes:
        name: of its file; the first of a scenario may be "".
        title: above the picture.
        x: a name in the rows' points; with no number there, or with "" for none, bars.
        y: a figure.
        log: the axes with a logarithmic scale: "", "x", "y" or "xy". Others start at zero.
    """

    name: str
    title: str
    x: str
    y: str
    log: str = ""


class Scenario(Protocol):
    """A question to all peers, or to our map in different settings.

    Attributes:
        name: as on the command line.
        title: one line.
        family: the heading that it stands under.
        quick: whether --quick asks it.
        plots: pictures of its rows.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def quick(self) -> bool: ...
    @property
    def plots(self) -> tuple[Plot, ...]: ...

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Measure."""


class Lane(Protocol):
    """One peer at one point of a scenario, ready to be measured again and again."""

    def repeat(self, number: int) -> None:
        """Measure once."""

    def row(self) -> Row:
        """Return what was found."""

    def close(self) -> None:
        """Let go of what belongs to this lane alone; most lanes have a store or workers."""


def take_turns(lanes: Iterable[Lane], repetitions: int, progress: Progress) -> list[Row]:
    """Measure all lanes forth and back again, so that none always runs after the same other one:
    A B C, C B A, ... Return their rows.

    Closes the lanes. If they come from a generator, which opens one after the other, those that
    are open are closed also when the next one cannot be opened.
    """
    with ExitStack() as stack:
        ready = []
        for lane in lanes:
            ready.append(lane)
            stack.callback(lane.close)
        for number in range(repetitions):
            for lane in ready if number % 2 == 0 else reversed(ready):
                lane.repeat(number)
                progress.step()
        return [lane.row() for lane in ready]
