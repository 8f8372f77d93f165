"""shmmap watch, and ls --watch: looks that go on until somebody has seen enough."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import shmmap
from shmmap.tools import cli, listing, repeating

from ...support.damage import Damage
from ...support.engines import once
from .maps import LIMIT_S, read_line

pytestmark = once  # the same with either engine


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command that goes on; it is killed and reaped at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        started.append(subprocess.Popen(
            [sys.executable, "-m", "shmmap", *arguments], cwd=tmp_path, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=LIMIT_S)


def text_of(process: subprocess.Popen[str]) -> str:
    """Read a line of watch, without its time."""
    line = read_line(process)
    time.strptime(line[:19], "%Y-%m-%d %H:%M:%S")
    return line[24:]


def test_a_line_for_each_change_until_interrupted(make, begin):
    m = make()
    process = begin("watch", m.name, "k", "--interval", "0.01")
    assert text_of(process) == "<no entry>"
    m["k"] = 1
    assert text_of(process) == "1"
    m["other"] = 5
    m["k"] = 1  # written, but not changed
    m["k"] = "1\x1b\n"
    assert text_of(process) == r"1\x1b\n"
    m.set("k", 2, ttl=0.3)
    assert text_of(process) == "2" and text_of(process) == "<no entry>"
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT_S) == 130
    assert process.stderr and process.stderr.read() == ""


def test_as_json(make, begin):
    m = make()
    m[7] = [1]
    process = begin("watch", m.name, "--int", "7", "--interval", "0.01", "--json")
    first = json.loads(read_line(process))
    del m[7]
    second = json.loads(read_line(process))
    assert first["value"]["value"] == [1] and first["found"] and first["command"] == "watch"
    assert second["value"] is None and not second["found"] and second["time"] >= first["time"]


def test_a_map_that_is_replaced_is_followed_and_one_that_goes_ends_it(make, begin):
    m = make()
    m["k"] = 1
    process = begin("watch", m.name, "k", "--interval", "0.01")
    assert text_of(process) == "1"
    with shmmap.ShmMap(m.name, size="2MB", sweep_interval=None, on_mismatch="replace") as new:
        new["k"] = 2
        assert text_of(process) == "2"
        new.unlink()
        assert process.wait(LIMIT_S) == 1
        assert process.stderr and "no map" in process.stderr.read()


def test_it_ends_when_nobody_reads_any_more(make, begin):
    m = make()
    process = begin("watch", m.name, "k", "--interval", "60")
    assert text_of(process) == "<no entry>"
    assert process.stdout
    process.stdout.close()
    assert process.wait(LIMIT_S) == 1
    process.stdout = None


def test_damage_is_told_and_what_is_mended_is_seen(make, capsys, monkeypatch):
    m = make(shards=1)
    m["k"] = 5
    damage = Damage(m)
    at = damage.slot_word(damage.head(b"k"))

    def hurt_and_mend(interval_s: float) -> Iterator[int]:
        before = damage.words[at]
        yield 0
        damage.words[at] = 0
        yield 1
        damage.words[at] = before
        yield 2

    monkeypatch.setattr("shmmap.tools.shard_reading.PATIENCE_S", 0.002)
    monkeypatch.setattr(repeating, "looks", hurt_and_mend)
    assert cli.main(["watch", m.name, "k"]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.endswith(" 5") and "<not readable: " in second and third.endswith(" 5")


@pytest.mark.parametrize("interval", ["0", "-1", "x", "nan", "0.001", "1e9", "never"])
def test_wrong_usage(make, interval):
    m = make()
    for words in (f"watch {m.name} k --interval={interval}", f"ls --watch={interval}"):
        with pytest.raises(SystemExit) as caught:
            cli.main(words.split())
        assert caught.value.code == 2


class TestLs:
    def test_again_and_again(self, make, begin):
        m = make()
        process = begin("ls", "--watch", "0.05", "--names")
        assert process.stdout
        seen = 0
        until = time.monotonic() + LIMIT_S
        while seen < 3 and time.monotonic() < until:
            seen += read_line(process) == m.name
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130 and seen == 3

    @pytest.mark.parametrize("term, is_cleared", [("xterm", True), ("dumb", False), (None, False)])
    def test_a_terminal_begins_at_the_top(self, make, monkeypatch, term, is_cleared, tmp_path):
        make()
        ours, theirs = os.openpty()
        environment = {**os.environ, "TERM": term or "dumb"}
        target = theirs if term else subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-m", "shmmap", "ls", "--watch", "60"], cwd=tmp_path, stdout=target,
            stdin=subprocess.DEVNULL, env=environment)
        try:
            source = ours if term else process.stdout.fileno()  # type: ignore[union-attr]
            text = b""
            while b"OWNER" not in text:
                assert select.select([source], [], [], LIMIT_S)[0]
                text += os.read(source, 4096)
            assert text.startswith(b"\x1b[H\x1b[2J") is is_cleared
            assert text.count(b"\x1b") == 2 * is_cleared
        finally:
            process.kill()
            process.communicate()
            os.close(ours)
            os.close(theirs)

    def test_names_of_all_flavours_once(self, make, capsys):
        m = make()
        assert cli.main(["ls", "--names"]) == 0
        assert capsys.readouterr().out.splitlines().count(m.name) == 1

    def test_what_a_table_says_json_says(self, make, capsys):
        m = make()
        m["k"] = 1
        cli.main(["ls"])
        row = next(line for line in capsys.readouterr().out.splitlines()
                   if line.startswith(m.name + " ")).split()
        one, = (one for one in map(listing.as_json, listing.inspection.find_maps(m.name)))
        assert row[1:5] == [one["state"], one["engine"], str(one["layout"]), str(one["entries"])]
