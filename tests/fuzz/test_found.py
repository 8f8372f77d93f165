"""What the fuzz found, each as small as it can be: the damage, and what must come of it.

Each runs in a process of its own: several of them once ended it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle.control import is_sound
from shmmap.memory.layout import constants
from shmmap.memory.words import ControlWords
from shmmap.tools import inspection

from ..support.damage import Damage
from ..support.leftovers import SHM, control_file, objects_of
from ..support.table_words import copy_row, sum_up

K = constants()
WORD = (1 << 64) - 1
WANTED = {b"key-%d" % i: b"value %d" % i for i in range(40)} | {b"long": b"x" * 400, b"n": 5}


@pytest.fixture
def damaged(name: str, start: Any) -> Iterator[Callable[..., Any]]:
    """damaged(damage, use): in a child, make a map, damage(m, d) it, and give use(m)."""

    def run(damage: Callable[[Any, Damage], Any], use: Callable[[Any], Any], **more: Any) -> Any:
        def work(child: Any) -> Any:
            m = shmmap.ShmMap.create(
                name, "160KB", shards=1, sweep_interval=None, lock_timeout=0.5, **more
            )
            m.update(WANTED)
            damage(m, Damage(m))
            return use(m)

        return start(work).result()

    yield run
    for entry in os.listdir("/dev/shm"):  # damaged: there may be no attaching to it
        if entry.removeprefix("sem.").split(".")[1:2] == [name]:
            Path("/dev/shm", entry).unlink()


def header(field: str, value: int) -> Callable[[Any, Damage], None]:
    """Return what damages a word of the shard's header."""
    return lambda m, d: d.set_header(field, value)


def control(field: str, value: int) -> Callable[[Any, Damage], None]:
    """Return what damages a word of the control segment."""

    def damage(m: Any, d: Damage) -> None:
        setattr(m.attachment.control, field, value)

    return damage


def repaired(m: Any) -> Any:
    """Repair, and return what check() says then, and the entries."""
    m.repair()
    return m.check(), dict(m)


@pytest.mark.parametrize("value", [1 << 24, 1 << 40, WORD])
@pytest.mark.parametrize("field", ["FREE_HEAD", "FRESH"])
def test_check_of_a_free_list_that_starts_nowhere(damaged, field, value):
    problems = damaged(header(field, value), lambda m: m.check())
    assert any("L3" in problem for problem in problems)


def test_check_of_an_index_word_that_names_no_slot(damaged):
    def damage(m: Any, d: Damage) -> None:
        for at in d.index_words():
            d.words[at] |= K["SLOT_MASK"]

    assert any("I1" in problem for problem in damaged(damage, lambda m: m.check()))


def test_removing_with_a_free_list_that_starts_nowhere(damaged):
    used = damaged(header("FREE_HEAD", 1 << 40), lambda m: (m.delete(b"key-1"), *repaired(m)))
    assert used == (True, [], {k: v for k, v in WANTED.items() if k != b"key-1"})


@pytest.mark.parametrize("value", [1 << 40, 1 << 62, 1 << 63, WORD])
def test_an_absurd_number_of_entries_is_still_a_length(damaged, value):
    length, listed = damaged(header("ENTRIES", value), lambda m: (len(m), len(list(m))))
    assert 0 <= length < 1000 and listed == len(WANTED)


def test_popitem_of_a_chain_that_was_cut(damaged):
    def damage(m: Any, d: Damage) -> None:
        d.halves[d.next_half(d.head(b"long"))] = 0

    def use(m: Any) -> Any:
        found = {}
        for _ in range(len(WANTED) + 5):
            try:
                key, value = m.popitem()
                found[key] = value
            except (KeyError, shmmap.MapCorrupted):
                pass
        return found

    found = damaged(damage, use)
    assert found.items() <= WANTED.items() and b"long" not in found


