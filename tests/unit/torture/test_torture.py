"""The parts of `shmmap torture`: what it holds against a map, and what it must not."""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from collections import Counter
from typing import Any

import pytest

from shmmap.lifecycle.parameters import Parameters
from shmmap.torture import history, processes, shared
from shmmap.torture.ledger import (
    BROKEN_OFF,
    CLAIM_NEXT,
    HISTORY_COUNT,
    HISTORY_WINDOW,
    LAST_DEATH,
    LAST_HELD,
    NUMBER_OF,
    Lane,
    Ledger,
    Notice,
    Record,
    now_ns,
)
from shmmap.torture.plan import KEYS, add_options, read_options
from shmmap.torture.shapes import longest_value, shapes
from shmmap.torture.values import Identity, Torn, make_value, read_value
from shmmap.torture.waits import Waits

MS = 1_000_000


# -- values -------------------------------------------------------------------------------


@pytest.mark.parametrize("pickled", [False, True])
def test_a_value_says_who_wrote_it(pickled):
    value = make_value(Identity(3, 4, 5), b"filling", pickled)
    assert read_value(value) == (3, 4, 5)


def test_any_changed_byte_is_seen():
    value = make_value(Identity(3, 4, 5), b"filling")
    for at in range(len(value)):
        torn = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
        with pytest.raises(Torn):
            read_value(torn)
    for wrong in (value[:-1], b"", value + b"x", 7, None, (value, value)):
        with pytest.raises(Torn):
            read_value(wrong)


# -- the ledger -----------------------------------------------------------------------------


@pytest.mark.parametrize(("record", "found", "from_ns", "until_ns", "allowed"), [
    (Record(5), 5, 10, 11, True), (Record(5), 0, 10, 11, False), (Record(5), 4, 10, 11, False),
    (Record(0), 0, 10, 11, True), (Record(0), 5, 10, 11, False),
    (Record(5, 20, 30), 5, 10, 11, True), (Record(5, 20, 30), 0, 10, 11, False),
    (Record(5, 20, 30), 0, 10, 20, True), (Record(5, 20, 30), 5, 30, 40, True),
    (Record(5, 20, 30), 5, 31, 40, False), (Record(5, 20, 30), 0, 31, 40, True),
])
def test_what_a_record_allows(record, found, from_ns, until_ns, allowed):
    assert record.allows(found, from_ns, until_ns) is allowed


class Dies(Exception):
    pass


class Mortal:
    """Words whose writer dies before its n-th store."""

    def __init__(self, words: Any, stores: int) -> None:
        self.words = words
        self.left = stores

    def __getitem__(self, at: Any) -> Any:
        return self.words[at]

    def __setitem__(self, at: int, word: int) -> None:
        if self.left == 0:
            raise Dies
        self.left -= 1
        self.words[at] = word


def test_a_death_at_any_store_leaves_what_was_acknowledged_or_is_under_way():
    seen = set()
    for stores in range(20):
        lane = Ledger(1).lanes[0]
        lane.begin(2, 7)
        lane.finish(2)
        mortal = Lane(0, Mortal(lane.words, stores))
        try:
            mortal.begin(2, 8)
            mortal.finish(2)
        except Dies:
            pass
        state = lane.done(2).number, getattr(lane.under_way(2), "number", None)
        seen.add(state)
    assert seen == {(7, None), (7, 8), (8, None)}


def under_way() -> Lane:
    """Return a lane whose write 8 of key 2 is under way after write 7."""
    lane = Ledger(1).lanes[0]
    lane.begin(2, 7)
    lane.finish(2)
    lane.begin(2, 8)
    return lane


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("wrong", [0, 6, 9])
def test_neither_acknowledged_nor_under_way_is_lost(wrong, last):
    assert not under_way().judge(2, wrong, 1, 2, last)


def test_the_old_value_may_be_followed_by_the_new_one_only_before_the_last_look():
    lane = under_way()
    assert lane.judge(2, 7, 1, 2, last=False) and lane.judge(2, 8, 1, 2, last=True)
    assert lane.done(2) == Record(8) and lane.under_way(2) is None
    lane = under_way()
    assert lane.judge(2, 7, 1, 2, last=True) and not lane.judge(2, 8, 1, 2, last=True)


def test_the_new_value_is_never_followed_by_the_old_one():
    lane = under_way()
    assert lane.judge(2, 8, 1, 2, last=False) and not lane.judge(2, 7, 1, 2, last=True)


def test_a_touch_under_way_leaves_either_deadline():
    lane = Ledger(1).lanes[0]
    lane.begin(2, 7, 100)
    lane.finish(2, 100)
    lane.begin(2, 7)  # for ever
    assert lane.judge(2, 7, 1, 2, last=True)
    late = now_ns() + 10**12
    assert lane.done(2).allows(7, late, late) and lane.done(2).allows(0, late, late)


