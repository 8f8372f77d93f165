"""Maps opened, unlinked and locked by processes that a simulated system runs step by step."""

from __future__ import annotations

import pytest

from .scenarios.creations import CREATIONS
from .search.processes import CreationExplorer
from .simulator.creation_world import Processes

MOST = 400  # schedules of each kind


@pytest.mark.parametrize("scenario", CREATIONS, ids=lambda scenario: scenario.name)
def test_one_map_comes_out(scenario: Processes) -> None:
    explorer = CreationExplorer(scenario)
    with explorer.world.installed():
        assert [str(failure) for failure in explorer.try_every(1, MOST)] == []
        assert explorer.schedules > len(scenario.programs)


@pytest.mark.parametrize("scenario", CREATIONS, ids=lambda scenario: scenario.name)
def test_one_map_comes_out_though_its_maker_dies(scenario: Processes) -> None:
    explorer = CreationExplorer(scenario)
    with explorer.world.installed():
        assert [str(failure) for failure in explorer.try_deaths(0)] == []
        assert explorer.death > 5


@pytest.mark.parametrize("scenario", CREATIONS, ids=lambda scenario: scenario.name)
def test_random_schedules_and_deaths(scenario: Processes) -> None:
    explorer = CreationExplorer(scenario)
    with explorer.world.installed():
        assert [str(failure) for failure in explorer.try_random(0, MOST // 10)] == []
