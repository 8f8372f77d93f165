"""The command line against real maps: of other processes, the other engine, and the dead."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap import _engine
from shmmap.lifecycle import control
from shmmap.memory import geometry, layout
from shmmap.system import creation, segment
from shmmap.tools import cli, findings, inspection

K = layout.constants()
TOP = Path(__file__).resolve().parents[3]
LIMIT_S = 60.0
OTHER = "pure" if shmmap.ENGINE == "compiled" else "compiled"

# A process that has the map open: tells what it sees after each line it is sent.
HOLDER = """
import sys, shmmap
m = shmmap.ShmMap(sys.argv[1], sweep_interval=None, **eval(sys.argv[2]))
m["held"] = 1
print("open", flush=True)
for line in sys.stdin:
    try:
        print(m.get(line.strip()), flush=True)
    except shmmap.ShmMapError as error:
        print(type(error).__name__, flush=True)
"""


def test_nowhere_to_print(make, tmp_path):
    """`>&-`: Python then has no sys.stdout at all."""
    m = make()
    command = f"{sys.executable} -m shmmap"
    for arguments in ("ls", f"info {m.name}", f"dump {m.name} d", "size --entries 5"):
        done = subprocess.run(
            f"{command} {arguments} >&-", shell=True, cwd=tmp_path, capture_output=True,
            timeout=LIMIT_S,
        )
        assert (done.returncode, done.stderr) == (0, b""), arguments
    assert (tmp_path / "d").stat().st_size


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run a command of `python -m shmmap`, with what a shell does to its descriptors, outside the
    checkout."""
    return lambda command: subprocess.run(
        f"{sys.executable} -m shmmap {command}", shell=True, text=True, cwd=tmp_path,
        capture_output=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_doctor_without_standard_descriptors(shell, closed):
    """What it opens does not get their numbers, which are a subprocess's pipes."""
    as_ever, done = shell("doctor"), shell(f"doctor {closed}")
    assert done.returncode == as_ever.returncode, (as_ever.stdout, done.stdout)
    if ">&-" not in closed.split():
        assert "OK    record locks" in done.stdout and done.stderr == ""


def test_unlink_with_no_stdin_to_ask(shell, hold, clean):
    hold(clean)
    done = shell(f"unlink {clean} <&-")
    assert done.returncode == 1 and "say --yes" in done.stderr and done.stdout == ""
    assert "Traceback" not in done.stderr
    done = shell(f"unlink {clean} <&- 2>&-")  # what cannot be said is not said elsewhere
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command of `python -m shmmap` outside the checkout."""

    def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "shmmap", *arguments], cwd=tmp_path, text=True, timeout=LIMIT_S,
            capture_output=True, stdin=subprocess.DEVNULL, env={**os.environ, **environment},
        )

    return command


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that open a map; each is killed and reaped at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str, engine: str = shmmap.ENGINE, **parameters: object) -> Any:
        if not parameters.get("capacity"):
            parameters.setdefault("size", "1MB")
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, name, repr(parameters)], cwd=tmp_path, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "SHMMAP_ENGINE": engine},
        )
        started.append(process)
        assert read_line(process) == "open"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=LIMIT_S)


@pytest.fixture
def clean(name: str) -> Iterator[str]:
    """The test's map name; every file of that name is removed at the end, garbage too."""
    yield name
    for entry in objects(name):
        os.unlink(entry)


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], LIMIT_S)[0], "no answer"
    return process.stdout.readline().strip()


def ask(process: subprocess.Popen[str], key: str) -> str:
    assert process.stdin is not None
    process.stdin.write(f"{key}\n")
    process.stdin.flush()
    return read_line(process)


def objects(name: str) -> list[Path]:
    """List every file of a map."""
    pattern = re.compile(rf"(sem\.)?shmmap\.{name}(\..*)?")
    return [p for p in Path(segment.SHM_DIRECTORY).iterdir() if pattern.fullmatch(p.name)]


