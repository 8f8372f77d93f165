"""fsck: what it finds, what it repairs, what it leaves alone, and its exit codes."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.memory.layout import constants
from shmmap.memory.words import ControlWords
from shmmap.tools import cli, fsck

from ...support.damage import Damage
from ...support.leftovers import control_file

K = constants()
SHM = Path("/dev/shm")
WANTED = {b"key-%d" % i: b"value %d" % i for i in range(200)} | {b"long": b"x" * 900}
OTHER = "pure" if shmmap.ENGINE == "compiled" else "compiled"


@pytest.fixture
def m(make: Any) -> Any:
    """A map of two shards with entries in both."""
    opened = make(size="400KB", shards=2)
    opened.update(WANTED)
    return opened


@pytest.fixture
def check(capsys: Any, name: str) -> Any:
    """check("--repair"): run fsck; return the exit code and all that it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        code = cli.main(["fsck", *arguments, name])
        out, err = capsys.readouterr()
        return code, out + err

    return run


def part(name: str, ending: str) -> Path:
    """Find an object of the map by how its name ends."""
    return next(p for p in SHM.iterdir()
                if p.name.startswith(f"shmmap.{name}.") and p.name.endswith(ending))


def miscount(m: Any, number: int) -> None:
    """Damage a count of one shard."""
    damage = Damage(m, number)
    damage.set_header("ENTRIES", damage.header("ENTRIES") + 1)


def test_a_clean_map(m, check):
    code, text = check()
    assert code == fsck.CLEAN and "2 of 2 shard(s) were clean" in text
    assert check("--repair", "--yes")[0] == fsck.CLEAN
    assert m.stats().repairs == 0 and dict(m) == WANTED


def test_damage_is_named_and_left_alone_unless_asked(m, check, name):
    miscount(m, 1)
    before = bytes(m.attachment.mappings[1].buffer)
    code, text = check()
    assert code == fsck.LEFT
    assert "shard 1: 1 problem(s)" in text and "S4: ENTRIES" in text and "shard 0" not in text
    assert "1 of 2 shard(s) were clean" in text and f"fsck --repair {name}" in text
    after = bytes(m.attachment.mappings[1].buffer)
    lock = slice(K["S_OWNER"], K["S_OWNER"] + 16)  # these words fsck must use
    assert before[: lock.start] + before[lock.stop :] == after[: lock.start] + after[lock.stop :]


def test_damage_is_repaired_and_nothing_else_is_lost(m, check):
    miscount(m, 1)
    code, text = check("--repair", "--yes")
    assert code == fsck.REPAIRED and "shard 1: repaired, " in text
    assert check() == (fsck.CLEAN, check()[1])
    assert m.check() == [] and dict(m) == WANTED and m.stats().repairs == 1


@pytest.mark.parametrize(("answer", "code"), [("y", fsck.REPAIRED), ("n", fsck.LEFT),
                                               ("", fsck.LEFT), (None, fsck.LEFT)])
def test_it_asks_before_it_repairs(m, check, monkeypatch, answer, code):
    miscount(m, 0)

    def say(question: str) -> str:
        assert "shard 0" in question and "dropped" in question
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr("builtins.input", say)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert check("--repair")[0] == code
    assert (m.check() == []) is (code == fsck.REPAIRED)


def test_nobody_to_ask(m, check, monkeypatch):
    miscount(m, 0)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    code, text = check("--repair")
    assert code == fsck.LEFT and "--yes" in text and m.check() != []


def test_one_shard_stays_damaged_where_another_is_repaired(m, check, monkeypatch):
    miscount(m, 0)
    miscount(m, 1)
    monkeypatch.setattr("builtins.input", lambda question: "ny"["shard 1" in question])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert check("--repair")[0] == fsck.LEFT | fsck.REPAIRED
    assert all(problem.startswith("shard 0") for problem in m.check())


def test_many_problems_are_cut_short(m, check):
    damage = Damage(m, 0)
    for at in damage.index_words():
        damage.words[at] = 0
    code, text = check()
    assert code == fsck.LEFT and " more" in text
    assert len(text.splitlines()) < fsck.SHOWN + 8


def test_what_is_damaged_itself_is_dropped(m, check):
    damage = Damage(m, 0)
    slot = damage.live()[0]
    damage.words[damage.slot_word(slot, 8)] |= 0xFFFF << 48  # an impossible length
    assert check("--repair", "--yes")[0] == fsck.REPAIRED
    left = dict(m)
    assert len(left) == len(WANTED) - 1 and left.items() <= WANTED.items()


def test_a_map_in_use_by_other_processes(m, check, start):
    def work(child: Any) -> int:
        writes = 0
        with shmmap.ShmMap.attach(m.name) as mine:
            child.tell("ready")
            while b"stop" not in mine:
                mine[b"busy"] = writes
                writes += 1
        return writes

    child = start(work)
    assert child.hear() == "ready"
    for _ in range(5):
        miscount(m, 0)
        code, text = check("--repair", "--yes")
        assert code in (fsck.CLEAN, fsck.REPAIRED) and "2 live worker(s)" in text, text
    m[b"stop"] = 1
    assert child.result() > 0
    assert check()[0] == fsck.CLEAN
    left = dict(m)
    assert left.items() >= WANTED.items()


