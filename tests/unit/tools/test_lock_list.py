"""shmmap locks: who holds which named lock, as seen from outside."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

import shmmap
from shmmap.tools import cli, lock_list
from shmmap.tools.map_reading import MapReader, find_usable

from ...support.damage import Damage
from ...support.engines import once
from .maps import OTHER, needs_other_engine

pytestmark = once  # the same with either engine


def locks_of(name: str, *given: Any) -> dict[str, lock_list.Held]:
    """List the locks of a map, by their keys."""
    problems: list[str] = []
    found = list(lock_list.held_locks(MapReader(find_usable(name)), given, problems))
    assert problems == []
    return {"?" if one.key is None else one.key.text: one for one in found}


def test_none(make, capsys):
    assert cli.main(["locks", make().name]) == 0
    assert capsys.readouterr().out.splitlines() == ["KIND\tSTATE\tPID\tHELD\tLEASE\tKEY"]


def test_holder_since_lease_and_token(make):
    m = make()
    m.update({"a": 1, ("t", 5): 2})
    with m.lock("a", lease=30) as one, m.lock(("t", 5)):
        time.sleep(0.1)
        found = locks_of(m.name)
        assert set(found) == {"a", "('t', 5)"}
        a, t = found["a"], found["('t', 5)"]
        assert (a.kind, a.state, a.pid, a.token) == ("lock", "held", os.getpid(), one.token)
        assert 25 < a.lease_s <= 30 and 0.1 <= a.held_s < 20 and t.lease_s is None
    assert locks_of(m.name) == {}


def test_keys_that_are_in_no_map_are_known_if_they_are_given(make, capsys):
    m = make()
    with m.lock("secret"), m.semaphore("pool", 20):
        found = locks_of(m.name)
        assert set(found) == {"?"} and len(found["?"].digest) == 32
        assert set(locks_of(m.name, "secret", "pool", "other")) == {"secret", "pool"}
        assert locks_of(m.name, "pool")["pool"].kind == "permit"
        assert cli.main(["locks", m.name, "--key", "secret", "--key", "x"]) == 0
        out = capsys.readouterr().out
        assert "\tsecret\n" in out and "permit" in out and "? (" in out
    with m.lock(7):
        assert cli.main(["locks", m.name, "--key", "7", "--int"]) == 0
        assert capsys.readouterr().out.splitlines()[1].endswith("\t7")


def test_one_that_computes_a_value(make):
    m = make()
    seen: dict[str, lock_list.Held] = {}
    m.set("page", "old", ttl=1)

    def draw() -> str:
        seen.update(locks_of(m.name, "page"))
        return "drawn"

    m.get_or_set("page 2", draw)
    m.delete("page")
    m.get_or_set("page", draw)
    assert seen["page"].kind == "computing" and seen["page"].state == "held"


def test_a_holder_that_is_dead(make, start):
    m = make()

    def leave_a_lock(child):
        with shmmap.ShmMap.attach(m.name) as mine:
            mine.lock("x").acquire()
            child.tell("has it")
            child.hear()

    child = start(leave_a_lock)
    assert child.hear() == "has it"
    assert locks_of(m.name, "x")["x"].pid == child.pid
    assert locks_of(m.name, "x")["x"].state == "held"
    child.kill()
    one = locks_of(m.name, "x")["x"]
    assert one.state == "abandoned"
    with m.lock("x", timeout=5):  # as it says, the next has it
        assert locks_of(m.name, "x")["x"].pid == os.getpid()


def test_a_lease_that_is_over_is_not_there(make):
    m = make()
    m.lock("x", lease=0.05).acquire()
    time.sleep(0.2)
    assert locks_of(m.name, "x") == {}


@pytest.mark.parametrize("token", [0, 1 << 63, (1 << 64) - 1, 77 << 54])
def test_records_that_are_damaged(make, token, capsys):
    m = make()
    with m.lock("x"):
        damage = Damage(m, len(m.attachment.mappings))
        slot, = damage.live()
        at = damage.slot_word(slot) * 8 + 16 + 17
        before = bytes(damage.octets[at : at + 8])
        damage.octets[at : at + 8] = token.to_bytes(8, "little")
        one = locks_of(m.name, "x")["x"]
        assert one.state == "abandoned" and cli.main(["locks", m.name]) == 0
        damage.octets[at : at + 8] = before
        assert locks_of(m.name, "x")["x"].state == "held"


@needs_other_engine
def test_of_a_map_of_the_other_engine(hold, clean, capsys):
    hold(clean, engine=OTHER)
    assert cli.main(["locks", clean]) == 0
