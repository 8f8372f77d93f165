"""An ephemeral map with linger=: who comes back to it, and who removes it when nobody does."""

from __future__ import annotations

import gc
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import lingering, reaping
from shmmap.memory.words import ControlWords
from shmmap.system import creation
from shmmap.tools import inspection

from ..support.leftovers import SHM, control_file, objects_of

LINGER_S = 30.0
LIMIT_S = 60.0


@pytest.fixture
def clock(name: str) -> Any:
    """Let time pass for the test's map, that is, have all that its words tell be longer ago."""
    def pass_by(seconds: float) -> None:
        path = SHM / control_file(name)
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory, \
                ControlWords(memory) as control:  # fmt: skip
            words, back_ns = control.words, int(seconds * 1e9)
            joined = range(lingering._JOINED_AT, len(words), lingering._ROW_WORDS)
            for at in (ControlWords.LEFT_NS.index, *joined):
                words[at] -= back_ns if words[at] else 0

    return pass_by


@pytest.fixture
def lingers(name: str) -> Any:
    """Open the test's map, ephemeral and with linger=; it is unlinked at the end."""
    def open_map(linger: float = LINGER_S, **arguments: Any) -> shmmap.ShmMap:
        return shmmap.ShmMap(name, "1MB", ephemeral=True, linger=linger, **arguments)

    yield open_map
    gc.collect()
    if objects_of(name):
        with open_map() as m:
            m.unlink()


def state_of(name: str) -> tuple[str, bool] | None:
    found = inspection.find_map(name)
    return (found.state, found.leftover) if found else None


def test_a_worker_that_comes_back_in_time_finds_the_entries(lingers, name, clock):
    for turn in range(3):
        m = lingers()
        assert m.get("turn") == (turn - 1 if turn else None)
        m["turn"] = turn
        m.close()
        assert state_of(name) == ("lingers", False)
        clock(LINGER_S - 1)


def test_one_that_comes_too_late_gets_a_fresh_map(lingers, name, clock):
    m = lingers()
    m["a"], nonce = 1, m.attachment.nonce
    m.close()
    clock(LINGER_S + 1)
    assert state_of(name) == ("abandoned", True)
    with pytest.raises(shmmap.MapNotFound):
        shmmap.ShmMap.attach(name)
    with lingers() as fresh:
        assert "a" not in fresh and fresh.attachment.nonce != nonce and fresh.check() == []


def test_without_linger_it_goes_at_once(name):
    with shmmap.ShmMap(name, "1MB", ephemeral=True, linger=0) as m:
        assert m.attachment.parameters.linger_ns == 0
    assert objects_of(name) == []


def test_the_last_of_several_processes_counts(lingers, name, start):
    m = lingers()

    def work(child: Any) -> None:
        m["child"] = 1
        child.tell("in")
        child.hear()
        m.close()

    child = start(work)
    child.hear()
    m.close()
    assert m.attachment.control is not None and state_of(name) == ("ready", False)
    child.tell("leave")
    child.result()
    child.reap()
    assert state_of(name) == ("lingers", False)
    with lingers() as again:
        assert again["child"] == 1


def test_a_process_that_ends_without_close_has_left_it(lingers, name):
    script = (
        "import sys, shmmap\n"
        "m = shmmap.ShmMap(sys.argv[1], '1MB', ephemeral=True, linger=30)\n"
        "m['a'] = 1\n"
    )
    subprocess.run([sys.executable, "-c", script, name], check=True, timeout=LIMIT_S, cwd="/")
    found = inspection.find_map(name)
    assert found is not None and found.state == "lingers" and " left 0 s ago" in found.problem
    with lingers() as m:
        assert m["a"] == 1


def killed_last(lingers: Any, start: Any) -> None:
    """Have a process make the map, and be killed."""
    def work(child: Any) -> None:
        m = lingers()
        m["a"] = 1
        child.tell("made")
        signal.pause()

    child = start(work)
    child.hear()
    child.kill()


def test_whoever_comes_after_a_kill_goes_on_with_the_map(lingers, name, start, clock):
    killed_last(lingers, start)
    clock(10 * LINGER_S)  # nobody knows when it was killed
    found = inspection.find_map(name)
    assert found is not None and found.state == "lingers" and "died" in found.problem
    with lingers() as m:
        assert m["a"] == 1
    assert state_of(name) == ("lingers", False)
    clock(LINGER_S + 1)  # that one has left it properly
    assert state_of(name) == ("abandoned", True)


def test_from_when_a_killed_one_is_found_the_time_counts(lingers, name, start, clock):
    killed_last(lingers, start)
    assert reaping.reap() == 0 and objects_of(name)
    clock(LINGER_S / 2)
    assert reaping.reap() == 0 and objects_of(name)  # the first time counts
    clock(LINGER_S / 2 + 1)
    assert reaping.reap() == 1 and not objects_of(name)


def test_a_sweep_of_another_map_removes_it(lingers, name, other, clock):
    lingers().close()
    m = other()
    m.sweep()
    assert state_of(name) == ("lingers", False)
    clock(LINGER_S + 1)
    m.sweep()
    assert not objects_of(name + ".") and state_of(name) is None


def test_maps_in_use_are_left_alone(lingers, name, other, start, clock):
    def work(child: Any) -> int:
        m = lingers()
        m["a"] = 1
        child.tell("in")
        child.hear()
        value: int = m["a"]
        m.close()
        return value

    child = start(work)
    child.hear()
    clock(LINGER_S + 1)
    m = other()
    for _ in range(2):
        m.sweep()
        clock(LINGER_S + 1)
    child.tell("go on")
    assert child.result() == 1
    child.reap()


