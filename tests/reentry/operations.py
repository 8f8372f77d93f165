"""Is an operation done or not done, whatever Python code runs in the middle of it?

The public operations of a map, each as something that can be interrupted anywhere.

`prepare` makes what it needs while nothing can happen; `run` is what is interrupted. `may` says
for each key what the map shows once it is done; before that, or if it raised, also what was there.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import shmmap
from shmmap.copies.dumps import DumpReader

from .world import ABSENT, World

LONG = "x" * 1200  # of several slots


class Operation(NamedTuple):
    """One public operation."""

    name: str
    run: Callable[[World], Any]
    prepare: Callable[[World], None] = lambda w: None
    may: Callable[[World], dict[str, list[Any]]] = lambda w: {}
    near: int = 0
    ephemeral: bool = False
    opens: bool = False  # the process has no handle before
    closes: bool = False  # the operation's handle
    unlinks: bool = False
    reenters: tuple[str, ...] = ()  # deeds that the compiled engine refuses in it, too
    has_file: bool = False  # of the user's
    removes_any: bool = False  # what a deed writes meanwhile, too


def gone(w: World) -> dict[str, list[Any]]:
    """Leave nothing of what was there."""
    return {key: [ABSENT] for key in w.allowed}


def any_gone(w: World) -> dict[str, list[Any]]:
    """Leave any one of the keys out."""
    return {key: [*values, ABSENT] for key, values in w.allowed.items()}


def near_is(*values: Any) -> Callable[[World], dict[str, list[Any]]]:
    """Leave the operation's key with one of these values."""
    return lambda w: {w.near: list(values)}


def read_bounded(w: World) -> None:
    """Have answers that were given without touching shared memory."""
    w.m.get(w.near)
    w.m.get(w.near, consistency="bounded", max_staleness=100)


def swept(w: World) -> None:
    """Have the near cache prune at its next miss."""
    w.m.get(w.near)
    w.m.sweep()


def count_there(w: World) -> None:
    w.put(w.near, 5)


def count_up(w: World) -> None:
    try:
        w.m.incr(w.near)
    except TypeError:
        assert w.fired  # a deed has written text there


def with_ttl(w: World) -> None:
    w.m.set(w.near, f"old {w.near}", ttl=1000)


def object_there(w: World) -> None:
    w.put(w.near, {"a": [1, 2], "b": (3, 4)})
    w.may = {}


def long_there(w: World) -> None:
    w.put(w.near, LONG)


def second_handle(w: World) -> None:
    w.things["second"] = w.open()


def other_map(w: World) -> None:
    """Have a map to merge from, of the same process."""
    w.things["others"] = other = shmmap.ShmMap(f"{w.name}-other", size="300KB", shards=1,
                                               sweep_interval=None)
    other["merged"] = 1
    w.kept.append(other)


def dump_there(w: World) -> None:
    w.things["path"] = path_of(w)
    w.m.dump(w.things["path"])


def path_of(w: World) -> str:
    return os.path.join(tempfile.gettempdir(), f"{w.name}.dump")


def keep(w: World, m: Any) -> Any:
    """Keep a handle that an operation gave, so that the trial looks at it at the end."""
    w.kept.append(m)
    return m


def use_lock(w: World) -> None:
    with w.m.lock("report", timeout=1) as lock:
        assert lock.token or w.side != "itself"  # a child holds nothing


def use_lease(w: World) -> None:
    lock = w.m.lock("leased", timeout=1, lease=50)
    lock.acquire()
    try:
        lock.extend(60)
    except shmmap.LockLost:
        assert w.side != "itself" or w.closed  # a child holds nothing
    lock.release()


def drawn(w: World, value: Any) -> None:
    """Judge what get_or_set gave. That the map keeps it is a wish, if the handle was closed."""
    assert value in ("drawn", "deed"), value
    if w.closed:
        w.may = {"page": ["drawn", ABSENT]}


def compute(w: World) -> None:
    drawn(w, w.m.get_or_set("page", lambda: "drawn", timeout=1))


