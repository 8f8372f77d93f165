"""`clear` costs what was used, and leaves nothing of what was."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ...support.damage import Damage


def resident_kb(m) -> int:
    """Count the kB of the map's segments that this process has touched."""
    found, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and ":" not in line.split()[0]:
            ours = f"shmmap.{m.name}" in line
        elif ours and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


@pytest.mark.parametrize("on_full", ["raise", "evict"])
def test_clearing_a_few_entries_touches_few_pages(make, on_full):
    m = make(size="32MB", on_full=on_full)
    m.set("a", 1, ttl=100)
    m["b"] = b"x" * 1000
    before = resident_kb(m)
    m.clear()
    assert resident_kb(m) - before < 600  # of 32,000
    assert not m.check() and len(m) == 0 and "a" not in m


@pytest.mark.parametrize("on_full", ["raise", "evict"])
@pytest.mark.parametrize("count", [1, 5, 60, 700, 2000])
def test_a_cleared_map_is_as_a_new_one(make, on_full, count):
    m = make(size="1MB", shards=1, on_full=on_full)
    draw = random.Random(count)
    for turn in range(3):
        for i in range(count):
            key = b"k" * draw.randrange(300) + b"%d" % i
            m.set(key, draw.randbytes(draw.randrange(200)), ttl=draw.choice((None, 100)))
            if i and draw.random() < 0.2:
                del m[key]
        assert len(m) == len(list(m)) > 0
        m.clear()
        assert not m.check(), turn
        assert len(m) == 0 and list(m) == [] and not m
        d = Damage(m)
        assert d.header("FRESH") == 1 and d.live() == []
        assert not any(d.words[at] for at in d.index_words())


def test_a_clear_empties_what_the_header_does_not_tell_of(make):
    m = make(size="1MB", shards=1)
    for i in range(50):
        m[i] = i
    Damage(m).set_header("FRESH", 5)
    m.clear()
    assert not m.check() and list(m) == []
    m["again"] = 1
    assert dict(m) == {"again": 1}
