"""Every operation, with a worker that dies at every step of it.

The dead never goes on, its kernel locks read as free. Others must finish within the time of the
model, the map must be whole, each key hold its old value or its new one, and nobody see it go
back. Then the same with a second worker that dies at every step of its takeover and repair.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from ..scenarios.scenario import Scenario, build, program
from ..simulator.machine import Livelock, Schedule, run_on
from ..simulator.world import World
from .explorer import Failure

SLICE_NS = 1_000_000  # how long a waiter sleeps before it asks whether the owner lives


class Deaths:
    """One case, with what survivors do afterwards."""

    slices = 2  # of waiting, at most, for each that has died

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world: World = build(scenario)
        self.runs = 0

    def schedule(self) -> Schedule:
        """Say who goes on."""
        return run_on

    def run(self, die_at: dict[int, int]) -> str | None:
        """Run once, workers dying before those steps of theirs; say what is wrong."""
        world = self.world
        world.restore()
        world.machine.die_at = die_at
        started_ns = world.machine.now_ns - world.machine.passed_ns
        works = [program(world, i, ops) for i, ops in enumerate(self.scenario.programs)]
        self.runs += 1
        try:
            world.machine.run(works, self.schedule())
        except (Livelock, Exception) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            world.machine.die_at = {}
        took = world.machine.now_ns - world.machine.passed_ns - started_ns
        if took > self.slices * SLICE_NS * len(die_at):
            return f"the survivors took {took:,} ns of the model's time"
        return world.judge()

    def every_one(self) -> Iterator[Failure]:
        """Let worker 0 die at every step of its own."""
        step = 1
        while True:
            problem = self.run({0: step})
            if not self.world.machine.workers[0].dead:
                return
            if problem:
                yield Failure(self.scenario.name, f"dies at {step}", problem)
            step += 1

    def every_two(self, rng: random.Random, share: float = 1.0) -> Iterator[Failure]:
        """Let worker 0 die at every step, and then worker 1 at every one of its own (or at a
        random share of them). A death that leaves what the death one step earlier left is
        the same death."""
        step = 0
        left_before = b""
        while True:
            step += 1
            left, died = self.left_by(step)
            if not died:
                return
            if left != left_before:
                yield from self.every_second(step, rng, share)
            left_before = left

    def every_second(
        self, first: int, rng: random.Random, share: float
    ) -> Iterator[Failure]:
        """Let worker 0 die at a step, and worker 1 at every one of its own."""
        self.run({0: first})
        for second in range(1, self.world.machine.workers[1].steps + 1):
            if rng.random() < share:
                problem = self.run({0: first, 1: second})
                if problem:
                    where = f"dies at {first}, the next one at {second}"
                    yield Failure(self.scenario.name, where, problem)

    def left_by(self, step: int) -> tuple[bytes, bool]:
        """Return the memory that worker 0 leaves if it dies at a step, and whether it does."""
        world = self.world
        world.restore()
        world.machine.die_at = {0: step}
        work = program(world, 0, self.scenario.programs[0])
        world.machine.run([work], run_on)
        world.machine.die_at = {}
        return world.memory(), world.machine.workers[0].dead
