"""What all workers write down together: histograms and the ring of events."""

from __future__ import annotations

import random
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from shmmap.lifecycle.event_ring import read_counts, read_events
from shmmap.lifecycle.timings import EDGES_S, Histogram, read_timings
from shmmap.memory import _figures_cy
from shmmap.memory._figures_cy import Figures
from shmmap.memory.events import KINDS, NO_SHARD, NUMBERS, TIMED, resized_to
from shmmap.memory.layout import CONTROL, constants, record_bytes
from shmmap.memory.words import ControlWords

K = constants()
SECOND = 1_000_000_000
ROW = K["C_BYTES_TOTAL"]
PLACES = K["EVENT_PLACES"]


class Memory:
    """A control segment with one worker's row, in private memory."""

    def __init__(self) -> None:
        self.buffer = bytearray(record_bytes(CONTROL) + K["R_BYTES_TOTAL"])
        self.control = ControlWords(self.buffer)
        self.control.words[(ROW + K["R_PID"]) >> 3] = 4_711
        given: Any = self.buffer
        if not _figures_cy.COMPILED:
            from shmmap.memory._atomics import Memory as Atomic
            from shmmap.memory._atomics import ThreadGuard

            given = Atomic(self.buffer, ThreadGuard())
        self.figures = Figures(given)

    def happen(self, kind: str = "repair", detail: int = 0, now: int = SECOND,
               shard: int = 3) -> None:
        self.figures.happened(ROW, now, NUMBERS[kind], shard, detail)

    def events(self, after: int = 0) -> list[Any]:
        return read_events(self.control, after)


@pytest.fixture
def memory():
    return Memory()


@pytest.mark.parametrize(("took_ns", "bucket"), [
    (-5, 0), (0, 0), (15, 0), (16, 1), (31, 1), (32, 2), (1 << 20, 17), ((1 << 38) - 1, 34),
    (1 << 38, 35), (1 << 62, 35),
])
def test_each_time_is_in_its_bucket(memory, took_ns, bucket):
    for name, which in TIMED.items():
        memory.figures.took(which, took_ns)
        counts = read_timings(memory.control)[name].counts
        assert [at for at, count in enumerate(counts) if count] == [bucket]
    assert bucket == 0 or took_ns / 1e9 >= EDGES_S[bucket - 1]
    assert bucket == 35 or took_ns / 1e9 < EDGES_S[bucket]


def test_nothing_lies_beyond_its_words(memory):
    """The last bucket of the last histogram is before what follows."""
    memory.figures.took(K["TIMED_KINDS"] - 1, 1 << 62)
    words = {one: K[f"C_{one}"] for one in ("HISTOGRAMS", "EVENT_NEXT", "EVENTS")}
    assert words["HISTOGRAMS"] + 8 * K["TIMED_KINDS"] * K["TIMED_BUCKETS"] <= words["EVENT_NEXT"]
    assert memory.control.EVENT_NEXT == 0
    assert words["EVENTS"] + PLACES * K["EVENT_BYTES"] <= record_bytes(CONTROL)
    assert max(KINDS) < K["EVENT_KINDS"]


def test_percentiles_are_right_to_a_factor_of_two(memory):
    for seed in range(20):
        rng = random.Random(seed)
        other = Memory()
        times = sorted(int(rng.lognormvariate(8, 2)) + 16 for _ in range(rng.randrange(1, 400)))
        for one in times:
            other.figures.took(TIMED["read"], one)
        found = read_timings(other.control)["read"]
        assert found.total == len(times)
        for percent in (0, 1, 50, 90, 99, 100):
            true = times[max(0, min(len(times) - 1, round(len(times) * percent / 100 + 0.5) - 1))]
            assert 0.49 < found.percentile(percent) * 1e9 / true < 2.01, (seed, percent)
        assert 0.5 < found.seconds * 1e9 / sum(times) < 2


