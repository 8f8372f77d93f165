"""The tuner on a map: what it sees there, whether the map can have it, whether it is done."""

from __future__ import annotations

import contextlib
import gc
import logging
from typing import Any

import pytest

import shmmap
from shmmap.memory.layout import constants
from shmmap.memory.table import UNITS, Table, generation_of, read_table, row_of
from shmmap.memory.words import GenerationWords, ShardWords, Word
from shmmap.moving import observing
from shmmap.moving.observing import consider, observe, refusal_of
from shmmap.moving.tuning import AutoShards
from shmmap.testing import LocalMap

K = constants()
QUICK = AutoShards(least=1, rounds=2, rate=777)


class Moves:
    """Stands in for what moves a map: notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def __call__(self, shards: int, rate: int) -> None:
        self.asked.append((shards, rate))


@pytest.fixture
def said(monkeypatch):
    """Return a function that says the settings of this process."""
    def say(settings: AutoShards) -> None:
        monkeypatch.setattr(observing, "settings_of", lambda attached: settings)

    return say


def count(m: Any, counter: str, times: int) -> None:
    """Have this worker's row count something so many times more."""
    worker, words = m.attachment.worker, m.attachment.control.words
    words[(worker.row_offset(worker.row) + K[f"R_{counter}"]) >> 3] += times


def busy_round(m: Any, clock: Any, waits: int = 100_000) -> None:
    """Have 30 seconds pass in which a million writes were made, and some waited, in all shards."""
    clock.advance(30)
    count(m, "WRITES", 1_000_000)
    for mapping in m.attachment.mappings:
        with ShardWords(mapping.buffer) as header:
            header.WAITS0 += waits // len(m.attachment.mappings)


# -- what it sees -----------------------------------------------------------------------------


def test_it_sees_what_the_statistics_say(make, start):
    m = make(shards=4)
    m.set_many({n: "x" * 100 * n for n in range(20)})

    def read(child: Any) -> None:
        assert [m.get(n) for n in range(10)] and m.get("none") is None

    start(read).end()
    del m[3]
    seen, stats = observe(m.attachment), m.stats()
    assert seen.changes == stats.writes + stats.deletes == 21
    assert seen.operations == seen.changes + 10 + 1
    assert (seen.slots, seen.used) == (stats.slots, stats.slots - stats.free_slots)
    assert (seen.shards, seen.generation, seen.is_moving, len(seen.waits)) == (4, 0, False, 4)


def test_it_sees_that_entries_are_on_their_way(make):
    m = make(shards=2)
    control = m.attachment.control
    was, new = row_of(control, 0), row_of(control, 1)
    for word_ in vars(GenerationWords).values():
        if isinstance(word_, Word):
            new[word_] = was[word_]
    control.TABLE = Table((0, 1), (UNITS, 100), 1).word()
    try:
        seen = observe(m.attachment)
    finally:
        control.TABLE = Table().word()
    assert seen.is_moving and seen.shards == 2
    assert not observe(m.attachment).is_moving


# -- whether the map can have it ----------------------------------------------------------------


def test_a_shard_has_room_for_the_longest_entry(make):
    m = make(size="1MB", shards=2)
    assert refusal_of(m, m.attachment, 4) == ""
    m["long"] = b"v" * 40_000
    assert "room for an entry of" in refusal_of(m, m.attachment, 4)
    assert "map has one of 40,004" in refusal_of(m, m.attachment, 4)
    m["long"] = b"v" * 200_000  # fewer shards are larger: it need not fit in eight times
    assert refusal_of(m, m.attachment, 1) == ""


def test_a_shard_has_room_for_what_the_map_was_made_for(make):
    m = make(size="1MB", shards=4, value_size=20_000)
    assert "the map has one of 20,016" in refusal_of(m, m.attachment, 8)
    assert refusal_of(m, m.attachment, 2) == ""


def test_a_map_that_is_too_small_for_so_many_shards(make):
    m = make(size="400KB", shards=2)
    assert "is too small for 256 shards" in refusal_of(m, m.attachment, 256)


