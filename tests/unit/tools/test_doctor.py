"""What doctor finds: each check on this machine, and on one where the thing is missing."""

from __future__ import annotations

import _thread
import email.message  # noqa: F401  # importlib.metadata imports it late; sys.path changes below
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import shmmap
from shmmap.system import segment
from shmmap.system.flavours import ENGINES, OWN
from shmmap.tools import cli, doctor, inspection, machine

LIMIT_S = 60.0


@pytest.fixture
def run(tmp_path: Path) -> Callable[[], subprocess.CompletedProcess[str]]:
    """Run doctor in a process of its own, outside the checkout."""
    return lambda: subprocess.run(
        [sys.executable, "-m", "shmmap", "doctor"], cwd=tmp_path, text=True, timeout=LIMIT_S,
        capture_output=True, stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def half_made(name: str) -> Iterator[dict[str, str]]:
    """Control segments whose makers died before writing anything: a map's name by engine."""
    names = {engine: f"{name}-{engine}" for engine in ENGINES.values()}
    flavours = {engine: OWN._replace(engine=engine) for engine in names}
    files = [Path(segment.SHM_DIRECTORY + segment.control_name(map_name, flavours[engine]))
             for engine, map_name in names.items()]
    for file in files:
        file.touch()
    yield names
    for file in files:
        file.unlink()


def test_all_is_well_here(run):
    made = run()
    assert made.returncode == 0, made.stdout + made.stderr
    for about in ("record locks", "wipe on fork"):
        assert re.search(rf"^OK    {about} ", made.stdout, re.M), made.stdout
    assert re.search(rf"^\w+ +engine +{shmmap.ENGINE},", made.stdout, re.M)


def test_names_leftovers_and_the_command_that_removes_them(run, half_made):
    made = run()
    told = re.findall(r"-> (.* -m shmmap unlink --yes .*)", made.stdout)
    commands = [shlex.split(command) for line in told for command in line.split("; ")]
    for engine, name in half_made.items():
        option = [] if engine == shmmap.ENGINE else [f"--engine={engine}"]
        [command] = [command for command in commands if name in command]
        assert command[:command.index("--")] == [
            sys.executable, "-m", "shmmap", "unlink", "--yes", *option]
    assert made.returncode == 0  # a warning


def test_names_maps_of_dead_test_runs():
    dead = subprocess.Popen([sys.executable, "-c", ""], cwd="/")
    dead.wait(LIMIT_S)
    name = f"t{dead.pid}-1"
    with shmmap.ShmMap(name, size="1MB", sweep_interval=None):
        in_use = doctor.check_leftovers(inspection.find_maps(name))
    try:
        left = doctor.check_leftovers(inspection.find_maps(name))
    finally:
        assert cli.main(["unlink", name]) == 0
    assert [line.status for line in in_use] == ["OK"]
    assert left[0].status == "WARN" and left[0].todo.endswith(f"unlink --yes -- {name}")


def test_a_map_that_nobody_sweeps_is_told(name, monkeypatch):
    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    with shmmap.ShmMap(name, size="1MB", sweep_interval=1.0) as m:
        clock = m.attachment.clock
        clock.frozen_ns = clock.now_ns() - doctor.OVERDUE_NS - 10 * 10**9
        m.set("brief", 1, ttl=1)
        overdue = doctor.check_sweeping(inspection.find_maps(name))
        clock.frozen_ns = -1
        m.sweep()
        swept = doctor.check_sweeping(inspection.find_maps(name))
        m.unlink()
    assert [line.status for line in overdue] == ["WARN"] and name in overdue[0].text
    assert swept == []


def test_without_a_compiler_the_pure_engine_is_told_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
    monkeypatch.setattr(doctor.control, "ENGINE", "pure")
    monkeypatch.setattr(doctor._engine, "compiled_modules", list)
    monkeypatch.delenv("SHMMAP_ENGINE", raising=False)
    compiler, = doctor.check_compiler()
    assert compiler.status == "WARN" and "apt-get install" in compiler.todo
    engine, = doctor.check_engine()
    assert engine.status == "WARN"
    command = engine.todo.splitlines()[0]
    for part in ("SHMMAP_BUILD=compiled", "--force-reinstall", "--no-cache-dir",
                 "--no-binary shmmap"):
        assert part in command


@pytest.mark.parametrize("direct_url, source", [
    ({"url": "file:///src/my%20shmmap", "dir_info": {}}, "'/src/my shmmap'"),
    ({"url": "https://example.org/s.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
     "git+https://example.org/s.git@abc"),
    ({"url": "https://example.org/s-1.tar.gz", "archive_info": {}},
     "https://example.org/s-1.tar.gz"),
    (None, "shmmap==9.9"),
])

def test_reinstalls_from_where_it_came(monkeypatch, tmp_path, direct_url, source):
    install(tmp_path, direct_url)
    monkeypatch.setattr(doctor, "PACKAGE", (tmp_path / "shmmap").resolve())
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert doctor.install_source()[0] == source
    assert source in doctor.reinstall_command().splitlines()[0]
    assert [line.status for line in doctor.check_copies()] == ["OK"]


def test_a_source_tree_beside_an_installed_copy_is_told(monkeypatch, tmp_path):
    install(tmp_path, None)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    line, = doctor.check_copies()
    assert line.status == "WARN" and str(tmp_path / "shmmap") in line.text


def test_a_check_that_breaks_is_a_failure(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "check_hash", lambda: 1 / 0)
    assert doctor.run(list) == 1
    assert re.search(r"^FAIL  hash .*ZeroDivisionError", capsys.readouterr().out, re.M)


def test_little_room_is_told(monkeypatch):
    monkeypatch.setattr(segment, "free_bytes", lambda: 1000)
    line, = doctor.check_shm()
    assert line.status == "WARN" and "--shm-size" in line.todo


def test_locks_that_do_not_exclude_are_a_failure(monkeypatch):
    monkeypatch.setattr(machine.record_lock, "try_lock_byte", lambda *_: True)
    assert doctor.check_record_locks()[0].status == "FAIL"

def install(directory: Path, direct_url: object) -> None:
    """Make what an installer leaves."""
    metadata = directory / "shmmap-9.9.dist-info"
    metadata.mkdir()
    (directory / "shmmap").mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shmmap\nVersion: 9.9\n")
    if direct_url:
        (metadata / "direct_url.json").write_text(json.dumps(direct_url))


