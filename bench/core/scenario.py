"""What every scenario has, and how the peers of one take turns."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, Protocol

from .progress import Progress
from .results import Row

EXPERIMENTS = "The map itself, in different settings"  # a family


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

    name: str
    title: str
    family: str
    quick: bool
    plots: tuple[Plot, ...]

    def steps(self, setup: Any) -> int:
        """Count the progress steps."""

    def run(self, setup: Any, progress: Progress) -> list[Row]:
        """Measure; `setup` is a run.Setup: workload, peers, numbers of processes."""


class Lane(Protocol):
    """One peer at one point of a scenario, ready to be measured again and again."""

    def repeat(self, number: int) -> None:
        """Measure once."""

    def row(self) -> Row:
        """Return what was found."""

    def close(self) -> None:
        """Let go of everything."""


def take_turns(lanes: Sequence[Lane], repetitions: int, progress: Progress) -> list[Row]:
    """Measure all lanes forth and back again, so that none always runs after the same other one:
    A B C, C B A, ... Closes them. Gives their rows."""
    with ExitStack() as stack:
        for lane in lanes:
            stack.callback(lane.close)
        for number in range(repetitions):
            for lane in lanes if number % 2 == 0 else reversed(lanes):
                lane.repeat(number)
                progress.step()
        return [lane.row() for lane in lanes]