def control_file(name: str) -> Path:
    return Path(segment.SHM_DIRECTORY + segment.control_name(name))


def poke(name: str, field: str, value: int, beyond: int = 0) -> None:
    """Overwrite one word of a control segment."""
    with control_file(name).open("r+b") as file:
        os.pwrite(file.fileno(), struct.pack("=Q", value), K[f"C_{field}"] + beyond)


def row_of(output: str, name: str) -> list[str]:
    return next(line for line in output.splitlines() if line.startswith(f"{name} ")).split()


needs_other_engine = pytest.mark.skipif(
    OTHER == "compiled" and len(_engine.compiled_modules()) < len(_engine.MODULES),
    reason="the compiled engine is not installed",
)


class TestLs:
    def test_shows_a_live_map_with_its_figures(self, run, make, name):
        m = make(size="2MB")
        m.update({f"key-{i}": i for i in range(123)})
        made = run("ls")
        assert made.returncode == 0, made.stderr
        row = row_of(made.stdout, name)
        assert row[1:4] == ["ready", shmmap.ENGINE, "123"]
        assert row[4:6] == findings.human(m.stats().size_bytes).split()
        assert row[-2:] == ["1", findings.user_name(os.getuid())]
        assert m.stats().workers == (os.getpid(),)  # it claimed no row

    def test_counts_what_len_counts(self, run, make, name):
        m = make()
        for i in range(20):
            m.set(i, i, ttl=60 if i % 2 else None)
        m.touch(1, 1e-6)
        while len(m) != 19:
            pass  # a microsecond of the real clock, which the command reads
        assert row_of(run("ls").stdout, name)[3] == "19"

    @needs_other_engine
    def test_reads_maps_of_the_other_engine(self, run, hold, name):
        holder = hold(name, engine=OTHER)
        assert row_of(run("ls").stdout, name)[1:4] == ["ready", OTHER, "1"]
        assert f"pid {holder.pid}" in run("info", name).stdout
        assert run("unlink", name, "--yes").returncode == 0

    def test_does_not_write_to_the_map(self, run, make, name):
        make()["a"] = 1
        before = {p: p.read_bytes() for p in objects(name)}
        assert run("ls").returncode == run("info", name).returncode == 0
        assert {p: p.read_bytes() for p in objects(name)} == before

    @pytest.mark.parametrize("field, value", [
        ("GEN0_SHARDS", 1 << 60), ("GEN0_SHARDS", 3), ("GEN0_SLOTS", 0), ("GEN0_SLOTS", 1 << 63),
        ("GEN0_SLOT_SIZE", 7), ("GEN0_BUCKETS", 1 << 40), ("ROWS", 1 << 62), ("ENGINE", 9),
        ("GEN_CURRENT", 7), ("BYTES", 1), ("STATE", 77), ("MAGIC", 5),
    ])
    def test_trusts_no_number(self, run, make, clean, field, value):
        make()
        poke(clean, field, value)
        made = run("ls")
        assert made.returncode == 0, made.stderr
        assert row_of(made.stdout, clean)[1] == "garbage"
        poke(clean, "STATE", K["STATE_RETIRED"])  # so that the fixture's handle only closes

    @pytest.mark.parametrize("field", ["CODEC", "ON_FULL", "TTL_NS", "MODE", "VALUE_SIZE"])
    def test_any_parameter_word_can_be_shown(self, run, make, clean, field):
        make()
        poke(clean, field, (1 << 64) - 2)  # even: on_full stays "raise", the sizes stay sound
        words = memoryview(control_file(clean).read_bytes()).cast("Q")
        poke(clean, "CHECK", control.checksum(words))
        made = run("info", clean)
        assert (made.returncode, made.stderr) == (0, "")

    @pytest.mark.parametrize("content", [
        b"x", b"\xff" * 100_000, b"\xff" * geometry.control_bytes(),
    ])
    def test_survives_garbage(self, run, clean, content):
        control_file(clean).write_bytes(content)
        made = run("ls")
        assert made.returncode == 0, made.stderr
        assert row_of(made.stdout, clean)[1] == "garbage"

    def test_survives_what_is_no_file(self, run, clean):
        os.mkfifo(control_file(clean))
        assert row_of(run("ls").stdout, clean)[1] == "unreadable"

    def test_survives_truncated_shards(self, run, make, name):
        m = make()
        m["a"] = 1
        shard = next(p for p in objects(name) if re.fullmatch(r"shmmap\..*\.0\.0", p.name))
        saved = shard.read_bytes()
        copy = shard.with_name(shard.name + ".saved")
        shard.rename(copy)
        try:
            shard.write_bytes(saved[:40])
            made = run("info", name)
            assert made.returncode == 0, made.stderr
            assert re.search(r"not readable +0 \(it is damaged\)", made.stdout), made.stdout
            made = run("ls")
            assert f"{name}: 1 of " in made.stdout and row_of(made.stdout, name)[3] == "?"
        finally:
            copy.rename(shard)

    def test_leftovers_are_marked(self, run, clean):
        control_file(clean).touch()
        made = run("ls")
        assert row_of(made.stdout, clean)[1:3] == ["half-made", "(leftover)"]
        assert re.search(rf"^remove .* unlink --yes .*{clean}\b", made.stdout, re.M)

    def test_a_map_that_is_being_made_is_no_leftover(self, run, clean):
        control_file(clean).touch()
        with creation.creation_lock(clean):
            assert row_of(run("ls").stdout, clean)[1] == "busy"
            assert inspection.creating_pid("some-other-name", os.geteuid()) is None

    def test_an_ephemeral_map_of_the_dead_is_a_leftover(self, run, hold, clean):
        holder = hold(clean, ephemeral=True)
        assert row_of(run("ls").stdout, clean)[1] == "ready"
        holder.send_signal(signal.SIGKILL)
        holder.wait(LIMIT_S)
        assert row_of(run("ls").stdout, clean)[1:3] == ["abandoned", "(leftover)"]
        assert run("unlink", clean).returncode == 0
        assert not objects(clean)

    def test_says_when_there_are_none(self, capsys, monkeypatch, tmp_path):
        monkeypatch.setattr(segment, "SHM_DIRECTORY", str(tmp_path))
        assert (cli.main(["ls"]), capsys.readouterr().out) == (0, "no maps\n")


