"""Dumps: what was written comes back, whenever its writer or another one is killed."""

from __future__ import annotations

import os
import resource
import signal
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmmap
from shmmap.copies import dumps

from ...support.dump_files import INT, load, read

KEYS = ["", "a", "é\U0001f600", "\ud800", b"", b"\x00\xff", 0, -1, 2**63 - 1, 2**80, -(2**200), 0.5,
        float("inf"), None, (), ("a", 1, (None, b"x", 2.5)), "k" * 5000]  # fmt: skip
VALUES = [b"", b"x" * 5000, "", "é\ud800", 0, -5, 2**70, 0.25, None, True, False, {"a": [1, 2]}, 1j,
          np.arange(12, dtype="i4").reshape(3, 4), np.array(["a", "bc"])]  # fmt: skip


# -- round trips ------------------------------------------------------------------------


def test_every_kind_of_entry_comes_back(make, other, tmp_path):
    m = make(size="2MB", shards=2)
    for i, key in enumerate(KEYS):
        m[key] = VALUES[i % len(VALUES)]
    for i, value in enumerate(VALUES):
        m["value", i] = value
    report = m.dump(tmp_path / "d")
    assert report.entries == len(m) == len(KEYS) + len(VALUES)
    assert report.bytes == (tmp_path / "d").stat().st_size
    assert report.pickled == sum(type(value) is complex for value in m.values()) >= 1
    n = load(other, tmp_path / "d")
    assert n.check() == [] and len(n) == len(m)
    for key, value in m.items():
        back = n[key]
        assert type(back) is type(value)
        if isinstance(value, np.ndarray):
            assert back.dtype == value.dtype
            np.testing.assert_array_equal(back, value)
        else:
            assert back == value
    assert n.merge(m)[:3] == (0, len(m), 0)  # as new already


def test_parameters_come_with_it(make, other, tmp_path):
    m = make(capacity=500, shards=4, ttl=7.5, on_full="evict", value_size=300, key_size=20,
             codec="safe", max_age=30, ephemeral=False)
    m["a"] = 1
    m.dump(tmp_path / "d")
    n = load(other, tmp_path / "d")
    assert n.attachment.parameters == m.attachment.parameters
    assert n.attachment.geometry == m.attachment.geometry


def test_parameters_that_are_said_win(make, other, tmp_path):
    m = make(size="1MB", ttl=7, shards=4)
    m["a"] = 1
    m.dump(tmp_path / "d")
    n = load(other, tmp_path / "d", capacity=1000, ttl=None)
    assert n.attachment.parameters.capacity == 1000
    assert n.attachment.parameters.size is None and n.attachment.parameters.ttl_ns == 0
    assert n["a"] == 1
    with pytest.raises(shmmap.ConfigMismatch, match="asked 2000"):
        load(other, tmp_path / "d", capacity=2000, on_mismatch="raise")
    with pytest.warns(shmmap.MapMismatchWarning, match="asked 2000, it has 1000"):
        load(other, tmp_path / "d", capacity=2000)


def test_a_dump_of_an_ephemeral_map_makes_one_that_stays(make, other, tmp_path):
    m = make(ephemeral=True)
    m["a"] = 1
    m.dump(tmp_path / "d")
    assert load(other, tmp_path / "d").attachment.parameters.ephemeral is False


def test_an_empty_map(make, other, tmp_path):
    assert make().dump(tmp_path / "d").entries == 0
    assert len(load(other, tmp_path / "d")) == 0


def test_long_values_and_many_blocks(make, other, tmp_path):
    m = make(size="16MB", shards=1)
    for i in range(30):
        m[i] = bytes([i]) * (i * 10_000)
    m["huge"] = bytes(range(256)) * 10_000  # longer than a block
    m.dump(tmp_path / "d")
    n = load(other, tmp_path / "d")
    assert dict(n) == dict(m) and n.check() == []
    with dumps.DumpReader(tmp_path / "d") as dump:
        lengths = [(records, len(payload)) for records, payload in dump._payloads()]
    assert len(lengths) > 4
    assert all(length <= dumps.BLOCK_LIMIT or records == 1 for records, length in lengths)
    assert max(length for _, length in lengths) > dumps.BLOCK_LIMIT


def test_100_000_entries(make, other, tmp_path):
    count = 100_000 if shmmap.ENGINE == "compiled" else 10_000
    m = make(capacity=count, value_size=16)
    m.set_many((i, b"%016d" % i) for i in range(count))
    assert m.dump(tmp_path / "d").entries == count
    n = load(other, tmp_path / "d")
    assert len(n) == count
    assert all(n[i] == b"%016d" % i for i in range(0, count, 997))
    assert n.check() == []


