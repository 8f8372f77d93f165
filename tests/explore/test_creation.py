"""Maps opened, unlinked, replaced and locked by processes of a simulated system, step by step."""

from __future__ import annotations

import pytest

from .scenarios.every import LIVES
from .search.processes import CreationExplorer
from .simulator.creation_world import Processes

MOST, MOST_REPLACING = 240, 90  # schedules of each kind; a replacing takes many steps
STRIDE = 5  # of the steps before which somebody dies
DYING = [  # so of those who replace a map only some die: all do in `python -m tests.explore every`
    scenario for scenario in LIVES if not scenario.follows or scenario.name in (
        "one replaces, another counts", "one replaces, another opens",
        "one counts and dies, another replaces", "one goes over and dies, another replaces again",
    )
]


@pytest.mark.parametrize("scenario", LIVES, ids=lambda scenario: scenario.name)
def test_one_map_comes_out(scenario: Processes) -> None:
    explorer = CreationExplorer(scenario)
    with explorer.world.installed():
        most = MOST_REPLACING if scenario.follows else MOST
        assert [str(failure) for failure in explorer.try_every(1, most)] == []
        assert explorer.schedules > len(scenario.programs)


@pytest.mark.parametrize("scenario", DYING, ids=lambda scenario: scenario.name)
def test_one_map_comes_out_though_its_maker_dies(scenario: Processes) -> None:
    explorer = CreationExplorer(scenario)
    with explorer.world.installed():
        assert [str(failure) for failure in explorer.try_deaths(0, STRIDE)] == []
        assert explorer.death > 5


@pytest.mark.parametrize("scenario", LIVES, ids=lambda scenario: scenario.name)
def test_random_schedules_and_deaths(scenario: Processes) -> None:
    explorer = CreationExplorer(scenario)
    with explorer.world.installed():
        assert [str(failure) for failure in explorer.try_random(0, MOST // 10)] == []
