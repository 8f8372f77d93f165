"""A process that has a map open can import nothing any more: it has no free descriptor, has changed
its root or its user. What it meets then it is told as ever: no import takes an error's place.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shmmap.operations import messages
from shmmap.printable import printable

PROLOGUE = """
import os, resource, sys, tempfile
import shmmap
m = shmmap.ShmMap(sys.argv[1], size="1MB", shards=1, lock_timeout=0.05)
m.update({"a": 1, "b": {"c": 2}})
folder = tempfile.mkdtemp()
told, answer, started = os.pipe(), os.pipe(), os.getpid()
if os.fork() == 0:  # holds a lock of the map's, then a shard's
    os.close(told[0]), os.close(answer[1])
    open("/proc/self/comm", "wb").write(b"\\x1b[2J\\xff")
    m.lock("named").acquire()
    os.write(told[1], b"1")
    os.read(answer[0], 1)
    assert m.attachment.shards[0].lock.lock(m.attachment.worker.fork_page.word | 1, 10**9) in (0, 1)
    os.write(told[1], b"1")
    os.read(answer[0], 1)
    os._exit(0)
os.close(told[1]), os.close(answer[0])
os.read(told[0], 1)
m["a"], m.get("none")

class Refuse:
    def find_spec(self, name, *rest):
        raise ImportError(f"an import of {name}")

def without_imports():
    sys.meta_path.insert(0, Refuse())

def without_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            os.dup(0)
    except OSError:
        pass

def in_another_root():
    os.makedirs(folder + "/dev/shm")
    os.chroot(folder)
    os.chdir("/")

def as_another_user():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)

globals()[sys.argv[2]]()

def ask(act, *errors):
    try:
        act()
    except errors as error:
        assert type(error) in errors, repr(error)
        said = str(error)
    else:
        assert not errors
        said = ""
    print(said)

ask(lambda: m.lock("named", timeout=0.05).__enter__(), shmmap.LockTimeout)
ask(lambda: m.incr("b"), TypeError)
ask(lambda: m["none"], KeyError)
ask(lambda: m.set("big", bytes(10**7)), shmmap.EntryTooLarge)
ask(lambda: m.get_or_set("c", lambda: 3))
ask(lambda: [m.popitem(), dict(m), m.stats(), m.check(), m.items(), repr(m), m.scan()])
if sys.argv[2] == "without_imports":
    ask(lambda: [m.snapshot(), m.sweep(), m.dump(f"{folder}/dump"), m.merge(f"{folder}/dump")])
    ask(lambda: m.merge("/nowhere"), FileNotFoundError)
    ask(lambda: shmmap.ShmMap.attach("no-such-map"), shmmap.MapNotFound)
os.write(answer[1], b"1")
os.read(told[0], 1)
ask(lambda: m.set("a", 1), shmmap.LockTimeout)
os.write(answer[1], b"1")
os.wait()
ask(lambda: m.set("a", 1))
m.close()
"""


@pytest.mark.parametrize("how", [
    "without_imports", "without_descriptors", "in_another_root", "as_another_user",
])
def test_errors_are_told_as_ever(how, make, tmp_path):
    if os.geteuid() and how in ("in_another_root", "as_another_user"):
        pytest.skip("needs root")
    m = make(shards=1)
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE, m.name, how], cwd=Path("/"), capture_output=True,
        text=True, env={**os.environ, "TMPDIR": str(tmp_path)}, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    named, *_, busy, _ = done.stdout.split("\n")[:-1]
    assert "'named'" in named and "held by process" in named
    assert "shard 0" in busy and "held by process" in busy
    if how == "without_imports":
        assert r"(\x1b[2J\udcff, sleeping)" in named and r"(\x1b[2J\udcff, sleeping)" in busy
    m.repair()
    assert m.check() == []


def test_what_a_process_does_is_told(start):
    child = start(lambda child: child.hear())
    child.stop()
    assert messages.state_of(child.pid).endswith(", stopped")
    child.kill()
    assert messages.state_of(child.pid) == "ending"
    assert messages.state_of(os.getpid()).endswith(", running")


@pytest.mark.parametrize(("error", "said"), [
    (PermissionError(13, "Permission denied"), "not visible"),
    (FileNotFoundError(2, "No such file"), "not visible"),  # /proc hides it, or is not there
    (OSError(24, "Too many open files"), "not visible: Too many open files"),
])
def test_a_process_that_cannot_be_looked_at(monkeypatch, error, said):
    def name_and_state(pid: int) -> Any:
        raise error

    monkeypatch.setattr(messages.process, "name_and_state", name_and_state)
    assert messages.state_of(os.getpid()) == said


def test_an_escape_needs_no_codec():
    every = [chr(code) for code in range(0x110000) if not chr(code).isprintable()]
    for one in every:
        assert printable(one) == one.encode("unicode_escape", "surrogatepass").decode("ascii")
