"""The command line where something of the machine is missing, or is not to be had: it says what,
shows no traceback, calls nothing dead that may live, and advises nothing that would destroy it.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import resource
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import control
from shmmap.system import creation, segment
from shmmap.tools import allowances, cli, doctor, inspection, machine

from ..support.children import Child
from ..support.leftovers import control_file
from ..support.strangers import (
    ATTACKER,
    SHM,
    VICTIM,
    as_user,
    enter_own_mounts,
    enter_own_shm,
    libc,
    outcome,
    plant,
    stranger,
)

PATIENCE_S = 20.0  # on a machine that has much else to do
_MS_REMOUNT, _MS_RDONLY = 32, 1


def run(*arguments: str) -> tuple[int, str]:
    """Run a command in this process; return its exit code and all that it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = cli.main(arguments)
    return code, said.getvalue()


def commands(name: str) -> list[tuple[str, ...]]:
    return [("ls",), ("info", name), ("fsck", name), ("unlink", "--yes", name),
            ("dump", name, "/tmp/never"), ("load", "/tmp/never", name), ("doctor",)]


def mount(kind: bytes, where: bytes, flags: int = 0, options: bytes | None = None) -> None:
    if libc.mount(kind, where, kind, flags, options) != 0:
        raise PermissionError("mount")


@pytest.fixture
def inside(start) -> Callable[..., Any]:
    """inside(prepare, work): run both in a child with mounts of its own."""
    def go(prepare: Callable[[], Any], work: Callable[[], Any]) -> Any:
        def within(child: Any) -> Any:
            if not enter_own_mounts() or not enter_own_shm("4m"):
                return "not permitted"
            prepare()
            return work()

        found = start(within).result()
        if found == "not permitted":
            pytest.skip("needs the right to mount (CAP_SYS_ADMIN)")
        return found

    return go


def a_map(name: str, **said: Any) -> None:
    with shmmap.ShmMap(name, "300KB", shards=1, **said) as m:
        m["a"] = 1


# -- something is missing -----------------------------------------------------------------


MISSING: dict[str, tuple[Callable[[], Any], str]] = {
    "/dev/shm": (lambda: mount(b"tmpfs", b"/dev"), "/dev/shm"),
    "/dev/shm, a file": (lambda: [mount(b"tmpfs", b"/dev"), Path("/dev/shm").write_text("")],
                         "/dev/shm"),
    "/proc/sys": (lambda: mount(b"tmpfs", b"/proc/sys"), "boot id"),
    "/proc": (lambda: mount(b"tmpfs", b"/proc"), "/proc"),
    "writing": (lambda: libc.mount(b"none", b"/dev/shm", None, _MS_REMOUNT | _MS_RDONLY, None),
                "read-only"),
}


@pytest.mark.parametrize("missing", MISSING)
def test_something_of_the_machine_is_missing(inside, name, missing):
    take_away, named = MISSING[missing]
    found = inside(lambda: [as_user(0, lambda: a_map(name)), take_away()],
                   lambda: [(command[0], *run(*command)) for command in commands(name)])
    for command, code, text in found:
        assert "Traceback" not in text and "check itself failed" not in text, text
        if "dev" in missing:
            assert named in text and code in (1, 8), (command, text)
        if command in ("info", "unlink") and "dev" not in missing:
            assert code == 0 if missing != "writing" or command == "info" else "Read-only" in text
    doctored = found[-1][2]
    assert named in doctored and ("WARN  proc" if "proc" in missing else "FAIL") in doctored
    for line in doctored.splitlines():
        assert "-> " not in line or "unlink" not in line, line


def test_no_map_is_of_an_earlier_boot_where_no_boot_has_a_name(inside, name):
    found = inside(lambda: [a_map(name), mount(b"tmpfs", b"/proc/sys")],
                   lambda: [(one.state, one.leftover) for one in inspection.find_maps(name)])
    assert found == [("ready", False)]


def test_processes_are_hidden(inside, name):
    """hidepid: other users' processes do not show in /proc; who lives is told by locks."""
    def prepare() -> None:
        mount(b"proc", b"/proc", 0, b"hidepid=2")

    def work() -> Any:
        def live(child: Child) -> None:
            m = shmmap.ShmMap(name, "300KB", shards=1, mode=0o666)
            m["a"] = 1
            child.tell("open")
            child.hear()
            m.unlink()

        owner = stranger(ATTACKER, live)
        try:
            owner.hear()
            (seen,) = as_user(VICTIM, lambda: [
                [(one.state, len(one.workers or ()))] for one in inspection.find_maps(name)])
            shown = as_user(VICTIM, lambda: run("info", name))
            doctored = as_user(VICTIM, lambda: [line.text for line in allowances.check_proc()])
            owner.tell("end")
            return seen, shown, doctored
        finally:
            owner.kill()

    (seen,), (code, shown), doctored = inside(prepare, work)
    assert seen == ("ready", 1) and code == 0
    assert "hidden" in shown or "not visible" in shown
    assert any("hidepid" in text for text in doctored)


