"""What a long value takes goes by its length, not by the square of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.tools import fsck

SHORT, LONG = 500_000, 4_000_000  # bytes, in slots of 48: ten and eighty thousand
WORK: dict[str, Callable[[Any, Path, bytes], Any]] = {
    "set": lambda m, path, value: m.set("k", value),
    "get": lambda m, path, value: m["k"],
    "items": lambda m, path, value: list(m.items()),
    "check": lambda m, path, value: m.check(),
    "repair": lambda m, path, value: m.repair(),
    "fsck": lambda m, path, value: fsck.check_shards(m, False, False),
    "snapshot": lambda m, path, value: list(m.snapshot().items()),
    "dump": lambda m, path, value: m.dump(path / "d"),
    "load": lambda m, path, value: shmmap.ShmMap.load(path / "d", m.name + "b").unlink(),
    "pickle": lambda m, path, value: m.set("p", [value]) or m["p"],
    "delete": lambda m, path, value: m.delete("p") and m.delete("k"),
}


def took(work: Callable[[], Any]) -> float:
    """Return the processor time of some work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def test_each_operation_takes_time_by_the_length(make, tmp_path, capsys):
    m = make(size="16MB", shards=1, value_size=16)
    least: dict[tuple[str, int], float] = {}
    for _ in range(3 if shmmap.ENGINE == "compiled" else 1):
        for length in (SHORT, LONG):
            m.clear()
            for what, work in WORK.items():
                seconds = took(lambda work=work, length=length: work(m, tmp_path, bytes(length)))
                least[what, length] = min(seconds, least.get((what, length), seconds))
    for what in WORK:
        short, long = least[what, SHORT], least[what, LONG]
        # eight times the bytes: the square would take 64 times as long
        assert long < 0.05 or long < 24 * short, f"{what}: {short:.3f} s, then {long:.3f} s"


@pytest.mark.parametrize("capacity", [None, 1000])
def test_a_full_map_says_that_its_entries_are_longer_than_planned(name, capacity):
    said = {"capacity": capacity} if capacity else {"size": "300KB"}
    m = shmmap.ShmMap(name, shards=1, value_size=16, **said)
    with pytest.raises(shmmap.MapFull) as caught:
        for i in range(100_000):
            m[f"user:session:{i:012d}"] = i
    said = str(caught.value)
    assert f"{len(m):,} entries have 33 bytes of key and value and take 2.0 slots of 48" in said
    assert "key_size=16 and value_size=16, which take 1" in said
    assert ("capacity=1,000" in said) is bool(capacity)
    m.unlink()


@pytest.mark.parametrize("options", [
    {"size": "300KB"}, {"capacity": 300}, {"capacity": 300, "key_size": 25, "value_size": 16},
    {"capacity": 300, "on_full": "evict"},
])  # fmt: skip
def test_a_map_that_is_full_as_planned_does_not(name, options):
    m = shmmap.ShmMap(name, shards=1, **options)
    with pytest.raises(shmmap.MapFull) as caught:
        for i in range(100_000):
            m.set(f"user:session:{i:012d}", i, evict=False)
    assert "planned" not in str(caught.value) and "laid out" not in str(caught.value)
    assert len(m) >= (options.get("capacity") or 0)
    m.unlink()
