"""The short part of the machine that lets system calls fail, and faults that it must find."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import shmmap

from ..support.programs import command
from .calls.injector import refusal
from .calls.table import expected, read_table

pytestmark = [
    pytest.mark.skipif(bool(refusal()), reason=refusal() or "it is permitted"),
    pytest.mark.timeout(600),
]
Records = list[dict[str, Any]]


def run(path: Path, *options: str) -> tuple[str, Records]:
    """Run the machine; return what it said, and every outcome."""
    file = path / "outcomes.json"
    done = subprocess.run(
        command("tests.failing.calls", *options, "--json", str(file)), cwd=path,
        capture_output=True, text=True, timeout=580, check=False,
    )
    assert done.returncode in (0, 1) and file.exists(), done.stdout + done.stderr
    records: Records = json.loads(file.read_text())
    assert f"{shmmap.ENGINE} engine" in done.stdout.splitlines()[-1]
    return done.stdout, records


@pytest.fixture(scope="module")
def short_part(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Records]:
    return run(tmp_path_factory.mktemp("calls"))


def test_no_failing_call_does_harm(short_part):
    said, records = short_part
    assert not [record for record in records if record["faults"]], said
    assert sum(record["fired"] for record in records) > 150, said


def test_the_table_says_what_the_user_gets(short_part):
    told = read_table()
    wrong = [
        f"{record['scenario']}: {record['call']} of {record['thing']} {record['errno']}: "
        f"{record['outcome']}"
        for record in short_part[1]
        if record["fired"] and record["outcome"] not in expected(told, record)
    ]
    assert not wrong, f"python -m tests.failing calls --table writes it anew: {wrong}"


@pytest.mark.parametrize(("call", "thing", "error", "outcome", "is_said"), [
    ("mmap", "heap", "ENOMEM", "goes on", True),
    ("mmap", "heap", "EAGAIN", "`MemoryError`", True),
    ("mmap", "heap", "ENOMEM", "`ValueError`", False),
    ("fallocate", "shard", "ENOSPC", "`SharedMemoryFull`", True),
    ("fallocate", "shard", "ENOSPC", "`OSError`", False),
    ("openat", "/proc/PID/limits", "EMFILE", "goes on", True),
    ("faccessat", "dump", "EIO", "`OSError`", True),  # of a call that only another Python makes
    ("faccessat", "dump", "EIO", "`KeyError`", False),
    ("openat", "something new", "EIO", "`OSError`", False),
])
def test_what_the_table_does_not_say_is_found(call, thing, error, outcome, is_said):
    record = {"call": call, "thing": thing, "errno": error}
    assert (outcome in expected(read_table(), record)) is is_said


class Mutant(NamedTuple):
    """A fault that is put into the subject's library, the calls that bring it out, what is said."""

    patch: str
    scenario: str
    call: str
    thing: str
    error: str
    fault: str


MUTANTS = {
    "an error where the living are counted means that nobody lives": Mutant("""
from shmmap.lifecycle.control import Control
from shmmap.errors import ShmMapError
real = Control.is_used
def is_used(*arguments, **named):
    try:
        return real(*arguments, **named)
    except (OSError, MemoryError, ShmMapError):
        return False
Control.is_used = is_used
""", "open, ephemeral, others use it", "openat", "liveness file", "EMFILE", "3: for the other"),
    "what could not be made stays": Mutant("""
from shmmap.lifecycle import making
making._Attempt.remove = lambda self: None
""", "create", "ftruncate", "lock shard", "EIO", "4: left"),
    "a write fails since no thread can be started": Mutant("""
import _thread
from shmmap.system.background import Background
Background.start = lambda self: _thread.start_new_thread(self._run, ())
""", "first ttl", "", "thread", "EAGAIN", "1: RuntimeError"),
    "one cause is assumed": Mutant("""
from shmmap import errors; from shmmap.system import segment
real = segment.open_checked
def open_checked(*arguments, **named):
    try:
        return real(*arguments, **named)
    except errors.MapNotFound:
        raise
    except (OSError, errors.ShmMapError):
        raise errors.ConfigMismatch("another user made it: have it removed") from None
segment.open_checked = open_checked
""", "attach", "openat", "control segment", "EMFILE", "does not name the cause"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_fault_is_found(name, tmp_path):
    mutant = MUTANTS[name]
    narrow = ("--scenario", mutant.scenario, "--thing", mutant.thing, "--errno", mutant.error)
    narrow += ("--call", mutant.call) if mutant.call else ()
    said, records = run(tmp_path, *narrow)
    assert records and not any(record["faults"] for record in records), said
    said, records = run(tmp_path, *narrow, "--patch", mutant.patch)
    assert any(mutant.fault in text for record in records for text in record["faults"]), said
