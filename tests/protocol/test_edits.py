"""`m.edit(key)`: what a block makes of a value is stored, or an error says why not. Editors wait
for each other, also in coroutines.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import numpy as np
import pytest

import shmmap
from shmmap import EditConflict
from shmmap.errors import LockTimeout, Reentered

from ..support.leftovers import objects_of
from .holders import STALL_S, edit_when_told, entries, watched


class Person:
    """An object of a user's, with an attribute that an Edit has too."""

    def __init__(self) -> None:
        self.age = 7
        self.value = "hers"


@pytest.fixture
def m(make: Any) -> Any:
    return make()


def test_an_edit_does_what_its_value_does(m):
    m["d"] = {"a": 1, "b": [1]}
    with m.edit("d") as d:
        d["k"] = 1
        d["b"].append(2)
        d.setdefault("s", set()).add("x")
        del d["a"]
        assert "k" in d and "a" not in d and len(d) == 3 and sorted(d) == ["b", "k", "s"] and d
        assert d == {"k": 1, "b": [1, 2], "s": {"x"}} and {**d} == dict(d) == d.value
        d |= {"z": 0}
        assert str(d) == str(d.value) == f"{d}" and repr(d).startswith("<Edit of {'b'")
    assert m["d"] == {"k": 1, "b": [1, 2], "s": {"x"}, "z": 0}


@pytest.mark.parametrize(("value", "act", "wanted"), [
    (5, "n += 2", 7), (5, "n -= 2", 3), (5, "n *= 2", 10), (5, "n //= 2", 2), (5, "n **= 2", 25),
    (5, "n %= 3", 2), (5, "n |= 8", 13), (5, "n &= 4", 4), (5, "n ^= 1", 4), (5, "n <<= 1", 10),
    (5, "n >>= 1", 2), (5.0, "n /= 2", 2.5), ("a", "n += 'b'", "ab"), ((1,), "n += (2,)", (1, 2)),
    (5, "n.value = 9", 9), (None, "n.value = 'x'", "x"), (5, "n.value += 1", 6),
    ([1], "n += [2]", [1, 2]), (frozenset({1}), "n |= {2}", frozenset({1, 2})),
])
def test_a_value_that_cannot_change_is_exchanged(m, value, act, wanted):
    m["k"] = value
    with m.edit("k") as n:
        exec(act, {"n": n})
    assert m["k"] == wanted and type(m["k"]) is type(wanted)


def test_arithmetic_that_would_change_a_variable_only_is_refused(m):
    m["n"] = 5
    with m.edit("n") as n:
        assert n > 4 and n >= 5 and n < 6 and n <= 5 and n == 5 and n != 6 and f"{n:03}" == "005"
        for act in (lambda: n + 1, lambda: 1 + n, lambda: n * 2, lambda: -n):
            with pytest.raises(TypeError):
                act()
    assert m["n"] == 5


def test_attributes_of_an_object_are_those_of_the_value(m):
    m["p"] = Person()
    with m.edit("p") as p:
        p.age += 1
        p.name = "Ada"
        p.value.value = "still hers"
        del p.value.age
        with pytest.raises(AttributeError, match="age"):
            p.age  # noqa: B018
        with pytest.raises(AttributeError):
            del p.age
    assert (m["p"].name, m["p"].value) == ("Ada", "still hers")


def test_an_array_is_edited_in_place(m):
    m["a"] = np.zeros(3)
    with m.edit("a") as a:
        a[1:] = 7
        a += 1
    assert m["a"].tolist() == [1, 8, 8]


def test_what_the_block_raises_is_raised_and_nothing_is_written(m):
    m["d"] = {}
    with pytest.raises(ZeroDivisionError), m.edit("d") as d:
        d["k"] = 1 / 0
    with pytest.raises(StopIteration), m.edit("d") as d:
        d["k"] = 1
        raise StopIteration
    assert m["d"] == {} and m.lock("d", timeout=0).acquire()


