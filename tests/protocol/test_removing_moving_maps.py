"""A map is removed in the middle of its move to another geometry: nothing of it may stay."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import ephemeral, files, reaping
from shmmap.memory.table import generations_of
from shmmap.system import segment
from shmmap.tools import cli

from ..support.leftovers import SHM, control_file, objects_of
from ..support.moving_maps import STEPS, MovingMap
from ..support.strangers import ATTACKER, stranger

REST = b"\0" * 8192


def a_map(name: str, **parameters: Any) -> Any:
    """Make a map of 4 shards with some entries."""
    m = shmmap.ShmMap.create(name, "1MB", shards=4, sweep_interval=None, **parameters)
    m.update({number: number for number in range(100)})
    return m


def moved_to(m: Any, what: str) -> MovingMap:
    """Move a map's first group, and the second one up to a step."""
    it = MovingMap(m, shards=16)
    it.move(1)
    for step in STEPS[: STEPS.index(what) + 1]:
        it.step(step)
    return it


def leftovers(it: MovingMap) -> None:
    """Leave what a dead mover left that was stopped in another group, and of a former generation
    of which the table knows nothing any more."""
    it.write(it.label(1, 15, private=True), REST)
    for label in (f"/shmmap.{it.name}.{it.nonce:016x}.7.3", f"{it.label(0, 3)}.{1:016x}"):
        it.write(label, REST)
    segment.create_semaphore(f"/shmmap.{it.name}.{it.nonce:016x}.7.3", it.mode)


def replaced(name: str) -> None:
    shmmap.ShmMap(name, "2MB", fresh=True).unlink()


def pruned(name: str) -> None:
    program = ("import sys, shmmap.tools.cli as cli; from shmmap.tools import inspection\n"
               "real, name = inspection.find_maps, sys.argv.pop()\n"
               "inspection.find_maps = lambda only=None: real(name)\n"
               "sys.exit(cli.main(['prune', '--unused-for=0s', '--yes']))")
    subprocess.run(
        [sys.executable, "-c", program, name], check=True, stdout=subprocess.DEVNULL, cwd="/"
    )


def unlinked_by_command(name: str) -> None:
    assert cli.main(["unlink", name, "--yes"]) == 0


def of_an_earlier_boot(name: str) -> None:
    with (SHM / control_file(name)).open("r+b") as file:
        file.seek(40)  # BOOT_LOW
        file.write(b"\1" * 8)
    shmmap.ShmMap(name, "300KB").unlink()


WAYS: dict[str, Callable[[str], Any]] = {
    "m.unlink()": lambda name: shmmap.ShmMap.attach(name).unlink(),
    "unlink": shmmap.unlink, "shmmap unlink": unlinked_by_command, "shmmap prune": pruned,
    "fresh=True": replaced, "an earlier boot": of_an_earlier_boot,
}


@pytest.mark.parametrize("what", STEPS)
@pytest.mark.parametrize("way", WAYS)
def test_all_of_a_map_that_moves_goes(name, way, what):
    with a_map(name) as m:
        it = moved_to(m, what)
        leftovers(it)
        if way == "m.unlink()":  # by a handle that was open before
            m.unlink()
    if way != "m.unlink()":
        WAYS[way](name)
    assert objects_of(name) == []


@pytest.mark.parametrize("what", ["make", "publish", "rename"])
def test_all_of_a_map_whose_last_worker_leaves_goes(name, what):
    with a_map(name, ephemeral=True) as m:
        leftovers(moved_to(m, what))
    assert objects_of(name) == []


def test_all_of_a_map_that_lingered_in_vain_goes(name, start):
    def work(child: Any) -> None:
        with a_map(name, ephemeral=True, linger=0.01) as m:
            leftovers(moved_to(m, "publish"))

    start(work).result()
    assert objects_of(name)
    while objects_of(name):
        reaping.reap()


def test_what_a_dead_replacer_left_of_a_map_that_moved_goes(name):
    """It had exchanged the names: the former control segment has that of one being made."""
    with a_map(name) as m:
        it = moved_to(m, "make")
        leftovers(it)
    os.rename(SHM / control_file(name), SHM / f"{control_file(name)}.new")
    with shmmap.ShmMap(name, "300KB", shards=1) as m:
        assert not [entry for entry in objects_of(name) if f"{it.nonce:016x}" in entry]
        m.unlink()
    assert objects_of(name) == []


@pytest.mark.parametrize("way", ["m.unlink()", "unlink"])
def test_where_dev_shm_cannot_be_listed_what_the_table_names_goes(name, way, monkeypatch):
    def listdir(path: str = ".") -> list[str]:
        if str(path) == "/dev/shm":
            raise PermissionError(13, "Permission denied")
        return real(path)

    real = os.listdir
    with a_map(name) as m:
        it = moved_to(m, "rename")
        it.step("advance")
        private = it.label(1, 15, private=True)
        it.write(private, REST)
        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", listdir)
            m.unlink() if way == "m.unlink()" else shmmap.unlink(name)
    assert objects_of(name) == [private[1:]]
    segment.unlink(private)


