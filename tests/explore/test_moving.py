"""A map whose shards move: a short, seeded share of what `python -m tests.explore` runs of it."""

from __future__ import annotations

import random

import pytest

from .scenarios.every import MOVING
from .scenarios.moving_deaths import MOVERS_DIE, TWO_DIE, WRITERS_DIE
from .scenarios.scenario import Scenario
from .search.explorer import Explorer
from .search.moving_deaths import MovingDeaths

SCHEDULES = 5  # random ones
STRIDE = 23  # of the steps at which one is preempted
DEATHS = 61  # of the steps of both at which a writer dies beside a mover
SHARE = 0.0005  # of the double deaths
ALL = pytest.mark.parametrize("scenario", MOVING, ids=lambda scenario: scenario.name)


@ALL
def test_random_schedules(scenario: Scenario) -> None:
    explorer = Explorer(scenario)
    with explorer.world.installed():
        assert [str(failure) for failure in explorer.try_random(0, SCHEDULES)] == []
    assert explorer.schedules == SCHEDULES


@ALL
def test_a_share_of_the_single_preemptions(scenario: Scenario) -> None:
    explorer = Explorer(scenario)
    with explorer.world.installed():
        assert [str(failure) for failure in explorer.try_every(1, stride=STRIDE)] == []
    assert explorer.schedules > len(scenario.programs)


@pytest.mark.parametrize("scenario", MOVERS_DIE, ids=lambda scenario: scenario.name)
def test_a_mover_dies_at_every_step(scenario: Scenario) -> None:
    deaths = MovingDeaths(scenario)
    with deaths.world.installed():
        assert [str(failure) for failure in deaths.every_one()] == []
    assert deaths.runs > 50


@pytest.mark.parametrize("scenario", TWO_DIE, ids=lambda scenario: scenario.name)
def test_two_movers_die(scenario: Scenario) -> None:
    deaths = MovingDeaths(scenario)
    with deaths.world.installed():
        found = deaths.every_two(random.Random(scenario.name), SHARE)
        assert [str(failure) for failure in found] == []


@pytest.mark.parametrize("scenario", WRITERS_DIE, ids=lambda scenario: scenario.name)
def test_who_dies_beside_a_mover(scenario: Scenario) -> None:
    deaths = MovingDeaths(scenario)
    with deaths.world.installed():
        assert [str(failure) for failure in deaths.beside(DEATHS)] == []
    assert deaths.runs > 10