def test_a_write_past_an_edit_is_a_conflict(m):
    def past(act: Any) -> None:
        m["d"] = {}
        with m.edit("d") as d:
            d["k"] = 1
            act()

    for act, says in ((lambda: m.set("d", 2), "written"), (lambda: m.delete("d"), "removed"),
                      (lambda: m.touch("d", 5), "written")):
        with pytest.raises(EditConflict, match=rf"key 'd'.*{says}.*m\.lock"):
            past(act)
        assert m.get("d") in (2, None, {})
        with m.lock("d", timeout=0):
            pass
    with pytest.raises(EditConflict), m.edit("new", default=0):
        m["new"] = 1
    assert m["new"] == 1


def test_an_edit_holds_the_keys_lock(m):
    with m.edit("n", default=0):
        assert m.lock("n").key == "n"
        with pytest.raises(Reentered):
            m.lock("n").acquire()
        with pytest.raises(Reentered), m.edit("n", default=0):
            pass
        with m.edit("other", default=0) as other:
            other += 1
    with m.edit("n"):
        pass
    assert m["n"] == 0 and m["other"] == 1


def test_an_edit_waits_for_another_no_longer_than_told(m, start):
    child = start(edit_when_told(m, "n"))
    assert child.hear() == "inside"
    with pytest.raises(LockTimeout, match=str(child.pid)), m.edit("n", default=0, timeout=0.01):
        pass
    child.tell("go on")
    with m.edit("n", timeout=30) as n:
        n += 1
    child.end()
    assert m["n"] == 2


def test_a_lease_that_has_run_out_harms_nobody(m):
    def lock() -> None:
        with m.lock("n", timeout=30):  # as soon as the lease has run out
            act()

    act = str
    m["n"] = 0
    with m.edit("n", lease=0.001) as n:
        n += 1
        thread = threading.Thread(target=lock)
        thread.start()
        thread.join()
    assert m["n"] == 1  # nobody has written past it

    act = lambda: m.set("n", 5)  # noqa: E731
    with pytest.raises(EditConflict), m.edit("n", lease=0.001) as n:
        n += 1
        thread = threading.Thread(target=lock)
        thread.start()
        thread.join()
    assert m["n"] == 5


def test_an_edit_that_is_over_takes_no_changes(m):
    with m.edit("d", default=dict) as d:
        d["k"] = 1
    assert d["k"] == 1 and d.value == {"k": 1}

    def add() -> None:
        nonlocal d
        d |= {1: 1}

    for act in (lambda: d.__setitem__("k", 2), lambda: setattr(d, "value", 3), add,
                lambda: d.__delitem__("k"), lambda: setattr(d, "x", 3), lambda: delattr(d, "x")):
        with pytest.raises(TypeError, match="over"):
            act()
    assert m["d"] == {"k": 1}


def test_an_edit_cannot_be_stored(m):
    with m.edit("d", default=dict) as d:
        with pytest.raises(TypeError, match=r"edit\.value"):
            m["other"] = d
        with pytest.raises(TypeError):
            hash(d)
        m["other"] = d.value
    assert m["other"] == {} == m["d"]


def test_a_child_of_an_edit_writes_nothing(m, start):
    m["n"] = 0
    with m.edit("n") as n:
        n += 1

        def work(child: Any) -> None:
            nonlocal n
            n += 1  # of its own copy of the block, which ends here
        start(work).end()
    assert m["n"] == 1


@pytest.mark.parametrize("how", ["unlinked", "its files removed"])
def test_an_edit_of_a_map_that_is_no_more_is_told_so(make, name, how):
    m = make(size="1MB")
    m["d"] = {}
    told = "the map was unlinked, or its files were removed"
    with pytest.raises(EditConflict, match=told), m.edit("d") as d:
        d["k"] = 1
        if how == "unlinked":
            shmmap.ShmMap(name).unlink()
        else:
            for entry in objects_of(name):
                os.unlink("/dev/shm/" + entry)
    assert "d" not in m
    with m.edit("d", default=dict) as d:
        d["k"] = 2
    assert m["d"] == {"k": 2}


