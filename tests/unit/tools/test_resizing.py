"""shmmap resize: a map's shape changes while others use it."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.memory.table import read_table

from ...support.engines import once
from .maps import LIMIT_S, OTHER, needs_other_engine, read_line

pytestmark = once  # the same with either engine

ENTRIES = {f"key-{number}": number for number in range(2000)}


@pytest.fixture
def filled(make: Any) -> Any:
    """A map of 4 shards with entries."""
    m = make(size="2MB", shards=4)
    m.update(ENTRIES)
    return m


@pytest.fixture
def begun(filled: Any) -> Any:
    """The same on its way to 16 shards, of which some have come; nobody goes on by itself."""
    def stop(progress: Any) -> None:
        if progress.done > 0:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        filled.resize(shards=16, rate=400, progress=stop)
    assert read_table(filled.attachment.control).is_moving
    return filled


def shards_of(m: Any) -> tuple[int, bool]:
    """Return how many shards a map has, or is moving to, and whether it is moving."""
    control = m.attachment.control
    return m.parameters["shards"], read_table(control).is_moving


def test_it_says_what_it_takes_and_does_it(shell, filled, name):
    done = shell(f"resize {name} --shards=16 --size=4MB --value-size=50 --on-full=evict")
    assert done.returncode == 0
    what, takes, fits, after = done.stdout.splitlines()
    assert re.fullmatch(rf"{name} has 4 shards of .*; it will have 16 shards of .* bytes", what)
    assert re.match(r"it takes 4 steps; in /dev/shm at most [\d,]+ bytes before", takes)
    assert fits == "of 2,000 entries all will fit"
    assert re.fullmatch(rf"{name} has 16 shards of .* now, and 2,000 entries", after)
    assert dict(filled) == ENTRIES and shards_of(filled) == (16, False)
    assert (filled.size, filled.value_size, filled.on_full) == (4 * 10**6, 50, "evict")
    done = shell(f"resize {name} --shards=16")
    assert (done.returncode, done.stdout) == (0, f"{name} has this shape already\n")


def test_a_dry_run_changes_nothing(shell, filled, name):
    before = bytes(filled.attachment.control.TABLE.to_bytes(8, "little"))
    done = shell(f"resize {name} --capacity=40000 --key-size=20 --dry-run")
    assert done.returncode == 0 and "all will fit" in done.stdout and " now" not in done.stdout
    assert bytes(filled.attachment.control.TABLE.to_bytes(8, "little")) == before
    assert filled.size == 2 * 10**6


def test_without_options_it_says_that_nothing_moves(shell, filled, name):
    done = shell(f"resize {name}")
    assert done.returncode == 0
    assert re.fullmatch(rf"{name} is not moving\. It has 4 shards of .* bytes\n", done.stdout)
    done = shell(f"resize {name} --rate=10")  # of what?
    assert done.returncode == 0 and "--shards, --size, ... say which" in done.stdout
    assert shell(f"resize {name} --rate=0").returncode == 2


def test_without_options_it_shows_how_far_it_is_or_goes_on(shell, begun, name):
    done = shell(f"resize {name} --dry-run")
    assert done.returncode == 0
    assert re.fullmatch(rf"{name} is moving: 4 -> 16 shards, \d+ %\n", done.stdout)
    assert shards_of(begun) == (16, True)
    done = shell(f"resize {name} --rate=1000000")
    assert done.returncode == 0 and "16 shards of" in done.stdout.splitlines()[-1]
    assert shards_of(begun) == (16, False) and dict(begun) == ENTRIES


def test_it_can_be_taken_back(shell, begun, name):
    begun.attachment.control.MOVE_RATE = 0
    done = shell(f"resize {name} --cancel")
    assert done.returncode == 0 and "4 shards of" in done.stdout.splitlines()[-1]
    assert shards_of(begun) == (4, False) and dict(begun) == ENTRIES


def test_others_go_on_with_what_was_begun(shell, filled, name):
    done = shell(f"resize {name} --shards=8 --rate=1000 --no-wait")
    assert done.returncode == 0
    assert "The process that uses it goes on with that" in done.stdout
    assert shards_of(filled) == (8, True)
    filled.attachment.control.MOVE_RATE = 0
    assert dict(filled) == ENTRIES  # it finds that shards have moved, and sees to the rest
    assert filled.resize().wait(LIMIT_S) and shards_of(filled) == (8, False)


@pytest.mark.parametrize(("options", "code", "said"), [
    ("--size=x", 2, "is not a size"), ("--size=1MB --capacity=5", 2, "not both"),
    ("--shards=3", 2, "power of two"), ("--size=1000", 2, "size"),
    ("--shards=16 --rate=0", 2, "rate=0"), ("--size=100TB", 2, "say --shards or --value-size"),
    ("--size=200KB --shards=1", 1, "Nothing was moved. size="),
])  # fmt: skip
def test_what_cannot_be_changes_nothing(shell, filled, name, options, code, said):
    done = shell(f"resize {name} {options}")
    assert done.returncode == code and said in done.stderr and "Traceback" not in done.stderr
    assert shards_of(filled) == (4, False) and dict(filled) == ENTRIES


@pytest.mark.parametrize("options", ["--shards=x", "--cancel --shards=4", "--cancel --dry-run",
                                     "--on-full=ask"])
def test_wrong_usage(shell, filled, name, options):
    done = shell(f"resize {name} {options}")
    assert done.returncode == 2 and "usage:" in done.stderr


def test_there_is_no_such_map(shell, name):
    done = shell(f"resize {name} --shards=4")
    assert done.returncode == 1 and f"no map '{name}'" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="to be two users takes root")
def test_it_is_another_users(shell, filled, name):
    for entry in Path("/dev/shm").iterdir():
        if f"shmmap.{name}." in entry.name or entry.name == f"shmmap.{name}":
            os.chown(entry, 12345, -1)
    done = shell(f"resize {name} --shards=16")
    assert done.returncode == 1 and "only that user can" in done.stderr
    assert shards_of(filled) == (4, False)
    done = shell(f"resize {name}")
    assert done.returncode == 0 and "is not moving" in done.stdout


def test_ctrl_c_leaves_it_on_its_way(filled, shell, name, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "shmmap", "resize", name, "--shards=16", "--rate=1000"],
        cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    try:
        assert read_line(process).startswith(f"{name} has 4 shards")
        assert process.stderr is not None
        assert process.stderr.readline().startswith(f"{name}: ")  # a quarter is there
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + signal.SIGINT
    assert "interrupted" in said and "Traceback" not in said
    command = re.search(r"To see to it: .* -m shmmap (.*); to go back: .* -m shmmap (.*)", said)
    assert command is not None and command[2] == f"resize {name} --cancel"
    assert dict(filled) == ENTRIES
    assert shell(f"{command[1]} --rate=1000000").returncode == 0
    assert shards_of(filled) == (16, False) and dict(filled) == ENTRIES


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=repr)
def test_a_terminal_sees_a_bar(filled, name, tmp_path, environment):
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "shmmap", "resize", name, "--shards=16"], cwd=tmp_path,
            stdout=subprocess.DEVNULL, stderr=theirs,
            env={**os.environ, "TERM": "xterm", "NO_COLOR": "", **environment},
        )
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 4096):
                seen += part
        except OSError:  # the other end is closed
            pass
        assert process.wait(LIMIT_S) == 0
    finally:
        os.close(ours)
    assert (b"[" + b"#" * 40 + b"] 100%, 2,000 entries" in seen) != bool(environment)
    assert (b"\r" in seen.replace(b"\r\n", b"\n")) != bool(environment)


def test_the_help_says_how(shell):
    done = shell("resize --help")
    assert done.returncode == 0 and "--no-wait" in done.stdout and "Ctrl-C" in done.stdout


@needs_other_engine
@pytest.mark.parametrize("command", ["resize {} --shards=4", "replace {} --size=2MB", "gates {}"])
def test_a_map_of_the_other_engine_is_named(shell, hold, name, command):
    hold(name, engine=OTHER)
    done = shell(command.format(name))
    assert done.returncode == 1 and f"map '{name}' is of the {OTHER} engine" in done.stderr
    assert "SHMMAP_ENGINE" in done.stderr
    done = shell(f"info {name} --engine={shmmap.ENGINE}")
    assert done.returncode == 1 and f"there is one of the {OTHER} engine" in done.stderr
    assert shell(f"unlink {name} --yes --engine={OTHER}").returncode == 0