def test_an_own_counter():
    lane = Ledger(1).lanes[0]
    lane.begin_count(0)
    lane.end_count(0)
    lane.begin_count(0)
    assert lane.counts(0) == (1, 2) and not lane.judge_count(0) and not lane.judge_count(3)
    assert lane.judge_count(2) and lane.counts(0) == (2, 2) and not lane.judge_count(1)


# -- claims ---------------------------------------------------------------------------------


def claimed(winners: list[int], owner: int | None) -> tuple[dict[str, Any], Ledger]:
    """Return a map and a ledger in which lanes say that they won claim 0."""
    ledger = Ledger(3)
    ledger.words[CLAIM_NEXT] = 20
    for lane in winners:
        ledger.lanes[lane].note_claim(0, 2)
    value = {} if owner is None else {"claim-0": make_value(Identity(owner, 0, 0), b"")}
    return value, ledger


@pytest.mark.parametrize(("winners", "owner", "problems"), [
    ([1], 1, 0), ([], 2, 0), ([], None, 0), ([1, 2], 1, 1), ([1], 2, 1), ([1], None, 1),
])
def test_a_claim_has_one_winner(winners, owner, problems):
    verified, found = shared.settle_claims(*claimed(winners, owner), 0)
    assert verified > 0 and len(found) == problems


def test_a_claim_under_way_is_not_settled():
    main, ledger = claimed([1], 1)
    ledger.lanes[2].note_claim(0, 1)
    assert shared.settle_claims(main, ledger, 0) == (0, [])
    shared.give_up_claims(main, ledger.lanes[2], 20)
    assert shared.settle_claims(main, ledger, 0)[0] > 0


# -- histories --------------------------------------------------------------------------------


def logged(*calls: tuple[str, int, int, int, int]) -> Ledger:
    """Return a ledger with calls of window 1 on key 0: name, value, start, end, result."""
    ledger = Ledger(2)
    for lane in ledger.lanes:
        lane.words[HISTORY_WINDOW] = 1
    for i, (name, value, start, end, result) in enumerate(calls):
        ledger.lanes[i % 2].log(
            (0, history.NAMES.index(name), value, 0, 0, start, end, result, 0)
        )
    return ledger


NOTHING = (1 << 64) - 1


def test_a_history_that_some_order_explains():
    ledger = logged(("set", 5, 10, 20, 0), ("get", 0, 12, 30, 5), ("delete", 0, 31, 40, 1),
                    ("get", 0, 41, 50, NOTHING), ("set", 6, 45, 0, 0), ("get", 0, 60, 70, 6))
    assert history.check_history(ledger, 1) == (6, [])


@pytest.mark.parametrize("result", [NOTHING, 4])
def test_a_history_that_none_explains(result):
    ledger = logged(("set", 5, 10, 20, 0), ("get", 0, 21, 30, result))
    calls, problems = history.check_history(ledger, 1)
    assert calls == 2 and len(problems) == 1 and "window-1-0" in problems[0]


def test_calls_of_another_window_do_not_count():
    assert history.check_history(logged(("get", 0, 1, 2, 9)), 2) == (0, [])


def test_a_map_that_replaced_the_other_gives_new_versions():
    ledger = Ledger(1)
    ledger.lanes[0].words[HISTORY_WINDOW] = 1
    names = history.NAMES.index
    for name, start, result, version, before, after in (
        ("set", 1, 0, 0, 7, 7), ("get_versioned", 3, 5, 40, 7, 7), ("get_versioned", 5, 5, 50, 7, 8)
    ):
        ledger.lanes[0].log((0, names(name), 5, 0, 0, start, start + 1, result, version, before,
                             after))
    assert history.check_history(ledger, 1) == (3, [])
    ledger.lanes[0].words[HISTORY_COUNT] = 2
    ledger.lanes[0].log((0, names("get_versioned"), 5, 0, 0, 5, 6, 5, 50, 7, 7))
    assert len(history.check_history(ledger, 1)[1]) == 1, "of one map"


# -- waits ------------------------------------------------------------------------------------


def waits_of(
    *noticed: Notice, deaths: tuple[int, ...] = (), held: tuple[int, ...] = (), marks: Any = (),
    delays: Any = (), replacers: tuple[int, ...] = (),
) -> Waits:
    """Return what becomes of noticed operations."""
    ledger = Ledger(1)
    waits = Waits(ledger)
    for death in deaths:
        waits.died(death)
    for death in held:
        waits.held(death)
    for death in replacers:
        waits.died(death, replacer=True)
    for since, until in marks:
        waits.mark(since, until)
    for delay in delays:
        waits.delay(*delay)
    for one in noticed:
        ledger.lanes[0].notice(one)
    waits.collect()
    return waits