@pytest.mark.parametrize("room", range(6))
def test_no_descriptor_is_left(inside, name, room):
    """Nothing is called dead because this process could not look."""
    def work() -> Any:
        found = []
        for command in commands(name):
            used = max(map(int, os.listdir("/proc/self/fd")))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + room, hard))
            try:
                found.append((command[0], *run(*command)))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            if command[0] == "ls":
                resource.setrlimit(resource.RLIMIT_NOFILE, (used + room, hard))
                seen = outcome(lambda: [(one.state, one.leftover)
                                        for one in inspection.find_maps(name)])
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                found.append(("seen", 0, "".join(seen)))
        return found

    def prepare() -> None:
        a_map(name, ephemeral=False)
        name_2 = f"{name}-e"
        m = shmmap.ShmMap(name_2, "300KB", shards=1, ephemeral=True)
        m["a"] = 1
        prepare.kept = m  # type: ignore[attr-defined]

    for command, _, text in inside(prepare, work):
        assert "Traceback" not in text and "check itself failed" not in text, text
        assert "leftover)" not in text and "unlink --yes" not in text, (command, text)
        assert "True" not in text or command != "seen", text


# -- whether somebody lives ---------------------------------------------------------------


def judged(name: str, who: int) -> Any:
    return as_user(who, lambda: [
        (one.state, one.leftover, one.workers) for one in inspection.find_maps(name)])


def test_another_users_map_in_the_making(private, name):
    """Only its maker and root can ask for the lock that its maker holds."""
    def make(child: Child) -> None:
        with creation.creation_lock(name):
            plant(control_file(name), 0o666, b"")
            child.tell("begun")
            child.hear()

    def work() -> Any:
        maker = stranger(ATTACKER, make)
        try:
            maker.hear()
            living = [judged(name, who) for who in (ATTACKER, 0, VICTIM)]
            listed = as_user(VICTIM, lambda: run("ls"))
            doctored = as_user(VICTIM, lambda: doctor.check_leftovers(inspection.find_maps()))
        finally:
            maker.kill()
        return living, listed, doctored, [judged(name, who) for who in (ATTACKER, 0, VICTIM)]

    living, (code, text), doctored, dead = private(work)
    busy, unknown = [("busy", False, ())], [("half-made", False, ())]
    gone = [("half-made", True, ())]
    assert [[one[:2] for one in found] for found in living] == [
        [one[:2] for one in found] for found in (busy, busy, unknown)]
    assert code == 0 and "only its user, and root, can tell" in text and "unlink" not in text
    assert all("unlink" not in line.todo for line in doctored)
    assert dead == [gone, gone, unknown]


def test_a_creators_file_that_somebody_else_took(private, name):
    """Creations queue under the next name then, and that is said."""
    def work() -> Any:
        as_user(ATTACKER, lambda: plant(f"shmmap.{VICTIM}.creators", 0o666, b""))
        as_user(VICTIM, lambda: plant(control_file(name), 0o600, b""))
        line = as_user(VICTIM, allowances.check_creators)
        return judged(name, VICTIM), line

    found, (line,) = private(work)
    assert found[0][:2] == ("half-made", True)  # the names after it are asked
    assert line.status == "WARN" and "was taken" in line.text and "rm" not in line.todo.split()


