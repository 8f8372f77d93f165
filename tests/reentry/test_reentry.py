"""A sample of both machines: every operation and every place, a few deeds each, few points.

`python -m tests.reentry collector --all` and `matrix --all` try them all.
"""

from __future__ import annotations

import random

import pytest

from ..support.engines import BOTH
from . import matrix, operations, places
from .machines import Series, chosen, of_collector, of_matrix, reproduction, run_series
from .mutants import MUTANTS, Mutant
from .trials import Runner, Trial
from .world import PURE

SEED = 1
EACH = 3  # series of an operation or a place
EVERY = (*operations.OPERATIONS, *operations.MAKING)
RUNNER = Runner("short")
# Each with one engine: with the pure one those that need it, or all where it is the only one.
HERE = [one for one in MUTANTS if one.only_pure is PURE or (PURE and not BOTH)]


def sample(listed: list[Series], name: str) -> list[Series]:
    """Choose a few series."""
    return random.Random(f"{SEED} {name}").sample(listed, min(EACH, len(listed)))


@pytest.mark.parametrize("operation", EVERY, ids=lambda operation: operation.name)
def test_a_finalizer_in_the_middle_of_an_operation(operation: operations.Operation) -> None:
    """No crash, no hang, no raw error, nothing lost, nothing left, wherever garbage is found."""
    for series in sample(list(of_collector(operation)), operation.name):
        found = run_series(series, 1, SEED, runner=RUNNER)
        assert not found.bad, "\n".join(map(reproduction, found.bad))


@pytest.mark.parametrize("place", places.places(), ids=lambda place: place.name)
def test_what_happens_where(place: places.Place) -> None:
    """Handlers of signals leave the map as it should be; what comes of each is as documented."""
    results = [run_series(series, 1, SEED, runner=RUNNER)
               for series in sample(list(of_matrix(place)), place.name)]
    bad = [outcome for found in results for outcome in found.bad]
    assert not bad, "\n".join(map(reproduction, bad))
    assert matrix.differences(results, matrix.PAGE.read_text()) == []


def test_every_deed_is_done_where_it_is_to_be_done() -> None:
    """The machines interrupt: at each kind of point the deed is seen to run, there and once."""
    for place, how in (("making", "del"), ("making", "weakref"), ("open again", "owner"),
                       ("open again", "drop"), ("making the map", "line"),
                       ("a write that waits for a shard", "moment"), ("at rest", "inline"),
                       ("at exit, after it", "exit, late")):
        for at, released in chosen(Series(place, "nothing", how), 20, 1, SEED):
            outcome = RUNNER.run(Trial(place, "nothing", how, at, released))
            assert outcome.fired and not outcome.problems, reproduction(outcome)


def test_the_page_says_every_cell() -> None:
    """Each place and deed that can meet in this engine has its line."""
    said = matrix.read_page(matrix.PAGE.read_text())
    wanted = {(series.deed, series.place) for place in places.places()
              for series in of_matrix(place)}
    assert set(said) == wanted
    assert all(word for words in said.values() for word in words)


@pytest.mark.parametrize("mutant", HERE, ids=lambda mutant: mutant.name)
def test_a_planted_fault_is_found(mutant: Mutant) -> None:
    """The machines see the fault, and nothing where it is not."""
    faulty, found = Runner("mutant", mutant.plant), []
    for series in mutant.series:
        has_points = series.how not in ("inline", "moment")
        points = RUNNER.count(series.place, series.how) if has_points else 0
        for at, released in chosen(series, points, mutant.points, SEED):
            trial = Trial(*series, at, released)
            assert not RUNNER.run(trial).problems, trial
            found += faulty.run(trial).problems
            assert not any("the trial itself" in problem for problem in found), found
            if any(mutant.sign in problem for problem in found):
                return
    raise AssertionError(f"not found: {mutant.sign!r} is not in {found}")