class TestInfo:
    def test_shows_parameters_workers_and_balance(self, run, make, hold, name):
        m = make(size="2MB", ttl=7.5, on_full="evict", codec="safe", shards=4)
        holder = hold(name, size=None)
        m.update({i: i for i in range(100)})
        assert m[0] == 0 and m.get("none") is None
        m.sweep()
        made = run("info", name)
        assert made.returncode == 0, made.stderr
        shown = dict(re.findall(r"^  (\S.{0,15}?) {2,}(.*)$", made.stdout, re.M))
        assert shown["ttl"] == "7.5 s" and shown["on_full"] == "evict" and shown["codec"] == "safe"
        assert shown["shards"] == "4" and shown["entries"] == "101" and shown["sweeps"] == "1"
        assert (shown["writes"], shown["hits"], shown["misses"]) == ("101", "1", "1")
        counts = sorted(m.stats().shard_entries)
        assert f"least {counts[0]} " in shown["balance"]
        assert f"most {counts[-1]} " in shown["balance"]
        for pid in (os.getpid(), holder.pid):
            assert re.search(rf"pid {pid}  \S+", made.stdout)

    @pytest.mark.parametrize("namespace", ["ours", "another"])
    def test_a_worker_is_shown_while_it_lives(self, run, make, hold, name, namespace):
        m = make()
        holder = hold(name)
        if namespace == "another":  # /proc is no witness: the lock of its row alone tells
            row, = (row for row, pid in m.attachment.worker.rows_in_use() if pid == holder.pid)
            poke(name, "BYTES_TOTAL", 1, row * K["R_BYTES_TOTAL"] + K["R_PID_NAMESPACE"])
        assert f"pid {holder.pid}" in run("info", name).stdout
        holder.kill()
        holder.wait(LIMIT_S)
        assert f"pid {holder.pid}" not in run("info", name).stdout

    def test_no_such_map(self, run, name):
        made = run("info", name)
        assert made.returncode == 1
        assert name in made.stderr

    def test_what_is_not_ready_is_explained(self, run, make, clean):
        make()
        poke(clean, "LAYOUT", layout.LAYOUT_VERSION + 1)
        made = run("info", clean)
        assert made.returncode == 1
        assert "made by another version" in made.stderr
        poke(clean, "LAYOUT", layout.LAYOUT_VERSION)


