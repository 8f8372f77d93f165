"""A short, seeded share of what `python -m tests.explore` runs."""

from __future__ import annotations

import random

import pytest

from .scenarios.cases import (
    BURIALS,
    CASES,
    MERGER,
    NEAR_READS,
    READER,
    SECOND,
    SURVIVORS,
    WRITER,
    beside_near,
    scenario_of,
)
from .scenarios.every import SCENARIOS
from .search.deaths import Deaths
from .search.exceptions import Exceptions
from .search.explorer import Explorer
from .search.near_deaths import NearDeaths

SCHEDULES = 24
SHARE = 0.001  # of the double deaths
STRIDE = 47  # of the lines, one in so many


def ids(things):
    return [thing.name for thing in things]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=ids(SCENARIOS))
def test_random_schedules(scenario):
    explorer = Explorer(scenario)
    with explorer.world.installed():
        assert [str(failure) for failure in explorer.try_random(0, SCHEDULES)] == []
    assert explorer.schedules == SCHEDULES


BOUNDED = [scenario for scenario in SCENARIOS if scenario.bound]


@pytest.mark.parametrize("scenario", BOUNDED, ids=ids(BOUNDED))
def test_every_single_preemption(scenario):
    explorer = Explorer(scenario)
    with explorer.world.installed():
        assert [str(failure) for failure in explorer.try_every(1)] == []
    assert explorer.schedules > len(scenario.programs)


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_every_death(case):
    for survivor in SURVIVORS.values():
        deaths = Deaths(scenario_of(case, survivor))
        with deaths.world.installed():
            assert [str(failure) for failure in deaths.every_one()] == []
        assert deaths.runs > 10


@pytest.mark.parametrize("case", BURIALS, ids=ids(BURIALS))
def test_every_death_in_a_map_with_tombstones(case):
    deaths = Deaths(scenario_of(case, MERGER))
    with deaths.world.installed():
        assert [str(failure) for failure in deaths.every_one()] == []
    assert deaths.runs > 10
    deaths = Deaths(scenario_of(case, SECOND["a writer"], MERGER))
    with deaths.world.installed():
        assert [str(one) for one in deaths.every_two(random.Random(case.name), SHARE)] == []


@pytest.mark.parametrize("read", NEAR_READS)
@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_every_death_beside_a_near_cache(case, read):
    deaths = NearDeaths(beside_near(scenario_of(case), NEAR_READS[read]))
    with deaths.world.installed():
        assert [str(failure) for failure in deaths.every_one()] == []
    assert deaths.runs > 10


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_some_double_deaths(case):
    for second in SECOND.values():
        deaths = Deaths(scenario_of(case, second, (*READER, *WRITER)))
        with deaths.world.installed():
            found = deaths.every_two(random.Random(case.name), SHARE)
            assert [str(failure) for failure in found] == []


BROKEN_OFF = (*CASES, *BURIALS[:1])


@pytest.mark.parametrize("case", BROKEN_OFF, ids=ids(BROKEN_OFF))
def test_every_exception(case):
    exceptions = Exceptions(scenario_of(case, MERGER if case.tombstones_ns else WRITER))
    with exceptions.world.installed():
        assert [str(failure) for failure in exceptions.every_step()] == []
        steps = exceptions.runs
        assert [str(failure) for failure in exceptions.every_line(STRIDE)] == []
    assert 10 < steps < exceptions.runs


@pytest.mark.parametrize(("name", "schedule"), [
    ("list in a rebuild", "random:23,0,11"),  # half an index was listed
    ("everything at once", "random:10003827"),  # who gave up waiting kept the token of another
])
def test_a_schedule_that_failed_once(name, schedule):
    explorer = Explorer(next(scenario for scenario in SCENARIOS if scenario.name == name))
    with explorer.world.installed():
        assert explorer.run(explorer.named(schedule)) is None


def test_a_schedule_replays():
    explorer = Explorer(SCENARIOS[0])
    with explorer.world.installed():
        for name in ("random:7", "pct:5,3,90", "every:4-1,20-0", "random:8,30,0"):
            first = explorer.replay(name)
            assert explorer.replay(name) == first and first.endswith("nothing is wrong")
            assert " 1 write " in first or " 1 exchange " in first