@pytest.mark.parametrize("field", ["TOTAL_HITS", "SWEEP_EPOCH"])
def test_counters_at_their_end_wrap(damaged, field):
    damaged(control(field, WORD), lambda m: (m.get(b"n"), m.sweep(), m.close()))


def test_figures_do_not_need_the_generation_table(damaged):
    def use(m: Any) -> Any:
        m.set(b"n", 6, ttl=50)
        return m.stats().entries, m.ttl(b"n")

    assert damaged(control("TABLE", 5), use)[0] == len(WANTED)


@pytest.mark.parametrize("name_of_type", [b"(2,", b"i,i", b"{}\0", b"<V0"])
def test_an_array_of_a_type_that_is_none(damaged, name_of_type):
    import numpy as np

    def damage(m: Any, d: Damage) -> None:
        m[b"array"] = np.arange(4, dtype="<i4")
        at = bytes(d.octets).find(b"<i4")
        d.octets[at : at + 3] = name_of_type

    def use(m: Any) -> bool:
        with pytest.raises(shmmap.MapCorrupted):
            m.get(b"array")
        return True

    assert damaged(damage, use)


@pytest.mark.parametrize("stamp", [
    (1 << 62) - 2, 1 << 62, (1 << 63) - 4, (1 << 63) - 2, 1 << 63, WORD - 1, WORD,
])
def test_a_stamp_at_its_end_loses_no_write(damaged, stamp):
    def use(m: Any) -> Any:
        for number in range(4):
            m[b"new"] = number
        return m.get(b"new"), *repaired(m)

    value, problems, left = damaged(header("STAMP", stamp), use)
    assert value == 3 and problems == [] and left == {**WANTED, b"new": 3}


@pytest.mark.parametrize("first", ["long", "fresh"])
def test_a_free_list_that_names_slots_in_use(damaged, first):
    """A write must not overwrite entries that nothing happened to."""

    def damage(m: Any, d: Damage) -> None:
        continuation = d.halves[d.next_half(d.head(b"long"))] & K.get("NEXT_MASK", WORD)
        if first == "long":
            d.set_header("FREE_HEAD", continuation)
        else:
            d.set_header("FREE_HEAD", 0)
            d.set_header("FRESH", continuation)

    def use(m: Any) -> Any:
        m[b"new"] = b"y" * 300
        return dict(m), repaired(m)[0]

    assert damaged(damage, use) == ({**WANTED, b"new": b"y" * 300}, [])


def test_a_deadline_of_an_entry_without_one(damaged):
    def damage(m: Any, d: Damage) -> None:
        m.set(b"other", 1, ttl=500)
        d.halves[d.deadline_half(d.head(b"key-1"))] = 1
        d.set_header("EARLIEST_NS", 1)

    assert damaged(damage, lambda m: (m.set(b"new", 1), m.sweep(), m[b"key-1"]))[2] == b"value 1"


@pytest.mark.parametrize("thread", [1, 2, K["TOKEN_THREAD_MASK"]])
def test_a_lock_that_a_thread_of_ours_does_not_hold(damaged, thread):
    if shmmap.ENGINE == "pure" and thread != 1:
        pytest.skip("the pure engine cannot tell which of its other threads are inside")

    def damage(m: Any, d: Damage) -> None:
        d.set_header("OWNER", m.attachment.worker.fork_page.word | thread)

    assert damaged(damage, lambda m: (m.set(b"n", 5), *repaired(m))) == (None, [], WANTED)


def test_a_semaphore_that_the_kernel_refuses(damaged):
    def damage(m: Any, d: Damage) -> None:
        name = next(e for e in os.listdir("/dev/shm") if e.startswith(f"sem.shmmap.{m.name}."))
        with open(f"/dev/shm/{name}", "r+b") as file:
            file.seek(8)
            file.write(b"\xff" * 8)
        d.set_header("WAITERS", 1)
        d.set_header("OWNER", 1 << 63)

    assert damaged(damage, lambda m: (m.set(b"n", 5), *repaired(m))) == (None, [], WANTED)