class TestUnlink:
    def test_removes_a_map_that_nobody_uses(self, run, hold, name):
        holder = hold(name)
        holder.kill()
        holder.wait(LIMIT_S)
        assert objects(name)
        assert run("unlink", name).returncode == 0
        assert not objects(name)

    def test_refuses_a_map_in_use_unless_told(self, run, hold, name):
        holder = hold(name)
        refused = run("unlink", name)
        assert refused.returncode == 1
        assert "--yes" in refused.stderr and str(holder.pid) in refused.stderr
        assert ask(holder, "held") == "1"
        assert run("unlink", name, "--yes").returncode == 0
        assert not objects(name)
        assert ask(holder, "held") == "MapUnlinked"

    @needs_other_engine
    def test_tells_workers_of_the_other_engine(self, run, hold, name):
        holder = hold(name, engine=OTHER)
        assert run("unlink", name, "--yes").returncode == 0
        assert ask(holder, "held") == "MapUnlinked"

    @pytest.mark.parametrize("answer, code", [("y", 0), ("n", 1), ("", 1), ("\x04", 1)])
    def test_asks_on_a_terminal(self, hold, name, tmp_path, answer, code):
        hold(name)
        ours, theirs = pty.openpty()
        try:
            os.write(ours, f"{answer}\n".encode())
            made = subprocess.run(
                [sys.executable, "-m", "shmmap", "unlink", name], cwd=tmp_path, stdin=theirs,
                capture_output=True, timeout=LIMIT_S,
            )
        finally:
            os.close(ours)
            os.close(theirs)
        assert made.returncode == code, made
        assert bool(objects(name)) == bool(code)

    @pytest.mark.parametrize("state", ["MAKING", "RETIRED"])
    def test_removes_half_made_and_retired_maps(self, run, make, clean, state):
        m = make()
        poke(clean, "STATE", K[f"STATE_{state}"])
        assert "(leftover)" in row_of(run("ls").stdout, clean)
        assert run("unlink", clean).returncode == 0
        assert not objects(clean)
        with pytest.raises(shmmap.MapUnlinked):
            m.get("a")

    def test_removes_parts_without_a_control_segment(self, run, make, clean):
        make()
        control_file(clean).unlink()
        assert row_of(run("ls").stdout, clean)[1:3] == ["parts", "(leftover)"]
        assert run("unlink", clean).returncode == 0
        assert not objects(clean)

    def test_garbage_is_removed_only_when_told(self, run, clean):
        control_file(clean).write_bytes(b"?" * 1000)
        assert run("unlink", clean).returncode == 1
        assert run("unlink", clean, "--yes").returncode == 0
        assert not objects(clean)

    def test_several_names_and_one_that_is_not_there(self, run, clean):
        control_file(clean).touch()
        made = run("unlink", f"{clean}-no", clean)
        assert made.returncode == 1
        assert f"{clean}-no" in made.stderr
        assert not objects(clean)

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
    def test_of_another_user(self, run, clean, tmp_path):
        control_file(clean).touch()
        owner = 20_000 + os.getpid() % 20_000  # other test runs have another one
        os.chown(control_file(clean), owner, owner)
        tmp_path.chmod(0o755)
        script = (
            "import os, sys, shmmap.tools.cli\n"
            "os.setgroups([]); os.setgid(54321); os.setuid(54321)\n"
            "sys.exit(shmmap.tools.cli.main(sys.argv[1:]))"
        )
        made = subprocess.run(
            [sys.executable, "-c", script, "unlink", "--yes", clean], cwd=tmp_path, text=True,
            capture_output=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL,
        )
        assert made.returncode == 1
        assert "another user" in made.stderr
        creators = Path(segment.SHM_DIRECTORY) / f"shmmap.{owner}.creators"
        try:
            assert run("unlink", clean).returncode == 0  # root may, under the owner's lock
            assert creators.stat().st_uid == owner
        finally:
            creators.unlink(missing_ok=True)
        assert not objects(clean)