SET = NUMBER_OF["set"]


def test_a_wait_counts_from_the_death():
    waits = waits_of(Notice(100 * MS, 190 * MS, SET, 1, 1, 50 * MS), deaths=(130 * MS,))
    assert waits.longest_ms() == 60 and waits.longest_ms(free=True) == 40  # 30 may be before it
    assert waits.takeovers == 1 and waits.after_takeover_ms(0.5) == 60
    assert waits.after_death_ms(0.5, 1) == 60 and waits.after_death_ms(0.5, 3) == 0
    assert waits.after_death_ms(0.5, 1, free=True) == 40
    assert waits.describe() == [
        "40.0 ms of 90.0 in 'set', 50.0 not let run; took the lock over; deaths in it: 1; "
        "ended at 0.190 s of the clock"]


def test_the_longest_waits_are_told_longest_first():
    waits = waits_of(*(Notice(i * 1000 * MS, (i * 1000 + took) * MS, SET, 1, 0, 0)
                       for i, took in enumerate((20, 50, 10, 40, 30), 1)),
                     deaths=tuple(i * 1000 * MS for i in range(1, 6)))
    assert [text.partition(" ")[0] for text in waits.describe()] == ["50.0", "40.0", "30.0"]


def test_of_holders_that_die_in_turn_each_is_charged_with_its_own_part():
    waits = waits_of(Notice(100 * MS, 190 * MS, SET, 1, 1, 0), held=(110 * MS, 150 * MS),
                     deaths=(110 * MS, 130 * MS, 150 * MS))  # who died at 130 held nothing
    assert waits.longest_ms() == 40 and waits.longest_in_turn_ns == 80 * MS
    assert waits.after_death_ms(0.5, 1) == 40 and waits.after_takeover_ms(0.5) == 40


def test_one_holder_is_charged_with_the_whole_wait():
    waits = waits_of(Notice(100 * MS, 190 * MS, SET, 1, 0, 0), held=(110 * MS, 195 * MS),
                     deaths=(110 * MS, 130 * MS, 195 * MS))
    assert waits.longest_ms() == 80 and waits.longest_in_turn_ns == 0


def test_the_delay_of_one_who_repairs_is_not_the_map_s():
    waits = waits_of(Notice(100 * MS, 190 * MS, SET, 1, 0, 0),
                     Notice(101 * MS, 180 * MS, SET, 1, 1, 50 * MS), deaths=(100 * MS,))
    assert waits.longest_ms() == 90 and waits.longest_ms(free=True) == 40


@pytest.mark.parametrize(("delays", "free"), [
    ([(100, 140, 30), (140, 190, 20)], 40),  # one after the other
    ([(100, 140, 30), (120, 190, 20)], 60),  # maybe at the same time
    ([(100, 140, 30), (120, 190, 60)], 30 - 10),  # but not all of it
    ([(50, 140, 60)], 80), ([(50, 140, 40)], 90), ([(300, 400, 90)], 90),
])
def test_delays_count_once_and_as_far_as_they_are_sure(delays, free):
    waits = waits_of(Notice(100 * MS, 190 * MS, SET, 1, 0, 0), deaths=(100 * MS,),
                     delays=[tuple(at * MS for at in delay) for delay in delays])
    assert waits.longest_ms() == 90 and waits.longest_ms(free=True) == free


def test_what_overlaps_a_stop_is_apart():
    waits = waits_of(Notice(100 * MS, 190 * MS, SET, 1, 1, 0), deaths=(130 * MS,),
                     marks=[(180 * MS, 181 * MS)])
    assert waits.longest_ms() == 0 and waits.longest_while_stopped_ns == 90 * MS


def test_what_goes_over_to_another_map_is_apart():
    waits = waits_of(Notice(100 * MS, 190 * MS, SET, 1, 0, 0, 1), deaths=(130 * MS,))
    assert waits.longest_ms() == 0 and waits.longest_while_replaced_ns == 90 * MS


def test_a_wait_for_a_replacer_counts_from_its_death():
    waits = waits_of(Notice(100 * MS, 190 * MS, SET, 1, 1, 0), deaths=(110 * MS,),
                     replacers=(150 * MS,))
    assert waits.longest_ms(replacers=True) == 40 and waits.takeovers == 1
    assert waits.longest_ms() == 0
    waits = waits_of(Notice(100 * MS, 190 * MS, SET, 1, 1, 0), deaths=(110 * MS,),
                     replacers=(50 * MS,))
    assert waits.longest_ms() == 80