def test_memory_beside_one_block_is_constant(make, tmp_path):
    """The records go through one by one: nothing gathers them."""
    entries = (dumps.RawEntry(1, b"%d" % i, 1, bytes(10_000), 0, 2) for i in range(5000))
    m = make()
    m.dump(tmp_path / "d")
    with dumps.DumpReader(tmp_path / "d") as dump:
        head = dump.head
    import tracemalloc

    tracemalloc.start()
    try:
        with open(tmp_path / "d", "wb") as file:
            totals = dumps.write(file, head, entries)
        with dumps.DumpReader(tmp_path / "d") as dump:
            dump.verify()
            assert sum(1 for _ in dump.records()) == totals.records == 5000
        assert tracemalloc.get_traced_memory()[1] < 6 * dumps.BLOCK_LIMIT < totals.bytes // 5
    finally:
        tracemalloc.stop()


# -- time ---------------------------------------------------------------------------------


def test_time_goes_on_while_the_dump_lies_there(make, other, tmp_path, boots):
    m = make()
    boots.become(m, "one", 1000, 50_000)
    m.set("long", 1, ttl=100)
    m.set("short", 2, ttl=10)
    m.set("none", 3)
    m.dump(tmp_path / "d")
    n = other()
    boots.become(n, "one", 1030, 50_030)
    assert n.merge(tmp_path / "d")[:3] == (2, 0, 1)
    assert n.ttl("long") == 70 and n.ttl("none") is None and "short" not in n


def test_on_the_same_boot_the_wall_clock_does_not_matter(make, other, tmp_path, boots):
    m = make()
    boots.become(m, "one", 1000, 50_000)
    m.set("a", 1, ttl=100)
    m.dump(tmp_path / "d")
    n = other()
    boots.become(n, "one", 1030, 90_000)
    n.merge(tmp_path / "d")
    assert n.ttl("a") == 70


def test_on_another_boot_the_wall_clock_decides(make, other, tmp_path, boots):
    m = make()
    boots.become(m, "one", 1000, 50_000)
    for key in ("old", "new", "gone"):
        m.set(key, "dumped", ttl=100)
    m["forever"] = "dumped"
    m.dump(tmp_path / "d")
    n = other()
    boots.become(n, "two", 20, 49_990)  # before that write, by the wall clock
    n["old"] = "here"
    boots.become(n, "two", 50, 50_020)
    n["new"] = "here"
    assert n.merge(tmp_path / "d")[:3] == (3, 1, 0)
    assert n["old"] == "dumped" and n["new"] == "here"
    assert n.ttl("old") == n.ttl("gone") == 80 and n.ttl("forever") is None


def test_what_an_earlier_boot_wrote_loses_to_all_of_this_one(make, other, tmp_path, boots):
    m = make()
    boots.become(m, "one", 1000, 50_000)
    m["a"] = "dumped"
    m["b"] = "dumped"
    m.dump(tmp_path / "d")
    n = other()
    boots.become(n, "two", 5, 60_000)
    n["a"] = "here"
    assert n.merge(tmp_path / "d")[:3] == (1, 1, 0)
    assert dict(n) == {"a": "here", "b": "dumped"}


def test_a_real_deadline_comes_back(make, other, tmp_path):
    m = make()
    m.set("a", 1, ttl=60)
    m.dump(tmp_path / "d")
    assert 50 < load(other, tmp_path / "d").ttl("a") <= m.ttl("a") + 1 < 62


# -- the file --------------------------------------------------------------------------------


def test_permissions_are_the_maps(make, tmp_path):
    before = os.umask(0o077)
    try:
        m = make(mode=0o660)
        m.dump(tmp_path / "d")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o660
    (tmp_path / "d").chmod(0o666)
    m.dump(tmp_path / "d")  # the new file's, not those of what it replaces
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o660


