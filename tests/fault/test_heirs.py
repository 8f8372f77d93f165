"""Ephemeral maps whose processes change what they see, or who they are, before they leave.

Whoever closes such a map judges the others by what it has open, not by names: it may have another
root, other mounts or another user than when it opened the map. What it cannot see must live on, and
of what it cannot remove the memory is given back.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.tools import inspection

from ..support.children import Child
from ..support.damage import Damage
from ..support.strangers import SHM, VICTIM, as_user, libc, outcome

SIZE, LITTLE = "2MB", 400_000
LEFT: dict[str, Callable[[Any], Any]] = {
    "another root": lambda path: (os.chroot(path), os.chdir("/")),
    "another /dev/shm": lambda path: libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"mode=1777"),
    "nothing there": lambda path: libc.mount(b"tmpfs", b"/dev", b"tmpfs", 0, b"mode=755"),
}


def ephemeral(name: str, **parameters: Any) -> Any:
    return shmmap.ShmMap(name, SIZE, shards=1, ephemeral=True, sweep_interval=None, **parameters)


def memory_of(name: str) -> int:
    """Count the bytes of all objects that have a map's name."""
    return sum(entry.stat().st_blocks * 512 for entry in SHM.iterdir() if name in entry.name)


def result_of(work: Callable[[], Any]) -> Any:
    """Run work() in a forked child."""
    return Child(lambda child: work()).end()


def move(how: str, path: Any) -> None:
    """See another file system from here on, in which the maps have no names."""
    assert how == "another root" or libc.unshare(0x20000) == 0  # CLONE_NEWNS
    LEFT[how](path)


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("how", LEFT)
def test_a_process_that_sees_no_name_is_not_the_last(private, name, tmp_path, how, used):
    def leave(m: Any) -> Any:
        move(how, tmp_path)
        seen = m["a"] if used else 1
        m.close()
        return seen

    def work() -> Any:
        m = ephemeral(name)
        m["a"] = 1
        seen = result_of(lambda: leave(m))
        m["b"] = seen + m["a"]
        m.close()
        return seen, memory_of(name)

    assert private(work) == (1, 0)


@pytest.mark.parametrize("how", LEFT)
def test_the_last_one_gives_back_the_memory_of_what_it_does_not_see(private, name, tmp_path, how):
    def leave() -> None:
        m = ephemeral(name)
        m["a"] = 1
        move(how, tmp_path)
        m.close()

    def work() -> Any:
        result_of(leave)
        left = memory_of(name)
        with ephemeral(name) as m:
            return left, "a" in m

    left, is_old = private(work)
    assert left < LITTLE and not is_old


@pytest.mark.parametrize("how", LEFT)
def test_a_first_ttl_of_a_process_that_sees_no_name(private, name, tmp_path, how):
    """That its files have no names here does not mean that a map was unlinked."""
    def use(m: Any) -> Any:
        move(how, tmp_path)
        m.set("a", 1, ttl=60)
        m.touch("b", 60)
        m.repair()
        return m.ttl("a") > 0, m.ttl("b") > 0, m.check(), m.stats().entries

    def work() -> Any:
        with shmmap.ShmMap(name, SIZE, shards=1, sweep_interval=None) as m:
            m["b"] = 1
            used = result_of(lambda: use(m))
            return used, dict(m), m.ttl("a") > 0

    used, seen, expires = private(work)
    assert used == (True, True, [], 2) and seen == {"a": 1, "b": 1} and expires


@pytest.mark.parametrize("how", LEFT)
def test_a_repair_by_a_process_that_sees_no_name(private, name, tmp_path, how):
    """Where the header lost that there are deadlines, they are found all the same."""
    def repair(m: Any) -> None:
        move(how, tmp_path)
        Damage(m, 0).set_header("HAS_DEADLINES", 0)
        m.repair()

    def work() -> Any:
        with shmmap.ShmMap(name, SIZE, shards=1, sweep_interval=None) as m:
            m.set("a", 1, ttl=60)
            result_of(lambda: repair(m))
            return (m.ttl("a") or 0) > 0, m.check()

    assert private(work) == (True, [])


@pytest.mark.parametrize("others", [True, False])
@pytest.mark.parametrize("change", [os.setuid, os.seteuid])
def test_a_process_that_has_changed_its_user_leaves(private, name, change, others):
    """It could not open the map's files again."""
    def leave(m: Any) -> Any:
        change(VICTIM)
        m["b"] = 1
        return outcome(m.close)

    def work() -> Any:
        if others:
            with ephemeral(name) as m:
                closed = result_of(lambda: leave(m))
                return closed, m["b"], 0
        closed = result_of(lambda: leave(ephemeral(name)))
        left = memory_of(name)
        with ephemeral(name) as m:
            return closed, int("b" not in m), left

    closed, fine, left = private(work)
    assert closed == ("", "None") and fine == 1 and left < LITTLE


def test_another_user_opens_an_ephemeral_map_that_is_used(private, name):
    def work() -> Any:
        with ephemeral(name, mode=0o666) as m:
            m["a"] = 1
            return as_user(VICTIM, lambda: dict(shmmap.ShmMap(name, mode=0o666, owner_uid=0)))

    assert private(work) == {"a": 1}


@pytest.mark.parametrize("close_fds", [True, False])
def test_a_subprocess_that_was_just_started_keeps_nothing(name, close_fds):
    """It has our descriptors until the kernel has put the new program in its place; and for good
    where they are inheritable."""
    left = 0
    for _ in range(10):
        m = ephemeral(name)
        os.set_inheritable(m.attachment.worker.descriptor, not close_fds)
        with subprocess.Popen(
            ["cat"], stdin=subprocess.PIPE, close_fds=close_fds
        ) as process:
            m.close()
            left += any(name in entry.name for entry in SHM.iterdir())
            process.communicate(b"\n")
    assert left == 0


HOLDER = """
import os, sys, shmmap
m = shmmap.ShmMap(sys.argv[1], sweep_interval=None)
assert m.lock("report").acquire()
for number in os.listdir("/proc/self/fd"):
    try:
        os.set_inheritable(int(number), True)
    except OSError:
        pass
os.execv(sys.executable, [sys.executable, "-Sc", "print('begun', flush=True); input()"])
"""


def test_a_new_program_holds_nothing_whatever_it_inherits(name, tmp_path):
    """A server that replaces itself passes its listening sockets on, and all else with them."""
    m = ephemeral(name)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        cwd=tmp_path,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        assert any(name in os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir())
        assert m.lock("report", timeout=5).acquire()
        assert m.stats().workers == (os.getpid(),)
        seen = inspection.find_maps(name)[0].workers
        assert [worker.pid for worker in seen or ()] == [os.getpid()]
        m.close()
        assert [entry for entry in SHM.iterdir() if name in entry.name] == []
    finally:
        process.communicate(b"\n")
