"""Runs scenarios in which worker 0 dies, or has died, just when it had changed a word."""

from __future__ import annotations

from ..scenarios.scenario import Scenario
from ..simulator.machine import Schedule
from ..simulator.world import K
from .deaths import Deaths
from .explorer import Explorer


class ExplorerOfDeath(Explorer):
    """Explores what others do after worker 0 has died just when it had changed a word."""

    def __init__(self, scenario: Scenario, word: str) -> None:
        super().__init__(scenario)
        self.step, died = 0, True
        at, deaths = K[f"S_{word}"], Deaths(scenario)
        before = left = self.world.memory()
        with deaths.world.installed():
            while died and left[at : at + 8] == before[at : at + 8]:
                self.step += 1
                left, died = deaths.left_by(self.step)
        assert died

    def run(self, schedule: Schedule) -> str | None:
        self.world.machine.die_at = {0: self.step}
        return super().run(schedule)


class ExplorerOfLeavings(Explorer):
    """Explores what others do with what worker 0 left when it died just when it had changed a
    word, the lock being free: who comes next need not wait before the repair."""

    def __init__(self, scenario: Scenario, word: str) -> None:
        dying = ExplorerOfDeath(scenario, word)
        deaths = Deaths(scenario)
        world = deaths.world
        with world.installed():
            assert deaths.left_by(dying.step)[1]
            world.interrupted(0, died=True)
        world.words_of[0][K["S_OWNER"] >> 3] = 0
        world.machine.workers = []
        world.save()
        super().__init__(scenario._replace(programs=((), *scenario.programs[1:])), world)
