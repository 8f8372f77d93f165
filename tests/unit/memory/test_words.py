"""Header words by name: what is generated, what a misspelt name meets, and that a view lets go."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import shmmap
from shmmap.lifecycle.control import geometry_of, is_sound
from shmmap.lifecycle.parameters import Parameters, argument, as_text
from shmmap.memory import geometry, layout, words
from shmmap.memory.words import ControlWords, GenerationWords, RowWords, ShardWords

from ...support.table_words import sum_up

RECORDS = ((layout.CONTROL, ControlWords), (layout.ROW, RowWords), (layout.SHARD, ShardWords))
MOST = (1 << 64) - 1


@pytest.fixture
def m(name):
    with shmmap.ShmMap(name, capacity=100, shards=2) as m:
        yield m
        m.unlink() if not m.closed else shmmap.ShmMap.attach(name).unlink()


def test_the_classes_are_what_the_layout_gives():
    text = Path(words.__file__).read_text()
    assert layout.WORDS_START in text and layout.WORDS_END in text
    assert layout.replace_words(text) == text, "run: python3 shmmap/memory/layout.py"


@pytest.mark.parametrize(("record", "kind"), RECORDS, ids=lambda one: getattr(one, "name", ""))
def test_each_word_is_where_the_layout_has_it(record, kind):
    buffer = bytearray(layout.record_bytes(record))
    for name, offset in layout.offsets(record).items():
        with kind(buffer) as view:
            setattr(view, name, offset + 1)
            assert getattr(view, name) == offset + 1 == view[getattr(kind, name)]
        assert int.from_bytes(buffer[offset : offset + 8], sys.byteorder) == offset + 1
        assert repr(getattr(kind, name)) == name


@pytest.mark.parametrize("kind", [ControlWords, RowWords, ShardWords, GenerationWords])
def test_a_name_that_the_layout_lacks(kind):
    view = kind(bytearray(1024))
    with pytest.raises(AttributeError):
        _ = view.ENTRY
    with pytest.raises(AttributeError):
        view.ENTRY = 1


def test_a_name_that_the_layout_lacks_is_an_error_of_mypy(tmp_path):
    sample = tmp_path / "sample.py"
    sample.write_text(
        "from shmmap.memory.words import ControlWords, ShardWords\n"
        "def use(control: ControlWords, shard: ShardWords) -> int:\n"
        "    control.STATUS = 1\n"
        "    shard.DIRTY = 1\n"
        "    control['STATE'] = 1\n"
        "    return shard.ENTRY + shard.ENTRIES\n"
    )
    package = Path(shmmap.__file__).parents[1]
    # mypy finds what is installed by itself, and refuses to be pointed there
    path = {} if package.name == "site-packages" else {"MYPYPATH": str(package)}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", "--strict", "--follow-imports=silent",
         f"--cache-dir={tmp_path}", str(sample)],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, **path},
    )
    lines = [line for line in done.stdout.splitlines() if "sample.py:" in line]
    assert {line.split(":")[1] for line in lines} == {"3", "5", "6"}, done.stdout


def test_a_store_wraps_as_the_engines_do():
    with ShardWords(bytearray(512)) as shard:
        shard.ENTRIES = -1
        assert shard.ENTRIES == MOST
        shard.ENTRIES += 2
        assert shard.ENTRIES == 1


def test_a_view_lets_its_buffer_go():
    buffer = bytearray(512)
    with ShardWords(buffer) as shard:
        shard.MAGIC = 1
        with pytest.raises(BufferError):
            buffer.clear()
    with pytest.raises(ValueError, match="released"):
        _ = shard.MAGIC
    buffer.clear()
    buffer = bytearray(512)
    with pytest.raises(ZeroDivisionError), ShardWords(buffer) as shard:
        shard.ENTRIES = 1 // 0
    buffer.clear()


def test_a_view_of_words_ends_with_them():
    buffer = bytearray(1024)
    with ControlWords(buffer) as control:
        row = RowWords(control.words, 2)
        row.STATE = 7
        assert control.ENGINE == 7
    buffer.clear()
    with pytest.raises(ValueError, match="released"):
        _ = row.STATE


def test_a_closed_map_answers_no_word(m):
    control = m.attachment.control
    assert control.NONCE == m.attachment.nonce
    m.close()
    with pytest.raises(ValueError, match="released"):
        _ = control.STATE


@pytest.mark.parametrize(("field", "value"), [
    ("BYTES", 8), ("ROWS", 0), ("ROWS", 1 << 40),
    ("GEN0_SHARDS", 0), ("GEN0_SHARDS", 3), ("GEN0_SHARDS", geometry.SHARD_LIMIT * 2),
    ("GEN0_SLOTS", 1), ("GEN0_SLOTS", MOST), ("GEN0_SLOT_SIZE", 20), ("GEN0_SLOT_SIZE", 24),
    ("GEN0_SLOT_SIZE", 1 << 21), ("GEN0_BUCKETS", 0), ("GEN0_BUCKETS", MOST), ("GEN0_BYTES", 4096),
])
def test_sizes_that_no_map_has(m, field, value):
    control = ControlWords(bytes(m.attachment.control.words))
    assert is_sound(control)
    assert geometry_of(control) == m.attachment.geometry
    damaged = ControlWords(bytearray(control.words.tobytes()))
    setattr(damaged, field, value)
    assert not is_sound(damaged)
    sum_up(damaged)  # whoever makes a row sums it up
    assert not is_sound(damaged)


def test_parameters_have_the_names_of_the_arguments():
    named = {field: argument(field) for field in Parameters._fields if argument(field) != field}
    assert named == {
        "ttl_ns": "ttl", "max_age_ns": "max_age", "sweep_ns": "sweep_interval",
        "linger_ns": "linger", "tombstones_ns": "tombstones",
    }
    assert as_text("sweep_ns", 1_500_000_000) == "1.5 s"
    assert as_text("ttl_ns", 0) is as_text("ttl_ns", None) is None
    assert as_text("mode", 0o660) == "0o660"
    assert as_text("capacity", 100) == 100
