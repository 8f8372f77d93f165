"""The command line over what other users left in /dev/shm: nothing is followed, unpickled,
waited for or believed, and nothing that was not asked for is removed.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import time
from typing import Any

import pytest

import shmmap
from shmmap.memory import geometry
from shmmap.memory.layout import constants
from shmmap.memory.words import ControlWords
from shmmap.system import creation
from shmmap.tools import cli, doctor, inspection, unlinking

from ..support.leftovers import control_file
from ..support.strangers import ATTACKER, SHM, VICTIM, as_user, outcome, plant
from ..support.table_words import sum_up

K = constants()
PRECIOUS = b"v" * 5000
PATIENCE_S = 8.0  # on a machine that has much else to do
COMMANDS = (("info",), ("fsck", "--repair", "--yes"))
WHO = pytest.mark.parametrize("who", [VICTIM, 0], ids=["user", "root"])


def run(*arguments: str) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = cli.main(arguments)
        except SystemExit as error:  # wrong usage
            code = int(error.code or 0)
    return code, said.getvalue()


def sound_words() -> bytes:
    """Return the bytes of the control segment of a live map of this user."""
    with shmmap.ShmMap("pattern", "300KB", shards=1) as m:
        data = (SHM / control_file("pattern")).read_bytes()
        m.unlink()
    return data


def plant_everything() -> list[str]:
    """Leave one of every kind; give the names as maps."""
    sound = bytearray(sound_words())
    plant(control_file("sound"), 0o666, bytes(sound))
    sound[K["C_GEN0_SLOTS"] : K["C_GEN0_SLOTS"] + 8] = b"\xff" * 8
    plant(control_file("absurd"), 0o666, bytes(sound))
    plant(control_file("empty"), 0o666, b"")
    plant(control_file("noise"), 0o666, os.urandom(geometry.control_bytes()))
    os.truncate(os.open(SHM / control_file("sparse"), os.O_CREAT | os.O_WRONLY, 0o666), 1 << 44)
    (SHM / control_file("link")).symlink_to(SHM / "precious")
    (SHM / control_file("dangling")).symlink_to(SHM / "nowhere")
    (SHM / control_file("folder")).symlink_to("/")
    (SHM / control_file("directory")).mkdir()
    os.mkfifo(SHM / control_file("fifo"), 0o666)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(SHM / control_file("socket")))
    plant(control_file("--yes"), 0o666, b"")
    plant(control_file("n" * 100), 0o666, b"")
    plant(control_file("m" * 101), 0o666, b"")
    for strange in ("a\nb", "\udcff\udcfe", "\x1b[2J", "é", "a.b", "", " ", "parts.0.0"):
        plant(control_file(strange), 0o666, b"")
        plant(f"shmmap.{strange}", 0o666, b"")
    plant("shmmap.parts.0123456789abcdef.0.0", 0o666, b"x")
    (SHM / "sem.shmmap.parts.0123456789abcdef.0.0").symlink_to(SHM / "precious")
    return ["sound", "absurd", "empty", "noise", "sparse", "link", "dangling", "folder",
            "directory", "fifo", "socket", "--yes", "n" * 100, "parts"]


@WHO
def test_looking_at_everything_hostile(private, name, who):
    def look(names: list[str]) -> Any:
        started = time.monotonic()
        listed = run("ls")
        shown = [run(*command, "--", each) for command in COMMANDS for each in names]
        found = doctor.check_leftovers(inspection.find_maps())
        return listed, shown, found, time.monotonic() - started

    def work() -> Any:
        as_user(VICTIM, lambda: plant("precious", 0o600, PRECIOUS))
        names = as_user(ATTACKER, plant_everything)
        before = {e: os.lstat(SHM / e).st_mtime_ns for e in os.listdir(SHM)}
        found = as_user(who, lambda: look(names))
        after = {e: os.lstat(SHM / e).st_mtime_ns for e in os.listdir(SHM) if "creators" not in e}
        return names, found, {**before, **after} == before

    names, ((code, listed), shown, leftovers, seconds), unchanged = private(work)
    assert code == 0 and seconds < PATIENCE_S and unchanged
    assert listed.isascii() and "\x1b" not in listed and "Traceback" not in listed
    rows = {line.split()[0]: line.split()[1] for line in listed.splitlines() if " " in line}
    assert rows.keys() >= set(names)
    for each in ("link", "dangling", "folder", "directory", "fifo", "socket"):
        assert rows[each] == "unreadable", rows
    assert (rows["noise"], rows["sparse"], rows["absurd"]) == ("garbage",) * 3
    for number, (code, text) in enumerate(shown):
        each, fine = names[number % len(names)], number < len(names)
        assert code == 0 if each == "sound" and fine else code in (1, 4, 8), (each, text)
        assert "v" * 20 not in text and "Traceback" not in text, (each, text)
    assert all(line.todo.isascii() and "\n" not in line.todo for line in leftovers)


def test_the_command_that_doctor_proposes(private, name):
    """It can be pasted: a name is never taken for an option."""
    def work() -> Any:
        as_user(ATTACKER, lambda: plant(control_file("--yes"), 0o666, b""))
        line = next(iter(doctor.check_leftovers(inspection.find_maps())))
        arguments = line.todo.split(" -m shmmap ")[1].split()
        return run(*arguments), [e for e in os.listdir(SHM) if "yes" in e]

    (code, text), left = private(work)
    assert code == 0 and left == [], text


@WHO
def test_unlinking_what_another_user_left(private, name, who):
    """Root removes it, as that user: what a link leads to stays. Others may not."""
    def work() -> Any:
        as_user(VICTIM, lambda: plant("precious", 0o600, PRECIOUS))
        names = as_user(ATTACKER, plant_everything)
        found = {each: as_user(who, lambda each=each: run("unlink", "--yes", "--", each))
                 for each in names if each != "directory"}
        left = [each for each in names if os.path.lexists(SHM / control_file(each))]
        return found, left, (SHM / "precious").read_bytes() == PRECIOUS

    found, left, precious = private(work)
    assert precious
    for each, (code, text) in found.items():
        assert code == (0 if who == 0 else 1) and "Traceback" not in text, (each, text)
        assert who == 0 or "another user" in text
    if who == 0:
        assert left == ["directory"]


def test_unlink_of_maps_of_several_users_takes_the_lock_of_each(private, name):
    def work() -> Any:
        for uid in (VICTIM, ATTACKER):
            as_user(uid, lambda uid=uid: shmmap.ShmMap(f"of{uid}", "300KB").close())
        locks = []
        original = creation.try_lock_byte

        def noting(descriptor: int, byte: int) -> bool:
            locks.append((os.geteuid(), os.fstat(descriptor).st_uid))
            return original(descriptor, byte)

        creation.try_lock_byte = noting
        code, text = run("unlink", "--yes", f"of{VICTIM}", f"of{ATTACKER}")
        return code, text, locks

    code, text, locks = private(work)
    assert code == 0, text
    assert locks == [(VICTIM, VICTIM), (ATTACKER, ATTACKER)]


def test_a_fifo_put_in_the_place_of_a_map_that_root_unlinks(private, name):
    """Between the look at it and the opening: a writer would wait for a reader for ever."""
    def work() -> Any:
        as_user(ATTACKER, lambda: shmmap.ShmMap(name, "300KB").close())
        seen = inspection.find_maps(name)[0]
        os.unlink(SHM / control_file(name))
        os.mkfifo(SHM / control_file(name), 0o666)

        def give_up(number: int, frame: Any) -> None:
            raise TimeoutError("waits for a reader")

        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(2)
        return outcome(lambda: unlinking._retire(seen))

    assert private(work)[0] == "OSError"  # nobody reads there


def test_shards_that_are_mostly_holes_cost_no_time(private, name):
    """Files without pages may claim terabytes: `ls` reads what is there."""
    def make() -> None:
        shards, slots, slot_size = 512, geometry.SLOT_LIMIT, 64
        with shmmap.ShmMap("pattern", "300KB", shards=1) as m:
            control = bytearray((SHM / control_file("pattern")).read_bytes())
            nonce = m.attachment.nonce
            shard = bytearray((SHM / f"shmmap.pattern.{nonce:016x}.0.0").read_bytes()[:4096])
            m.unlink()
        buckets = -(-slots // 8)
        shape = geometry.Geometry(shards, slots, slot_size, buckets, 0)
        for field, value in (
            ("GEN0_SHARDS", shards), ("GEN0_SLOTS", slots), ("GEN0_SLOT_SIZE", slot_size),
            ("GEN0_BUCKETS", buckets), ("GEN0_BYTES", shape.areas.end), ("GEN0_ON_FULL", 0),
        ):
            control[K[f"C_{field}"] : K[f"C_{field}"] + 8] = value.to_bytes(8, "little")
        words = ControlWords(control)
        sum_up(words)
        plant(control_file(name), 0o666, bytes(control))
        for number in range(shards):
            for field, value in (
                ("NUMBER", number), ("HAS_DEADLINES", 1), ("EARLIEST_NS", 1), ("ENTRIES", 9),
            ):
                shard[K[f"S_{field}"] : K[f"S_{field}"] + 8] = value.to_bytes(8, "little")
            label = f"shmmap.{name}.{nonce:016x}.0.{number}"
            plant(label, 0o666, bytes(shard))
            os.truncate(SHM / label, shape.areas.end)

    def work() -> Any:
        as_user(ATTACKER, make)
        started = time.monotonic()
        code, text = run("ls")
        return code, text, time.monotonic() - started

    code, text, seconds = private(work)
    assert code == 0 and f"{name} " in text and "ready" in text
    assert seconds < PATIENCE_S, f"{seconds:.1f} s"
