"""A mover that dies at every step, another one that finishes and dies too; and a writer that dies
at every step while a mover has come to any of its own.

Others go on, someone finishes the move, and all that is judged of a run without deaths is judged.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..simulator.machine import Machine, Schedule, Step, Worker, run_on
from .deaths import Deaths
from .explorer import Failure


class MovingDeaths(Deaths):
    """One case; worker 0 is the one that dies."""

    slices = 10  # a mover may hold several locks, and is waited for in pauses
    moved = 0  # steps that worker 1 makes first

    def schedule(self) -> Schedule:
        """Let the mover, worker 1, make so many steps, then worker 0 die, then the others go on."""
        def choose(machine: Machine, step: Step, forced: bool) -> Worker:
            can = machine.runnable()
            dying, mover = machine.workers[:2]
            if mover.steps < self.moved and mover in can and not (
                forced and step.worker == mover.number
            ):
                return mover
            if dying in can and not (forced and step.worker == dying.number):
                return dying
            return run_on(machine, step, forced)

        return choose if self.moved else run_on

    def beside(self, stride: int = 1) -> Iterator[Failure]:
        """Let worker 0 die at each of its steps, the mover being at each of its own, or at one in
        so many of both."""
        self.moved = 1 << 30
        self.run({})
        steps = self.world.machine.workers[1].steps
        for self.moved in range(1, steps + 1, stride):
            step = 1 + self.moved % stride
            while True:
                problem = self.run({0: step})
                if problem:
                    where = f"dies at {step}, the mover at {self.moved}"
                    yield Failure(self.scenario.name, where, problem)
                if not self.world.machine.workers[0].dead:
                    break
                step += stride
