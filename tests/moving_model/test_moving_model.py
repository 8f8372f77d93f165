"""The protocol of moving holds in every interleaving of small scenarios, and each fault planted in
it is found there. `python -m tests.moving_model` has the larger ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .judge import Judge
from .machine import Machine, Scenario
from .mutants import HARMLESS, MUTANTS, Mutant
from .scenarios import BY_NAME, QUICK, SCENARIOS
from .search import Search

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "design" / "moving.md"


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.name in QUICK],
                         ids=lambda scenario: scenario.name)
def test_no_interleaving_is_wrong(scenario: Scenario) -> None:
    found = Search(Machine(scenario)).run()
    assert found.complete and found.ends, f"{scenario.name}: {found}"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_fault_is_found(mutant: Mutant) -> None:
    found = Search(Machine(BY_NAME[mutant.scenario], (mutant.name,))).run()
    assert found.violation, f"{mutant.name}: {found}"
    assert len(found.schedule) > 1  # it can be told step by step


def test_a_shortest_schedule_is_told() -> None:
    found = Search(Machine(BY_NAME["other size, two movers alone"],
                           ("the new shards keep their private names",))).run()
    assert found.schedule == (
        "mover: dies.", "second mover: dies.",
        "then who comes afterwards: Open what the table named; it is gone: look again.",
    )


def test_every_fault_that_the_steps_know_is_planted_once() -> None:
    """A misspelt name would be a fault that is never there."""
    texts = [path.read_text() for path in FOLDER.glob("*.py") if path.name != "mutants.py"]
    asked = set(re.findall(r'"([^"\n]+)" (?:not )?in (?:self\.)?mutants', "".join(texts)))
    assert asked == {mutant.name for mutant in (*MUTANTS, *HARMLESS)}
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_the_page_names_every_fault() -> None:
    text = " ".join(PAGE.read_text().split())
    assert not [mutant.name for mutant in MUTANTS if mutant.name not in text]


def test_a_stopped_reader_is_told_from_one_that_waits() -> None:
    """The search for ways to an end is no formality: without one it says so."""
    machine = Machine(BY_NAME["other size, two movers alone"])
    search = Search(machine)
    assert search.run().complete
    search.over = search.over[:0] + type(search.over)("B", bytes(len(search.over)))
    assert search.without_end() == 0


def test_judging_calls() -> None:
    """A call may take effect anywhere between its begin and its end, and nowhere else."""
    judge = Judge((10,))
    writing = judge.begin(0, 1, ("set", 0, 20))
    both = judge.begin(writing, 2, ("get", 0, 0))
    old, new = judge.end(both, 2, 10), judge.end(both, 2, 20)
    assert old >= 0 and new >= 0
    assert judge.end(both, 2, 30) == -1
    after = judge.begin(new, 2, ("get", 0, 0))  # seen once, it is there
    assert judge.end(after, 2, 10) == -1
    again = judge.begin(judge.end(old, 1, 20), 2, ("get", 0, 0))  # the write has ended
    assert judge.end(again, 2, 10) == -1
    assert judge.end(again, 2, 20) >= 0