def test_an_empty_one_and_a_wrong_percentage():
    empty = Histogram((0,) * 36)
    assert empty.percentile(99) == 0.0 and empty.seconds == 0.0 and "empty" in repr(empty)
    for wrong in (-1, 101, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 100"):
            empty.percentile(wrong)


def test_many_add_at_once_and_nothing_is_lost(memory):
    def add() -> None:
        for _ in range(2_000):
            memory.figures.took(TIMED["read"], 100)
            memory.happen("takeover")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_timings(memory.control)["read"].total == 8_000
    assert read_counts(memory.control)["takeover"] == 8_000 == memory.control.EVENT_NEXT
    found = memory.events()
    assert [one.number for one in found] == list(range(8_001 - PLACES, 8_001))


def test_the_ring_has_the_last_ones(memory):
    for number in range(1, 3 * PLACES):
        memory.happen(detail=number)
        found = memory.events()
        assert [one.detail for one in found] == list(range(max(1, number - PLACES + 1), number + 1))
    assert memory.events(3 * PLACES - 3)[-1] == found[-1]
    assert len(memory.events(3 * PLACES - 3)) == 2
    one = found[-1]
    assert (one.kind, one.pid, one.shard) == ("repair", 4_711, 3)


def test_an_event_of_the_map_has_no_shard(memory):
    shape = SimpleNamespace(total_bytes=2_000_000, shards=4_096)
    memory.happen("resize", resized_to(shape, is_done=False), shard=NO_SHARD)
    memory.happen("takeover", 1_500, shard=4_096)
    assert [one.text for one in memory.events()] == [
        "begun: to 4,096 shards, 2.0 MB",
        "the locks: its lock was taken over from a dead process, after 1.5 us"]


def test_of_noisy_kinds_one_a_second_is_written_down(memory):
    for kind in sorted(NUMBERS):
        other = Memory()
        for at in range(10):
            other.happen(kind, at, SECOND + at * SECOND // 4)
        counted = read_counts(other.control)[kind]
        kept = [one.detail for one in other.events()]
        quiet = kind in ("takeover", "repair", "evicting", "resize")
        assert counted == 10 and kept == (list(range(10)) if quiet else [0, 4, 8]), kind


def test_a_clock_that_is_behind_hinders_nothing(memory):
    """A damaged time to come must not keep a kind quiet for ever."""
    memory.control.words[(K["C_EVENT_LASTS"] >> 3) + NUMBERS["full"]] = 1 << 62
    memory.happen("full")
    assert len(memory.events()) == 1


def test_what_is_half_written_is_no_event(memory):
    """Its writer has died, or is stopped, behind any of its stores."""
    memory.happen(detail=1)
    memory.happen(detail=2)
    record = (K["C_EVENTS"] + 2 % PLACES * K["EVENT_BYTES"]) >> 3
    words = memory.control.words
    whole = list(words[record:record + 4])
    for changed in range(4):
        for value in (0, 1, whole[changed] ^ 1, whole[changed] ^ 1 << 40):
            words[record + changed] = value
            assert [one.detail for one in memory.events()] == [1], (changed, value)
            words[record + changed] = whole[changed]
    assert [one.detail for one in memory.events()] == [1, 2]


def test_one_that_was_written_over_is_not_taken_for_the_new_one(memory):
    """A writer that was stopped stores its record when the ring has gone round."""
    memory.happen(detail=1)
    record = (K["C_EVENTS"] + 1 % PLACES * K["EVENT_BYTES"]) >> 3
    old = list(memory.control.words[record:record + 4])
    for number in range(2, PLACES + 2):
        memory.happen(detail=number)
    memory.control.words[record:record + 4] = memoryview(bytearray(
        b"".join(word.to_bytes(8, "little") for word in old))).cast("Q")
    assert [one.detail for one in memory.events()] == list(range(2, PLACES + 1))


def test_damage_to_the_number_of_events(memory):
    memory.happen(detail=1)
    for value in (1 << 63, (1 << 64) - 1, 5_000):
        memory.control.EVENT_NEXT = value
        assert memory.events() == []
        memory.happen(detail=2)
        assert [one.detail for one in memory.events()] in ([2], [])


def test_a_kind_that_there_is_not_is_none(memory):
    for kind in (0, 16, 17, 1 << 40):
        memory.figures.happened(ROW, SECOND, kind, 1, 1)
    memory.figures.happened(ROW, SECOND, 12, 1, 1)  # of a later version of the same layout
    assert memory.events() == [] and sum(read_counts(memory.control).values()) == 0
