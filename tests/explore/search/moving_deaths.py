"""A mover that dies at every step, another one that finishes and dies too; and a writer that dies
at every step while a mover has come to any of its own.

Others go on, someone finishes the move, and all that is judged of a run without deaths is judged.
"""

from __future__ import annotations

from collections.abc import Iterator

from shmmap.memory.layout import constants

from ..simulator.machine import Machine, Schedule, Step, Worker, run_on
from .deaths import Deaths
from .explorer import Failure

K = constants()
_NEVER = 1 << 30


class MovingDeaths(Deaths):
    """One case; worker 0 is the one that dies."""

    slices = 10  # a mover may hold several locks, and is waited for in pauses
    moved = 0  # steps that worker 1 makes first
    word: int | None = None  # of the control segment: worker 0 dies just when it has changed that

    def schedule(self) -> Schedule:
        """Let the mover, worker 1, make so many steps, then worker 0 die, then the others go on."""
        words, at = self.world.control_words, self.word or 0
        was = words[at]

        def choose(machine: Machine, step: Step, forced: bool) -> Worker:
            can = machine.runnable()
            dying, mover = machine.workers[:2]
            if step.worker == dying.number and not dying.dead and words[at] != was:
                machine.die(dying)
            if mover.steps < self.moved and mover in can and not (
                forced and step.worker == mover.number
            ):
                return mover
            if dying in can and not (forced and step.worker == dying.number):
                return dying
            return run_on(machine, step, forced)

        return choose if self.moved else run_on

    def beside(self, stride: int = 1, most: int = _NEVER) -> Iterator[Failure]:
        """Let worker 0 die at each of its steps, the mover being at each of its own, or at one in
        so many of both; no more runs after so many."""
        self.moved = _NEVER
        self.run({})
        steps = self.world.machine.workers[1].steps
        for self.moved in range(1, steps + 1, stride):
            step = 1 + self.moved % stride
            while True:
                problem = self.run({0: step})
                if problem:
                    where = f"dies at {step}, the mover at {self.moved}"
                    yield Failure(self.scenario.name, where, problem)
                if self.runs >= most:
                    return
                if not self.world.machine.workers[0].dead:
                    break
                step += stride

    def beside_as_it_says(self, word: str, most: int) -> Iterator[Failure]:
        """Let worker 0 die just when it has changed a word of the control segment, the mover being
        at each of its steps; no more runs after so many."""
        self.moved = _NEVER
        self.run({})
        steps = self.world.machine.workers[1].steps
        self.word = K[f"C_{word}"] >> 3
        for self.moved in range(1, steps + 1):
            if self.runs >= most:
                return
            if problem := self.run({0: _NEVER}):
                yield Failure(self.scenario.name, f"the mover at {self.moved}", problem)