@pytest.mark.parametrize("mistake", [
    lambda n: n + 1, lambda n: 1 - n, lambda n: n * 2, lambda n: -n, lambda n: round(n), int, abs,
])  # fmt: skip
def test_what_an_edit_refuses_names_the_way_out(m, mistake):
    m["n"] = 1
    with m.edit("n") as n:
        with pytest.raises(TypeError, match=r"edit\.value = edit\.value \+ 1"):
            mistake(n)
        n.value = max(n.value, 3)
    assert m["n"] == 3


def test_an_edit_without_a_with_is_told_so(m):
    m["d"] = {}
    with pytest.raises(TypeError, match=r"write `with m\.edit"):
        m.edit("d")["k"] = 1
    with pytest.raises(AttributeError, match=r"write `with m\.edit"):
        m.edit("d").update(k=1)


# -- in coroutines -----------------------------------------------------------------------------


def test_tasks_that_edit_an_entry_lose_nothing_and_wait_for_each_other(make):
    m = make()

    async def add(number: int) -> None:
        async with m.edit("n", default=0) as n:
            await asyncio.sleep(0.001)
            n += 1

    async def main() -> None:
        await asyncio.gather(*map(add, range(20)))

    asyncio.run(main())
    assert m["n"] == 20 and entries(m) == 0


def test_an_edit_that_waits_does_not_hold_up_its_loop(make, start):
    m = make()

    child = start(edit_when_told(m, "n"))
    child.hear()

    async def wait() -> None:
        async with m.edit("n", timeout=20) as n:
            n += 10

    async def main() -> float:
        asyncio.get_running_loop().call_later(0.5, child.tell, "leave")
        return await watched(wait())

    assert asyncio.run(main()) < STALL_S
    assert m["n"] == 11
    child.result()


@pytest.mark.parametrize("where", ["as it waits", "in its block"])
def test_a_task_that_is_cancelled_has_edited_nothing(make, where):
    m = make()
    m["n"] = 1

    async def change(patience: float) -> None:
        async with m.edit("n") as n:
            n += 1
            await asyncio.sleep(patience)

    async def main() -> None:
        first = asyncio.ensure_future(change(0.2 if where == "as it waits" else 60))
        await asyncio.sleep(0.05)
        second = asyncio.ensure_future(change(60)) if where == "as it waits" else first
        await asyncio.sleep(0.05)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        await asyncio.gather(first, return_exceptions=True)

    asyncio.run(main())
    assert m["n"] == (2 if where == "as it waits" else 1) and entries(m) == 0
    with m.edit("n", timeout=0) as n:
        n += 1


def test_what_an_awaited_block_raises_and_what_others_write_is_kept(make):
    m = make()
    m["n"] = 1

    async def fail() -> None:
        async with m.edit("n") as n:
            n += 1
            raise ZeroDivisionError

    async def collide() -> None:
        async with m.edit("n") as n:
            m["n"] = 7
            n += 1

    with pytest.raises(ZeroDivisionError):
        asyncio.run(fail())
    assert m["n"] == 1
    with pytest.raises(shmmap.EditConflict):
        asyncio.run(collide())
    assert m["n"] == 7 and entries(m) == 0


def test_one_edit_is_for_one_block_at_a_time(make):
    m = make()
    again = m.edit("n", default=0)
    for _ in range(2):
        with again as n:
            n += 1
            with pytest.raises(TypeError, match="under way"):
                again.__enter__()
    with m.lock("n"), pytest.raises(shmmap.Reentered):
        again.__enter__()
    with again as n:
        n += 1
    assert m["n"] == 3 and entries(m) == 0