@pytest.mark.parametrize(("on_full", "refused"), [("raise", True), ("evict", False)])
def test_a_map_that_is_nearly_full_needs_room_for_the_fullest_shard(make, on_full, refused):
    m = make(size="1MB", shards=4, on_full=on_full, hash_seed=7)
    room = m.stats().slots
    m.set_many(dict.fromkeys(range(room // 3), b"v" * 100))
    assert refusal_of(m, m.attachment, 32) == ""
    with contextlib.suppress(shmmap.MapFull):
        m.set_many(dict.fromkeys(range(room), b"v" * 100))
    assert bool(refusal_of(m, m.attachment, 32)) is refused
    if refused:
        assert "slots and one in reserve" in refusal_of(m, m.attachment, 32)


# -- whether it is done -------------------------------------------------------------------------


def test_without_the_gate_nobody_looks(make, freeze, said):
    m, moves = make(shards=2), Moves()
    clock = freeze(m)
    said(QUICK)
    for _ in range(5):
        busy_round(m, clock)
        assert consider(m.attachment, m, moves) is None
    assert moves.asked == []


def test_it_has_the_map_moved_and_says_why(make, freeze, said, caplog):
    m, moves = make(shards=2), Moves()
    clock = freeze(m)
    said(QUICK)
    m.gates["auto-shards"] = True
    caplog.set_level(logging.DEBUG, "shmmap")
    found = []
    for _ in range(4):
        busy_round(m, clock)
        found.append(consider(m.attachment, m, moves))
    assert [one.shards for one in found] == [None, None, 4, None]
    assert moves.asked == [(4, 777)]
    told = [record for record in caplog.records if record.levelno == logging.INFO]
    assert [record.getMessage() for record in told] == [
        f"auto-shards: map {m.name!r} goes from 2 to 4 shards: 33,333 operations/s, 10.00% of "
        "1,000,000 changes waited, 99 of 100 for 0.0133 ms at most, 0% in use: 5.00% waited or "
        "more, 2 rounds in a row"
    ]
    stays = [record.getMessage() for record in caplog.records if record not in told]
    assert len(stays) == 3 and stays[0].endswith("stays with 2 shards: the first look")
    m.gates["auto-shards"] = False
    assert consider(m.attachment, m, moves) is None
    m.gates["auto-shards"] = True
    busy_round(m, clock)
    assert "the first look" in consider(m.attachment, m, moves).why


def test_a_map_grows_under_its_load(make, freeze, said):
    """With the real mover: nothing is lost, and the next looks begin anew."""
    m = make(shards=2)
    m.set_many({n: n for n in range(500)})
    clock = freeze(m)
    said(QUICK._replace(rate=None))
    m.gates["auto-shards"] = True
    for _ in range(3):
        busy_round(m, clock)
        decision = consider(m.attachment, m)
    assert decision.shards == 4
    m.resize()  # until it is there
    assert not read_table(m.attachment.control).is_moving
    assert generation_of(m.attachment.control).SHARDS == 4
    assert dict(m) == {n: n for n in range(500)}
    m.sweep()  # as is done before each look: it finds what has moved
    assert m.attachment.geometry.shards == 4
    for why in ("geometry has changed", "round 1 of 2", "less than 300 s ago"):
        busy_round(m, clock)
        assert why in consider(m.attachment, m).why


def test_a_dry_run_changes_nothing_and_says_what_it_would(make, freeze, said, caplog):
    m, moves = make(shards=2), Moves()
    clock = freeze(m)
    said(QUICK._replace(dry_run=True))
    m.gates["auto-shards"] = True
    caplog.set_level(logging.INFO, "shmmap")
    before = bytes(m.attachment.control.words)[:K["C_TOTAL_HITS"]]
    asked = 0
    for _ in range(40):
        busy_round(m, clock)
        asked += consider(m.attachment, m, moves).shards is not None
    assert moves.asked == [] and bytes(m.attachment.control.words)[:K["C_TOTAL_HITS"]] == before
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == asked == 4  # once in a pause
    assert all("would go from 2 to 4 shards: " in text for text in told)


def test_the_map_says_when_it_was_moved_whoever_sweeps_it_now(make, freeze, said):
    m, moves = make(shards=2), Moves()
    clock = freeze(m)
    said(QUICK)
    m.gates["auto-shards"] = True
    m.attachment.control.MOVER_BEAT_NS = clock._clock.frozen_ns
    for _ in range(9):
        busy_round(m, clock)
        consider(m.attachment, m, moves)
    assert moves.asked == []
    busy_round(m, clock)
    assert consider(m.attachment, m, moves).shards == 4


@pytest.mark.parametrize("error", [shmmap.MapFull("there is no room"), ValueError("too small")])
def test_a_move_that_cannot_be_is_told_and_not_tried_at_once(make, freeze, said, caplog, error):
    m, tried = make(shards=2), []
    clock = freeze(m)
    said(QUICK)
    m.gates["auto-shards"] = True

    def resize(shards: int, rate: int) -> None:
        tried.append(shards)
        raise error

    for _ in range(12):
        busy_round(m, clock)
        consider(m.attachment, m, resize)
    assert tried == [4]
    told = [record.getMessage() for record in caplog.records]
    assert [text for text in told if f"could not go to 4 shards: {error}" in text]


def test_what_the_map_cannot_have_is_not_asked_for(make, freeze, said):
    m, moves = make(shards=2), Moves()
    clock = freeze(m)
    said(QUICK)
    m.gates["auto-shards"] = True
    m["long"] = b"v" * 40_000
    for _ in range(3):
        busy_round(m, clock)
        found = consider(m.attachment, m, moves)
    assert moves.asked == [] and "the map has one of 40,004" in found.why


def test_a_map_of_one_process_has_no_use_for_it(said):
    said(QUICK)
    with LocalMap("tuned", size="1MB") as m:
        m.gates["auto-shards"] = True
        assert consider(m.attachment, m, Moves()) is None


def test_what_is_known_of_a_map_goes_with_it(make, freeze, said):
    m = make(shards=2)
    m.gates["auto-shards"] = True
    consider(m.attachment, m, Moves())
    assert m.attachment in observing._looked
    known = len(observing._looked)
    m.unlink()
    m.close()
    del m.attachment
    gc.collect()
    assert len(observing._looked) < known