def test_a_wait_for_a_replacer_that_a_signal_broke_off_counts_from_then():
    ledger = Ledger(2)
    ledger.lanes[1].words[BROKEN_OFF] = 150 * MS
    ledger.lanes[0].notice(Notice(100 * MS, 190 * MS, SET, 1, 0, 0))
    waits = Waits(ledger)
    waits.died(110 * MS)
    waits.collect()
    assert waits.longest_ms(replacers=True) == 40


def test_long_without_a_death():
    waits = waits_of(Notice(100 * MS, 190 * MS, SET, 1, 0, 0), deaths=(200 * MS,))
    assert waits.longest_ms() == 0 and waits.longest_without_death_ns == 90 * MS


def test_a_death_that_a_worker_caused_counts():
    ledger = Ledger(1)
    ledger.lanes[0].words[LAST_DEATH] = 100 * MS
    ledger.lanes[0].notice(Notice(90 * MS, 150 * MS, SET, 1, 0, 0))
    waits = Waits(ledger)
    waits.collect()
    assert waits.longest_ms() == 50


def test_a_holder_that_a_worker_killed_counts_as_one():
    ledger = Ledger(1)
    ledger.lanes[0].words[LAST_DEATH] = ledger.lanes[0].words[LAST_HELD] = 130 * MS
    ledger.lanes[0].notice(Notice(90 * MS, 150 * MS, SET, 1, 0, 0))
    waits = Waits(ledger)
    waits.died(100 * MS)
    waits.collect()
    assert waits.longest_ms() == 30 and waits.longest_in_turn_ns == 50 * MS


# -- replacing --------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 4, 4096])
def test_both_shapes_hold_everything(shards):
    first, second = shapes(options("--size", "8GB", "--shards", str(shards)))
    each = [Parameters(size=shape.size, shards=shape.shards).plan() for shape in (first, second)]
    assert first != second and each[0].max_entry_bytes <= each[1].max_entry_bytes
    assert each[0].slots * each[0].shards < each[1].slots * each[1].shards


@pytest.mark.parametrize("shards", [1, 4])
def test_what_the_lanes_write_fits_into_the_smaller_shape(shards):
    """Whichever shards their keys are in: 10,000 times at random."""
    plan = options("--size", "8MB", "--shards", str(shards), "--workers", "4")
    shape = Parameters(size=8 * 10**6, shards=shards).plan()
    longest = longest_value(plan, shape, shape.slots * shards // 2)
    dice = random.Random(1)
    for _ in range(10_000):
        there = Counter(dice.randrange(shards) for _ in range(plan.lanes * KEYS))
        assert max(there.values()) * longest < shape.max_entry_bytes * 0.45


# -- processes ----------------------------------------------------------------------------------


@pytest.fixture
def stacks():
    descriptor = os.memfd_create("stacks", os.MFD_CLOEXEC)
    yield descriptor
    os.close(descriptor)


def test_a_family_is_reaped_as_a_whole(stacks):
    hear, say = os.pipe()

    def lead() -> None:
        child = processes.fork(lambda: time.sleep(60), stacks, lead=False)
        os.write(say, child.to_bytes(4, "little"))
        time.sleep(60)

    processes.adopt_orphans(True)
    leader = processes.fork(lead, stacks, lead=True)
    child = int.from_bytes(os.read(hear, 4), "little")
    os.kill(child, signal.SIGSTOP)
    processes.kill(leader)
    assert processes.reap_family(leader) == signal.SIGKILL
    processes.adopt_orphans(False)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    os.close(hear)
    os.close(say)


def test_a_process_says_where_it_is(stacks):
    hear, say = os.pipe()

    def loiter() -> None:
        os.write(say, b".")
        time.sleep(60)

    pid = processes.fork(loiter, stacks, lead=True)
    try:
        os.read(hear, 1)
        assert "in loiter" in processes.describe_stack(pid, stacks)
    finally:
        processes.kill(pid)
        processes.reap_family(pid)
        os.close(hear)
        os.close(say)


# -- options ------------------------------------------------------------------------------------


def options(*words: str) -> Any:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return read_options(parser.parse_args(words), 99)


def test_options():
    plan = options("--minutes", "2", "--shards", "4", "--name", "x")
    assert plan.seconds == 120 and plan.seed == 99 and plan.shards == 4 and plan.name == "x"
    assert options().seconds == 60 and options("--seed", "0").seed == 0
    assert options("--kills", "5").seconds > 10**6


@pytest.mark.parametrize("words", [
    ("--shards", "3"), ("--size", "much"), ("--name", "a.b"), ("--seconds", "0"),
    ("--seconds", "5", "--minutes", "5"), ("--kills", "-1"),
])
def test_wrong_options(words, capsys):
    with pytest.raises(SystemExit):
        options(*words)
    assert words[0] in capsys.readouterr().err
