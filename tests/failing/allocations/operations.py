"""Does any public operation lose, leave, or keep locked anything if it gets no memory?

Each, as the allocation loop runs it.
"""

from __future__ import annotations

import os
from typing import Any

import shmmap
from shmmap import cached
from shmmap.lifecycle import routes
from shmmap.operations.marking import marked

from .world import ABSENT, ANY, CONTENTS, SHORT_LIVED, Operation, World

LONG = b"L" * 800
FRESH: dict[Any, Any] = {"fresh": 1, "f" * 250: "of a long key"}
CLEARED: dict[Any, Any] = dict.fromkeys((*CONTENTS, *SHORT_LIVED), ABSENT)
GENERATION = "shmmap.cached:square"
IN_DUMP = {"from a dump": [1], "d" * 220: "long key"}


def _locked(w: World) -> None:
    with w.m.lock("name", timeout=5):
        pass


def _extended(w: World) -> None:
    with w.m.lock("name", timeout=5, lease=50) as held:
        held.extend(60)


def _call_cached(w: World) -> Any:
    return w.kept(3)


def _make_cached(w: World) -> None:
    @cached(w.m, prefix="square")
    def square(n: int) -> int:
        return n * n

    w.m[GENERATION] = 7
    w.kept = square


def _make_dump(w: World) -> None:
    w.kept = w.folder / "dump"
    if not w.kept.exists():
        with shmmap.ShmMap(f"{w.name}-other", size="200KB") as other:
            other.update(IN_DUMP)
            other.dump(w.kept)
            other.unlink()


def _load(w: World) -> Any:
    return shmmap.ShmMap.load(w.kept, f"{w.name}-loaded")


def _remove(w: World, made: Any) -> None:
    if made is not None:
        made.unlink()
        made.close()


def _close_near(w: World) -> None:
    w.near.close()


def _close_kept(w: World) -> None:
    w.kept.close()


def _open_other(w: World) -> None:
    w.kept = shmmap.ShmMap.create(f"{w.name}-other", size="200KB", shards=1)


def _unlink_kept(w: World) -> None:
    w.kept.unlink()


def _remove_kept(w: World, result: Any) -> None:
    w.kept.unlink()
    w.kept.close()


def _remove_closed(w: World, result: Any) -> None:
    w.kept.close()
    _remove(w, shmmap.ShmMap.attach(f"{w.name}-other"))


def _attach_other(w: World) -> None:
    """Make a map that this process does not know: a child makes it."""
    child = os.fork()
    if not child:
        code = 1
        try:
            shmmap.ShmMap.create(f"{w.name}-other", size="200KB", shards=1).close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def _attach(w: World) -> Any:
    return shmmap.ShmMap.attach(f"{w.name}-other")


def _remove_attached(w: World, made: Any) -> None:
    _remove(w, shmmap.ShmMap.attach(f"{w.name}-other") if made is None else made)


def _resized(w: World, result: Any) -> None:
    """Whatever it came to, it can be gone on with, and back. Who could not give the lease up is
    taken for one who was stopped."""
    w.m.attachment.control.MOVER_BEAT_NS = 0
    w.m.resize()
    assert w.m.attachment.geometry.shards in (2, 8)
    w.m.resize(shards=2, capacity=60)
    dict(w.near)  # who has not looked since has the old shards mapped


def _move_and_keep(w: World) -> None:
    """Change the shape, and keep what has moved mapped."""
    with marked(w.near):
        w.m.resize(shards=8, capacity=240)


def _move_back(w: World, result: Any) -> None:
    w.m.resize(shards=2, capacity=60)
    dict(w.near)


def _stale(m: Any) -> Any:
    return m.get_or_set("fresh", lambda: 1, ttl=60, stale=5)


