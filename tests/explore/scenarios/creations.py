"""What several processes do to one name, and the exploration of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..search.explorer import Explorer, Failure
from ..simulator.creation_world import CreationWorld, Processes
from ..simulator.machine import Schedule

OPEN, SET, LOCK, CLOSE, UNLINK = ("open",), ("set",), ("lock",), ("close",), ("unlink",)
BOTH_OPEN = ((0, OPEN), (1, OPEN))

CREATIONS = (
    Processes("two open", ((OPEN, SET), (OPEN, SET))),
    Processes("three open", ((OPEN,), (OPEN,), (OPEN, SET)), bound=1, deaths=0),
    Processes("one unlinks, another opens", ((UNLINK,), (OPEN, SET)), ((0, OPEN),)),
    Processes("one unlinks, another uses it", ((UNLINK,), (SET, OPEN, SET)), BOTH_OPEN),
    Processes("two unlink, a third opens", ((UNLINK,), (UNLINK,), (OPEN,)), BOTH_OPEN, bound=1,
              deaths=0),
    Processes("unlink and create, twice", ((UNLINK, OPEN, SET), (OPEN, UNLINK)), ((0, OPEN),),
              bound=1),
    Processes("an ephemeral map, the last leaves as one comes", ((CLOSE,), (OPEN, SET)),
              ((0, OPEN),), ephemeral=True),
    Processes("an ephemeral map, two come and go", ((OPEN, CLOSE), (OPEN, SET, CLOSE)),
              ephemeral=True, bound=1),
    Processes("an ephemeral map, replaced under a forked child", (
        (("fork_closed",), ("after", 1), SET), (("after", 2), OPEN, SET), (),
    ), ((2, OPEN), (0, OPEN)), ephemeral=True, bound=1, deaths=0),
    Processes("an ephemeral map, kept by a forked child", (
        (("fork",), ("after", 1), SET), (("after", 2), OPEN, SET, CLOSE), (),
    ), ((2, OPEN), (0, OPEN)), ephemeral=True, bound=1, deaths=0),
    Processes("an ephemeral map, opened twice by one process", (
        (("open_again",), LOCK), (LOCK,),
    ), BOTH_OPEN, ephemeral=True, apart=(1,)),
    Processes("two want a lock", ((LOCK,), (LOCK, SET)), BOTH_OPEN),
    Processes("two want a lock, in two pid namespaces", ((LOCK,), (LOCK, SET)), BOTH_OPEN,
              apart=(1,)),
    Processes("a holder has lost its liveness lock", (
        (("stray_close",), LOCK), (LOCK,),
    ), BOTH_OPEN),
    Processes("a holder has lost its liveness lock, a child comes", (
        (("stray_close",), LOCK), (("clear_rows",), ("fork",), LOCK),
    ), BOTH_OPEN),
    Processes("the dead's pid is used again", ((LOCK,), (("after", 0), ("after", 2)), (LOCK,)),
              ((0, OPEN), (2, OPEN)), bound=1, deaths=0, alike=(0, 1)),
    Processes("the dead's row is used again", (
        (LOCK,), (("after", 0), OPEN, ("after", 2)), (LOCK,),
    ), ((0, OPEN), (2, OPEN)), bound=1, deaths=0),
    Processes("two forked children come", ((("fork",), SET, LOCK), (("fork",), SET, LOCK)),
              BOTH_OPEN),
    Processes("rows are cleared as processes come", (
        (OPEN, LOCK), (OPEN, ("clear_rows",), LOCK), (OPEN,),
    ), bound=1, deaths=0),
)


class CreationExplorer(Explorer):
    """One scenario of processes; process 0 may die."""

    def __init__(self, scenario: Processes) -> None:
        super().__init__(scenario, CreationWorld(scenario))
        self.death = 0  # the step of its own before which process 0 dies; 0: it lives

    def works(self) -> list[Callable[[], None]]:
        return self.world.works()  # type: ignore[no-any-return]

    def run(self, schedule: Schedule) -> str | None:
        if self.death:
            self.world.machine.die_at = {0: self.death}
        return super().run(schedule)

    def try_deaths(self, bound: int) -> Iterator[Failure]:
        """Let process 0 die at every step of its own, the others preempted `bound` times."""
        self.death, dies = 1, True
        while dies:
            for failure in self.try_every(bound):
                yield failure._replace(schedule=f"dies at {self.death}, {failure.schedule}")
            self.run(self.named("every:"))
            dies = self.world.machine.workers[0].dead
            self.death += 1