def test_a_failure_leaves_what_was_there(make, tmp_path, monkeypatch):
    m = make()
    m["a"] = 1
    m.dump(tmp_path / "d")
    whole = (tmp_path / "d").read_bytes()

    def entries(source: Any) -> Any:
        yield dumps.RawEntry(1, b"x", 1, b"y", 0, 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(dumps, "raw_entries", entries)
    with pytest.raises(KeyboardInterrupt):
        m.dump(tmp_path / "d")
    assert os.listdir(tmp_path) == ["d"] and (tmp_path / "d").read_bytes() == whole


def test_it_replaces_regular_files_only(make, tmp_path):
    m = make()
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for target in (tmp_path / "directory", tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(OSError, match="only of a regular file"):
            m.dump(target)
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    m.dump(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and len(read(tmp_path / "real")) == 1
    with pytest.raises(FileNotFoundError):
        m.dump(tmp_path / "missing" / "d")
    assert sorted(os.listdir(tmp_path)) == ["directory", "fifo", "link", "real"]


def test_it_replaces_no_file_behind_a_descriptor(make, tmp_path):
    """The file that a shell redirected the output to would lose its name."""
    m = make()
    (tmp_path / "log").write_text("begun\n")
    (tmp_path / "link").symlink_to("/dev/stdout")
    with open(tmp_path / "log", "a") as file:
        number = file.fileno()
        for path in (f"/dev/fd/{number}", f"/proc/self/fd/{number}", f"/proc/{os.getpid()}/fd/1",
                     f"/proc/thread-self/fd/{number}", "/dev/stdout", tmp_path / "link",
                     f"/dev/fd/../fd/{number}", b"/dev/stdout"):
            with pytest.raises(OSError, match="only of a regular file") as caught:
                m.dump(path)
            assert caught.value.filename == os.fsdecode(path)
        done = subprocess.run(
            [sys.executable, "-m", "shmmap", "dump", m.name, "/dev/stdout"], cwd=tmp_path,
            stdout=file, stderr=subprocess.PIPE, timeout=60,
        )
        assert done.returncode == 1 and b"only of a regular file: '/dev/stdout'" in done.stderr
    assert (tmp_path / "log").read_text() == "begun\n"
    directory = os.open(tmp_path, os.O_RDONLY)
    m.dump(f"/dev/fd/{directory}/d")  # a directory's: the file is a new one
    m.dump(f"/proc/self/root{tmp_path}/e")
    os.close(directory)
    assert sorted(os.listdir(tmp_path)) == ["d", "e", "link", "log"]


def test_errors_name_the_file_that_was_asked_for(make, tmp_path):
    m = make()
    m["a"] = bytes(100_000)
    for path, kind in ((tmp_path / "missing" / "d", FileNotFoundError),
                       (Path("/proc/version/d"), NotADirectoryError),
                       (Path("/sys/kernel/d"), OSError)):
        with pytest.raises(kind) as caught:
            m.dump(path)
        assert caught.value.filename == str(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            m.dump(tmp_path / "d")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / "d") and os.listdir(tmp_path) == []
    for call in (m.merge, lambda path: shmmap.ShmMap.load(path, m.name)):
        with pytest.raises(OSError, match="a dump is a regular file") as caught:
            call(tmp_path)
        assert caught.value.filename == str(tmp_path)


def test_killed_at_each_step(make, start, tmp_path):
    """Until the rename the name holds what it held before, from then on the whole new dump."""
    m = make()
    target = tmp_path / "d"
    for i, (function, turn, there) in enumerate((
        ("write", 1, False), ("fchmod", 1, False), ("fsync", 1, False), ("replace", 1, False),
        ("fsync", 2, True),
    )):
        m.clear()
        m["step"] = i - 1
        m.dump(target)
        m["step"] = i

        def die_there(child: Any, function: str = function, turn: int = turn) -> None:
            owner: Any = dumps if function == "write" else os
            real, calls = getattr(owner, function), []

            def dies(*arguments: Any, **named: Any) -> Any:
                calls.append(1)
                if len(calls) == turn:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **named)

            setattr(owner, function, dies)
            m.dump(target)

        child = start(die_there)
        assert os.WTERMSIG(child.reap()) == signal.SIGKILL
        (entry,) = read(target)[1:]
        assert entry.value == struct.pack("=q", i if there else i - 1)
    left = [file for file in os.listdir(tmp_path) if file != "d"]
    assert len(left) == 4 and all(file.startswith(".shmmap-dump.") for file in left)


def test_killed_at_any_moment(make, start, tmp_path):
    m = make(size="8MB")
    m.set_many((i, bytes(1000)) for i in range(2000))
    m.dump(tmp_path / "d")
    for turn in range(12):
        child = start(lambda child: [child.tell("go"),
                                     *(m.dump(tmp_path / "d") for _ in range(1000))])
        assert child.hear() == "go"
        time.sleep(0.01 * turn)
        child.kill()
        assert len(read(tmp_path / "d")) == 2001



def test_dumped_while_others_write(make, start, tmp_path):
    m = make(size="4MB")
    m.set_many((i, b"%08d" % i * 9) for i in range(1000))

    def write(child: Any) -> None:
        child.tell("go")
        turn = 0
        while True:
            turn += 1
            for i in range(0, 1000, 2):
                m[i] = b"%08d" % i * (turn % 20 + 1)
                m.delete(("gone", i))
                m[("gone", i + turn)] = b"x"

    child = start(write)
    assert child.hear() == "go"
    for _ in range(5):
        m.dump(tmp_path / "d")
        found = {}
        with dumps.DumpReader(tmp_path / "d") as dump:
            dump.verify()
            for entry in dump.records():
                assert (entry.key_type, entry.key) not in found
                found[entry.key_type, entry.key] = entry.value
        for i in range(1000):
            value = found[INT, i.to_bytes(8, "little")]
            assert value == b"%08d" % i * (len(value) // 8) and value
    child.kill()


def test_a_parameter_by_its_former_name(make, tmp_path):
    m = make(max_age=30)
    m["a"] = 1
    m.dump(tmp_path / "new")
    with dumps.DumpReader(tmp_path / "new") as new, (tmp_path / "old").open("wb") as file:
        said = dict(new.head.parameters)
        said["max_idle_ns"] = said.pop("max_age_ns")
        assert "linger_ns" not in said and "ephemeral" not in said
        dumps.write(file, new.head._replace(parameters=said), new.records())
    for version in ("old", "new"):
        with dumps.DumpReader(tmp_path / version) as reader:
            assert reader.options()["max_age"] == 30
