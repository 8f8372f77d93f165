"""The table of generations: its word, its rows, and who has a place in the hash."""

from __future__ import annotations

import itertools
import random

import pytest

from shmmap.lifecycle.control import is_sound
from shmmap.memory import layout, table, words
from shmmap.memory.table import UNITS, Table, table_of
from shmmap.memory.words import ControlWords, GenerationWords

from ...support.table_words import copy_row

MOST = (1 << 64) - 1
CURSORS = (0, 1, 255, 256, 2048, UNITS - 1, UNITS)
CHANGES = (0, 1, 2, (1 << 30) - 1)
EVERY = [rows for count in (1, 2, 3) for rows in itertools.permutations(range(3), count)]


@pytest.fixture
def control():
    """The words of a control segment, in private memory."""
    with ControlWords(bytearray(layout.record_bytes(layout.CONTROL))) as control:
        yield control


@pytest.mark.parametrize("rows", EVERY, ids=str)
def test_each_table_comes_back_from_its_word(rows):
    for cursors in itertools.product(CURSORS, repeat=len(rows) - 1):
        for changes in CHANGES:
            made = Table(rows, (UNITS, *cursors), changes)
            assert 0 <= made.word() <= MOST
            assert table_of(made.word()) == made
            assert made.is_valid() and made.is_moving == (len(rows) > 1)


def test_no_two_tables_have_one_word():
    made = [Table(rows, (UNITS, *cursors), changes) for rows in EVERY for changes in CHANGES
            for cursors in itertools.product(CURSORS, repeat=len(rows) - 1)]
    assert len({one.word() for one in made}) == len(made)


def test_each_valid_word_is_that_of_its_table():
    """But for the bits of rows and cursors that are not in use, which movers leave 0."""
    rng = random.Random(7)
    valid = 0
    for _ in range(20_000):
        word = rng.getrandbits(64) & ~(rng.getrandbits(13) << 8) & ~(rng.getrandbits(13) << 21)
        found = table_of(word)
        assert len(found.rows) == len(found.cursors) == (word & 3) + 1
        if found.is_valid():
            valid += 1
            unused = 0
            for at, shift in ((1, 21), (2, 8)):
                if at >= len(found.rows):
                    unused |= 3 << 2 + 2 * at | layout.constants()["TABLE_CURSOR_MASK"] << shift
            assert found.word() == word & ~unused
    assert valid > 500


def test_a_new_map_has_one_generation_and_never_moved(control):
    """The words of a new segment are 0."""
    assert table.read_table(control) == Table() == table_of(0)
    assert not Table().is_moving and Table().is_valid()


@pytest.mark.parametrize("wrong", [
    Table((0, 0), (UNITS, 0)), Table((0, 1, 0), (UNITS, 0, 0)), Table((0, 3), (UNITS, 0)),
    Table((3,), (UNITS,)), Table((0, 1), (UNITS, UNITS + 1)),
    Table((0, 1, 2), (UNITS, 0, UNITS + 1)), Table((0, 1, 2, 3), (UNITS, 0, 0, 0)), Table((), ()),
], ids=str)
def test_what_no_mover_writes_is_not_valid(wrong):
    assert not wrong.is_valid()
    if 1 <= len(wrong.rows) <= 3:
        assert not table_of(wrong.word()).is_valid()


@pytest.mark.parametrize("rest", [0, 0b100100, 0b11100100, MOST >> 2])
def test_a_word_of_four_rows_is_not_valid(rest):
    assert not table_of(3 | rest << 2).is_valid()


def row_by_hand(made: Table, unit: int) -> int:
    """Look which generation has a place: the newest that has come so far."""
    for at in reversed(range(1, len(made.rows))):
        if unit < made.cursors[at]:
            return made.rows[at]
    return made.rows[0]


