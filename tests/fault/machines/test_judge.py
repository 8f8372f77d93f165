"""The judge of histories: what is right passes, and a violation of each kind is found."""

from __future__ import annotations

import random

import pytest

from ...machines.judge import (
    ABSENT,
    NEVER,
    Read,
    Register,
    Write,
    atomic,
    lost,
    never_back,
    own_writes,
)
from ...machines.scenarios import SCENARIOS
from ...machines.verdicts import registers_of
from ...machines.workers import Answers, Deeds
from ...machines.world import History

ONE, TWO, THREE = Write("k", 1, 1.0, 1.2), Write("k", 2, 2.0, 2.2), Write("k", 3, 3.0, 3.2)
UNKNOWN = Write("k", 2, 2.0, NEVER)


def reads(*answers: tuple[int, float, float]) -> list[Read]:
    return [Read("k", *answer) for answer in answers]


def found(writes: list[Write], *answers: tuple[int, float, float], bound_s: float = 0.0,
          wipes: tuple[tuple[float, float], ...] = ()) -> list[str]:
    given = reads(*answers)
    return atomic(Register(writes, given, wipes), given, bound_s)


@pytest.mark.parametrize("answers", [
    [(ABSENT, 0.1, 0.2), (1, 1.5, 1.6), (2, 2.3, 2.4), (3, 3.3, 3.4)],
    [(1, 1.1, 1.15), (ABSENT, 1.0, 1.1)],  # while it is written
    [(1, 2.05, 2.1), (2, 2.1, 2.15)],
    [(1, 2.1, 2.15), (2, 2.1, 2.15)],  # at once
])
def test_what_an_order_explains(answers):
    assert found([ONE, TWO, THREE], *answers) == []


@pytest.mark.parametrize(("answers", "words"), [
    ([(1, 2.3, 2.4)], "1 was answered before and after 2 was there"),  # old
    ([(2, 1.5, 1.6)], "2 was answered before it was written"),
    ([(7, 1.5, 1.6)], "7 was answered, and never written"),
    ([(2, 2.01, 2.05), (1, 2.06, 2.1)], "1 was answered before and after 2 was there"),  # back
    ([(2, 2.3, 2.4), (1, 2.6, 2.7)], "1 was answered 0.4000 s after 2 was there"),
    ([(ABSENT, 1.5, 1.6)], "0 was answered before and after 1 was there"),
])
def test_what_no_order_explains(answers, words):
    assert any(words in line for line in found([ONE, TWO, THREE], *answers))


def test_a_moment_within_another_value():
    """2 was there at some time of 2.0 to 2.2; nobody may read 1 before and after it."""
    assert found([ONE, TWO], (1, 1.5, 1.6), (1, 2.15, 2.3)) == []
    assert found([ONE, TWO], (1, 1.5, 1.6), (1, 2.21, 2.3)) != []


def test_a_write_of_which_nobody_knows():
    assert found([ONE, UNKNOWN, THREE], (1, 2.5, 2.6)) == []  # it was not done
    assert found([ONE, UNKNOWN, THREE], (2, 2.5, 2.6)) == []  # it was
    assert found([ONE, UNKNOWN, THREE], (3, 3.3, 3.4), (2, 4.0, 4.1)) == []  # late
    assert found([ONE, UNKNOWN], (2, 2.5, 2.6), (1, 2.7, 2.8)) != []
    assert found([ONE, UNKNOWN, THREE], (2, 2.5, 2.6), (3, 3.3, 3.4), (2, 4.0, 4.1)) != []


def test_a_bound():
    assert found([ONE, TWO], (1, 2.6, 2.7), bound_s=0.5) == []
    assert found([ONE, TWO], (1, 2.8, 2.9), bound_s=0.5) != []
    assert found([ONE, TWO], (2, 1.5, 1.6), bound_s=0.5) != []  # none of the future


def test_a_store_that_was_emptied():
    wiped = ((2.0, 2.5),)
    assert found([ONE, THREE], (1, 1.5, 1.6), (ABSENT, 2.6, 2.7), (3, 3.3, 3.4), wipes=wiped) == []
    assert found([ONE, THREE], (1, 2.6, 2.7), wipes=wiped) != []
    assert found([ONE, THREE], (ABSENT, 3.3, 3.4), wipes=wiped) != []


