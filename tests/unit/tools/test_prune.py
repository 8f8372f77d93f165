"""shmmap prune: what it takes for unused, what it asks, and what it leaves alone."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import lingering
from shmmap.memory.words import ControlWords
from shmmap.tools import cli, inspection, pruning

from .maps import LIMIT_S, control_file, objects, poke

DAY_NS = 86400 * 10**9


@pytest.fixture(autouse=True)
def only_ours(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command, run in this process, see the test's maps only."""
    real = inspection.find_maps
    monkeypatch.setattr(inspection, "find_maps", lambda only=None: [
        one for one in real(only) if one.name.rpartition("@")[2].startswith(name)
    ])


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Look at maps a while from now: later(seconds)."""
    now = lingering.now_ns

    def look_later(seconds: float) -> None:
        monkeypatch.setattr(lingering, "now_ns", lambda: now() + int(seconds * 1e9))

    return look_later


def prune(*arguments: str) -> int:
    return cli.main(["prune", *arguments])


def test_a_map_that_nobody_has_used_for_so_long(make, clean, later, capsys):
    m = make()
    m["a"] = 1
    m.close()
    assert prune("--unused-for", "1h", "--yes") == 0 and objects(clean)
    assert capsys.readouterr().out == (
        "nothing to remove; 1 map(s) of this user are in use or kept\n"
    )
    later(7300)
    assert prune("--yes") == 0 and objects(clean)  # it may be used again
    assert prune("--unused-for", "1h", "--dry-run") == 0 and objects(clean)
    assert f"{clean}: unused for 2 h, " in capsys.readouterr().out
    assert prune("--unused-for", "1h") == 1 and objects(clean)  # no terminal to ask at
    assert "nothing was removed: say --yes" in capsys.readouterr().err
    assert prune("--unused-for", "1h", "--yes") == 0 and not objects(clean)
    assert f"removed {clean}: " in capsys.readouterr().out


def test_a_map_in_use_is_never_removed(make, hold, name, later):
    hold(name)
    later(10 * 86400)
    assert prune("--unused-for", "1s", "--yes") == 0 and objects(name)
    make()["a"] = 1  # nor one of this process
    assert prune("--unused-for", "1s", "--yes") == 0 and objects(name)


@pytest.mark.parametrize("use", ["open", "write", "close", "sweep"])
def test_each_use_counts(make, clean, use):
    """The words that tell of a use, each alone."""
    m = make()
    m["a"] = 1
    m.close()
    one = inspection.find_map(clean)
    assert one is not None and one.control is not None
    now = lingering.now_ns()
    data = bytearray(control_file(clean).read_bytes())
    for at in range(lingering._JOINED_AT * 8, len(data) - 7, lingering._ROW_WORDS * 8):
        data[at : at + 8] = bytes(8)
    control_file(clean).write_bytes(data)
    poke(clean, "LEFT_NS", 0)
    at = pruning.inspection.K["S_STAMP"]
    shards = [path for path in objects(clean)
              if "sem." not in path.name and path.name.rpartition(".")[2].isdigit()]
    stamps = []
    for path in shards:
        with path.open("r+b") as file:
            stamps.append(int.from_bytes(os.pread(file.fileno(), 8, at), sys.byteorder))
            os.pwrite(file.fileno(), bytes(8), at)
    assert 0 <= now - (max(stamps) >> 1) < DAY_NS

    def last() -> int | None:
        seen = inspection.find_map(clean)
        assert seen is not None
        return pruning.last_use_ns(seen)

    assert last() == 0
    if use == "open":
        with control_file(clean).open("r+b") as file:
            os.pwrite(file.fileno(), now.to_bytes(8, sys.byteorder), lingering._JOINED_AT * 8)
    elif use == "write":
        with shards[0].open("r+b") as file:
            os.pwrite(file.fileno(), (2 * now).to_bytes(8, sys.byteorder), at)
    else:
        poke(clean, "LEFT_NS" if use == "close" else "SWEPT_NS", now)
    assert last() == now


def test_leaving_is_noted_at_close_and_at_exit(make, clean, tmp_path):
    m = make()
    before = lingering.now_ns()
    m.close()
    assert ControlWords(control_file(clean).read_bytes()).LEFT_NS > before
    before = lingering.now_ns()
    script = "import sys, shmmap; m = shmmap.ShmMap(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, clean], check=True, timeout=LIMIT_S, cwd=tmp_path)
    assert ControlWords(control_file(clean).read_bytes()).LEFT_NS > before


def test_what_was_used_in_the_meantime_stays(make, clean, later, monkeypatch, capsys):
    make().close()
    later(7300)
    real = pruning.unlinking.attempt

    def used_first(*arguments: Any) -> bool:
        poke(clean, "LEFT_NS", lingering.now_ns())
        return real(*arguments)

    monkeypatch.setattr(pruning.unlinking, "attempt", used_first)
    assert prune("--unused-for", "1h", "--yes") == 1 and objects(clean)
    assert "was used since: it stays" in capsys.readouterr().err


def test_leftovers_go_whatever_their_age(make, clean):
    make().close()
    poke(clean, "STATE", pruning.inspection.K["STATE_RETIRED"])
    assert prune("--yes") == 0 and not objects(clean)


def test_an_ephemeral_map_that_lingers(clean, later):
    shmmap.ShmMap(clean, "1MB", ephemeral=True, linger=60).close()
    assert prune("--yes") == 0 and objects(clean)
    later(61)
    assert prune("--yes") == 0 and not objects(clean)


@pytest.mark.parametrize("word", ["LAYOUT", "MAGIC"])
def test_what_cannot_be_judged_stays(make, clean, later, word):
    make().close()
    poke(clean, word, 77)
    later(7300)
    assert prune("--unused-for", "1h", "--yes") == 0 and objects(clean)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_another_users_map_stays_for_root_too(make, clean, later):
    make().close()
    for file in objects(clean):
        os.chown(file, 54321, 54321)
    later(7300)
    assert prune("--unused-for", "1h", "--yes") == 0 and objects(clean)


@pytest.mark.parametrize(("answer", "goes"), [("y", True), ("n", False), ("", False)])
def test_it_asks_at_a_terminal(make, clean, tmp_path, answer, goes):
    make().close()
    poke(clean, "STATE", pruning.inspection.K["STATE_RETIRED"])
    script = (  # of this machine's maps it sees the test's only
        "import sys\n"
        "from shmmap.tools import cli, inspection\n"
        "real, name = inspection.find_maps, sys.argv.pop()\n"
        "inspection.find_maps = lambda only=None: real(name)\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        made = subprocess.run([sys.executable, "-c", script, "prune", clean], cwd=tmp_path,
                              stdin=theirs, capture_output=True, timeout=LIMIT_S)
    finally:
        os.close(ours)
        os.close(theirs)
    assert made.returncode == 0 and bool(objects(clean)) != goes, made


@pytest.mark.parametrize(("text", "seconds"), [
    ("90", 90), ("90s", 90), ("30m", 1800), ("12h", 43200), ("1d", 86400), ("1.5d", 129600),
    ("2w", 1209600), ("0", 0),
])
def test_times(text, seconds):
    assert pruning._time(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "1 d", "1y", "1dd", "\u0661d", "nan", "1e9d"])
def test_what_is_no_time(text, capsys):
    with pytest.raises(SystemExit):
        prune("--unused-for", text)
    assert "is no time: write a number and s, m, h, d or w" in capsys.readouterr().err