def test_a_copy_in_another_shard_is_dropped(name, make):
    m = make(size="200KB", shards=2)
    m.update(WANTED)
    one, other = Damage(m, 0), Damage(m, 1)
    size = one.shape.slot_size >> 3
    a, b = one.slot_word(one.live()[0]), other.slot_word(other.free())
    other.words[b : b + size] = one.words[a : a + size]
    other.halves[other.next_half(other.free())] = K.get("IN_USE", 0)
    assert any("I1" in problem for problem in m.check())
    m.repair()
    assert m.check() == [] and sorted(m, key=str) == sorted(WANTED, key=str)
    assert len(m) == len(WANTED)


def test_a_chain_that_was_cut_and_leads_elsewhere_frees_nothing_of_others(damaged):
    """Slots freed with it would be given out again while their new owner has them."""
    new, other = b"n" * 300, b"o" * 300

    def damage(m: Any, d: Damage) -> None:
        second = d.halves[d.next_half(d.head(b"long"))] & K["NEXT_MASK"]
        d.halves[d.next_half(second)] = d.header("FRESH") + 1  # a continuation, soon

    def use(m: Any) -> Any:
        m[b"new"] = new
        del m[b"long"]
        m[b"other"] = other
        found = m[b"new"] == new, m[b"other"] == other
        m.repair()
        return found, m.check(), m[b"new"] == new, m[b"other"] == other

    assert damaged(damage, use) == ((True, True), [], True, True)


def test_deadlines_that_were_forgotten_are_found_again(damaged):
    def use(m: Any) -> Any:
        m.repair()
        m.clear()
        m.set(b"a", 1, ttl=50)
        return m.check()

    def damage(m: Any, d: Damage) -> None:
        for key in WANTED:
            m.touch(key, 100)
        d.set_header("HAS_DEADLINES", 0)

    assert damaged(damage, use) == []


def utf8_broken(m: Any, d: Damage) -> None:
    """A key is no longer text."""
    m["text"] = 1
    d.octets[d.slot_word(d.head(b"text")) * 8 + 16] = 0xFF


def pickle_broken(m: Any, d: Damage) -> None:
    """A pickle no longer matches its checksum."""
    m["text"] = [1j, 2]
    d.octets[d.slot_word(d.head(b"text")) * 8 + 16 + len("text") + 9] ^= 1


def items_broken(m: Any, d: Damage) -> None:
    """A list says that it has more items."""
    m["text"] = [1, 2]
    d.octets[d.slot_word(d.head(b"text")) * 8 + 16 + len("text") + 1] += 1


def key_too_short(m: Any, d: Damage) -> None:
    """An integer key of fewer than 8 bytes."""
    d.octets[d.slot_word(d.head(b"key-1")) * 8 + 10] = K["KEY_INT"]
    m[b"key-1"] = b"value 1"


def key_of_another(m: Any, d: Damage) -> None:
    """A long integer of which only ones are left: a listing would have -1 twice."""
    before = set(d.live())
    m[1 << 80] = "another"
    (slot,) = set(d.live()) - before
    at = d.slot_word(slot) * 8 + 16
    d.octets[at : at + 11] = b"\xff" * 11


def key_nested(m: Any, d: Damage) -> None:
    """A tuple in a tuple in a tuple ..., deeper than Python goes."""
    deep = b""
    for _ in range(1500):
        deep = b"\x06" + len(deep).to_bytes(4, "little") + deep
    m[deep] = 1
    for slot in d.live():
        if d.words[d.slot_word(slot, 8)] & K["KEY_LENGTH_MASK"] == len(deep):
            d.octets[d.slot_word(slot) * 8 + 10] = K["KEY_TUPLE"]


@pytest.mark.parametrize("damage", [utf8_broken, pickle_broken, items_broken, key_too_short,
                                    key_of_another, key_nested])
