"""doctor, and commands that look, on machines that lack something: each in mounts of its own.

Doctor has to name the cause and what to do; where that is a command, the command is run, and doctor
asked again. Nothing may be left behind or destroyed, and nothing end in a traceback.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ...support.children import Child
from ...support.engines import once
from ...support.strangers import SHM, enter_own_mounts, libc

pytestmark = once  # the same with either engine
LIMIT_S = 50.0
_READ_ONLY, _REMOUNT, _BIND = 1, 32, 4096
BOOT_ID = b"/proc/sys/kernel/random/boot_id"
USER = 61234  # no user of a system, and nobody's
MAKE = "import shmmap; shmmap.ShmMap('here', size='150kB', shards=1, sweep_interval=None)['a'] = 1"
NEXT_STEP = re.compile(r"(?:mkdir -p \S+ && )?mount -\S .*")
ANSWERS = {  # of commands that look, about the map "here" with its key "a"
    "ls": "\nhere ", "info here": "here", "top here --plain --count 1": "\nhere ",
    "metrics": 'shmmap_entries{map="here"', "stats here": "entries", "keys here": "a\n",
    "events here": "", "check here": "",
}


def mount(kind: bytes, where: bytes, flags: int = 0, options: bytes = b"") -> None:
    """Mount something, or fail."""
    assert libc.mount(kind, where, kind, flags, options) == 0, where


def bind(file: Path, over: bytes) -> None:
    """Have a file in the place of another one."""
    assert libc.mount(os.fsencode(file), over, None, _BIND, None) == 0, over


def shm(options: bytes, flags: int = 0) -> None:
    """Mount another /dev/shm."""
    mount(b"tmpfs", b"/dev/shm", flags, b"mode=1777" + options)


def missing(folder: Path) -> None:
    """Have no /dev/shm, but what a program needs of /dev."""
    mount(b"tmpfs", b"/dev", 0, b"mode=755")
    for name, minor in (("null", 3), ("urandom", 9)):
        os.mknod(f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(1, minor))


def dangling(folder: Path) -> None:
    """Have a /dev/shm that leads nowhere, as where /run/shm was it once."""
    missing(folder)
    os.symlink(folder / "run" / "shm", "/dev/shm")


def no_folder(folder: Path) -> None:
    """Have a file there."""
    missing(folder)
    SHM.write_text("kept")


def read_only(folder: Path) -> None:
    """Have one that was made read-only, with a map in it."""
    shm(b",size=64m")
    run("-c", MAKE)
    (SHM / "kept").write_text("kept")
    mount(b"tmpfs", b"/dev/shm", _REMOUNT | _READ_ONLY)


def small(folder: Path) -> None:
    """Have one of 1 MB, with a map in it."""
    shm(b",size=1m")
    run("-c", MAKE)
    (SHM / "kept").write_text("kept")


def few_inodes(folder: Path) -> None:
    """Have one in which few more files can be made."""
    shm(b",nr_inodes=6")
    (SHM / "kept").write_text("kept")


def no_inodes(folder: Path) -> None:
    """Have one in which no more files can be made, with a map in it."""
    shm(b",nr_inodes=30")
    run("-c", MAKE)
    (SHM / "kept").write_text("kept")
    number = 0
    while os.statvfs(SHM).f_favail:
        number += 1
        (SHM / f"other-{number}").touch()


def no_boot_id(folder: Path) -> None:
    """Have an empty boot id."""
    small_enough(folder)
    (folder / "empty").touch()
    bind(folder / "empty", BOOT_ID)


def no_proc_sys(folder: Path) -> None:
    """Have none, as with ProcSubset=pid."""
    small_enough(folder)
    mount(b"tmpfs", b"/proc/sys")


def no_proc(folder: Path) -> None:
    """Have an empty /proc."""
    small_enough(folder)
    mount(b"tmpfs", b"/proc")


def small_enough(folder: Path) -> None:
    """Have a /dev/shm in which all is well, with a map."""
    shm(b",size=64m")
    run("-c", MAKE)
    (SHM / "kept").write_text("kept")


class Case(NamedTuple):
    """What is missing, and what doctor says: of what, how bad, and in which words; whether what to
    do is a command that mends it; and whether there is a map, which can be looked at."""

    make: Callable[[Path], None]
    about: str
    status: str
    text: str
    mends: bool = True
    has_map: bool = True


CASES = [
    Case(missing, "/dev/shm", "FAIL", "is not there", has_map=False),
    Case(dangling, "/dev/shm", "FAIL", "is not there", has_map=False),
    Case(no_folder, "/dev/shm", "FAIL", "is not a folder", mends=False, has_map=False),
    Case(read_only, "/dev/shm", "FAIL", "read-only"),
    Case(small, "/dev/shm", "WARN", "free of 1.0 MB.* less than"),
    Case(few_inodes, "/dev/shm", "WARN", "free inodes", has_map=False),
    Case(no_inodes, "/dev/shm", "FAIL", "has no free inodes"),
    Case(no_boot_id, "proc", "WARN", "boot id is missing .*does not hold", mends=False),
    Case(no_proc_sys, "proc", "WARN", "boot id is missing .*No such file", mends=False),
    Case(no_proc, "proc", "WARN", "is not mounted", mends=False),
]
each_case = pytest.mark.parametrize("case", CASES, ids=[one.make.__name__ for one in CASES])


def run(*words: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run Python in this namespace, outside the checkout."""
    return subprocess.run([*before, sys.executable, *words], cwd="/", text=True, timeout=LIMIT_S,
                          capture_output=True, stdin=subprocess.DEVNULL)


