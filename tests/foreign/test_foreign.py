"""Encounters with another user, some of them: all are had by `python -m tests.foreign`."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import parameters

from . import deeds, world
from .__main__ import encounters

# Encounters over a shared map, and with names taken beforehand; those of a slow engine take longer.
SHARED, NAMES = (24, 10) if shmmap.ENGINE == "compiled" else (6, 3)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="another user takes root to become")


@pytest.fixture(autouse=True)
def permitted() -> None:
    try:
        assert len(world.roles()) >= 7  # of the smallest map, and of its user
    except world.NotPermitted:
        pytest.skip("needs the right to mount a tmpfs (CAP_SYS_ADMIN)")


def test_a_private_map_is_closed():
    """Every deed with every object is refused, and nobody of ours notices that it was tried."""
    tried, surprises = world.try_everything_closed()
    assert tried > 7 * len(deeds.FILE_DEEDS) and surprises == []


def chosen(seed: int, count: int, wanted: Any) -> list[Any]:
    rng = random.Random(seed)
    return rng.sample([one for one in encounters() if wanted(one)], count)


def test_some_encounters_over_a_shared_map():
    """Whoever may write may harm the map, and nothing else; nobody crashes, nobody hangs."""
    found, done = [], 0
    for mode, about, deed, work, _ in chosen(
        5, SHARED, lambda one: one[0] != 0o600 and not one[4] and one[1] != "process"
    ):
        result, surprises = world.meet(mode, about, deed, work)
        done += result == "done"
        found += surprises
    assert found == [] and done > SHARED // 3


def test_some_names_that_are_taken_beforehand():
    found = []
    for mode, about, deed, work, _ in chosen(6, NAMES, lambda one: one[4]):
        result, surprises = world.meet(mode, about, deed, work, before=True)
        assert result == "done", (about, deed, result)
        found += surprises
    assert found == []


def test_a_shm_that_another_user_fills():
    done, surprises = world.meet(0o600, "folder", "fill", deeds.fill)
    assert (done, surprises) == ("done", [])


def test_what_readers_could_do_is_found_out(monkeypatch):
    """The fault put back: with a mode that lets others read, their locks keep workers out, and
    make the dead live."""
    monkeypatch.setattr(parameters, "check_mode", lambda mode: mode)
    role = next(role for role in world.roles() if role.endswith(".live"))
    done, surprises = world.meet(0o644, role, "F_RDLCK", deeds.FILE_DEEDS["F_RDLCK"])
    assert done == "done"
    assert {one.what.partition(":")[0] for one in surprises} >= {"attach"}, surprises
