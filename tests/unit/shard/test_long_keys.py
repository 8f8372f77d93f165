"""Keys that need several slots: told apart, hashed and repaired where they lie, in no buffer."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import pytest
import xxhash

import shmmap
from shmmap import _engine
from shmmap.memory import _hash_cy

from ...support.damage import Damage

LENGTHS = (*range(0, 1200), 2047, 2048, 2049, 4095, 4097, 65_535)


def test_the_hash_that_needs_no_package_is_xxh3():
    draw = random.Random(3)
    for length in LENGTHS:
        data = draw.randbytes(length)
        for seed in (0, 1, 2**63 + 7, draw.getrandbits(64)):
            assert _hash_cy.own_hash(data, seed) == xxhash.xxh3_64_intdigest(data, seed), length


# Reviewed: it runs what a close had left to do, reports what that raises, and holds nothing.
REVIEWED = {"shmmap.operations._handle_cy.Handle.end_of_all"}


def generated(module: str) -> str:
    """Read the C that was made from a module, in the checkout or where the tests build."""
    tops = Path(__file__).resolve().parents[3], Path(sys.prefix) / "build-tree"
    found = [top / f"build/cython/shmmap/{module.replace('.', '/')}.c" for top in tops]
    return next(path.read_text() for path in found if path.exists())


@pytest.mark.skipif(shmmap.ENGINE != "compiled", reason="only C can swallow an exception")
@pytest.mark.parametrize("name", _engine.MODULES)
def test_no_compiled_function_swallows_an_exception(name):
    """A C function that is declared not to raise prints what is raised in it, and returns 0. So
    none may call what can raise: it would do so for want of memory, in the middle of a change."""
    module = __import__(f"shmmap.{name}", fromlist=["COMPILED"])
    if b"PyErr_WriteUnraisable" in Path(module.__file__).read_bytes():
        swallowing = re.findall(r'__Pyx_WriteUnraisable\("([^"]*)"', generated(name))
        assert set(swallowing) <= REVIEWED, "declared noexcept, and calls what can raise"


@pytest.mark.parametrize("length", [100, 120, 121, 249, 3_000, 65_535])
def test_a_repair_keeps_the_newer_of_two_entries_with_one_long_key(make, length):
    m = make(shards=1)
    one, two = b"k" * (length - 1) + b"1", b"k" * (length - 1) + b"2"
    m[one], m[two], m[b"else" * 50] = "older", "newer", "other"
    d = Damage(m)
    slots = d.live()
    with_two = [slot for slot in slots if d.words[d.slot_word(slot)] == m.get_versioned(two)[1]]
    at, (slot,) = length - 1, with_two
    room = d.shape.slot_size - 16
    while at >= room:
        at, slot, room = at - room, d.next_of(slot), d.shape.slot_size - 8
    d.octets[d.slot_word(slot) * 8 + d.shape.slot_size - room + at] = ord("1")
    assert any(problem.split(": ")[1] == "S3" for problem in m.check())
    m.repair()
    assert not m.check()
    assert dict(m) == {one: "newer", b"else" * 50: "other"}
