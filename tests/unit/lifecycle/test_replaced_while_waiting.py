"""An operation that waits for a shard while the map is replaced goes on in the new map. Its source
is the same in both engines; only in the pure one can a test come in as it takes a lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import shmmap
from shmmap.memory._atomics import store
from shmmap.memory.layout import constants
from shmmap.operations._holding_cy import Holding

pytestmark = pytest.mark.skipif(shmmap.ENGINE != "pure", reason="hold() is C's there")
REBUILDS = constants()["S_REBUILDS"]
OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "set": lambda m: m.set("b", 2), "add": lambda m: m.add("b", 2),
    "replace": lambda m: m.replace("a", 2), "cas": lambda m: m.cas("b", 2, 0),
    "delete": lambda m: m.delete("a"), "pop": lambda m: m.pop("a"),
    "popitem": lambda m: m.popitem(), "setdefault": lambda m: m.setdefault("b", 2),
    "incr": lambda m: m.incr("a"), "incr of a float": lambda m: m.incr("a", 0.5),
    "touch": lambda m: m.touch("a", 60), "get_and_touch": lambda m: m.get_and_touch("a", 60),
    "apply": lambda m: m.apply("a", lambda value: value + 1), "clear": lambda m: m.clear(),
    "set_many": lambda m: m.set_many({"b": 2, "c": 3}),
    "delete_many": lambda m: m.delete_many(["a"]),
    "keys": lambda m: list(m), "items": lambda m: list(m.items()), "sweep": lambda m: m.sweep(),
    "prefix": lambda m: list(m.keys(prefix="a")),
    "get_or_set": lambda m: m.get_or_set("b", lambda: 2), "repair": lambda m: m.repair(),
}


@pytest.mark.parametrize("name_of", OPERATIONS)
def test_it_goes_on_in_the_new_map(make, start, name, monkeypatch, name_of):
    m = make(shards=1)
    m["a"] = 1
    hold, begun = Holding.hold, []

    def replace_first(self: Any, shard: Any, unit: Any) -> Any:
        if self is m and not begun:
            begun.append(shard)

            def replace(child: Any) -> None:
                monkeypatch.undo()
                shmmap.ShmMap(name, size="2MB", on_mismatch="replace").close()

            start(replace).end()
        return hold(self, shard, unit)

    if name_of in ("keys", "items", "prefix"):  # they wait only while an index is built anew
        store(m.shards[0].mem, REBUILDS, 1)
    monkeypatch.setattr(Holding, "hold", replace_first)
    OPERATIONS[name_of](m)
    monkeypatch.undo()
    assert begun and m.size == 2_000_000, "it was replaced, and this handle goes by the new one"
    assert m.check() == []