OPERATIONS = (
    Operation("set new", lambda w: w.m.set("fresh", 1), {"fresh": 1}),
    Operation("set over", lambda w: w.m.set("a", "other"), {"a": "other"}),
    Operation("set long", lambda w: w.m.set("fresh", LONG), {"fresh": LONG}),
    Operation("set under a long key", lambda w: w.m.set("f" * 250, {"p": 1}),
              {"f" * 250: {"p": 1}}),
    Operation("set with ttl", lambda w: w.m.set("fresh", 1, ttl=60), {"fresh": 1}),
    Operation("set_many", lambda w: w.m.set_many(FRESH), FRESH),
    Operation("get", lambda w: w.m.get("a")),
    Operation("get long", lambda w: w.m["long"]),
    Operation("get pickle", lambda w: w.m["pickle"]),
    Operation("get by a long key", lambda w: w.m["k" * 300]),
    Operation("get by a tuple", lambda w: w.m[("t", 1)]),
    Operation("get a miss", lambda w: w.m.get("none")),
    Operation("get_versioned", lambda w: w.m.get_versioned("long")),
    Operation("get_many", lambda w: w.m.get_many(["a", "long", "pickle", "none"])),
    Operation("in", lambda w: "a" in w.m),
    Operation("ttl", lambda w: w.m.ttl("a")),
    Operation("near get", lambda w: w.near.get("long")),
    Operation("near get of what is not held", lambda w: w.near.get("gone 1")),
    Operation("near get of what changed", lambda w: w.near.get("n"), {"n": 42},
              arrange=lambda w: w.m.incr("n")),
    Operation("incr", lambda w: w.m.incr("n"), {"n": 42}),
    Operation("incr new", lambda w: w.m.incr("fresh", 2**40), {"fresh": 2**40}),
    Operation("touch", lambda w: w.m.touch("a", 60)),
    Operation("cas", lambda w: w.m.cas("a", "swapped", w.kept), {"a": "swapped"},
              arrange=lambda w: setattr(w, "kept", w.m.get_versioned("a")[1])),
    Operation("add", lambda w: w.m.add("fresh", 1), {"fresh": 1}),
    Operation("replace", lambda w: w.m.replace("a", LONG), {"a": LONG}),
    Operation("setdefault", lambda w: w.m.setdefault("fresh", 1), {"fresh": 1}),
    Operation("pop", lambda w: w.m.pop("a"), {"a": ABSENT}),
    Operation("pop long", lambda w: w.m.pop("long"), {"long": ABSENT}),
    Operation("pop pickle", lambda w: w.m.pop("pickle"), {"pickle": ABSENT}),
    Operation("popitem", lambda w: w.m.popitem()),
    Operation("delete", lambda w: w.m.delete("k" * 300), {"k" * 300: ABSENT}),
    Operation("delete_many", lambda w: w.m.delete_many(["a", "n"]), {"a": ABSENT, "n": ABSENT}),
    Operation("clear", lambda w: w.m.clear(), CLEARED),
    Operation("len", lambda w: len(w.m)),
    Operation("items", lambda w: list(w.m.items())),
    Operation("keys with a prefix", lambda w: list(w.m.keys("k"))),
    Operation("scan", lambda w: w.m.scan(0, "g")),
    Operation("snapshot", lambda w: dict(w.m.snapshot())),
    Operation("dump", lambda w: w.m.dump(w.folder / "written")),
    Operation("load", _load, arrange=_make_dump, finish=_remove),
    Operation("merge", lambda w: w.m.merge(w.kept), IN_DUMP, arrange=_make_dump),
    Operation("stats", lambda w: w.m.stats()),
    Operation("check", lambda w: w.m.check()),
    Operation("repair", lambda w: w.m.repair()),
    Operation("sweep", lambda w: w.m.sweep()),
    Operation("lock", _locked),
    Operation("lock, extended", _extended),
    Operation("get_or_set", lambda w: w.m.get_or_set("fresh", lambda: 1), {"fresh": 1},
              is_wish=True),
    Operation("get_or_set, stale", lambda w: _stale(w.m), {"fresh": 1}, is_wish=True),
    Operation("@cached", _call_cached, {GENERATION: 7, ("square", None, 7, (3,)): ANY},
              arrange=_make_cached, is_wish=True),
    Operation("resize", lambda w: w.m.resize(shards=8, capacity=240), finish=_resized, always=True,
              is_life=True),
    Operation("unmap what has moved", lambda w: routes.let_go(w.m.attachment),
              arrange=_move_and_keep, finish=_move_back, always=True, is_life=True),
    Operation("repr", lambda w: repr(w.m)),
    Operation("open again", lambda w: shmmap.ShmMap(w.name), finish=lambda w, made: made and
              made.close()),
    Operation("create", lambda w: shmmap.ShmMap.create(f"{w.name}-other", size="200KB", shards=1),
              finish=_remove),
    Operation("attach", _attach, arrange=_attach_other, finish=_remove_attached, always=True),
    Operation("close a handle", _close_near, is_life=True),
    Operation("close the last handle", _close_kept, arrange=_open_other, finish=_remove_closed,
              always=True),
    Operation("unlink", _unlink_kept, arrange=_open_other, finish=_remove_kept, always=True),
)
NAMED = {operation.name: operation for operation in OPERATIONS}