@pytest.mark.parametrize("way", ["m.unlink()", "unlink", "shmmap unlink"])
@pytest.mark.parametrize("late", [False, True])
def test_what_a_mover_renames_while_it_is_removed_goes(name, way, late, monkeypatch):
    """It is listed under its private name, and has the public one when its turn comes: at once, or
    at the last moment, when other names may have been removed."""
    with a_map(name) as m:
        it = moved_to(m, "make")
        _, _, new = it.group()
        real, done = segment.unlink, []

        def unlink(label: str) -> bool:
            if not done and (not late or label.endswith(f".{it.token:016x}")):
                done.append(label)
                it.step("rename")
            return real(label)

        monkeypatch.setattr(segment, "unlink", unlink)
        if way == "m.unlink()":
            m.unlink()
        else:
            WAYS[way](name)
    assert done and len(new) == 4 and objects_of(name) == []


def test_a_map_is_retired_before_its_files_are_listed(name, monkeypatch):
    """A mover looks at STATE after it has made a segment: else neither would remove that."""
    with a_map(name) as m:
        states = []
        real = files.listed

        def listed(*args: Any) -> list[str]:
            states.append(m.attachment.control.STATE)
            return real(*args)

        monkeypatch.setattr(files, "listed", listed)
        shmmap.unlink(name)
    assert states and set(states) == {2}


@pytest.mark.parametrize("way", ["m.unlink()", "unlink"])
@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_a_stranger_does_not_stop_an_unlink_by_the_names_of_movers(name, start, way, kind):
    if os.geteuid():
        pytest.skip("needs another user")

    def work(child: Any) -> Any:
        with a_map(name) as m:
            it = moved_to(m, "make")
            path = SHM / f"shmmap.{name}.{it.nonce:016x}.3.0.{5:016x}"
            child.tell(str(path))
            child.hear()
            m.unlink() if way == "m.unlink()" else shmmap.unlink(name)
        return [entry for entry in objects_of(name) if entry != path.name]

    child = stranger(ATTACKER - 2, work)
    path = child.hear()
    if kind == "directory":
        os.mkdir(path)
    elif kind == "link":
        os.symlink("/etc/passwd", path)
    else:
        open(path, "w").close()
    try:
        child.tell("planted")
        assert child.result() == []
        assert os.path.lexists(path)
    finally:
        os.rmdir(path) if kind == "directory" else os.unlink(path)


def test_the_files_of_parts_are_looked_up_when_they_are_asked_for(name):
    with a_map(name) as m:
        found = set(m.attachment.part_files)
        it = MovingMap(m, shards=16)
        it.step("make")
        more = set(m.attachment.part_files) - found
        new = it.group()[2]
        assert {it.label(1, number, private=True) for number in new} <= more
        assert {it.label(1, 15), segment.semaphore_file(it.label(1, 15))} <= more
        computed = files.computed(name, it.nonce, generations_of(it.control))
        assert not [label for label in computed if label.endswith(f".{it.token:016x}")]
        m.unlink()


@pytest.mark.parametrize("is_asked", [False, True])
def test_the_files_of_parts_are_known_when_the_map_is_unmapped(name, is_asked):
    """An unlink that was broken off goes on then, also one that had not come to its first file."""
    m = a_map(name)
    attached = m.attachment
    before = set(objects_of(name)) - {control_file(name)}
    if is_asked:
        assert before == {label[1:] for label in attached.part_files}
    it = MovingMap(m, shards=16)
    it.step("make")
    more = {it.label(1, number, private=True)[1:] for number in it.group()[2]}
    m.close()
    assert attached.is_down
    found = {label[1:] for label in attached.part_files}
    assert before | more <= found
    shmmap.unlink(name)


def test_an_unlink_lists_dev_shm_once(name, monkeypatch):
    """Once: a map of many shards is not removed more slowly by that."""
    with a_map(name) as m:
        listings = []
        real = files.listed

        def listed(*args: Any) -> list[str]:
            listings.append(args)
            return real(*args)

        monkeypatch.setattr(files, "listed", listed)
        m.unlink()
    assert len(listings) == 1


def test_a_file_is_given_away_only_if_it_is_one_of_roots(tmp_path, monkeypatch):
    """Root gives a map's files to its last user; a stranger may have taken a name of a shard that
    a mover has not made so far, to have root give something else."""
    if os.geteuid():
        pytest.skip("needs root")
    monkeypatch.setattr(segment, "SHM_DIRECTORY", str(tmp_path))
    for entry in ("file", "target", "linked", "other's"):
        (tmp_path / entry).touch()
    os.link(tmp_path / "linked", tmp_path / "second")
    os.symlink(tmp_path / "target", tmp_path / "link")
    os.mkfifo(tmp_path / "fifo")
    os.mkdir(tmp_path / "folder")
    os.chown(tmp_path / "other's", ATTACKER, -1)
    for entry in ("file", "link", "second", "fifo", "folder", "other's", "none"):
        ephemeral._give(f"/{entry}", 12345)
    given = {entry.name for entry in tmp_path.iterdir() if entry.lstat().st_uid == 12345}
    assert given == {"file"}
