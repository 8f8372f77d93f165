"""Another user of this machine takes our names, before or while we make our objects.

Whatever lies there is refused before a byte of it is trusted, and stays as it is. Each test
has a /dev/shm of its own. Files of another user at the control segment's name are in
test_strangers.py.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.system import segment

from ..support.children import Child
from ..support.leftovers import control_file
from ..support.strangers import ATTACKER, SHM, VICTIM, as_user, outcome, plant, stranger

WAYS = (shmmap.ShmMap, shmmap.ShmMap.attach, shmmap.ShmMap.create)
PRECIOUS = b"v" * 5000
CREATORS = f"shmmap.{VICTIM}.creators"


def bind_socket(path: Path) -> None:
    """Leave a unix socket there."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


KINDS: dict[str, Callable[[Path], Any]] = {
    "symlink to a file": lambda path: path.symlink_to(SHM / "precious"),
    "symlink to a map": lambda path: path.symlink_to(SHM / "shmmap.other"),
    "symlink to a directory": lambda path: path.symlink_to("/tmp"),
    "symlink to itself": lambda path: path.symlink_to(path),
    "dangling symlink": lambda path: path.symlink_to(SHM / "nowhere"),
    "directory": lambda path: path.mkdir(0o777),
    "fifo": lambda path: os.mkfifo(path, 0o666),
    "socket": bind_socket,
}


def use_another_map(name: str = "other") -> None:
    """Have a file and a map of one's own."""
    plant("precious", 0o600, PRECIOUS)
    with shmmap.ShmMap(name, "300KB", shards=2) as m:
        m["mine"] = name


def use(name: str, **parameters: Any) -> Any:
    """Make a map, use it, remove it."""
    with shmmap.ShmMap(name, "300KB", shards=2, **parameters) as m:
        m["a"] = 1
        found = m["a"], m.check()
        m.unlink()
    return found


