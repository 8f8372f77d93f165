"""Bad arguments, and damaged objects: each a documented error that says what to do."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.memory.layout import constants
from shmmap.tools import cli

from ..support.leftovers import SHM, control_file, objects_of
from ..support.table_words import control_words, sum_up

K = constants()


def held_objects(name: str) -> int:
    """Count this process's descriptors and mappings of a map's objects."""
    found = Path("/proc/self/maps").read_text().count(f"shmmap.{name}")
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += f"shmmap.{name}" in os.readlink(f"/proc/self/fd/{entry}")
    return found


@pytest.mark.parametrize(("error", "bad"), [
    (ValueError, ""), (ValueError, "a.b"), (ValueError, "a/b"), (ValueError, "a" * 101),
    (ValueError, "ä"), (ValueError, "a\n"), (ValueError, "a\0"), (ValueError, "../x"),
    (TypeError, None), (TypeError, b"a"), (TypeError, 3),
])
def test_bad_names(error, bad):
    with pytest.raises(error, match="name") as caught:
        shmmap.ShmMap(bad, "1MB")
    assert type(caught.value) is error


BAD_PARAMETERS: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (TypeError, "size", {"size": 1.5}), (TypeError, "size", {"size": True}),
    (TypeError, "size", {"size": b"1MB"}), (ValueError, "size", {"size": 0}),
    (ValueError, "size", {"size": -5}), (ValueError, "size", {"size": "lots"}),
    (ValueError, "size", {"size": "1XB"}), (ValueError, "size", {"size": "9" * 400}),
    (ValueError, "at least size=", {"size": 100}),
    (TypeError, "capacity", {"capacity": "100"}), (ValueError, "capacity", {"capacity": 0}),
    (TypeError, "capacity", {"capacity": 2.5}),
    (ValueError, "not both", {"size": "1MB", "capacity": 10}),
    (TypeError, "shards", {"shards": "4"}), (TypeError, "shards", {"shards": 4.0}),
    (ValueError, "power of two", {"shards": 3}), (ValueError, "power of two", {"shards": 0}),
    (ValueError, "power of two", {"shards": 1 << 20}),
    (TypeError, "ttl", {"ttl": "5"}), (ValueError, "ttl", {"ttl": 0}),
    (ValueError, "ttl", {"ttl": -1}), (ValueError, "ttl", {"ttl": float("nan")}),
    (ValueError, "ttl", {"ttl": float("inf")}), (TypeError, "ttl", {"ttl": True}),
    (TypeError, "max_age", {"max_age": "1"}), (ValueError, "max_age", {"max_age": -1}),
    (TypeError, "sweep_interval", {"sweep_interval": []}),
    (ValueError, "sweep_interval", {"sweep_interval": 0}),
    (ValueError, "on_full", {"on_full": "explode"}), (ValueError, "on_full", {"on_full": 3}),
    (ValueError, "codec", {"codec": "pickle"}),
    (TypeError, "value_size", {"value_size": "big"}),
    (ValueError, "value_size", {"value_size": -1}),
    (TypeError, "key_size", {"key_size": 1.0}), (ValueError, "key_size", {"key_size": -1}),
    (TypeError, "mode", {"mode": "600"}), (ValueError, "mode", {"mode": 0o700}),
    (ValueError, "mode", {"mode": 0o400}), (ValueError, "mode", {"mode": -1}),
    (TypeError, "ephemeral", {"ephemeral": "yes"}),
    (TypeError, "lock_timeout", {"lock_timeout": "5"}),
    (TypeError, "lock_timeout", {"lock_timeout": None}),
    (ValueError, "lock_timeout", {"lock_timeout": -1}),
    (ValueError, "lock_timeout", {"lock_timeout": float("nan")}),
    (TypeError, "owner_uid", {"owner_uid": "root"}), (TypeError, "nonsense", {"nonsense": 1}),
]


@pytest.mark.parametrize("exists", [False, True], ids=["creating", "attaching"])
@pytest.mark.parametrize(("error", "says", "bad"), BAD_PARAMETERS, ids=lambda v: str(v)[:40])
def test_bad_parameters(name, error, says, bad, exists):
    if exists and says in ("at least size=",):
        return  # a size that no map has is a plain mismatch then
    if exists:
        shmmap.ShmMap.create(name, "256KB", shards=1).close()
    before = objects_of(name)
    with pytest.raises(error, match=says):
        shmmap.ShmMap(name, **bad)
    assert objects_of(name) == before and held_objects(name) == 0


def test_every_mismatch_is_listed(make, name):
    make(size="1MB", shards=2, ttl=5, codec="safe", on_full="evict", value_size=200, key_size=8,
         max_age=60)
    promises = {"codec": "auto", "mode": 0o660}
    shape = {
        "size": "2MB", "shards": 4, "on_full": "raise", "value_size": 100, "key_size": 16,
        "ephemeral": True,
    }
    own = {"ttl": None, "max_age": 30, "sweep_interval": 7}
    as_raised = {"on_mismatch": "raise"}
    told = (*shape, repr(name), "asked 2000000", "has 1000000", "asked 4", "python -m shmmap")
    with pytest.raises(shmmap.ConfigMismatch) as caught:
        shmmap.ShmMap(name, **promises, **shape, **own)
    text = str(caught.value)
    for part in (*promises, repr(name), "asked 0o660", "has 0o600", "asked auto", "has safe"):
        assert part in text, f"{part!r} is missing in: {text}"
    with pytest.raises(shmmap.ConfigMismatch) as caught:
        shmmap.ShmMap(name, **shape, **own, **as_raised)
    with pytest.warns(shmmap.MapMismatchWarning) as warned:
        shmmap.ShmMap(name, **shape, **own).close()
    for text in (str(caught.value), str(warned[0].message)):
        for part in told:
            assert part in text, f"{part!r} is missing in: {text}"
        assert len(warned) == 1 and not [part for part in own if f"{part}:" in text]
    for parameter, value in (promises | shape).items():
        with pytest.raises(shmmap.ConfigMismatch, match=parameter):
            shmmap.ShmMap(name, **{parameter: value}, **as_raised)
    shmmap.ShmMap(name, "1MB", shards=2, ttl=5, on_full="evict", sweep_interval=None).close()


@pytest.mark.parametrize("bad", [[1], {}, {1}, object(), lambda: 0, (1, [2]), bytearray(b"a")])
def test_bad_keys(make, bad):
    m = make()
    for operation in (
        lambda: m.set(bad, 1), lambda: m.get(bad), lambda: bad in m, lambda: m.delete(bad),
        lambda: m.incr(bad), lambda: m.pop(bad), lambda: m.touch(bad, 1), lambda: m.ttl(bad),
    ):
        with pytest.raises(TypeError, match=r"unhashable|key must be"):
            operation()
    with pytest.raises(TypeError, match="NaN"):
        m[float("nan")] = 1
    assert len(m) == 0 and m.check() == []


def test_oversize_keys(make):
    m = make(size="4MB", shards=1)
    m["k" * 65535] = 1
    assert m["k" * 65535] == 1
    for key in ("k" * 65536, b"k" * 65536, "ä" * 32768, ("k" * 65535,), 1 << (8 * 65536)):
        with pytest.raises(shmmap.EntryTooLarge, match=r"65,535.*digest"):
            m.set(key, 1)
        assert m.get(key) is None and key not in m
    assert len(m) == 1 and m.check() == []


def test_oversize_values(make, name):
    m = make(size="1MB", shards=4)
    m["k"] = b"old"
    with pytest.raises(shmmap.EntryTooLarge) as caught:
        m["k"] = bytes(400_000)
    text = str(caught.value)
    assert repr(name) in text and "400,001" in text and "shards=" in text, text
    assert isinstance(caught.value, ValueError)
    with pytest.raises(shmmap.EntryTooLarge, match="size="):
        m["k"] = bytes(20_000_000)
    assert m["k"] == b"old" and m.check() == []


def test_the_advice_for_an_oversize_value_is_right(make, name):
    import re

    m = make(size="1MB", shards=4)
    for length in (400_000, 3_000_000):
        with pytest.raises(shmmap.EntryTooLarge) as caught:
            m["k"] = bytes(length)
        said = re.search(r"(?:size=([\d,]+) with )?shards=(\d+)", str(caught.value))
        assert said, caught.value
        size = int(said[1].replace(",", "")) if said[1] else 1_000_000
        with shmmap.ShmMap(f"{name}-larger", size, shards=int(said[2])) as larger:
            larger["k"] = bytes(length)
            larger.unlink()


def test_bad_arguments_of_operations(make):
    m = make()
    m["s"] = "text"
    m["top"] = 2**63 - 1
    for error, operation in (
        (TypeError, lambda: m.incr("s")), (TypeError, lambda: m.incr("n", 1.5j)),
        (TypeError, lambda: m.incr("n", True)), (TypeError, lambda: m.incr("n", "1")),
        (OverflowError, lambda: m.incr("n", 1 << 64)), (OverflowError, lambda: m.incr("top")),
        (OverflowError, lambda: m.incr("new", 1, initial=2**63 - 1)),
        (TypeError, lambda: m.set("k", 1, ttl="5")), (TypeError, lambda: m.set("k", 1, ttl=True)),
        (ValueError, lambda: m.set("k", 1, ttl=float("nan"))),
        (TypeError, lambda: m.touch("s", [])), (KeyError, lambda: m["missing"]),
        (KeyError, lambda: m.ttl("missing")), (KeyError, lambda: m.pop("missing")),
        (TypeError, lambda: m.cas("s", 1, "5")), (TypeError, lambda: m.cas("s", 1, None)),
    ):
        with pytest.raises(error):
            operation()
    assert not m.cas("s", 1, -1) and not m.cas("s", 1, 1 << 64)
    assert dict(m) == {"s": "text", "top": 2**63 - 1} and m.check() == []


def test_a_huge_size_is_refused_before_anything_is_reserved(name):
    before = os.statvfs(SHM).f_bavail
    for size in ("1TB", 1 << 60):
        with pytest.raises(shmmap.SharedMemoryFull) as caught:
            shmmap.ShmMap(name, size)
        text = str(caught.value)
        assert "free" in text and "--shm-size" in text and "doctor" in text and repr(name) in text
        assert isinstance(caught.value, MemoryError)
    assert objects_of(name) == [] and held_objects(name) == 0
    block = os.statvfs(SHM).f_frsize
    assert (before - os.statvfs(SHM).f_bavail) * block < 256 << 20  # others use it too


# -- objects that were damaged, or are none of ours --------------------------------------


@pytest.fixture
def damaged(name: str) -> Iterator[Callable[[], str]]:
    """damaged(): make a closed map with an entry; whatever is left of it is removed after."""
    def make_map() -> str:
        with shmmap.ShmMap.create(name, "1MB", shards=2, sweep_interval=None) as m:
            m["a"] = 1
        return name

    yield make_map
    for entry in objects_of(name):
        path = SHM / entry
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def patch(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def set_field(name: str, field: str, value: int) -> None:
    """Overwrite a word of a control segment."""
    patch(SHM / control_file(name), K[f"C_{field}"], struct.pack("=Q", value))


def part(name: str, ending: str) -> Path:
    """Find an object of a map by how its name ends."""
    return next(SHM / entry for entry in objects_of(name)
                if entry.endswith(ending) and not entry.startswith("sem."))


def assert_refused(name: str, error: type[Exception], *says: str) -> None:
    """Attaching and opening raise just this error, with these words, and leak nothing."""
    before = objects_of(name)
    for way in (shmmap.ShmMap.attach, shmmap.ShmMap):
        with pytest.raises(shmmap.ShmMapError) as caught:
            way(name)
        assert type(caught.value) is error, repr(caught.value)
        for words in (name, *says):
            assert words in str(caught.value), f"{words!r} is missing in: {caught.value}"
    assert objects_of(name) == before and held_objects(name) == 0


other_engine = K["ENGINE_PURE"] if shmmap.ENGINE == "compiled" else K["ENGINE_COMPILED"]
swapped = int.from_bytes(K["CONTROL_MAGIC"].to_bytes(8, "little"), "big")


CONTROL_DAMAGE = [
    ("MAGIC", 12345, shmmap.MapCorrupted, "unlink"),
    ("MAGIC", swapped, shmmap.ConfigMismatch, "byte order"),
    ("LAYOUT", 99, shmmap.MapCorrupted, "layout 99"),
    ("ENGINE", other_engine, shmmap.MapCorrupted, "contradicts its name"),
    ("ENGINE", 77, shmmap.MapCorrupted, "unknown"),
    ("BYTES", 4096, shmmap.MapCorrupted, "unlink"),
    ("ROWS", 1 << 40, shmmap.MapCorrupted, "unlink"),
    ("TABLE", 5, shmmap.MapCorrupted, "unlink"),
    ("GEN0_NUMBER", 1, shmmap.MapCorrupted, "unlink"),
    ("GEN0_SHARDS", 0, shmmap.MapCorrupted, "unlink"),
    ("GEN0_SHARDS", 3, shmmap.MapCorrupted, "unlink"),
    ("GEN0_SHARDS", 1 << 63, shmmap.MapCorrupted, "unlink"),
    ("GEN0_SLOTS", 1, shmmap.MapCorrupted, "unlink"),
    ("GEN0_SLOTS", (1 << 64) - 1, shmmap.MapCorrupted, "unlink"),
    ("GEN0_SLOT_SIZE", 33, shmmap.MapCorrupted, "unlink"),
    ("GEN0_SLOT_SIZE", 1 << 50, shmmap.MapCorrupted, "unlink"),
    ("GEN0_BUCKETS", 0, shmmap.MapCorrupted, "unlink"),
    ("GEN0_BYTES", 7, shmmap.MapCorrupted, "unlink"),
    ("GEN0_ON_FULL", 1, shmmap.MapCorrupted, "unlink"),
    ("GEN0_CHECK", 1, shmmap.MapCorrupted, "unlink"),
    ("NONCE", 4711, shmmap.MapCorrupted, "unlink"),
]


@pytest.mark.parametrize(("field", "value", "error", "says"), CONTROL_DAMAGE)
def test_damaged_control_words(damaged, field, value, error, says):
    name = damaged()
    set_field(name, field, value)
    assert_refused(name, error, says)


@pytest.mark.parametrize(("field", "value"), [
    (field, value) for field, value, _, _ in CONTROL_DAMAGE
    if field.startswith("GEN0_") and field != "GEN0_CHECK"
])
def test_damaged_rows_of_the_generation_table_under_a_right_checksum(damaged, field, value):
    name = damaged()
    set_field(name, field, value)
    with control_words(name) as words:
        sum_up(words)
    assert_refused(name, shmmap.MapCorrupted, "unlink")


TOO_MUCH = [1 << 63, (1 << 64) - 1, 3 * 10**18 + 1]


@pytest.mark.parametrize(("field", "value"), [
    *((field, value) for field in ("TTL_NS", "MAX_AGE_NS", "SWEEP_NS", "EPHEMERAL", "GEN0_SIZE",
                                   "GEN0_CAPACITY", "GEN0_VALUE_SIZE", "GEN0_KEY_SIZE")
      for value in TOO_MUCH if (field, value) != ("GEN0_SIZE", TOO_MUCH[2])),
    ("CODEC", 2), ("CODEC", 1 << 63), ("GEN0_ON_FULL", 2), ("MODE", 0o777), ("MODE", 0o200),
    ("MODE", (1 << 64) - 1), ("GEN0_SIZE", 0), ("GEN0_CAPACITY", 1000),
])
def test_words_that_no_map_has_under_a_right_checksum(damaged, field, value, capfd):
    """Whoever makes a map computes its checksum, too."""
    name = damaged()
    set_field(name, field, value)
    with control_words(name) as words:
        sum_up(words)
    assert_refused(name, shmmap.MapCorrupted, "unlink")
    for command in (["ls"], ["info", name], ["fsck", name], ["dump", name, "/dev/null"]):
        assert cli.main(command) in range(8)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_map_of_an_earlier_boot_is_replaced(damaged):
    name = damaged()
    set_field(name, "BOOT_LOW", 1)
    with pytest.raises(shmmap.MapNotFound):
        shmmap.ShmMap.attach(name)
    with shmmap.ShmMap(name, "1MB", shards=4) as m:
        assert "a" not in m and m.check() == []
        assert len(objects_of(name)) == 2 + 2 * (4 + 1)
        m.unlink()


def test_an_empty_control_segment_is_replaced(damaged, name):
    (SHM / control_file(name)).touch(0o600)
    with shmmap.ShmMap(name, "1MB") as m:
        m["a"] = 1
        m.unlink()


DAMAGE: dict[str, tuple[type[Exception], Callable[[str], Any]]] = {
    "control cut": (shmmap.MapCorrupted, lambda n: os.truncate(SHM / control_file(n), 100)),
    "control halved": (shmmap.MapCorrupted, lambda n: os.truncate(SHM / control_file(n), 8192)),
    "control longer": (shmmap.MapCorrupted, lambda n: os.truncate(SHM / control_file(n), 1 << 20)),
    "control garbage": (
        shmmap.MapCorrupted, lambda n: (SHM / control_file(n)).write_bytes(os.urandom(50_000))
    ),
    "shard cut": (shmmap.MapCorrupted, lambda n: os.truncate(part(n, ".0.1"), 8192)),
    "shard emptied": (shmmap.MapCorrupted, lambda n: os.truncate(part(n, ".0.1"), 0)),
    "shard longer": (shmmap.MapCorrupted, lambda n: os.truncate(part(n, ".0.0"), 1 << 24)),
    "shard missing": (shmmap.MapCorrupted, lambda n: part(n, ".0.1").unlink()),
    "shard without magic": (shmmap.MapCorrupted, lambda n: patch(part(n, ".0.0"), 0, b"x" * 8)),
    "shard of another map": (
        shmmap.MapCorrupted, lambda n: patch(part(n, ".0.0"), K["S_NONCE"], b"x" * 8)
    ),
    "shards exchanged": (
        shmmap.MapCorrupted, lambda n: os.replace(part(n, ".0.0"), part(n, ".0.1"))
    ),
    "liveness file missing": (shmmap.MapCorrupted, lambda n: part(n, ".live").unlink()),
    "control wide": (shmmap.ConfigMismatch, lambda n: os.chmod(SHM / control_file(n), 0o666)),
    "shard wide": (shmmap.ConfigMismatch, lambda n: os.chmod(part(n, ".0.1"), 0o666)),
    "semaphore wide": (
        shmmap.ConfigMismatch,
        lambda n: os.chmod(SHM / f"sem.{part(n, '.0.1').name}", 0o666),
    ),
    "liveness file wide": (shmmap.ConfigMismatch, lambda n: os.chmod(part(n, ".live"), 0o666)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_objects(damaged, damage):
    name = damaged()
    error, act = DAMAGE[damage]
    act(name)
    assert_refused(name, error)


@pytest.mark.parametrize("kind", ["symlink", "dangling symlink", "directory", "fifo"])
def test_something_else_at_our_name(damaged, name, tmp_path, kind):
    path = SHM / control_file(name)
    target = tmp_path / "target"
    if kind == "symlink":
        target.write_bytes(b"precious")
        path.symlink_to(target)
    elif kind == "dangling symlink":
        path.symlink_to(target)
    elif kind == "directory":
        path.mkdir(0o700)
    else:
        os.mkfifo(path, 0o600)
    assert_refused(name, shmmap.ConfigMismatch, "another name")
    if kind == "symlink":
        assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("seed", range(6))
def test_noise_in_a_live_shard(make, seed):
    """Random bytes in a shard: operations end with a result or a documented error, check()
    tells, and repair() makes it whole."""
    import random

    rng = random.Random(seed)
    m = make(size="256KB", shards=1, lock_timeout=1, on_full="evict" if seed % 2 else "raise")
    for i in range(300):
        m[f"k{i}"] = bytes([i & 255]) * (i % 400)
    mapping = m.attachment.mappings[0]
    octets = memoryview(mapping.buffer).cast("B")
    start = K["S_BYTES_TOTAL"]
    for _ in range(200):
        octets[rng.randrange(start, mapping.size)] = rng.randrange(256)
    octets.release()
    for i in range(300):
        for operation in (
            lambda i=i: m.get(f"k{i}"), lambda i=i: m.set(f"k{i}", b"new"),
            lambda i=i: m.delete(f"k{i}"), lambda i=i: m.incr(f"n{i % 9}"),
        ):
            with contextlib.suppress(shmmap.MapCorrupted, shmmap.MapFull, TypeError):
                operation()
    m.repair()
    assert m.check() == [], f"seed {seed}"
    m.clear()
    m["a"] = 1
    assert dict(m) == {"a": 1} and m.check() == []
