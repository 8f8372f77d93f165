"""`shmmap events`, and the events in info and top: read from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest

import shmmap
from shmmap.memory.events import note, resized_to
from shmmap.tools import cli, repeating

from ...support.damage import K


@pytest.fixture
def happened(make):
    m = make(size="1MB", shards=2)
    note(m.attachment, "takeover", 1_500, 1)
    note(m.attachment, "repair", 20_000, 1)
    note(m.attachment, "resize", resized_to(m.attachment.geometry, is_done=False))
    return m


def lines(capsys: Any) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line]


def test_they_are_listed(happened, capsys):
    assert cli.main(["events", happened.name]) == 0
    said = lines(capsys)
    assert len(said) == 3 and "takeover" in said[0] and "shard 1: repaired in 20 us" in said[1]
    assert said[2].endswith("begun: to 2 shards, 999.0 kB")
    assert cli.main(["events", happened.name, "--kind", "repair"]) == 0
    assert len(lines(capsys)) == 1


def test_info_has_the_last_ones_and_times(happened, capsys):
    for number in range(3_000):
        happened[number % 9] = number
    assert cli.main(["info", happened.name]) == 0
    said = capsys.readouterr().out
    assert "last events" in said and "repaired in 20 us" in said
    assert "how long they took\n  read            -\n  write           2, 50 % within" in said


def test_none(make, capsys):
    m = make()
    assert cli.main(["events", m.name]) == 0 and lines(capsys) == []
    assert cli.main(["events", "there-is-none"]) == 1


def test_they_are_followed_also_to_the_next_map(happened, capsys, monkeypatch):
    """Each look shows what is new; a map that takes the name has events of its own."""
    looks = iter(range(4))

    def after(interval_s: float) -> Any:
        for look in looks:
            if look == 1:
                note(happened.attachment, "corrupt", 0, 0)
            elif look == 2:
                happened.unlink()
            elif look == 3:
                with shmmap.ShmMap(happened.name, size="1MB") as m:
                    note(m.attachment, "takeover", 7, 0)
                    yield look
                    m.unlink()
                continue
            if look != 2:
                yield look

    monkeypatch.setattr(repeating, "looks", after)
    assert cli.main(["events", happened.name, "--follow", "--json"]) == 0
    found = [json.loads(line) for line in lines(capsys)]
    assert [one["kind"] for one in found] == [
        "takeover", "repair", "resize", "corrupt", "takeover"]
    assert [one["number"] for one in found] == [1, 2, 3, 4, 1]


def test_damage_shows_nothing_that_is_not_so(happened, capsys):
    """Of a ring of garbage no event is told, and nothing fails."""
    words = happened.attachment.control.words
    first = K["C_EVENTS"] >> 3
    for at in range(first, first + K["EVENT_PLACES"] * 4):
        words[at] = (at * 0x9E37_79B9_7F4A_7C15) & 0xFFFF_FFFF_FFFF_FFFF
    for newest in (3, 1 << 40, (1 << 64) - 1):
        words[K["C_EVENT_NEXT"] >> 3] = newest
        assert cli.main(["events", happened.name]) == 0 and lines(capsys) == []
        assert cli.main(["info", happened.name]) == 0
        assert cli.main(["stats", happened.name, "--json"]) == 0
        capsys.readouterr()
    assert happened.events() == [] and happened.stats().entries == 0


def test_a_program_follows(happened, tmp_path):
    """In a shell: it goes on until it is ended, and says what comes."""
    child = subprocess.Popen(
        [sys.executable, "-m", "shmmap", "events", happened.name, "--follow", "--interval", "0.05"],
        stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(3)]
        note(happened.attachment, "full", 100, 0)
        began = time.monotonic()
        said.append(child.stdout.readline())
        assert "no room for 100 bytes" in said[3] and time.monotonic() - began < 5
    finally:
        child.terminate()
        child.wait()
        child.stdout.close()
