"""Every planted fault is found; the engine as it is passes the same schedules."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from .mutants.every import MUTANTS
from .mutants.mutant import Mutant
from .scenarios.every import LIVES, MOVING, SCENARIOS
from .scenarios.lockers import LOCKERS
from .search.deaths import Deaths
from .search.explorer import Explorer, Failure
from .search.leavings import ExplorerOfDeath, ExplorerOfLeavings
from .search.moving_deaths import MovingDeaths
from .search.processes import CreationExplorer, LockExplorer
from .simulator.creation_world import Processes
from .simulator.lock_world import Lockers

ALL: tuple[Any, ...] = (*SCENARIOS, *MOVING, *LIVES, *LOCKERS)
BY_NAME: dict[str, Any] = {scenario.name: scenario for scenario in ALL}


def search(mutant: Mutant, most: int) -> tuple[Failure | None, int]:
    """Look for a failure; give it, and how many schedules that took."""
    scenario: Any = BY_NAME.get(mutant.scenario, mutant.scenario)
    how, *bound = mutant.finder.split()
    if how == "deaths" and not bound:
        deaths = Deaths(scenario)
        with deaths.world.installed():
            return next(deaths.every_one(), None), deaths.runs
    if how == "beside":
        beside = MovingDeaths(scenario)
        with beside.world.installed():
            by_word = not bound[0].isdigit()
            deaths_beside = (beside.beside_as_it_says(bound[0], most) if by_word
                             else beside.beside(int(bound[0]), most))
            return next(deaths_beside, None), beside.runs
    if isinstance(scenario, Processes):
        explorer: Any = CreationExplorer(scenario)
    elif isinstance(scenario, Lockers):
        explorer = LockExplorer(scenario)
    elif how == "left":
        explorer = ExplorerOfLeavings(scenario, bound[0])
    else:
        explorer = Explorer(scenario) if how != "dies" else ExplorerOfDeath(scenario, bound[0])
    with explorer.world.installed():
        explorer.run(explorer.named("every:"))  # finds out how long a run is
        found: Iterator[Failure] = (
            explorer.try_random(0, most) if how == "random"
            else explorer.try_deaths(*map(int, bound), most=most) if how == "deaths"
            else explorer.try_every(int(bound[-1]), most)
        )
        return next(found, None), explorer.schedules


# Ten seconds of a core and more, each: EXPLORE_ALL=1 python3 tests/run.py tests/explore has them.
SLOW = {
    "TRACKING is not verified at the cut", "TRACKING is a flag, no token",
    "what a live maker makes is taken for a dead one's",
    "a read looks at MOVED before it reads, not after", "a hit does not look at MOVED",
    "who helps does not see to every MOVED", "a read with the lock does not look at MOVED",
    "routes are thinned out to what their shards need",
    # and several seconds:
    "who helps takes a move back for the one that it knows", "a near cache does not look at MOVED",
    "version stored before it is filled, no death",
    "nobody looks for a map that lingers whose replacer died",
    "all routes of a group are renewed at once", "deadline read after the second look",
}
CHOSEN = [one for one in MUTANTS if os.environ.get("EXPLORE_ALL") or one.name not in SLOW]


def test_the_slow_ones_are_there() -> None:
    assert SLOW <= {mutant.name for mutant in MUTANTS}


@pytest.mark.timeout(600)  # the longest searches take ten seconds of a core that many may share
@pytest.mark.parametrize("mutant", CHOSEN, ids=lambda mutant: mutant.name)
def test_the_fault_is_found(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        for part in mutant.patches:
            patch.setattr(part.owner, part.name, part.mutated())
        failure, schedules = search(mutant, mutant.most)
    assert failure, f"survived {schedules} schedules"
    print(f"found after {schedules} schedules: {failure.schedule}")
    assert search(mutant, schedules)[0] is None