def test_so_is_one_that_this_process_has_open(lingers, name, clock):
    m = lingers()
    clock(10 * LINGER_S)
    assert reaping.reap() == 0
    m["a"] = 1
    assert m["a"] == 1 and m.attachment.worker.file.try_lock(1) is True
    m.close()


def test_what_another_process_is_at_is_not_waited_for(lingers, name, start, clock):
    lingers().close()
    clock(LINGER_S + 1)

    def work(child: Any) -> None:
        with creation.creation_lock(name):
            child.tell("has it")
            child.hear()

    child = start(work)
    child.hear()
    began = time.monotonic()
    assert reaping.reap() == 0 and time.monotonic() - began < LIMIT_S / 4
    child.tell("enough")
    child.result()
    child.reap()
    assert reaping.reap() == 1


def test_a_map_that_finds_no_room_takes_that_of_what_is_over(lingers, name, other, clock,
                                                              monkeypatch):
    lingers().close()
    real = reaping.segment.check_room

    def room(what: str, size: int) -> None:
        if objects_of(name + "."):
            raise shmmap.SharedMemoryFull("no room")
        real(what, size)

    monkeypatch.setattr(reaping.segment, "check_room", room)
    with pytest.raises(shmmap.SharedMemoryFull):
        other()
    clock(LINGER_S + 1)
    other()["a"] = 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_another_users_map_is_nobodys_to_remove(lingers, name, clock):
    lingers().close()
    clock(LINGER_S + 1)
    pid = os.fork()
    if not pid:
        os.setgid(54321)
        os.setuid(54321)
        os._exit(reaping.reap())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 and objects_of(name)


@pytest.mark.parametrize("engine_word", ["LAYOUT", "STATE", "MAGIC"])
def test_what_is_no_map_of_ours_is_left_alone(lingers, name, clock, engine_word):
    lingers().close()
    clock(LINGER_S + 1)
    path = SHM / control_file(name)
    at = reaping.K[f"C_{engine_word}"]
    with open(path, "r+b") as file:
        was = os.pread(file.fileno(), 8, at)
        os.pwrite(file.fileno(), b"\x77" * 8, at)
        assert reaping.reap() == 0 and objects_of(name)
        os.pwrite(file.fileno(), was, at)
    assert reaping.reap() == 1


def test_other_parameters_are_told_as_of_a_map_in_use(lingers, name):
    lingers().close()
    with pytest.raises(shmmap.ConfigMismatch, match="linger: asked 60 s, it has 30 s"):
        lingers(linger=60.0, on_mismatch="raise")
    with pytest.warns(shmmap.MapMismatchWarning, match=r"it has 30 s\).*on_mismatch=\"replace\"$"):
        assert lingers(linger=60.0).linger == 30


@pytest.mark.parametrize("wrong", [-1, 4e9, float("nan"), float("inf")])
def test_what_cannot_be_lingered(name, wrong):
    with pytest.raises(ValueError, match="linger"):
        shmmap.ShmMap(name, "1MB", ephemeral=True, linger=wrong)
    for ephemeral in (None, False):
        with pytest.raises(ValueError, match="say ephemeral=True with it"):
            shmmap.ShmMap(name, "1MB", ephemeral=ephemeral, linger=5)
    with pytest.raises(TypeError, match="linger"):
        shmmap.ShmMap(name, "1MB", ephemeral=True, linger="5")  # type: ignore[arg-type]
    assert objects_of(name) == []


def test_a_restart_of_gunicorn_workers_keeps_the_entries(lingers, name, start):
    """As at a HUP whose old workers are all gone before the first new one has opened the map."""
    def work(child: Any) -> int:
        with lingers() as m:
            return m.incr("requests")

    for turn in range(4):
        children = [start(work) for _ in range(2)]
        counts = sorted(child.result(LIMIT_S) for child in children)
        for child in children:
            child.reap()
        assert counts == [2 * turn + 1, 2 * turn + 2]


APP = """
import os, shmmap

m = shmmap.ShmMap(os.environ["THE_MAP"], "1MB", ephemeral=True, linger=30)


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % m.incr("requests")]
"""


def test_a_restart_of_gunicorn_itself_keeps_the_entries(lingers, name, tmp_path):
    pytest.importorskip("gunicorn")
    (tmp_path / "app.py").write_text(APP)
    answers = []
    for _ in range(2):
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", "app:app"],
            cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "THE_MAP": name},
        )
        try:
            end = time.monotonic() + LIMIT_S
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
                        answers.append(int(answer.read()))
                        break
                except OSError:
                    assert time.monotonic() < end
                    time.sleep(0.1)
        finally:
            server.terminate()
            server.wait(LIMIT_S)
        assert state_of(name) == ("lingers", False)  # every process has ended
    assert answers == [1, 2]


def test_a_child_that_has_not_used_it_yet_keeps_it(lingers, name, start, clock):
    m = lingers()
    m["a"] = 1

    def work(child: Any) -> int:
        child.tell("forked")
        child.hear()
        value: int = m["a"]
        m.close()
        return value

    child = start(work)
    child.hear()
    m.close()
    clock(LINGER_S + 1)
    assert reaping.reap() == 0 and state_of(name) == ("ready", False)
    child.tell("use it")
    assert child.result() == 1
    child.reap()
    assert state_of(name) == ("lingers", False)
