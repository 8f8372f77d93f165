"""The recommended size holds the entries, and takes what was said."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.memory import geometry
from shmmap.tools import cli, sizing

FEWER = 1 if shmmap.ENGINE == "compiled" else 4  # the pure engine fills smaller maps


def log_normal(rng: random.Random, mean: float) -> int:
    return min(40_000, int(rng.lognormvariate(0, 1) * mean))


LOADS: dict[str, Any] = {
    "all alike": lambda rng: 100,
    "short": lambda rng: 3,
    "empty": lambda rng: 0,
    "log-normal": lambda rng: log_normal(rng, 300),
    "evenly": lambda rng: rng.randrange(20, 400),
    "two kinds": lambda rng: rng.choice([50, 50, 50, 5000]),
    "a few giants": lambda rng: 30_000 if rng.random() < 0.002 else 60,
    "longer than a slot may be": lambda rng: 6000,
}


def sample_of(entries: dict[Any, bytes]) -> sizing.Sample:
    sample = sizing.Sample()
    for key, value in entries.items():
        sample.add(len(key), 1, len(value))
    return sample


def options_of(call: str) -> dict[str, Any]:
    """Read the arguments of a call that a report recommends."""
    return eval(call.replace("shmmap.ShmMap(NAME, ", "dict("), {})


@pytest.mark.parametrize("evict", [False, True], ids=["raise", "evict"])
@pytest.mark.parametrize("load", LOADS)
def test_the_prediction_holds(load, evict, name):
    """A real map of the recommended size: nothing is refused or evicted, and the amplification
    is the predicted one within 3 %."""
    rng = random.Random(load)
    count = (2000 if "longer" in load or "two" in load else 8000) // FEWER
    entries = {f"key:{i}": rng.randbytes(LOADS[load](rng)) for i in range(count)}
    report = sizing.report(sample_of(entries), count, evict, False)
    calls = re.findall(r"^    (shmmap.ShmMap.*)$", report, re.M)
    predicted = [float(re.search(r"([\d.]+)  <- recommended", report)[1])]
    predicted += [float(found) for found in re.findall(r"amplification ([\d.]+)\)", report)]
    assert len(calls) >= len(predicted) >= 1
    for turn, call in enumerate(calls):
        with shmmap.ShmMap.create(name, ephemeral=True, **options_of(call)) as m:
            for key, value in entries.items():
                m[key] = value
            for key in list(entries)[::7]:  # a full map still takes overwrites
                m[key] = entries[key]
            stats = m.stats()
            assert stats.entries == count and stats.evicted == 0
            if turn < len(predicted):
                assert stats.amplification == pytest.approx(predicted[turn], rel=0.03)


def test_deadlines_are_counted(name):
    sample = sizing.made_sample(4000 // FEWER, 5, [(100, 1)])
    chosen = sizing.plan(sample, 136, sample.entries, False, True)
    with shmmap.ShmMap.create(name, size=chosen.size, ephemeral=True, ttl=600,
                              sweep_interval=None) as m:
        for i in range(sample.entries):
            m[f"{i:05}"] = bytes(100)
        assert m.stats().amplification == pytest.approx(chosen.amplification, rel=0.03)


def test_the_bound_is_that_of_capacity_where_all_are_alike():
    for entries in (1000, 50_000, 1_000_000):
        for shards in (2, 16, 64):
            exact = geometry.shard_load_bound(entries, shards)
            bound = sizing.slots_bound(Counter({1: 1}), entries, shards) - 1
            assert exact <= bound <= exact * 1.03 + 3


def test_the_bound_holds_for_mixed_lengths():
    """Of 2,000 random maps none has a shard above the bound; the mean is not far below it."""
    rng = random.Random(1)
    needs = Counter({1: 900, 3: 90, 30: 10})
    bound = sizing.slots_bound(needs, 1, 8) - 30
    most = 0
    for _ in range(2000):
        shards = [0] * 8
        for need, times in needs.items():
            for _ in range(times):
                shards[rng.randrange(8)] += need
        most = max(most, *shards)
    assert most < bound < 2 * most


def test_more_entries_than_the_sample_has():
    sample = sizing.made_sample(1000, 16, [(100, 1)])
    small, large = (sizing.plan(sample, 136, n, False, False) for n in (1000, 1_000_000))
    assert 500 < large.size / small.size < 1000  # a map has fixed costs, too
    alike = sizing.plan(sizing.made_sample(1_000_000, 16, [(100, 1)]), 136, 10**6, False, False)
    assert alike == large


def test_each_slot_size_can_be_said():
    for slot in range(32, 4104, 8):
        for key in (0, 3, 16, 50, 5000):
            sample = sizing.made_sample(10, key, [(100, 1)])
            chosen = sizing.plan(sample, slot, 10, False, False)
            assert geometry.slot_bytes(chosen.value_size, chosen.key_size) == slot
            assert chosen.geometry.slot_size == slot


def test_a_giant_fits_into_a_shard():
    sample = sizing.made_sample(10_000, 16, [(50, 9999), (3_000_000, 1)])
    assert sample.largest == 3_000_016
    for evicts in (False, True):
        chosen = sizing.plan(sample, sizing.best_slot(sample), 10_000, evicts, False)
        assert chosen.geometry.max_entry_bytes >= sample.largest


@pytest.mark.parametrize(("count", "lengths"), [
    (1, "5000000"), (1000, "5000000x1,100x999"), (20, "1000000"), (100, "300000x5,100x95"),
])  # fmt: skip
def test_a_few_long_entries_recommend_few_shards(count, lengths, name):
    """Every shard has to hold the longest: with the shards of the default these four would be
    gigabytes. A map of what is recommended takes them, and takes each anew."""
    sample = sizing.made_sample(count, 16, sizing.parse_lengths(lengths))
    report = sizing.report(sample, count, False, False)
    assert "Say shards=: " in report
    (options, *_) = map(options_of, re.findall(r"^    (shmmap.ShmMap.*)$", report, re.M))
    data = sample.key_bytes + sample.value_bytes
    assert geometry.parse_size(options["size"]) < 3 * data + sample.largest
    values = [length - 16 for length, times in sample.lengths.items() for _ in range(times)]
    with shmmap.ShmMap.create(name, ephemeral=True, **options) as m:
        for filling in (b"a", b"b"):
            for i, length in enumerate(values):
                m[f"key:{i:012}"] = filling * min(length, sample.largest - 16)
        assert len(m) == count and m.stats().amplification < 3


def test_a_gigabyte_in_one_entry():
    sample = sizing.made_sample(1, 16, [(1_000_000_000, 1)])
    chosen = sizing.plan(sample, sizing.best_slot(sample), 1, False, False)
    assert chosen.geometry.shards == 1 and chosen.amplification < 2.1
    assert "<- recommended" in sizing.report(sample, 1, False, False)  # no row of 136-byte slots


def test_too_much():
    sample = sizing.made_sample(10, 16, [(4_000_000_000, 1)])
    with pytest.raises(ValueError, match="more than any map holds"):
        sizing.plan(sample, 32, 10**9, False, False)


# -- reading samples ------------------------------------------------------------------------------


def of(sample: sizing.Sample) -> tuple[int, int, int, int]:
    return sample.entries, sample.key_bytes, sample.value_bytes, sample.largest


PAIRS: list[tuple[Any, Any]] = [
    ("a", "text"), (7, 7), (None, None), (0.5, True), (("a", (1, 2)), {"x": [1, 2]}), ("é", 2**80),
]  # fmt: skip


def test_a_dump_and_json_lines_say_what_the_map_holds(make, tmp_path):
    m = make(shards=1)
    m.update(PAIRS)
    m.dump(tmp_path / "dump")
    (tmp_path / "lines").write_text("\n \n".join(map(json.dumps, PAIRS)) + "\n")
    dumped = sizing.read_sample(str(tmp_path / "dump"))
    written = sizing.read_sample(str(tmp_path / "lines"))
    assert of(dumped) == of(written) and dumped.lengths == written.lengths
    assert dumped.key_bytes + dumped.value_bytes == m.stats().live_bytes
    shape = m.attachment.geometry
    used = m.stats().slots - m.stats().free_slots
    assert sum(need * n for need, n in dumped.needs(shape.slot_size).items()) == used


def test_csv(tmp_path):
    with open(tmp_path / "rows.csv", "w", newline="") as file:
        csv.writer(file).writerows([("a", "text"), ("b,c", 'two\nlines "quoted"'), ("é", "")])
    sample = sizing.read_sample(str(tmp_path / "rows.csv"))
    assert of(sample)[:3] == (3, 1 + 3 + 2, 4 + len('two\nlines "quoted"'))


@pytest.mark.parametrize("text", [
    '["a", 1]\n["b", "text"]\n', "a,1\nb,text\n", '\n\n \n["a", "1"]\n["b", "text"]',
    "\n\na,1\nb,text",
], ids=["JSON", "CSV", "late JSON", "late CSV"])  # fmt: skip
def test_a_pipe_is_read_once_and_a_byte_order_mark_is_nothing(text, tmp_path):
    wanted = None
    for mark in ("", "\ufeff"):
        (tmp_path / "file").write_text(mark + text, encoding="utf-8")
        found = of(sizing.read_sample(str(tmp_path / "file")))
        wanted = wanted or found
        read, write = os.pipe()
        with open(write, "w", encoding="utf-8") as file:
            file.write(mark + text)
        try:
            assert of(sizing.read_sample(f"/dev/fd/{read}")) == found == wanted
        finally:
            os.close(read)
    assert wanted is not None and wanted[:2] == (2, 2)


def test_a_long_sample_through_a_pipe(tmp_path):
    lines = "".join(f'["key:{i:06}", {i}]\n' for i in range(20_000)).encode()
    command = [sys.executable, "-m", "shmmap", "size", "--sample", "/dev/stdin"]
    done = subprocess.run(command, input=lines, cwd=tmp_path, capture_output=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"20,000 entries: keys of 10 bytes")


def test_a_sample_that_is_no_text(make, tmp_path, capsys):
    (tmp_path / "x").write_bytes(b"\xff\xfea\0")
    with pytest.raises(SystemExit):
        cli.main(["size", "--sample", str(tmp_path / "x")])
    said = capsys.readouterr().err.replace("\n", " ")
    assert f"{tmp_path / 'x'} is neither a dump nor text in UTF-8" in said
    read, write = os.pipe()
    make().dump(tmp_path / "d")
    os.write(write, (tmp_path / "d").read_bytes())
    os.close(write)
    assert cli.main(["size", "--sample", f"/dev/fd/{read}"]) == 1
    assert "a dump is a regular file" in capsys.readouterr().err
    os.close(read)


@pytest.mark.parametrize(("text", "what"), [
    ("[1, 2, 3]\n", r"line 1 is not \[key, value\]"), ('["a", 1]\n{"b": 2}', "line 2 is not"),
    ("[1", "line 1 is not"), ("[{}, 1]", "line 1: .*unhashable"), ("[NaN, 1]", "line 1: NaN"),
    ("a,b\nc\n", "line 2 has 1 columns"), ("\n\na,b\nc\n", "line 4 has 1 columns"),
    ('\n["a", 1]\n\n[', r"x, line 4 is not \[key"),
    ("a,b,c", "line 1 has 3 columns"),
    ("[" * 100_000, "line 1 is not"), ("", "holds no entries"), ("\n\n", "holds no entries"),
    (",", "no bytes at all"),
])  # fmt: skip
def test_samples_that_are_none(text, what, tmp_path, capsys):
    (tmp_path / "x").write_text(text)
    with pytest.raises(SystemExit) as caught:
        cli.main(["size", "--sample", str(tmp_path / "x")])
    assert caught.value.code == 2
    assert re.search(what, capsys.readouterr().err.replace("\n", " "))


def test_lengths():
    assert sizing.parse_lengths("100") == [(100, 1.0)]
    assert sizing.parse_lengths("100x70, 4000x30.5") == [(100, 70.0), (4000, 30.5)]
    evenly = sizing.parse_lengths("20-400x4")
    assert len(evenly) == 32 and sum(share for _, share in evenly) == pytest.approx(4)
    assert sum(n for n, _ in evenly) / 32 == pytest.approx(210, abs=1)
    assert min(evenly)[0] >= 20 and max(evenly)[0] <= 400
    assert [n for n, _ in sizing.parse_lengths("3-5")] == [3, 4, 5]
    for wrong in ("", "x", "5-3", "1,,2", "-5", "1x0", "1e3", "5x"):
        with pytest.raises(ValueError):
            sizing.parse_lengths(wrong)
    sample = sizing.made_sample(1001, 16, sizing.parse_lengths("100x1,200x2"))
    assert sample.entries == 1001
    assert sample.value_bytes == pytest.approx(1001 * 500 / 3, rel=0.01)


# -- the commands ----------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [
    [], ["--entries", "0"], ["--entries", "5", "--key-bytes", "70000"],
    ["--entries", "5", "--key-bytes", "-1"], ["--entries", "5", "--value-bytes", "many"],
    ["--entries", "5", "--key-bytes", "0", "--value-bytes", "0"], ["--entries", "x"],
], ids=str)  # fmt: skip
def test_size_says_what_is_wrong(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["size", *arguments])
    assert caught.value.code == 2 and "error: " in capsys.readouterr().err


def test_size_of_a_missing_file(capsys, tmp_path):
    assert cli.main(["size", "--sample", str(tmp_path / "missing")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_size_prints_a_call(capsys):
    assert cli.main(["size", "--entries", "1000", "--value-bytes", "20", "--evict"]) == 0
    said = capsys.readouterr().out
    assert '    shmmap.ShmMap(NAME, capacity=1000, value_size=24, on_full="evict")\n' in said
    assert "<- recommended" in said


def test_dump_load_and_size(make, name, tmp_path, capsys):
    m = make()
    m.update({"a": 1, "b": [2j]})
    file = str(tmp_path / "d")
    assert cli.main(["dump", name, file]) == 0
    assert "2 entries in" in capsys.readouterr().out
    assert cli.main(["size", "--sample", file]) == 0
    assert "2 entries: keys" in capsys.readouterr().out
    other = f"{name}-other"
    assert cli.main(["load", file, other]) == 0
    assert f"2 entries written to {other}; 0 were older, 0 expired" in capsys.readouterr().out
    with shmmap.ShmMap.attach(other) as n:
        assert dict(n) == {"a": 1, "b": [2j]}
        assert cli.main(["load", file, other, "--size", "2MB"]) == 1
        refused = capsys.readouterr().err
        assert "another shape than asked (size: asked 2000000, it has 1000000)" in refused
        n.unlink()
    assert cli.main(["load", file, other, "--size", "no"]) == 1
    assert "is not a size" in capsys.readouterr().err
    safe = shmmap.ShmMap(other, size="1MB", codec="safe")
    assert cli.main(["load", file, other]) == 1
    assert "pickled values" in capsys.readouterr().err
    safe.unlink()
    safe.close()
    Path(file).write_bytes(Path(file).read_bytes()[:-1])
    for arguments in (["load", file, other], ["size", "--sample", file]):
        assert cli.main(arguments) == 1
        assert "without a whole trailer" in capsys.readouterr().err
    assert cli.main(["dump", other, file]) == 1
    assert "no map" in capsys.readouterr().err
