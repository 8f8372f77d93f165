"""on_mismatch="resize": an opener that asks for another shape begins to change it, and goes on."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import request
from shmmap.memory.table import read_table
from shmmap.moving import asking

ENTRIES = dict.fromkeys(range(1000), "x" * 50)
SHAPES = [
    {"size": 4_000_000}, {"capacity": 20_000}, {"shards": 8}, {"value_size": 500},
    {"key_size": 99}, {"on_full": "evict"}, {"size": 3_000_000, "shards": 16, "value_size": 30},
]


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a process that has not warned yet."""
    monkeypatch.setattr(request, "_told", set())


@pytest.fixture
def filled(make: Any) -> Any:
    """A map with entries."""
    m = make(size="2MB", shards=4)
    m.update(ENTRIES)
    return m


def resized(name: str, **shape: Any) -> Any:
    """Open a map as a new release does; a warning is an error; wait until it is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        m = shmmap.ShmMap(name, **shape, on_mismatch="resize")
    assert m.resize().wait(60)
    return m


@pytest.mark.parametrize("asked", SHAPES, ids=repr)
def test_the_map_moves_to_what_is_asked_for(filled, asked, caplog):
    caplog.set_level(logging.INFO, "shmmap")
    with resized(filled.name, **asked) as m:
        for one, value in asked.items():
            assert m.parameters[one] == value
        assert dict(m) == dict(filled) == ENTRIES and m.parameters == filled.parameters
        assert m.attachment.nonce == filled.attachment.nonce
    assert "begins to move to the shape that this process asks for" in caplog.text


def test_it_goes_on_at_once(filled):
    filled.attachment.control.MOVE_RATE = 1
    filled.resize(shards=8, rate=100, wait=False)
    with resized_without_waiting(filled.name, shards=8) as m:  # all others ask for the same
        assert read_table(m.attachment.control).is_moving
        assert m[7] == ENTRIES[7]
        filled.attachment.control.MOVE_RATE = 0
        assert m.resize().wait(60) and m.parameters["shards"] == 8


def resized_without_waiting(name: str, **shape: Any) -> Any:
    """Open a map as a new release does; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return shmmap.ShmMap(name, **shape, on_mismatch="resize")


def test_the_same_shape_changes_nothing(filled):
    before = filled.attachment.control.TABLE
    resized(filled.name, size="2MB", shards=4).close()
    assert filled.attachment.control.TABLE == before


@pytest.mark.parametrize(("asked", "why"), [
    ({"size": 150_000, "shards": 1}, "entries do not fit"),
    ({"size": "900GB", "shards": 4096}, "/dev/shm"),
    ({"size": 10_000, "shards": 64}, "too small"),
])  # fmt: skip
def test_what_cannot_be_is_told_once_and_the_map_is_as_it_was(filled, asked, why):
    before = filled.attachment.control.TABLE
    with pytest.warns(shmmap.MapMismatchWarning, match="was not resized, and is used") as told:
        m = shmmap.ShmMap(filled.name, **asked, on_mismatch="resize")
    assert why in str(told[0].message) and told[0].filename == __file__
    assert dict(m) == ENTRIES and m.attachment.control.TABLE == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shmmap.ShmMap(filled.name, **asked, on_mismatch="resize").close()  # not again
    m.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="to be two users takes root")
def test_another_users_map_is_used_as_it_is(filled, name):
    for entry in Path("/dev/shm").iterdir():
        if f"shmmap.{name}." in entry.name or entry.name == f"shmmap.{name}":
            os.chown(entry, 12345, -1)
    with pytest.warns(shmmap.MapMismatchWarning, match="only that user can change its shape"):
        m = shmmap.ShmMap(name, size="4MB", on_mismatch="resize", owner_uid=12345)
    assert dict(m) == ENTRIES and m.size == 2 * 10**6
    m.close()


def test_what_no_move_changes_is_told(filled):
    with pytest.warns(shmmap.MapMismatchWarning, match="stays as it is.*ephemeral: asked True"):
        m = shmmap.ShmMap(filled.name, ephemeral=True, shards=8, on_mismatch="resize")
    assert m.resize().wait(60) and m.parameters["shards"] == 8 and not m.ephemeral
    m.close()


# -- two releases ---------------------------------------------------------------------------


def test_two_releases_do_not_move_it_to_and_fro(filled, freeze):
    """Old workers say 2 MB, new ones 4 MB, and each is started again and again."""
    clock = freeze(filled)
    resized(filled.name, size="4MB").close()
    changes = read_table(filled.attachment.control).changes
    for turn in range(3):
        resized(filled.name, size="4MB").close()
        request._told.clear()
        with pytest.warns(shmmap.MapMismatchWarning,
                          match=f"{10 * turn} minutes ago.*resize {filled.name} --size=2000000"):
            shmmap.ShmMap(filled.name, size="2MB", on_mismatch="resize").close()
        clock.advance(600)
    assert read_table(filled.attachment.control).changes == changes and filled.size == 4 * 10**6
    clock.advance(3600)  # by then the deploy is over: who asks means it
    resized(filled.name, size="2MB").close()
    assert filled.size == 2 * 10**6 and dict(filled) == ENTRIES


def test_a_third_shape_is_another_release(filled, freeze):
    freeze(filled)
    resized(filled.name, size="4MB").close()
    resized(filled.name, size="3MB").close()
    assert filled.size == 3 * 10**6


def test_an_operator_who_takes_it_back_has_the_last_word(filled, freeze):
    freeze(filled)

    def stop(progress: Any) -> None:
        if progress.done > 0:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        filled.resize(size="4MB", rate=200, progress=stop)
    assert read_table(filled.attachment.control).is_moving
    filled.resize(rate=1_000_000, wait=False).cancel()
    assert filled.size == 2 * 10**6
    with pytest.warns(shmmap.MapMismatchWarning, match="no opener takes that back"):
        shmmap.ShmMap(filled.name, size="4MB", on_mismatch="resize").close()
    assert dict(filled) == ENTRIES


def test_while_it_is_on_its_way_elsewhere_nobody_asks(filled):
    filled.resize(shards=8, rate=50, wait=False)
    with pytest.warns(shmmap.MapMismatchWarning, match="on its way to another shape"):
        shmmap.ShmMap(filled.name, shards=16, on_mismatch="resize").close()
    filled.attachment.control.MOVE_RATE = 0
    assert filled.resize().wait(60) and filled.parameters["shards"] == 8


def test_the_tuner_has_the_say_about_shards(filled):
    filled.gates["auto-shards"] = True
    before = filled.attachment.control.TABLE
    resized(filled.name, shards=64).close()
    assert filled.attachment.control.TABLE == before


def test_a_reopened_handle_does_not_ask(filled, make):
    m = resized(filled.name, size="4MB")
    filled.unlink()
    other = make(size="1MB")
    m["a"] = 1
    assert m.attachment.nonce == other.attachment.nonce and other.size == 10**6
    assert not read_table(other.attachment.control).is_moving
    m.close()


def test_what_is_unlinked_meanwhile_is_no_error(filled, monkeypatch, name):
    def unlinked(*_: Any) -> str:
        raise shmmap.MapUnlinked("gone")

    monkeypatch.setattr(asking, "ask", unlinked)
    shmmap.ShmMap(name, size="4MB", on_mismatch="resize").close()