@pytest.mark.parametrize("rows", EVERY, ids=str)
def test_who_has_a_place_in_the_hash(rows):
    for cursors in itertools.product(CURSORS, repeat=len(rows) - 1):
        made = Table(rows, (UNITS, *cursors))
        around = {at + step for at in CURSORS for step in (-1, 0, 1)} & set(range(UNITS))
        for unit in sorted(around):
            assert made.row_at(unit) == row_by_hand(made, unit), (made, unit)


def test_who_has_a_place_while_two_are_on_the_way_to_a_third():
    made = Table((2, 0, 1), (UNITS, 1024, 256))
    assert [made.row_at(at) for at in (0, 255, 256, 1023, 1024, UNITS - 1)] == [1, 1, 0, 0, 2, 2]
    further = made._replace(cursors=(UNITS, 1024, 2048))  # the third has passed the second
    assert {further.row_at(at) for at in range(2048)} == {1}
    assert {further.row_at(at) for at in range(2048, UNITS)} == {2}


@pytest.mark.parametrize("row", range(3))
def test_a_row_has_the_words_of_the_layout(control, row):
    found = table.row_of(control, row)
    start = f"GEN{row}_"
    fields = [f.name for f in layout.CONTROL.fields if f.name.startswith(start)]
    assert [field.removeprefix(start) for field in fields] == [
        name for name, word in vars(GenerationWords).items() if isinstance(word, words.Word)]
    for value, field in enumerate(fields, 1):
        setattr(control, field, value)
        assert getattr(found, field.removeprefix(start)) == value
    assert sum(map(bool, control.words)) == len(fields)


def test_a_damaged_word_leads_to_one_of_the_rows_all_the_same(control):
    for word in (*range(256), MOST, 1 << 63):
        control.TABLE = word
        assert table.generation_of(control).first in {
            table.row_of(control, row).first for row in range(3)}


@pytest.mark.parametrize("rows", EVERY, ids=str)
def test_the_generations_in_use_are_listed_with_the_newest_last(control, rows):
    for row in range(3):
        table.row_of(control, row).NUMBER = 10 + row
    control.TABLE = Table(rows, (UNITS,) * len(rows)).word()
    assert [one.NUMBER for one in table.generations_of(control)] == [10 + row for row in rows]
    assert table.generation_of(control).NUMBER == 10 + rows[-1]


def test_the_checksum_is_of_every_other_word_of_a_row(control):
    row = table.row_of(control, 1)
    names = [name for name, word in vars(GenerationWords).items() if isinstance(word, words.Word)]
    sums = {table.checksum_of(row)}
    for name in names:
        setattr(row, name, 1)
        sums.add(table.checksum_of(row))
        if name == "CHECK":
            assert len(sums) == names.index(name) + 1, "it sums itself up"
    assert len(sums) == len(names)


def test_a_control_segment_with_several_rows_is_sound_as_far_as_each_is(make):
    control = ControlWords(bytearray(make().attachment.control.words.tobytes()))
    copy_row(control, 0, 1, 3)
    copy_row(control, 0, 2, 2)
    for made in (Table((0,), (UNITS,), 9), Table((0, 1), (UNITS, 0), 3),
                 Table((0, 1, 2), (UNITS, 9, UNITS), 3), Table((2,), (UNITS,), 2)):
        control.TABLE = made.word()
        assert is_sound(control), made
    for wrong in (Table((0, 1), (UNITS, 0), 2), Table((1, 0), (UNITS, 0), 2),
                  Table((2,), (UNITS,), 1)):  # a number above the changes
        control.TABLE = wrong.word()
        assert not is_sound(control), wrong
    control.TABLE = Table((0, 1), (UNITS, 0), 3).word()
    row = table.row_of(control, 1)
    for name, value in (("SHARDS", 3), ("BYTES", 8), ("SIZE", row.SIZE + 1), ("NUMBER", 0)):
        kept = getattr(row, name)
        setattr(row, name, value)
        assert not is_sound(control), name
        if name == "NUMBER":  # that of the other
            row.CHECK = table.checksum_of(row)
            assert not is_sound(control), name
        setattr(row, name, kept)
        row.CHECK = table.checksum_of(row)
    assert is_sound(control)
