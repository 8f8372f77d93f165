"""A small /dev/shm, and another user who was there first.

What another user may put in our way besides is in test_neighbours.py.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

import shmmap
from shmmap.system import segment
from shmmap.tools import machine

from ..support.leftovers import control_file
from ..support.strangers import ATTACKER, SHM, VICTIM, as_user, libc, outcome, plant

# -- a small /dev/shm -----------------------------------------------------------------------


def test_a_map_larger_than_shm(private, name):
    def work() -> Any:
        kind, text = outcome(lambda: shmmap.ShmMap(name, "64MB"))
        return kind, text, sorted(os.listdir(SHM)), segment.free_bytes()

    kind, text, left, free = private(work)
    assert kind == "SharedMemoryFull"
    assert "64,0" in text or "63,9" in text or "bytes asked" in text
    assert f"{free:,} free" in text and "--shm-size" in text and repr(name) in text
    assert left == ["shmmap.0.creators"] and free > 4_000_000


@pytest.mark.parametrize("room", range(0, 1000, 90))
def test_shm_that_fills_up_during_creation(private, name, room):
    """Someone else takes the pages after the room was checked: at whatever step it fails, the
    error is the same and nothing is left."""
    def work() -> Any:
        segment.check_room = lambda what, size: None
        (SHM / "theirs").write_bytes(bytes(segment.free_bytes() - 4096 - room * 1000))
        before = segment.free_bytes()
        result = outcome(lambda: shmmap.ShmMap(name, "1100KB", shards=4))
        left = sorted(os.listdir(SHM))
        return *result, left, before - segment.free_bytes()

    kind, text, left, used = private(work)
    assert kind == "SharedMemoryFull", (kind, text)
    assert "free" in text and "--shm-size" in text
    assert [entry for entry in left if name in entry] == [] and used == 0, left


def test_deadlines_that_find_no_room(private, name):
    def work() -> Any:
        m = shmmap.ShmMap(name, "2MB", shards=1, sweep_interval=None)
        m["old"] = 1
        theirs = os.open(SHM / "theirs", os.O_CREAT | os.O_WRONLY)
        try:
            while True:
                os.write(theirs, bytes(4096))
        except OSError:
            os.close(theirs)
        full = outcome(lambda: m.set("old", 2, ttl=60))
        state = m["old"], m.check(), outcome(lambda: m.set("plain", 3))[0]
        os.unlink(SHM / "theirs")
        m.set("old", 4, ttl=60)
        return full, state, m["old"], m.ttl("old"), m.check()

    (kind, text), state, value, ttl, problems = private(work)
    assert kind == "SharedMemoryFull" and "free" in text and "deadlines" in text
    assert state == (1, [], "")
    assert value == 4 and 50 < ttl <= 60 and problems == []


def test_a_map_that_just_fits_never_faults(private, name):
    """Every page is there from the start: filling the map cannot end in SIGBUS."""
    def work() -> Any:
        m = shmmap.ShmMap(name, segment.free_bytes() - 16384, shards=2, on_full="evict",
                          sweep_interval=None)
        for i in range(60_000):
            m[i] = bytes(100)
        return len(m) > 10_000, m.check()

    assert private(work) == (True, [])


# -- another user ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o666])
@pytest.mark.parametrize("size", [0, 300_000])
def test_another_user_took_the_name(private, name, mode, size):
    def work() -> Any:
        as_user(ATTACKER, lambda: plant(control_file(name), mode, bytes(size)))
        return [
            as_user(VICTIM, lambda way=way: outcome(lambda: way(name)))
            for way in (shmmap.ShmMap, shmmap.ShmMap.attach, shmmap.ShmMap.create)
        ], sorted(os.listdir(SHM))

    results, left = private(work)
    for kind, text in results:
        assert kind == "ConfigMismatch", (kind, text)
        assert f"shmmap.{name}" in text and "another" in text.lower(), text
    assert [entry for entry in left if name in entry] == [control_file(name)]


def test_another_users_map(private, name):
    """Nobody is fed another user's bytes unless they say that they trust them."""
    def make() -> Any:
        m = shmmap.ShmMap.create(name, "1MB", shards=2, mode=0o666)
        m["a"] = "theirs"
        m.close()

    def work() -> Any:
        as_user(ATTACKER, make)
        trusting = {"owner_uid": ATTACKER, "mode": 0o666}

        def read(said: dict[str, Any]) -> Any:
            return outcome(lambda: shmmap.ShmMap.attach(name, **said)["a"])

        ways = ({}, {"mode": 0o666}, {"owner_uid": VICTIM}, {"owner_uid": ATTACKER}, trusting)
        return [as_user(VICTIM, lambda said=said: read(said)) for said in ways]

    *refused, trusted = private(work)
    for kind, text in refused:
        assert kind == "ConfigMismatch", (kind, text)
    assert f"owner_uid={ATTACKER}" in refused[0][1] and "uid 65534" in refused[0][1]
    assert "mode=0o666" in refused[3][1]
    assert trusted == ("", "'theirs'")