USED = ("", "(1, [])")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["control", "creators"])
def test_something_else_in_the_place_of_ours(private, name, kind, place):
    path = SHM / (control_file(name) if place == "control" else CREATORS)

    def work() -> Any:
        as_user(VICTIM, use_another_map)
        (SHM / CREATORS).unlink()
        as_user(ATTACKER, lambda: KINDS[kind](path))
        before = os.lstat(path)
        found = [as_user(VICTIM, lambda way=way: outcome(lambda: way(name))) for way in WAYS]
        after = os.lstat(path)
        untouched = (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
        precious = (SHM / "precious").read_bytes() == PRECIOUS
        left = sorted(e for e in os.listdir(SHM) if name in e)
        os.rmdir(path) if path.is_dir() and not path.is_symlink() else os.unlink(path)
        recovered = as_user(VICTIM, lambda: outcome(lambda: use(name)))
        nowhere = (SHM / "nowhere").exists()
        return found, untouched and precious and not nowhere, left, recovered

    found, untouched, left, recovered = private(work)
    for error, text in found:
        if place == "creators":  # there are other names for it
            assert error in ("SharedMemoryFull", "MapNotFound"), (error, text)
            continue
        assert error == "ConfigMismatch", (error, text)
        assert path.name in text and "another" in text, text
    assert untouched
    if place == "control":
        assert left == [path.name]
    assert recovered == USED


def test_hard_links_to_our_own_map(private, name):
    """Where fs.protected_hardlinks is 0, anyone can give all files of a map of ours another
    name: one map would silently be two. (Made by root here, whatever the setting.)"""
    def work() -> Any:
        as_user(VICTIM, use_another_map)
        for entry in os.listdir(SHM):
            if "shmmap.other" in entry:
                os.link(SHM / entry, SHM / entry.replace("shmmap.other", f"shmmap.{name}"))
        return [as_user(VICTIM, lambda way=way: outcome(lambda: way(name))) for way in WAYS]

    for error, text in private(work):
        assert error == "ConfigMismatch" and f"shmmap.{name}" in text, (error, text)


def test_a_hard_link_at_the_creators_file(private, name):
    """Closing the map's liveness file would drop the creation locks, were they in one file."""
    def work() -> Any:
        as_user(VICTIM, use_another_map)
        (SHM / CREATORS).unlink()
        liveness = next(SHM.glob("shmmap.other.*.live"))
        os.link(liveness, SHM / CREATORS)
        return as_user(VICTIM, lambda: outcome(lambda: shmmap.ShmMap(name, "300KB")))

    error, text = private(work)
    assert error == "", (error, text)  # another one of its names was taken


# -- while we make our objects ---------------------------------------------------------------


PARTS = {
    "first segment": "shmmap.{}.{}.0.0", "last segment": "shmmap.{}.{}.0.1",
    "first semaphore": "sem.shmmap.{}.{}.0.0", "last semaphore": "sem.shmmap.{}.{}.0.1",
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", ["file", "symlink", "fifo"])
def test_a_part_is_taken_once_the_nonce_can_be_read(private, name, part, kind):
    """The liveness file's name tells everyone the nonce while the shards are still to come."""
    def make(child: Child) -> Any:
        original = segment.create

        def create(label: str, *rest: Any) -> Any:
            made = original(label, *rest)
            if label.endswith(".live") and segment.create is create:
                segment.create = original
                child.tell(label.split(".")[-2])
                child.hear()
            return made

        segment.create = create
        return outcome(lambda: use(name)), outcome(lambda: use(name))

    def work() -> Any:
        as_user(VICTIM, lambda: plant("precious", 0o666, PRECIOUS))
        victim = stranger(VICTIM, make)
        try:
            path = SHM / PARTS[part].format(name, victim.hear())
            as_user(ATTACKER, lambda: {
                "file": lambda: plant(path.name, 0o666, b"x" * 5000),
                "symlink": lambda: path.symlink_to(SHM / "precious"),
                "fifo": lambda: os.mkfifo(path, 0o666),
            }[kind]())
            victim.tell("go on")
            found = victim.result()
        finally:
            victim.kill()
        left = [e for e in os.listdir(SHM) if name in e]
        content = path.read_bytes() == b"x" * 5000 if kind == "file" else True
        precious = (SHM / "precious").read_bytes() == PRECIOUS
        return *found, left == [path.name], content and precious

    first, again, only_theirs, untouched = private(work)
    assert first == again == USED, "what they planted stays in the way"
    assert only_theirs and untouched


def take_names(child: Child, name: str) -> int:
    """Take the name of every part of a map as soon as its nonce can be read."""
    child.tell("watching")
    taken = 0
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        for entry in os.listdir(SHM):
            if entry.startswith(f"shmmap.{name}.") and entry.endswith(".live"):
                nonce = entry.split(".")[-2]
                for part in PARTS.values():
                    try:
                        path = SHM / part.format(name, nonce)
                        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
                        taken += 1
                    except FileExistsError:
                        continue
    return taken


def test_a_race_for_the_names(private, name):
    """Whoever wins a name: each map of ours is whole, or refused; theirs is never used."""
    def open_again_and_again() -> Any:
        outcomes: dict[str, int] = {}
        end = time.monotonic() + 0.8
        while time.monotonic() < end:
            error, result = outcome(lambda: use(name))
            assert error or (error, result) == USED, result
            outcomes[error] = outcomes.get(error, 0) + 1
        return outcomes

    def work() -> Any:
        attacker = stranger(ATTACKER, lambda child: take_names(child, name))
        try:
            attacker.hear()
            outcomes = as_user(VICTIM, open_again_and_again)
            taken = attacker.result()
        finally:
            attacker.kill()
        owners = {os.lstat(SHM / e).st_uid for e in os.listdir(SHM) if name in e}
        return outcomes, taken, owners

    outcomes, taken, owners = private(work, "64m")
    assert set(outcomes) <= {"", "ConfigMismatch"}, outcomes
    assert sum(outcomes.values()) > 5 and owners <= {ATTACKER}, (outcomes, taken)


def test_the_name_is_taken_between_unlink_and_the_next_opening(private, name):
    def work() -> Any:
        def live(child: Child) -> Any:
            m = shmmap.ShmMap(name, "300KB", shards=2)
            m["a"] = 1
            m.unlink()
            child.tell("unlinked")
            child.hear()
            return outcome(lambda: m.get("a"))[0], outcome(lambda: shmmap.ShmMap(name))[0]

        victim = stranger(VICTIM, live)
        try:
            victim.hear()
            as_user(ATTACKER, lambda: shmmap.ShmMap(name, "300KB", mode=0o666).close())
            victim.tell("go on")
            return victim.result()
        finally:
            victim.kill()

    assert private(work) == ("MapUnlinked", "ConfigMismatch")


# -- strange names -----------------------------------------------------------------------------


STRANGE = {
    "not unicode": "\udcff", "newline": "0.\n0", "arabic digits": "\u0660.\u0660",
    "long": "A" * 200, "escapes": "\x1b[2J.0", "of a shard": "0.0",
}


@pytest.mark.parametrize("who", [VICTIM, 0], ids=["user", "root"])
@pytest.mark.parametrize("kind", ["file", "directory", "dangling symlink"])
@pytest.mark.parametrize("strange", STRANGE)
def test_strange_names_are_in_nobodys_way(private, name, strange, kind, who):
    """Making a map removes what is left of its predecessors: these look as if they were."""
    def work() -> Any:
        for prefix in ("", "sem."):
            path = SHM / f"{prefix}shmmap.{name}.0123456789abcdef.{STRANGE[strange]}"
            as_user(ATTACKER, lambda path=path: {
                "file": lambda: plant(path.name, 0o666, b"x"), **KINDS,
                "directory": lambda: (path / "full").mkdir(parents=True),
            }[kind](*([path] if kind in KINDS and kind != "directory" else [])))
        return as_user(who, lambda: outcome(lambda: use(name)))

    assert private(work) == USED


# -- what they can do to what is ours ----------------------------------------------------------


def attempts_on(path: Path) -> dict[str, Callable[[], Any]]:
    """List what may be tried with a file of another user."""
    links = Path("/proc/sys/fs/protected_hardlinks").read_text().strip() == "1"
    return {
        "read": lambda: os.open(path, os.O_RDONLY), "write": lambda: os.open(path, os.O_RDWR),
        "empty": lambda: os.open(path, os.O_WRONLY | os.O_TRUNC),
        "truncate": lambda: os.truncate(path, 0), "unlink": lambda: os.unlink(path),
        "rename": lambda: os.rename(path, SHM / "away"),
        "replace": lambda: os.replace(SHM / "theirs", path),
        "chmod": lambda: os.chmod(path, 0o666), "utime": lambda: os.utime(path),
        "chown": lambda: os.chown(path, ATTACKER, ATTACKER),
        **({"link": lambda: os.link(path, SHM / "link")} if links else {}),
    }


def test_a_private_map_is_closed_to_other_users(private, name):
    """No open, no kill, no change of names: so they cannot hold a lock of it either."""
    def attack(pid: int) -> list[tuple[str, Any]]:
        ours = [e for e in os.listdir(SHM) if name in e or e == CREATORS]
        assert len(ours) == 1 + 1 + 2 * (2 + 1) + 1
        done: list[tuple[str, Any]] = [
            (entry, what) for entry in ours for what, attempt in attempts_on(SHM / entry).items()
            if outcome(attempt)[0] != "PermissionError"
        ]
        return done + [
            ("process", number) for number in (signal.SIGKILL, signal.SIGSTOP, 0)
            if outcome(lambda n=number: os.kill(pid, n))[0] != "PermissionError"
        ]

    def live(child: Child) -> Any:
        with shmmap.ShmMap(name, "300KB", shards=2) as m:
            m["a"] = 1
            child.tell("open")
            child.hear()
            return m["a"], m.check()

    def work() -> Any:
        victim = stranger(VICTIM, live)
        try:
            victim.hear()
            as_user(ATTACKER, lambda: plant("theirs", 0o666, b"x"))
            done = as_user(ATTACKER, lambda: attack(victim.pid))
            victim.tell("go on")
            return done, victim.result()
        finally:
            victim.kill()

    assert private(work) == ([], (1, []))


def test_a_full_shm_does_not_stop_maps_that_are_there(private, name):
    """Another user takes every page: every operation goes on, a repair after a death too."""
    def fill() -> None:
        with open(SHM / "theirs", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def live(child: Child) -> Any:
        m = shmmap.ShmMap(name, "500KB", shards=1, on_full="evict")
        m.set("warm", 1, ttl=60)
        child.tell("open")
        child.hear()
        writer = Child(lambda child: [m.set(i, bytes(i % 3000)) for i in range(10**9)])
        time.sleep(0.2)
        writer.kill()
        for i in range(3000):
            m.set(f"k{i % 50}", bytes(i), ttl=60)
            m.incr("n")
        m.delete("k3")
        return m["n"], m.get("k3"), m.check()

    def work() -> Any:
        victim = stranger(VICTIM, live)
        try:
            victim.hear()
            full = as_user(ATTACKER, lambda: outcome(fill)[0])
            free = segment.free_bytes()
            victim.tell("go on")
            return full, free, victim.result()
        finally:
            victim.kill()

    assert private(work) == ("OSError", 0, (3000, None, []))