def test_one_entry_that_cannot_be_read_does_not_end_every_listing_for_good(damaged, damage):
    def use(m: Any) -> Any:
        with pytest.raises(shmmap.MapCorrupted):
            list(m.items())
        return m.check(), *repaired(m)

    before, problems, left = damaged(damage, use)
    assert any("V1" in problem for problem in before)
    assert problems == [] and left == WANTED


def test_a_key_may_not_be_nested_so_deeply_that_a_stack_overflows(make):
    m = make()
    key: Any = ()
    for _ in range(99):
        key = (key,)
    m[key] = 1
    assert m[key] == 1 and list(m) == [key]
    with pytest.raises(TypeError, match="nested"):
        m[(key,)] = 1


# -- the lock shard ---------------------------------------------------------------------------


@pytest.mark.parametrize("tracker", [1, 0xDEAD_BEEF_DEAD_BEEF, WORD])
def test_the_lock_shard_is_said_to_be_tracked(damaged, tracker):
    def damage(m: Any, d: Damage) -> None:
        Damage(m, 1).set_header("TRACKING", tracker)

    def use(m: Any) -> Any:
        m.sweep()
        with m.lock("any", timeout=0) as lock:
            return lock.held, m.check()

    assert damaged(damage, use) == (True, [])


# -- the control segment ----------------------------------------------------------------------


CREATORS = ["GEN0_SIZE", "GEN0_CAPACITY", "GEN0_VALUE_SIZE", "GEN0_KEY_SIZE", "CODEC", "TTL_NS",
            "MAX_AGE_NS", "MODE", "HASH_SEED", "EPHEMERAL", "SWEEP_NS"]


@pytest.mark.parametrize("field", CREATORS)
@pytest.mark.parametrize("value", [3, 1 << 40, 1 << 63, WORD])
def test_a_parameter_that_was_damaged_is_noticed_at_attach(damaged, name, start, field, value):
    def attach(child: Any) -> str:
        try:
            shmmap.ShmMap.attach(name).close()
        except shmmap.ShmMapError as error:
            return type(error).__name__
        return "attached"

    assert damaged(control(field, value), lambda m: None) is None
    assert start(attach).result() == "MapCorrupted"


def table_word(*rows: int, cursors: tuple[int, ...] = (), changes: int = 1) -> int:
    """Return a table word, be it one that no mover writes; `cursors`: of the second, the third."""
    word = len(rows) - 1 | changes << K["TABLE_CHANGES_SHIFT"]
    for at, row in enumerate(rows[:3]):
        word |= row << 2 + 2 * at
    for shift, cursor in zip((21, 8), cursors, strict=False):
        word |= cursor << shift
    return word


TABLES = {
    "a cursor past the end": table_word(0, 1, cursors=(4097,)),
    "the third's cursor past the end": table_word(0, 1, 2, cursors=(4096, 8191), changes=2),
    "a row twice": table_word(0, 0),
    "a row twice, of three": table_word(0, 1, 0, changes=2),
    "four rows": table_word(0, 1, 2, 3, changes=3),
    "a row that is none": table_word(0, 3),
    "only a row that is none": table_word(3),
    "a number above the changes": table_word(0, 1, changes=0),
    "two rows of one number": table_word(0, 2),
    "a row without its checksum": table_word(0, 1),
    "the only row without its checksum": table_word(1),
    "a row that nobody wrote": table_word(2, 1, changes=3),
    "all bits": WORD,
}


@pytest.mark.parametrize("case", TABLES)
def test_a_generation_table_that_no_mover_writes(damaged, name, start, case):
    """It is refused where the map is opened, and listed as what it is; and the map can go."""

    def damage(m: Any, d: Damage) -> None:
        words = m.attachment.control
        copy_row(words, 0, 1, 1)
        copy_row(words, 0, 2, 0 if case == "two rows of one number" else 2)
        if "checksum" in case:
            words.GEN1_CHECK ^= 1
        if "nobody" in case:
            copy_row(words, 0, 2, 3)
            words.GEN2_SHARDS = words.GEN2_BYTES = 0
            sum_up(words)
        words.TABLE = TABLES[case]

    def attach(child: Any) -> Any:
        with pytest.raises(shmmap.MapCorrupted, match="unlink"):
            shmmap.ShmMap.attach(name)
        seen, = inspection.find_maps(name)
        return seen.state, shmmap.unlink(name), list(objects_of(name))

    assert damaged(damage, lambda m: m.get(b"n")) == 5  # who had it open goes on
    assert start(attach).result() == ("garbage", True, [])


