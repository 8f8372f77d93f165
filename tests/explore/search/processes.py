"""Runs scenarios of processes that may die: of those that open one map, and that want its locks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..simulator.creation_world import CreationWorld, Processes
from ..simulator.lock_world import Lockers, LockWorld
from ..simulator.machine import Schedule
from ..simulator.replacing_world import ReplacingWorld
from .explorer import Explorer, Failure


class CreationExplorer(Explorer):
    """One scenario of processes; process 0 may die."""

    def __init__(self, scenario: Processes) -> None:
        world = ReplacingWorld if scenario.follows else CreationWorld
        super().__init__(scenario, world(scenario))
        self.death = 0  # the step of its own before which process 0 dies; 0: it lives

    def works(self) -> list[Callable[[], None]]:
        return self.world.works()  # type: ignore[no-any-return]

    def run(self, schedule: Schedule) -> str | None:
        if self.death:
            self.world.machine.die_at = {0: self.death}
        return super().run(schedule)

    def try_deaths(
        self, bound: int, stride: int = 1, first: int = 1, most: int | None = None
    ) -> Iterator[Failure]:
        """Let process 0 die at every step of its own, or one in so many, from the `first` on, the
        others preempted `bound` times. `most`: no further death after so many schedules."""
        self.death, dies = first, True
        while dies and (most is None or self.schedules < most):
            for failure in self.try_every(bound):
                yield failure._replace(schedule=f"dies at {self.death}, {failure.schedule}")
            self.run(self.named("every:"))
            dies = self.world.machine.workers[0].dead
            self.death += stride


class LockExplorer(CreationExplorer):
    """One scenario of lockers; worker 0 may die."""

    def __init__(self, scenario: Lockers) -> None:
        Explorer.__init__(self, scenario, LockWorld(scenario))
        self.death = 0
