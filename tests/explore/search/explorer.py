"""Runs a scenario under many schedules and says which of them breaks it, and how."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..scenarios.scenario import build, program
from ..simulator.machine import KINDS, Livelock, Schedule, Step
from .schedules import AtRandom, ByPriority, Deviating, Deviations, every_way


class Failure(NamedTuple):
    """What went wrong, and which schedule to replay."""

    scenario: str
    schedule: str
    problem: str

    def __str__(self) -> str:
        return f"{self.scenario!r} fails with schedule {self.schedule}:\n{self.problem}"


class Explorer:
    """One scenario on its machine."""

    def __init__(self, scenario: Any, world: Any = None) -> None:
        self.scenario = scenario
        self.world: Any = world or build(scenario)
        self.schedules = 0
        self.length = 100

    def works(self) -> list[Callable[[], None]]:
        """Make what the workers do."""
        return [program(self.world, i, ops) for i, ops in enumerate(self.scenario.programs)]

    def run(self, schedule: Schedule) -> str | None:
        """Run once; say what is wrong."""
        world = self.world
        world.restore()
        problem = None
        try:
            world.machine.run(self.works(), schedule)
        except (Livelock, Exception) as error:
            problem = f"{type(error).__name__}: {error}"
        self.schedules += 1
        if not world.machine.die_at:
            self.length = world.machine.steps
        world.machine.die_at = {}
        return problem or world.judge()

    def named(self, name: str) -> Schedule:
        """Make the schedule of a name, as failures give it."""
        kind, _, rest = name.partition(":")
        workers = len(self.scenario.programs)
        if kind == "every":
            pairs = [part.split("-") for part in rest.split(",") if part]
            return Deviating(tuple((int(a), int(b)) for a, b in pairs), set())
        seed, *more = map(int, rest.split(","))
        if kind == "pct":
            return ByPriority(seed, more[0], workers, more[1])
        self.world.machine.die_at = {worker: step for worker, step in enumerate(more) if step}
        return AtRandom(seed)

    def try_random(self, first: int, count: int) -> Iterator[Failure]:
        """Run `count` schedules: random, by priorities, random with deaths."""
        for seed in range(first, first + count):
            kind, steps = seed % 3, max(self.length, 10)
            name = f"random:{seed}"
            if kind == 2 and getattr(self.scenario, "homes", ()):
                kind = 0  # a process dies with all its threads: not done
            if kind == 1:
                name = f"pct:{seed},{3 + seed // 3 % 3},{steps}"
            elif kind == 2:
                rng = random.Random(seed)
                workers = len(self.scenario.programs)
                deaths = [rng.randrange(1, steps // workers + 1) for _ in range(workers)]
                deaths[rng.randrange(workers)] = 0  # one survives
                name = f"random:{seed},{','.join(map(str, deaths))}"
            problem = self.run(self.named(name))
            if problem:
                yield Failure(self.scenario.name, name, problem)

    def try_every(
        self, bound: int, most: int | None = None, stride: int = 1
    ) -> Iterator[Failure]:
        """Run every schedule with at most `bound` preemptions, or some of them: see `every_way`."""
        problems: list[str | None] = [None]

        def run(schedule: Deviating) -> list[Step]:
            machine = self.world.machine
            machine.trace = []
            problems[0] = self.run(schedule)
            steps, machine.trace = machine.trace, None
            return steps

        for deviations in every_way(run, bound, most, stride):
            if problems[0]:
                yield Failure(self.scenario.name, "every:" + as_text(deviations), problems[0])

    def replay(self, name: str) -> str:
        """Run a schedule by name; tell it step by step."""
        machine = self.world.machine
        machine.trace = []
        problem = self.run(self.named(name))
        steps, machine.trace = machine.trace, None
        lines = [
            f"{number:5} worker {step.worker} {KINDS[step.kind]:<10} {step.place}"
            for number, step in enumerate(steps, 1)
        ]
        return "\n".join([*lines, problem or "nothing is wrong"])


def as_text(deviations: Deviations) -> str:
    """Write a schedule's deviations."""
    return ",".join(f"{at}-{worker}" for at, worker in deviations)
