"""Named locks under schedules, deaths of a holder at every access, and leases that run out."""

from __future__ import annotations

import pytest

from .scenarios.lockers import LOCKERS
from .search.processes import LockExplorer
from .simulator.lock_world import Lockers

MOST = 400  # schedules of each kind
STRIDE = 3  # of the steps before which somebody dies; all: `python -m tests.explore every`
ALL = pytest.mark.parametrize("scenario", LOCKERS, ids=lambda scenario: scenario.name)


@ALL
def test_every_single_preemption(scenario: Lockers) -> None:
    explorer = LockExplorer(scenario)
    with explorer.world.installed():
        assert [str(failure) for failure in explorer.try_every(1, MOST)] == []
    assert explorer.schedules > len(scenario.programs)


@ALL
def test_a_holder_dies_at_steps_of_all_kinds(scenario: Lockers) -> None:
    explorer = LockExplorer(scenario)
    with explorer.world.installed():
        assert [str(failure) for failure in explorer.try_deaths(0, STRIDE)] == []
    assert explorer.death > 30


@ALL
def test_random_schedules_and_deaths(scenario: Lockers) -> None:
    explorer = LockExplorer(scenario)
    with explorer.world.installed():
        assert [str(failure) for failure in explorer.try_random(0, MOST // 4)] == []