def shmmap_of(words: str, before: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Run a command of shmmap; return its exit code, stdout and stderr."""
    made = run("-m", "shmmap", *words.split(), before=before)
    assert "Traceback" not in made.stdout + made.stderr, made.stdout + made.stderr
    return made.returncode, made.stdout, made.stderr


def seen() -> Any:
    """Tell what is in /dev/shm."""
    if not SHM.is_dir():
        return SHM.read_text() if SHM.exists() else None
    return sorted((file.name, file.stat().st_size) for file in SHM.iterdir())


def elsewhere(work: Callable[[], Any]) -> Any:
    """Run work() in mounts of its own; return what it returns."""
    return Child(lambda child: enter_own_mounts() and work()).end(LIMIT_S)


def findings(said: str) -> list[dict[str, str]]:
    document = json.loads(said)
    assert document["is_fit"] == all(one["status"] != "FAIL" for one in document["findings"])
    found: list[dict[str, str]] = document["findings"]
    return found


@each_case
def test_doctor_names_the_cause_and_a_step_that_mends_it(case, tmp_path):
    def work() -> None:
        case.make(tmp_path)
        before = seen()
        code, out, err = shmmap_of("doctor")
        assert code == (case.status == "FAIL") and err == "", out + err
        assert re.search(rf"^{case.status:<5} {case.about} .*{case.text}", out, re.M), out
        assert "the check itself failed" not in out and "rm " not in out, out
        code, out, err = shmmap_of("doctor --json")
        assert code == (case.status == "FAIL") and err == ""
        told, = (one for one in findings(out) if one["about"] == case.about
                 and one["status"] == case.status and re.search(case.text, one["text"]))
        assert told["todo"] and seen() == before, seen()
        if case.mends:
            step = NEXT_STEP.findall(told["todo"])[-1]
            subprocess.run(step, shell=True, check=True, timeout=LIMIT_S)
            assert seen() == (before or []), step
            code, out, err = shmmap_of("doctor --json")
            assert [one["status"] for one in findings(out) if one["about"] == case.about] == ["OK"]

    if case.mends and not shutil.which("mount"):
        pytest.skip("needs mount, which doctor says to use")
    elsewhere(work)


@each_case
def test_commands_that_look_answer_or_say_why_not(case, tmp_path):
    def work() -> None:
        case.make(tmp_path)
        before = seen()
        for words in ANSWERS:
            code, out, err = shmmap_of(words)
            if case.has_map:
                assert code == 0 and err == "" and ANSWERS[words] in out, (words, code, out, err)
            elif not isinstance(before, list):
                assert code == 1 and "/dev/shm is not " in err, (words, code, out, err)
            else:
                about_one = words.split()[1:2] == ["here"]
                assert ("no map 'here'" in err) == about_one, (words, err)
                assert code == (about_one and not words.startswith("top")), "top waits for maps"
        assert seen() == before, "something was left, or is gone"

    elsewhere(work)


@pytest.mark.parametrize("said, where, status", [
    ("RemoveIPC=yes", "etc/logind.conf", "WARN"), ("RemoveIPC=no", "etc/logind.conf", "OK"),
    ("#RemoveIPC=no", "etc/logind.conf", "WARN"), ("RemoveIPC=no", "run/logind.conf", "OK"),
    ("RemoveIPC=no", "run/logind.conf.d/50-shm.conf", "OK"),
])
def test_what_systemd_removes_at_logout(said, where, status, tmp_path):
    """Only for a user who is no user of the system."""
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv, to be another user who can start this Python")
    as_user = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups",
               "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")

    def work() -> None:
        small_enough(tmp_path)
        for place in (b"/etc/systemd", b"/run"):
            if os.path.isdir(place):
                mount(b"tmpfs", place, 0, b"mode=755")
        os.makedirs("/etc/systemd", exist_ok=True)
        os.makedirs("/run/systemd/system")
        file = Path("/", *where.replace("/", "/systemd/", 1).split("/"))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"[Login]\n{said}\n")
        before = seen()
        code, out, err = shmmap_of("doctor --json", as_user)
        told, = (one for one in findings(out) if one["about"] == "logout")
        assert (code, err, told["status"]) == (0, "", status), told
        if status == "WARN":
            assert str(USER) in told["text"] and "RemoveIPC=no in /etc/systemd/" in told["todo"]
        code, out, err = shmmap_of("doctor")
        assert code == 0 and "RemoveIPC" not in out, "root's shared memory stays"
        assert seen() == before

    elsewhere(work)