def test_the_judge_agrees_with_a_search():
    """Of small histories by chance: there is an order, as a search through all of them says."""
    draw = random.Random(11)
    verdicts = []
    for _ in range(1500):
        writes, at = [], 0.0
        for value in (1, 2, 3):
            began = at + draw.random()
            ended = at = began + draw.random()
            writes.append(Write("k", value, began, ended if draw.random() < 0.7 else NEVER))
        given = []
        for _ in range(draw.randrange(1, 5)):
            began = draw.random() * 4
            given.append(Read("k", draw.randrange(4), began, began + draw.random()))
        judged = atomic(Register(writes, given), given) == []
        assert judged == has_order(writes, given), (writes, given)
        verdicts.append(judged)
    assert 300 < sum(verdicts) < 1200


def has_order(writes: list[Write], given: list[Read]) -> bool:
    """Search for an order; a write of which nobody knows may be left out."""
    def go(left: frozenset[int], value: int) -> bool:
        if all(operations[n].ended == NEVER for n in left):
            return True
        first_end = min(operations[n].ended for n in left)
        for n in left:
            one = operations[n]
            if one.began <= first_end and (isinstance(one, Write) or one.value == value) and (
                go(left - {n}, one.value)
            ):
                return True
        return False

    operations = [*writes, *given]
    return go(frozenset(range(len(operations))), ABSENT)


def test_a_process_that_goes_back():
    def back(*answers: tuple[int, float, float], writes: tuple[Write, ...] = (ONE, TWO)) -> bool:
        given = reads(*answers)
        return never_back({"k": Register(writes, given)}, given) != []

    assert not back((1, 2.5, 2.6), (1, 3.5, 3.6), (2, 4.0, 4.1))  # old, and never back
    assert back((2, 2.5, 2.6), (1, 3.5, 3.6))
    assert back((2, 2.5, 2.6), (ABSENT, 3.5, 3.6))
    assert back((9, 2.5, 2.6))
    late = (ONE, UNKNOWN, THREE)
    assert not back((3, 3.5, 3.6), (2, 4.0, 4.1), writes=late)
    assert back((2, 2.5, 2.6), (3, 3.5, 3.6), (2, 4.0, 4.1), writes=late)


def test_a_machine_that_does_not_read_its_writes():
    def missed(*answers: tuple[int, float, float], writes: tuple[Write, ...] = (ONE, TWO)) -> bool:
        given = reads(*answers)
        return own_writes({"k": Register(writes, given)}, given) != []

    assert not missed((1, 2.1, 2.3), (2, 2.3, 2.4))
    assert missed((1, 2.3, 2.4))
    assert missed((ABSENT, 1.3, 1.4))
    assert not missed((1, 2.3, 2.4), writes=(ONE, UNKNOWN))


def test_how_old_an_answer_is():
    register = Register([ONE, TWO, THREE], [])
    ages = [register.age(read) for read in reads(
        (1, 2.1, 2.2), (1, 2.7, 2.8), (3, 9.0, 9.1), (ABSENT, 1.7, 1.8), (ABSENT, 0.5, 0.6))]
    assert ages == pytest.approx([0.0, 0.5, 0.0, 0.5, 0.0])


def test_a_write_before_a_failover_whose_log_came_after_it():
    """The old master took 1, its log, and 2, and lost them; the new one has the log of 2, and 3."""
    writes = [Write("a0", n, n, n + 0.1) for n in (1, 2, 3, 4)]
    deeds = Deeds(writes, [], [(f"log:a:{n}", n + 0.2) for n in (1, 2, 3, 4)], ["log:a:1"])
    answers = Answers([Read("a0", 0, 2.5, 2.6), Read("a0", 4, 4.5, 4.6)], [], [])
    history = History({("a", "session"): answers}, {"a": deeds}, 0, 1, 2, 5, [], ["a0"])
    [register] = registers_of(SCENARIOS["split"], history, {"log:a:1"}).values()
    assert [one.ended for one in register.writes] == [-NEVER, NEVER, NEVER, 3.1, 4.1]
    assert own_writes({"a0": register}, answers.reads) == []
    late = [Read("a0", 3, 4.7, 4.8)]
    assert own_writes({"a0": register}, late) == [
        "a0: 3 was answered, with 4 acknowledged before"]


def test_what_was_lost():
    assert lost(["a", "b"], ["b", "c"]) == ["a"] and lost(["a"], ["a"]) == []