def test_an_ephemeral_map_that_only_an_idle_child_has(private, name):
    """It holds a lock on the whole liveness file, and has no row."""
    def work() -> Any:
        child = Child(lambda child: die_with(name, child))
        nonce = child.hear()
        child.reap()
        before = [one.state for one in inspection.find_maps(name)]
        descriptor = os.open(SHM / f"shmmap.{name}.{nonce:016x}.live", os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        held = Child(lambda child: [
            (one.state, one.leftover) for one in inspection.find_maps(name)])
        found = held.result()
        listed = run("ls")
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
        return before, found, listed, [one.state for one in inspection.find_maps(name)]

    before, found, (_, listed), after = private(work)
    assert before == after == ["abandoned"]
    assert found == [("ready", False)] and "unlink" not in listed


def die_with(name: str, child: Child) -> None:
    m = shmmap.ShmMap(name, "300KB", shards=1, ephemeral=True)
    m["a"] = 1
    child.tell(m.attachment.nonce)
    os._exit(0)


def test_a_liveness_file_that_cannot_be_read(private, name):
    """Who lives is not known then: nobody, least of all, is said to."""
    def work() -> Any:
        a_map(name, mode=0o666)
        child = Child(lambda child: die_with(f"{name}-e", child))
        child.hear()
        child.reap()
        for file in SHM.glob("*.live"):
            file.chmod(0)
        for file in SHM.glob("shmmap.*"):
            if not file.name.endswith(".live"):
                file.chmod(0o666)
        return [judged(each, VICTIM) for each in (name, f"{name}-e")], \
            as_user(VICTIM, lambda: run("info", name))

    found, (code, text) = private(work)
    assert found == [[("ready", False, None)]] * 2
    assert code == 0 and "not known" in text and "liveness file cannot be read: Perm" in text


# -- many, strange, and on the move ---------------------------------------------------------


def test_ten_thousand_files(private, name):
    def work() -> Any:
        for number in range(9000):
            plant(f"other-{number}", 0o600, b"")
        for number in range(1000):
            plant(control_file(f"x{number}"), 0o600, b"")
        started = time.monotonic()
        listed = run("ls")
        doctored = doctor.check_leftovers(inspection.find_maps())
        return listed, doctored, time.monotonic() - started

    (code, text), doctored, seconds = private(work, "64m")
    assert code == 0 and text.count("half-made (leftover)") == 1000
    assert seconds < PATIENCE_S, seconds
    assert len(doctored) == 1 and len(doctored[0].text) < 1500


def test_files_that_come_and_go(private, name):
    """Whatever is gone by the time it is looked at is no error."""
    def churn(child: Child) -> None:
        child.tell("go")
        while True:
            with shmmap.ShmMap(name, "300KB", shards=2, ephemeral=True) as m:
                m["a"] = 1
            plant(control_file(f"{name}-x"), 0o666, b"")
            os.unlink(SHM / control_file(f"{name}-x"))

    def work() -> Any:
        child = Child(churn)
        try:
            child.hear()
            found, end = [], time.monotonic() + 2.0
            while time.monotonic() < end:
                found += [run("ls"), run("info", name), run("fsck", name),
                          run("unlink", "--yes", f"{name}-x")]
                found.append((0, repr(doctor.check_leftovers(inspection.find_maps()))))
            return found
        finally:
            child.kill()

    found = private(work, "16m")
    assert len(found) > 20
    for _, text in found:
        assert "Traceback" not in text and "Errno" not in text, text


def test_what_others_put_beside_a_map_stays(private, name):
    """Said, not passed over: the objects of a name that its owner cannot remove."""
    def work() -> Any:
        as_user(VICTIM, lambda: a_map(name))
        as_user(ATTACKER, lambda: plant(f"shmmap.{name}.0123456789abcdef.0.0", 0o666, b"x"))
        return as_user(VICTIM, lambda: run("unlink", "--yes", name)), os.listdir(SHM)

    (code, text), left = private(work)
    assert code == 1 and "1 objects stay" in text
    assert "0123456789abcdef.0.0: Operation not permitted" in text
    assert [entry for entry in left if f"shmmap.{name}" in entry] == [
        f"shmmap.{name}.0123456789abcdef.0.0"]


def test_root_unlinks_as_the_owner_and_is_root_again(private, name):
    """Whatever interrupts it; and the file under which creations queue is the owner's."""
    def work() -> Any:
        as_user(VICTIM, lambda: a_map(name))
        os.unlink(SHM / f"shmmap.{VICTIM}.creators")
        original, seen = control.remove_objects, []

        def interrupted(*which: object) -> None:
            seen.append(os.geteuid())
            raise KeyboardInterrupt

        control.remove_objects = interrupted
        codes = [run("unlink", "--yes", name)[0], os.geteuid()]
        control.remove_objects = original
        status = os.lstat(SHM / f"shmmap.{VICTIM}.creators")
        codes.append(run("unlink", "--yes", name)[0])
        return seen, codes, (status.st_uid, stat.S_IMODE(status.st_mode)), os.geteuid()

    seen, codes, creators, euid = private(work)
    assert seen == [VICTIM] and codes == [130, 0, 0]
    assert creators == (VICTIM, 0o600) and euid == 0


# -- maps with a wider mode ------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o606, 0o660, 0o666])
@pytest.mark.parametrize("who", [VICTIM, 0], ids=["owner", "root"])
def test_dump_and_load_of_a_shared_map(private, name, mode, who):
    """Its owner has to say nothing, and root neither: nothing is unpickled."""
    def work() -> Any:
        as_user(VICTIM, lambda: a_map(name, mode=mode))
        path = f"/dev/shm/dump-{who}"
        return (as_user(who, lambda: run("dump", name, path)),
                as_user(who, lambda: run("load", path, name)),
                stat.S_IMODE(os.lstat(path).st_mode))

    (dumped, said), (loaded, told), bits = private(work)
    assert (dumped, loaded, bits) == (0, 0, mode), (said, told)
    assert "1 entries" in said and "0 entries written" in told


@pytest.mark.parametrize("mode", [0o600, 0o606, 0o660, 0o666])
def test_a_mode_lets_in_whom_it_names(private, name, mode):
    def work() -> Any:
        as_user(VICTIM, lambda: a_map(name, mode=mode))
        said = {"mode": mode, "owner_uid": VICTIM}
        return [
            as_user(uid, lambda: outcome(lambda: shmmap.ShmMap(name, **said)["a"])[0], groups)
            for uid, groups in ((VICTIM, ()), (ATTACKER, (VICTIM,)), (ATTACKER, ()))
        ]

    refused = "ConfigMismatch"
    assert private(work) == [
        "", "" if mode & 0o060 else refused, "" if mode & 0o006 else refused]


# -- what doctor says of this process -----------------------------------------------------


LIMITS = (
    (resource.RLIMIT_NOFILE, "file descriptors"), (resource.RLIMIT_FSIZE, "files of at most"),
    (resource.RLIMIT_AS, "bytes of addresses"),
)


@pytest.mark.parametrize(("which", "named"), LIMITS, ids=[named for _, named in LIMITS])
def test_limits_that_are_too_small(start, which, named):
    def work(child: Any) -> Any:
        before = [line.status for line in allowances.check_limits()]
        used = len(os.listdir("/proc/self/fd")) + 5
        pages = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
        value = {resource.RLIMIT_NOFILE: used, resource.RLIMIT_FSIZE: 300_000,
                 resource.RLIMIT_AS: pages + 20_000_000}[which]
        resource.setrlimit(which, (value, resource.getrlimit(which)[1]))
        return before, allowances.check_limits()

    before, (line,) = start(work).result()
    assert before == ["OK"] and line.status == "WARN" and named in line.text and line.todo


def test_mappings_that_are_too_few(monkeypatch, tmp_path):
    (tmp_path / "count").write_text("200\n")
    monkeypatch.setattr(allowances, "_MAX_MAP_COUNT", str(tmp_path / "count"))
    (line,) = allowances.check_limits()
    assert "200 mappings" in line.text and "takes 67" in line.text and "max_map_count" in line.todo


@pytest.mark.parametrize(("files", "removes"), [
    ({}, True), ({"logind.conf": "[Login]\n#RemoveIPC=no\n"}, True),
    ({"logind.conf": "[Login]\nRemoveIPC=no\n"}, False),
    ({"logind.conf": "RemoveIPC=no\n", "d/50-x.conf": "RemoveIPC = yes\n"}, True),
    ({"d/50-x.conf": "RemoveIPC=yes\n", "d/60-x.conf": "RemoveIPC=no\n"}, False),
    ({"d/50-x.conf": "RemoveIPC=no\n", "e/50-x.conf": "[Login]\n"}, True),
])
def test_what_logind_does_at_logout(monkeypatch, tmp_path, files, removes):
    for where, text in files.items():
        (tmp_path / where).parent.mkdir(exist_ok=True)
        (tmp_path / where).write_text(text)
    monkeypatch.setattr(allowances, "_LOGIND", tuple(
        str(tmp_path / pattern) for pattern in ("logind.conf", "d/*.conf", "e/*.conf")))
    assert allowances._removes_ipc() is removes


def test_whom_logind_concerns(private, monkeypatch):
    monkeypatch.setattr(os.path, "isdir", lambda path: True)
    monkeypatch.setattr(allowances, "_removes_ipc", lambda: True)
    assert allowances.check_logind() == []  # root
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (line,) = allowances.check_logind()
    assert line.status == "WARN" and "RemoveIPC=no" in line.todo and "enable-linger" in line.todo


def test_a_shm_that_is_no_memory_is_not_mounted_over(monkeypatch):
    monkeypatch.setattr(machine, "mounts", lambda: [("/", "ext4", "")])
    (line,) = machine.check_shm()
    assert line.status == "WARN" and "While no process uses a map" in line.todo
    monkeypatch.setattr(machine, "mounts", list)
    (line,) = machine.check_shm()
    assert line.status == "OK" and line.about == segment.SHM_DIRECTORY