def test_another_users_private_map(private, name):
    def work() -> Any:
        as_user(ATTACKER, lambda: shmmap.ShmMap.create(name, "1MB", shards=2).close())
        return as_user(VICTIM, lambda: outcome(lambda: shmmap.ShmMap(name)))

    kind, text = private(work)
    assert kind == "ConfigMismatch" and "another" in text and f"shmmap.{name}" in text


@pytest.mark.parametrize("planted", [
    "shmmap.{}.0123456789abcdef.0.0", "sem.shmmap.{}.0123456789abcdef.0.0",
    "shmmap.{}.0123456789abcdef.live",
])
def test_another_users_parts_are_in_nobodys_way(private, name, planted):
    """The nonce is random, so a stranger's file with a part's name collides with nothing."""
    def use() -> Any:
        with shmmap.ShmMap(name, "1MB", shards=2) as m:
            m["a"] = 1
            problems = m.check()
            m.unlink()
        return problems

    def work() -> Any:
        as_user(ATTACKER, lambda: plant(planted.format(name), 0o666, b"x" * 5000))
        return as_user(VICTIM, lambda: outcome(use)), sorted(os.listdir(SHM))

    result, left = private(work)
    assert result == ("", "[]")
    assert [entry for entry in left if name in entry] == [planted.format(name)]


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_another_user_took_the_creators_file(private, name, mode):
    def work() -> Any:
        as_user(ATTACKER, lambda: plant(f"shmmap.{VICTIM}.creators", mode, b""))
        made = as_user(VICTIM, lambda: outcome(lambda: shmmap.ShmMap(name, "300KB").close()))
        return made, (SHM / f"shmmap.{VICTIM}.creators-1").stat().st_uid

    (kind, text), owner = private(work)
    assert (kind, owner) == ("", VICTIM), (kind, text)  # another name serves


def open_under(umask: int, name: str) -> tuple[str, int]:
    """Open a map under some umask; tell what came of it, and how many descriptors it took."""
    os.umask(umask)
    m = shmmap.ShmMap(name, "300KB", shards=1, sweep_interval=None)
    before = len(os.listdir("/proc/self/fd"))
    result = outcome(lambda: [shmmap.ShmMap(name).close() for _ in range(3)])
    m.close()
    return result[0], len(os.listdir("/proc/self/fd")) - before


def test_a_users_maps_queue_under_one_file_whatever_the_umask(private, name):
    """A umask that takes away the user's own rights, too, as some service managers set it."""
    def work() -> Any:
        opened = [
            as_user(VICTIM, lambda umask=umask: open_under(umask, name))
            for umask in (0o777, 0o022, 0o277, 0o022)
        ]
        files = {e: oct((SHM / e).stat().st_mode) for e in os.listdir(SHM) if "creators" in e}
        return opened, files

    opened, files = private(work)
    assert [kind for kind, _ in opened] == [""] * 4 and max(more for _, more in opened) <= 0
    assert files == {f"shmmap.{VICTIM}.creators": "0o100600"}


@pytest.mark.parametrize("mode", [0, 0o200, 0o400])
def test_a_creators_file_whose_maker_died_before_it_had_its_mode(private, name, mode):
    def work() -> Any:
        as_user(VICTIM, lambda: plant(f"shmmap.{VICTIM}.creators", mode, b""))
        opened = as_user(VICTIM, lambda: open_under(0o022, name))
        return opened, [e for e in os.listdir(SHM) if "creators" in e]

    opened, files = private(work)
    assert opened[0] == "" and files == [f"shmmap.{VICTIM}.creators"]


def test_a_users_map_is_closed_to_others_whatever_the_umask(private, name):
    def work() -> Any:
        as_user(VICTIM, lambda: shmmap.ShmMap.create(name, "1MB", shards=2).close())  # umask 0
        return [(e, (SHM / e).stat().st_mode & 0o777) for e in os.listdir(SHM)]

    modes = private(work)
    assert len([e for e, _ in modes if name in e]) == 1 + 1 + 2 * (2 + 1)
    assert {mode for _, mode in modes} == {0o600}, modes


def test_a_shm_without_free_inodes_is_told(private, name):
    """Bytes are free: it is names that are lacking."""
    def work():
        assert libc.mount(b"none", b"/dev/shm", None, 32, b"size=64m,nr_inodes=12") == 0  # remount
        line, = machine.check_shm()
        return outcome(lambda: shmmap.ShmMap(name, "4MB", shards=16)), line.status, line.text

    (error, text), status, found = private(work)
    assert error == "SharedMemoryFull" and "no free inodes" in text and "no room" not in text
    assert status == "WARN" and "free inodes" in found