class TestUsage:
    @pytest.mark.parametrize("arguments", [
        [], ["frobnicate"], ["info"], ["info", "a.b"], ["unlink"], ["unlink", "a/b"], ["ls", "x"],
    ])
    def test_wrong_usage_is_2(self, run, arguments):
        assert run(*arguments).returncode == 2

    def test_a_reader_that_has_seen_enough(self, tmp_path):
        made = subprocess.run(
            f"{sys.executable} -m shmmap doctor | true", shell=True, cwd=tmp_path,
            capture_output=True, timeout=LIMIT_S,
        )
        assert made.stderr == b""


class TestInspection:
    def test_a_creation_that_ends_meanwhile_is_no_leftover(self, make, clean, monkeypatch):
        control_file(clean).touch()
        monkeypatch.setattr(inspection, "creating_pid", lambda *_: make().clear())
        assert [seen.state for seen in inspection.find_maps(clean)] == ["ready"]

    def test_an_unlink_that_ends_meanwhile_leaves_nothing(self, make, clean, monkeypatch):
        m = make()
        poke(clean, "STATE", K["STATE_RETIRED"])
        monkeypatch.setattr(
            inspection, "creating_pid", lambda *_: control.remove_objects(m.name).get("creator")
        )
        assert inspection.find_maps(clean) == []

    @pytest.mark.parametrize("creator, state", [(None, "abandoned"), (1, "busy")])
    def test_an_ephemeral_map_in_the_making(self, make, name, monkeypatch, creator, state):
        make(ephemeral=True)
        monkeypatch.setattr(inspection, "_live_workers", lambda *_: ((), ""))  # none joined yet
        monkeypatch.setattr(inspection, "creating_pid", lambda *_: creator)
        monkeypatch.setattr(inspection, "_is_held", lambda *_: False)  # though this process has it
        assert [seen.state for seen in inspection.find_maps(name)] == [state]

    def test_looking_at_ones_own_map_keeps_its_liveness_lock(self, make, name, tmp_path):
        m = make()
        row = m.attachment.worker.row
        assert [w.pid for w in inspection.find_maps(name)[0].workers or ()] == [os.getpid()]
        script = (
            "import os, sys; from shmmap.system import record_lock, worker_table as workers\n"
            "print(record_lock.lock_holder(\n"
            "    os.open(sys.argv[1], os.O_RDWR), workers.row_byte(int(sys.argv[2]))))"
        )
        live = segment.SHM_DIRECTORY + segment.liveness_name(name, m.attachment.nonce)
        command = [sys.executable, "-c", script, live, str(row)]
        seen = subprocess.check_output(command, cwd=tmp_path, timeout=LIMIT_S, text=True)
        assert seen.strip() == str(os.getpid())

    def test_asks_for_the_byte_that_creation_locks(self, tmp_path):
        """The formula is written twice, because asking must not take the lock."""
        script = (
            "import os; from shmmap.tools import inspection; "
            "print(inspection.creating_pid('probe', {}))"
        )
        command = [sys.executable, "-c", script.format(os.geteuid())]
        said = []
        with creation.creation_lock("probe"):
            said += subprocess.check_output(command, cwd=tmp_path, timeout=LIMIT_S).split()
        said += subprocess.check_output(command, cwd=tmp_path, timeout=LIMIT_S).split()
        assert said == [str(os.getpid()).encode(), b"None"]