@pytest.mark.parametrize("word", [table_word(0, 1, cursors=(0,)), table_word(1, 0, cursors=(4096,)),
                                  table_word(0, 1, 2, cursors=(2048, 4096), changes=9),
                                  table_word(2, changes=(1 << 30) - 1)])
def test_a_generation_table_that_a_mover_writes_is_sound(name, word):
    """So that each of the above is refused for what it says of itself."""
    with shmmap.ShmMap.create(name, "160KB", shards=1, sweep_interval=None) as m:
        words = ControlWords(bytearray(m.attachment.control.words.tobytes()))
        m.unlink()
    copy_row(words, 0, 1, 1)
    copy_row(words, 0, 2, 2)
    words.TABLE = word
    assert is_sound(words)


MET = {
    "get": lambda m: m.get(b"n"), "set": lambda m: m.set(b"n", 5), "items": lambda m: len([*m]),
    "pop": lambda m: m.popitem() and None, "sweep": lambda m: m.sweep() and None,
    "len": len, "snapshot": lambda m: len(m.snapshot()), "check": lambda m: m.check(),
}


@pytest.mark.parametrize("value", [1, 1 << 40, WORD])
@pytest.mark.parametrize("met", [*MET])
def test_a_shard_that_says_it_has_moved_where_nothing_moves(damaged, met, value):
    found = {"get": 5, "items": 42, "len": 42, "snapshot": 42, "check": []}.get(met)

    def use(m: Any) -> Any:
        return MET[met](m), Damage(m).header("MOVED"), repaired(m)[0], len(m)

    left = 41 if met == "pop" else 42
    assert damaged(header("MOVED", value), use) == (found, 0, [], left)


def test_the_lock_shard_never_moves(damaged):
    def use(m: Any) -> Any:
        with m.lock("a", timeout=5):
            return m.lock("a").locked(), m.check()

    assert damaged(lambda m, d: Damage(m, 1).set_header("MOVED", 7), use) == (True, [])


@pytest.mark.parametrize("word", [WORD - 1, WORD, 1])
def test_what_never_changes_is_not_read_again_with_the_table(damaged, word):
    """The age at which entries are removed was read anew once the table was another one."""
    def use(m: Any) -> Any:
        known, shape = m.attachment.parameters, m.attachment.geometry
        m.attachment.control.MAX_AGE_NS = 1
        seen = [m.attachment.parameters, m.attachment.geometry]
        m.attachment.control.TABLE = word
        seen += [m.attachment.parameters, m.attachment.geometry]
        m.attachment.control.TABLE = 0
        m.sweep()
        return seen == [known, shape, known, shape], dict(m) == WANTED

    assert damaged(lambda m, d: None, use) == (True, True)


@pytest.mark.parametrize("state", [4, WORD])
def test_a_state_that_is_none_is_not_taken_for_a_leftover(damaged, name, start, state):
    assert damaged(control("STATE", state), lambda m: None) is None
    with pytest.raises(shmmap.MapCorrupted, match="unlink"):
        shmmap.ShmMap(name, "150KB")


@pytest.mark.parametrize("more", [1, 4, 4096])
def test_a_control_segment_that_was_stretched(damaged, name, more):
    def stretch(m: Any) -> None:
        path = SHM / control_file(m.name)
        os.truncate(path, os.stat(path).st_size + more)

    damaged(lambda m, d: None, stretch)
    with pytest.raises(shmmap.MapCorrupted):
        shmmap.ShmMap.attach(name)
