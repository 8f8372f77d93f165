"""shmmap tier: how fresh the copies in a map are, as seen from outside."""

from __future__ import annotations

import os
import time

import pytest

import shmmap
from shmmap.testing import LocalStore
from shmmap.tiers.store_keys import RESERVED
from shmmap.tools import cli, lock_list, tier_seen
from shmmap.tools.map_reading import MapReader, find_usable

from ...support.engines import once

pytestmark = once  # the same with either engine


def tiers_of(name: str) -> list[tier_seen.SeenTier]:
    problems: list[str] = []
    found = list(tier_seen._tiers(MapReader(find_usable(name)), problems))
    assert problems == []
    return found


@pytest.fixture
def tier(make):
    m = make()
    made = shmmap.Tiered(m, LocalStore(), prefix="shop:")
    made["k"] = 1
    until = time.monotonic() + 20
    while not made.report().proven_s < 10 and time.monotonic() < until:
        time.sleep(0.01)
    yield made
    made.close()


def test_as_the_tier_itself_reports(tier, capsys):
    one, = tiers_of(tier.map.name)
    assert (one.store, one.prefix) == (tier.store.where, "shop:")
    assert one.is_known and one.listener == os.getpid()
    assert one.proven_s == pytest.approx(tier.report().proven_s, abs=1)
    assert one.since_s is not None and one.since_s >= one.proven_s >= 0
    assert cli.main(["tier", tier.map.name]) == 0
    said = capsys.readouterr().out
    assert "prefix 'shop:'" in said and f"listener  pid {os.getpid()}" in said
    assert cli.main(["locks", tier.map.name]) == 0
    assert "('shmmap.tier', 'feed', " in capsys.readouterr().out  # the key is known


def test_a_tier_over_several_servers(tier):
    """Its entry says, too, which of them are listened to."""
    known = tier._freshness
    known.publish(known.nonce, 0, sources=(known.now(), ("one:1", "other:2")))
    one, = tiers_of(tier.map.name)
    assert len(tier.map.get(known.place)) == 6
    assert one.is_known and one.since_s is not None and one.proven_s is not None


def test_nobody_listens_any_more(tier, capsys):
    m = tier.map
    tier.close()
    one, = tiers_of(m.name)
    assert one.listener is None and one.is_known
    before = one.proven_s
    time.sleep(0.3)
    one, = tiers_of(m.name)
    assert one.proven_s >= before + 0.3
    assert cli.main(["tier", m.name]) == 0 and "nobody" in capsys.readouterr().out


def test_of_an_earlier_map_nothing_is_known(tier):
    m = tier.map
    tier.close()
    key, = (key for key in m if key[:2] == (RESERVED, "state"))
    since, proven, floor, nonce = m[key]
    m[key] = (since, proven, floor, nonce + 1)
    one, = tiers_of(m.name)
    assert not one.is_known and (one.since_s, one.proven_s, one.floor_s) == (None, None, None)


@pytest.mark.parametrize("value", [None, (1, 2), "text", (1, 2, "x", 4), {"a": 1}, (True,) * 4])
def test_an_entry_that_says_something_else(tier, value):
    m = tier.map
    tier.close()
    key, = (key for key in m if key[:2] == (RESERVED, "state"))
    m[key] = value
    m[(RESERVED, "state", "not an owner")] = 5
    one, = tiers_of(m.name)
    assert not one.is_known


def test_names_that_speak_to_a_terminal(make, capsys):
    m = make()
    m[(RESERVED, "state", ("evil\x1b[31m\n", "\u202e"))] = 1
    assert cli.main(["tier", m.name]) == 0
    said = capsys.readouterr().out
    assert r"evil\x1b[31m\n" in said and "\x1b" not in said and "\u202e" not in said


def test_a_map_without_one(make, capsys):
    m = make()
    assert cli.main(["tier", m.name]) == 1
    assert "no tier" in capsys.readouterr().err


def test_the_process_that_carries_what_was_written_behind(make, other):
    m, journal = make(), other()
    behind = shmmap.Tiered(m, LocalStore(), prefix="b:", write="behind", journal=journal)
    behind["k"] = 1
    behind.flush()
    problems: list[str] = []
    until = time.monotonic() + 20
    known: list[str] = []
    while "'drain'" not in str(known) and time.monotonic() < until:
        reader = MapReader(find_usable(journal.name))
        known = [one.key.text for one in lock_list.held_locks(reader, (), problems) if one.key]
        time.sleep(0.02)
    behind.close()
    assert problems == [] and "'drain'" in str(known)