def decorate(w: World) -> None:
    calls = w.things["calls"] = []

    @shmmap.cached(w.m, ttl=50, timeout=1)
    def square(n: int) -> int:
        calls.append(n)
        return n * n

    w.things["square"] = square


def snapshot(w: World) -> None:
    seen = w.m.snapshot()
    assert w.far in seen or w.closed or seen[w.far]
    assert len(list(seen.items())) >= 3


def dump_whole(w: World) -> None:
    """Dump, and read it: a forked child that goes on must not have written into it."""
    w.m.dump(w.things["path"])
    if w.side == "itself":
        with DumpReader(w.things["path"]) as reader:
            reader.verify()


def load_there(w: World) -> None:
    keep(w, shmmap.ShmMap.load(w.things["path"], w.name))


def roundtrip(w: World) -> None:
    keep(w, pickle.loads(w.things["pickled"]))


def drop_last(w: World) -> None:
    """Let the handle go without closing it."""
    w.box.clear()


def listing(w: World) -> None:
    assert len(list(w.m)) >= 3 or w.fired
    assert all(value is not None for _, value in w.m.items())


def check_clean(w: World) -> None:
    found = w.m.check()
    assert found == [], found


def exactly(value: Any, *others: Any) -> None:
    assert value in others, value


OLD_OR = ("new", "deed", "child", "daemon")
_R = {"reenters": ("snapshot",)}  # a snapshot in a thread that takes one

