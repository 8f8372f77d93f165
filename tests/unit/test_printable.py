"""What others have named is shown, and never speaks to the terminal."""

from __future__ import annotations

import ctypes
import os
import pwd
import random
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

import shmmap
from shmmap.operations import messages
from shmmap.printable import printable, printable_lines
from shmmap.tools import cli, doctor, findings, machine

from ..support.shard0 import GOT_IT, lock_of, token

ESCAPE = b"\x1b]0;owned\x07\n"  # sets a terminal's title
SHOWN = r"\x1b]0;owned\x07"
_PR_SET_NAME = 15


def speaks(text: str) -> bool:
    """Tell whether a text holds what a terminal obeys."""
    return any(not one.isprintable() for one in text.replace("\n", ""))


def test_whatever_it_is_given():
    rng = random.Random(11)
    pools = [range(0x20), range(0x7F, 0xA1), range(0x2000, 0x2070), range(0xD800, 0xE000),
             range(0xE0000, 0xE0080), range(0x110000)]
    for _ in range(3000):
        text = "".join(chr(rng.choice(rng.choice(pools))) for _ in range(rng.randrange(12)))
        found = printable(text)
        assert not speaks(found) and "\n" not in found and printable(found) == found
        found.encode()
    assert len(printable("x" * 10**6)) < 300 and printable("") == ""
    assert printable_lines("a\x1b\nb") == "a\\x1b\nb"


def be_called(name: bytes) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name, 0, 0, 0)


def hold_named(child: Any, m: Any) -> None:
    be_called(ESCAPE)
    with m.lock("named"):
        child.tell("held")
        time.sleep(60)


def test_a_process_that_holds_something_up(make, start, capsys):
    m = make(shards=1, lock_timeout=0.05)
    child = start(lambda child: hold_named(child, m))
    assert child.hear() == "held"
    with pytest.raises(shmmap.LockTimeout) as caught:
        m.lock("named", timeout=0).__enter__()
    assert SHOWN in str(caught.value) and not speaks(str(caught.value))
    assert cli.main(["info", m.name]) == 0
    shown = capsys.readouterr().out
    assert SHOWN in shown and not speaks(shown)
    child.kill()


@pytest.mark.parametrize("called", [ESCAPE, b"is stopped", b"x, stopped"])
def test_the_holder_of_a_shard(make, start, called):
    """Whatever it is called, it is told stopped only where it is."""
    m = make(shards=1, lock_timeout=0.05)

    def hold(child: Any) -> None:
        be_called(called)
        assert lock_of(m).lock(token(m), 10**9) in GOT_IT
        child.tell("held")
        time.sleep(60)

    child = start(hold)
    assert child.hear() == "held"
    for stopped in (False, True):
        if stopped:
            child.stop()
        with pytest.raises(shmmap.LockTimeout) as caught:
            m["a"] = 1
        assert not speaks(str(caught.value))
        assert ("it is stopped" in str(caught.value)) is stopped
        assert f"process {child.pid} (" in str(caught.value)
    child.kill()


@pytest.mark.parametrize("pid", [2**31, 2**63, 2**64 - 1, 4194305])
def test_a_pid_that_no_process_has(pid):
    """It is a word of shared memory."""
    assert messages.state_of(pid) == "ending"


def test_names_of_users_and_file_systems(monkeypatch, tmp_path):
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name=ESCAPE.decode()))
    assert not speaks(findings.user_name(0))
    monkeypatch.setattr(machine, "mounts", lambda: [("/", ESCAPE.decode(), "")])
    assert not speaks(machine.file_system("/dev/shm"))


def test_a_doctor_whose_check_quotes_something(monkeypatch, capsys):
    def broken() -> Any:
        raise RuntimeError(ESCAPE.decode())

    monkeypatch.setattr(doctor, "check_hash", broken)
    doctor.run(list)
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"no dump", b"SHMMDUMP" + bytes(60)])
def test_files_with_such_names(tmp_path, capsys, name, content):
    path = os.fsencode(tmp_path) + b"/" + ESCAPE.strip() + b"\xff"
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(shmmap.ShmMapError) as caught:
        shmmap.ShmMap.load(os.fsdecode(path), name)
    assert not speaks(str(caught.value)) and SHOWN in str(caught.value)
    assert cli.main(["load", os.fsdecode(path), name]) == 1
    assert not speaks(capsys.readouterr().err)


@pytest.mark.parametrize("content", [b"[1]", b"a,b\na,b,c", b"[[{}, 1]]", b"\xff\xff"])
def test_samples_with_such_names(tmp_path, capsys, content):
    path = tmp_path / ESCAPE.decode().strip()
    path.write_bytes(content)
    with pytest.raises(SystemExit):
        cli.main(["size", "--sample", str(path)])
    assert not speaks(capsys.readouterr().err)


def test_files_of_others_that_a_torture_run_finds():
    from shmmap.torture.report import Report

    report: Any = Report.__new__(Report)
    report._chaos = SimpleNamespace(problems=[])
    report._chaos.fail = lambda kind, text: report._chaos.problems.append((kind, text))
    report.fields = {}
    report.leaked([f"shmmap.x{ESCAPE.decode()}"])
    assert any(SHOWN in line for line in map(printable_lines, report.fields["problems"]))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_an_encoding_that_lacks_a_character(start, name, tmp_path, encoding):
    """A process called so is shown as well as it can be, and nothing crashes."""
    def live(child: Any) -> None:
        m = shmmap.ShmMap(name, "300KB", shards=1)
        be_called("é\u20ac".encode())
        child.tell("open")
        child.hear()
        m.unlink()

    child = start(live)
    assert child.hear() == "open"
    done = subprocess.run(
        [sys.executable, "-m", "shmmap", "info", name], cwd=tmp_path, capture_output=True,
        timeout=60, env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    assert re.search(rf"pid {child.pid}  \S+  \w+", done.stdout.decode(encoding))
    child.tell("end")
    child.reap()


def test_interrupted(monkeypatch, capsys):
    """Ctrl-C ends a command without a traceback."""
    def interrupted() -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.inspection, "find_maps", interrupted)
    assert cli.main(["ls"]) == 128 + signal.SIGINT
    assert capsys.readouterr().err == ""