def test_a_map_whose_workers_have_all_died(name, check, start):
    def work(child: Any) -> None:
        mine = shmmap.ShmMap.create(name, "400KB", shards=2, sweep_interval=None)
        mine.update(WANTED)
        damage = Damage(mine, 1)
        damage.set_header("OWNER", mine.attachment.worker.fork_page.word | 1)
        damage.set_header("DIRTY", 1)
        damage.set_header("ENTRIES", 0)
        os.kill(os.getpid(), 9)

    start(work).reap()
    code, text = check()
    assert code == fsck.REPAIRED and "0 live worker(s)" in text
    assert "shard 1: a change that a dead worker had broken off was repaired" in text
    assert check()[0] == fsck.CLEAN
    with shmmap.ShmMap.attach(name) as mine:
        assert dict(mine) == WANTED


def test_a_shard_whose_lock_cannot_be_had(m, check, start, monkeypatch):
    def work(child: Any) -> None:
        mine = shmmap.ShmMap.attach(m.name)
        mine.get(b"long")
        Damage(mine, 0).set_header("OWNER", mine.attachment.worker.fork_page.word | 1)
        child.tell("held")
        child.hear()

    monkeypatch.setattr(fsck, "LOCK_TIMEOUT_S", 0.2)
    child = start(work)
    assert child.hear() == "held"
    miscount(m, 1)
    code, text = check()
    assert code == fsck.FAILED | fsck.LEFT
    assert "shard 0: could not be looked at" in text and f"process {child.pid}" in text
    assert "shard 1: 1 problem(s)" in text
    child.kill()
    assert check("--repair", "--yes")[0] == fsck.REPAIRED


# -- what cannot be repaired ------------------------------------------------------------------


def test_no_map(check):
    code, text = check("--repair", "--yes")
    assert code == fsck.FAILED and "no map" in text and "ls" in text


def test_a_name_that_cannot_be_one(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["fsck", "a.b"])
    assert caught.value.code == 2


@pytest.mark.parametrize(("field", "value"), [("MAGIC", 12345), ("GEN0_SLOTS", 7), ("STATE", 9)])
def test_a_damaged_control_segment(m, check, field, value):
    control = m.attachment.control
    word = getattr(ControlWords, field)
    kept = control[word]
    control[word] = value
    code, text = check("--repair", "--yes")
    control[word] = kept
    assert code == fsck.LEFT and "control segment" in text and "unlink -- " in text


@pytest.mark.parametrize(("ending", "act", "says"), [
    (".0.1", lambda path: path.unlink(), "is missing"),
    (".0.1", lambda path: os.truncate(path, 4096), "4,096 bytes where"),
    (".0.0", lambda path: os.truncate(path, 1 << 22), "4,194,304 bytes where"),
    (".live", lambda path: path.unlink(), "is missing"),
    (".0.0", lambda path: os.chmod(path, 0o666), "mode 666"),
])
def test_damaged_objects(name, check, start, ending, act, says):
    def work(child: Any) -> None:  # in a process of its own: nobody here may have it mapped
        mine = shmmap.ShmMap.create(name, "400KB", shards=2, sweep_interval=None)
        mine.close()

    start(work).hear()
    try:
        path = part(name, ending)
        act(path)
        code, text = check("--repair", "--yes")
        assert code == fsck.LEFT and says in text and path.name in text
        assert "unlink -- " in text
    finally:
        assert cli.main(["unlink", "--yes", name]) == 0


def test_a_missing_semaphore(m, check, name):
    semaphore = SHM / f"sem.{part(name, '.0.0').name}"
    semaphore.unlink()
    code, text = check()
    assert code == fsck.LEFT and "is missing" in text


def test_a_map_of_the_other_engine(m, check, monkeypatch):
    monkeypatch.setattr(fsck.control, "ENGINE", OTHER)  # as if this process ran that one
    code, text = check("--repair", "--yes")
    assert code == fsck.FAILED and f"made by the {shmmap.ENGINE} engine" in text
    assert "SHMMAP_ENGINE" in text and m.stats().repairs == 0


def test_a_leftover(m, check, name):
    path = SHM / control_file(name)
    with path.open("r+b") as file:
        file.seek(K["C_BOOT_LOW"])
        kept = file.read(8)
        file.seek(K["C_BOOT_LOW"])
        file.write(struct.pack("=Q", 1))
    code, text = check()
    with path.open("r+b") as file:
        file.seek(K["C_BOOT_LOW"])
        file.write(kept)
    assert code == fsck.LEFT and "old boot" in text and "unlink --yes" in text


def test_a_map_with_a_wide_mode(name, check):
    with shmmap.ShmMap.create(name, "400KB", mode=0o666, shards=1, sweep_interval=None) as wide:
        assert check()[0] == fsck.CLEAN
        wide.unlink()


def test_as_a_user_runs_it(m, name, tmp_path):
    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "shmmap", "fsck", *arguments], cwd=tmp_path, timeout=60,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        return done.returncode, done.stdout

    miscount(m, 0)
    code, text = run(name)
    assert code == fsck.LEFT and "S4" in text, text
    code, text = run("--repair", name)
    assert code == fsck.LEFT and "--yes" in text, text
    code, text = run("--repair", "--yes", name)
    assert code == fsck.REPAIRED and "shard 0: repaired" in text, text
    code, text = run("--help")
    assert code == 0 and "exit codes: 0 clean" in text
    assert m.check() == []