OPERATIONS: tuple[Operation, ...] = (
    Operation("get", lambda w: exactly(w.m.get(w.near), f"old {w.near}", *OLD_OR)),
    Operation("get of nothing", lambda w: exactly(w.m.get("nothing"), None)),
    Operation("m[key]", lambda w: exactly(w.m[w.near], f"old {w.near}", *OLD_OR)),
    Operation("get of an object", lambda w: w.m.get(w.near), object_there),
    Operation("get of a long value", lambda w: w.m.get(w.near), long_there),
    Operation("get, near", lambda w: w.m.get(w.near), lambda w: w.m.get(w.near), near=100),
    Operation("get, near, first", lambda w: w.m.get(w.near), near=100),
    Operation("get, near, after bounded answers", lambda w: w.m.get(w.near), read_bounded,
              near=100),
    Operation("get of nothing, near, after a sweep", lambda w: w.m.get("nothing"), swept,
              near=100),
    Operation("get, bounded", lambda w: w.m.get(
        w.near, consistency="bounded", max_staleness=100), read_bounded, near=100),
    Operation("get_many", lambda w: w.m.get_many([w.near, w.far, "nothing"])),
    Operation("get_versioned", lambda w: w.m.get_versioned(w.near)),
    Operation("in", lambda w: w.near in w.m),
    Operation("ttl", lambda w: w.m.ttl(w.near), with_ttl),
    Operation("len", lambda w: len(w.m)),
    Operation("repr", lambda w: repr(w.m)),
    Operation("items", listing),
    Operation("scan", lambda w: w.m.scan(0)),
    Operation("set", lambda w: w.m.set(w.near, "new"), may=near_is("new")),
    Operation("set of a new key", lambda w: w.m.set("fresh", "new"),
              may=lambda w: {"fresh": ["new"]}),
    Operation("set of a long value", lambda w: w.m.set(w.near, LONG), may=near_is(LONG)),
    Operation("set of an object", lambda w: w.m.set(w.near, {"a": [1, 2]}),
              may=near_is({"a": [1, 2]})),
    Operation("set with a ttl", lambda w: w.m.set(w.near, "new", ttl=1000), may=near_is("new")),
    Operation("set, near", lambda w: w.m.set(w.near, "new"), lambda w: w.m.get(w.near),
              may=near_is("new"), near=100),
    Operation("add", lambda w: w.m.add("fresh", "new"), may=lambda w: {"fresh": ["new"]}),
    Operation("replace", lambda w: w.m.replace(w.near, "new"), may=near_is("new")),
    Operation("cas", lambda w: w.m.cas(w.near, "new", w.things["version"]),
              lambda w: w.things.update(version=w.m.get_versioned(w.near)[1]),
              may=lambda w: {w.near: ["new", *w.allowed[w.near]]}),
    Operation("set_many", lambda w: w.m.set_many({w.near: "new", w.far: "new"}),
              may=lambda w: {w.near: ["new"], w.far: ["new"]}),
    Operation("setdefault", lambda w: w.m.setdefault("fresh", "new"),
              may=lambda w: {"fresh": ["new"]}),
    Operation("incr", count_up, count_there, may=near_is(6, 7)),
    Operation("touch", lambda w: w.m.touch(w.near, 500), with_ttl),
    Operation("delete", lambda w: w.m.delete(w.near), may=near_is(ABSENT)),
    Operation("delete_many", lambda w: w.m.delete_many([w.near, w.far]),
              may=lambda w: {w.near: [ABSENT], w.far: [ABSENT]}),
    Operation("pop", lambda w: w.m.pop(w.near, None), may=near_is(ABSENT)),
    Operation("pop of an object", lambda w: w.m.pop(w.near, None), object_there,
              may=near_is(ABSENT)),
    Operation("popitem", lambda w: w.m.popitem(), may=any_gone, removes_any=True),
    Operation("clear", lambda w: w.m.clear(), may=gone, removes_any=True),
    Operation("snapshot", snapshot, **_R),
    Operation("dump", dump_whole,
              lambda w: w.things.update(path=path_of(w)), has_file=True, **_R),
    Operation("load", load_there, dump_there, has_file=True, **_R),
    Operation("merge", lambda w: w.m.merge(w.things["others"]), other_map,
              may=lambda w: {"merged": [1]}, **_R),
    Operation("stats", lambda w: w.m.stats()),
    Operation("check", check_clean),
    Operation("repair", lambda w: w.m.repair()),
    Operation("sweep", lambda w: w.m.sweep()),
    Operation("sweep_if_due", lambda w: w.m.sweep_if_due()),
    Operation("lock", use_lock),
    Operation("lock with a lease", use_lease),
    Operation("get_or_set", compute, may=lambda w: {"page": ["drawn"]}),
    Operation("get_or_set of what is there", lambda w: w.m.get_or_set(w.near, lambda: "new"),
              may=lambda w: {w.near: [*w.allowed[w.near], "new"]}),
    Operation("get_or_set, stale", lambda w: drawn(w, w.m.get_or_set(
        "page", lambda: "drawn", ttl=50, stale=50, timeout=1)), may=lambda w: {"page": ["drawn"]}),
    Operation("cached", lambda w: exactly(w.things["square"](3), 9), decorate),
    Operation("open again", lambda w: keep(w, w.open())),
    Operation("attach", lambda w: keep(w, shmmap.ShmMap.attach(w.name)), opens=True),
    Operation("open", lambda w: keep(w, w.open()), opens=True),
    Operation("unpickle", roundtrip, lambda w: w.things.update(pickled=pickle.dumps(w.m))),
    Operation("close of one of two", lambda w: w.things["second"].close(), second_handle),
    Operation("close", lambda w: w.m.close(), closes=True),
    Operation("close, ephemeral", lambda w: w.m.close(), ephemeral=True, closes=True),
    Operation("drop", drop_last, closes=True),
    Operation("unlink", lambda w: w.m.unlink(), unlinks=True),
)
# made by an operation: there is no map before
MAKING: tuple[Operation, ...] = (
    Operation("making", lambda w: keep(w, w.open()), opens=True),
    Operation("create", lambda w: keep(w, shmmap.ShmMap.create(w.name, **w.parameters)),
              opens=True),
)
BY_NAME = {operation.name: operation for operation in (*OPERATIONS, *MAKING)}


def remove_files(w: World) -> None:
    """Remove what `dump` left."""
    Path(path_of(w)).unlink(missing_ok=True)
