"""A call of every public method of ShmMap, with what it returns as far as that is the same for
every map: bound to shared maps, to LocalMap, and to LocalMap where it takes itself for a Mac's.
"""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import re
import threading
from collections.abc import Callable
from typing import Any

import shmmap

Call = Callable[[Any, str], object]  # of a map, and of a folder where files may be made


def _lock(m: Any, folder: str) -> object:
    with m.lock("l", timeout=1) as lock:
        taken = []
        other = threading.Thread(target=lambda: taken.append(_is_had(m)))
        other.start()
        other.join()
        return lock.held, lock.token > 0, taken


def _sorted(entries: Any) -> object:
    """List entries in an order that does not depend on a map's hash seed."""
    return sorted(entries.items(), key=repr)


def _is_had(m: Any) -> bool:
    try:
        with m.lock("l", timeout=0):
            return True
    except shmmap.LockTimeout:
        return False


def _again(m: Any, folder: str) -> object:
    """Use the map in each way in which it can be opened again."""
    found = []
    for other in (
        type(m)(m.name), type(m).attach(m.name), pickle.loads(pickle.dumps(m)), copy.copy(m)
    ):
        other.incr("opened")
        found.append((type(other) is type(m), other["opened"]))
        other.close()
    return found


def _create(m: Any, folder: str) -> object:
    try:
        type(m).create(m.name)
    except shmmap.MapExists as error:
        return str(error)
    return None


def _cas(m: Any, folder: str) -> object:
    version = m.get_versioned("a")[1]
    return m.cas("a", 2, version), m.cas("a", 3, version), m["a"]


def _copies(m: Any, folder: str) -> object:
    """Write a dump; make another map of it, and merge that."""
    report = m.dump(os.path.join(folder, "dump"))
    other = type(m).load(os.path.join(folder, "dump"), f"{m.name}-other")
    try:
        other["more"] = 1
        return report.entries, _sorted(other), m.merge(other)[:3], "more" in m
    finally:
        other.unlink()
        other.close()


def _unlink(m: Any, folder: str) -> object:
    m.unlink()
    try:
        return m["a"]
    except shmmap.MapUnlinked as error:
        return str(error)


def _close(m: Any, folder: str) -> object:
    same = type(m)(m.name)
    m.close()
    m.close()
    try:
        return m["a"]
    except shmmap.MapClosed as error:
        return str(error), m.closed, same["a"]
    finally:
        same.unlink()
        same.close()


def _set_many(m: Any, folder: str) -> object:
    m.set_many({"x": 1, "y": (2, 3)}, ttl=50)
    return m.get_many(["x", "y", "z"]), m.ttl("x") > 40


def _scan(m: Any, folder: str) -> object:
    cursor, found = 0, []
    while not found or cursor:
        cursor, part = m.scan(cursor)
        found += part
    return sorted(found, key=repr)


def _switch(m: Any, _: Any) -> list[Any]:
    """Switch a gate on, and leave it to its default again."""
    m.gates["mirror"] = True
    switched = dict(m.gates)
    m.gates.reset("mirror")
    return [switched, m.gates.list()]


def _stats(m: Any, folder: str) -> object:
    figures = m.stats()._asdict()
    ours = {name: figures.pop(name) for name in ("workers", "allocated_bytes", "amplification")}
    half = figures["size_bytes"] / 2
    figures.pop("shard_entries")  # by another hash seed
    figures.pop("taken_s")
    figures["latency"] = {name: one.total for name, one in figures["latency"].items()}
    return figures, ours["workers"] == (os.getpid(),), ours["allocated_bytes"] > half


def _resize(m: Any, folder: str) -> object:
    """Change the shape, and back."""
    there = m.resize(shards=4, value_size=40).progress()
    seen = m.parameters["shards"], m.value_size, _sorted(m)
    back = m.resize(shards=2, value_size=100, wait=False)
    m["new"] = 1
    return there.is_over, seen, back.wait(60), m.parameters["shards"], m["new"], repr(m.resize())


def _edit(m: Any, folder: str) -> object:
    with m.edit("l") as value:
        value.append(4)
    with m.edit("fresh", default=dict) as made:
        made["x"] = 1
    return m["l"], m["fresh"]


def _semaphore(m: Any, folder: str) -> object:
    with m.semaphore("s", 2) as one, m.semaphore("s", 2, timeout=1):
        return one.held, m.semaphore("s", 2).acquire(blocking=False)


def _aget_or_set(m: Any, folder: str) -> object:
    async def make() -> list[int]:
        await asyncio.sleep(0)
        return [5]

    async def main() -> object:
        return [await m.aget_or_set("c", make) for _ in range(2)]

    return asyncio.run(main()), m["c"]


def _acopies(m: Any, folder: str) -> object:
    """Write a dump; make another map of it, and merge that; in a coroutine."""
    async def main() -> object:
        path = os.path.join(folder, "dump")
        report = await m.adump(path)
        other = await type(m).aload(path, f"{m.name}-other")
        try:
            other["more"] = 1
            merged = await m.amerge(other)
            return report.entries, _sorted(await m.asnapshot()), merged[:3], "more" in m
        finally:
            other.unlink()
            other.close()

    return asyncio.run(main())


def _fromkeys(m: Any, folder: str) -> object:
    try:
        return _sorted(type(m).fromkeys(["a"], 1))
    except Exception as error:
        return type(error).__name__


CALLS: dict[str, Call] = {
    "add": lambda m, _: (m.add("a", 9), m.add("n", 9), m["n"]),
    "adump": _acopies,
    "aget_or_set": _aget_or_set,
    "aload": _acopies,
    "amerge": _acopies,
    "apply": lambda m, _: (m.apply("a", lambda n: n + 1), m.apply("a", lambda n: shmmap.DELETE),
                           "a" in m, m.apply("e", lambda n: n + 1, default=1)),
    "asnapshot": _acopies,
    "attach": _again,
    "capacity": lambda m, _: m.capacity,
    "cas": _cas,
    "check": lambda m, _: m.check(),
    "clear": lambda m, _: (m.clear(), len(m)),
    "close": _close,
    "closed": lambda m, _: m.closed,
    "codec": lambda m, _: m.codec,
    "consistency": lambda m, _: m.consistency,
    "copy": lambda m, _: _sorted(m.copy()),
    "create": _create,
    "decr": lambda m, _: (m.decr("c"), m.decr("c", 2), m["c"]),
    "default_ttl": lambda m, _: m.default_ttl,
    "delete": lambda m, _: (m.delete("a"), m.delete("a")),
    "delete_many": lambda m, _: m.delete_many(["a", "b", "z"]),
    "dump": _copies,
    "edit": _edit,
    "ephemeral": lambda m, _: m.ephemeral,
    "fromkeys": _fromkeys,
    "get": lambda m, _: (m.get("a"), m.get("z"), m.get("z", 5), m.get("l") is m.get("l")),
    "get_and_touch": lambda m, _: (m.get_and_touch("a", 60), m.ttl("a") > 50),
    "get_many": _set_many,
    "get_or_set": lambda m, _: (m.get_or_set("f", lambda: [4], ttl=60), m.get_or_set("f", int)),
    "get_versioned": lambda m, _: (m.get_versioned("a")[0], m.get_versioned("z")),
    "getdel": lambda m, _: (m.getdel("a"), "a" in m, m.getdel("a", 3)),
    "incr": lambda m, _: (m.incr("c"), m.incr("c", 5), m.incr("d", 1, initial=7)),
    "items": lambda m, _: _sorted(m),
    "key_size": lambda m, _: m.key_size,
    "keys": lambda m, _: (sorted(m.keys(), key=repr), list(m.keys(prefix="b"))),
    "linger": lambda m, _: m.linger,
    "load": _copies,
    "lock": _lock,
    "lock_timeout": lambda m, _: m.lock_timeout,
    "max_age": lambda m, _: m.max_age,
    "max_staleness": lambda m, _: m.max_staleness,
    "merge": _copies,
    "mode": lambda m, _: m.mode,
    "name": lambda m, _: type(m.name),
    "namespace": lambda m, _: m.namespace,
    "on_full": lambda m, _: m.on_full,
    "parameters": lambda m, _: m.parameters,
    "pop": lambda m, _: (m.pop("a"), m.pop("a", 3)),
    "popitem": lambda m, _: (m.clear(), m.update(k=1), m.popitem(), len(m)),
    "repair": lambda m, _: (m.repair(), len(m)),
    "replace": lambda m, _: (m.replace("a", 2), m.replace("z", 2), m.get("z")),
    "scan": _scan,
    "semaphore": _semaphore,
    "set": lambda m, _: (m.set("s", "x", ttl=30), m["s"], m.ttl("s") > 20),
    "set_many": _set_many,
    "setdefault": lambda m, _: (m.setdefault("a", 5), m.setdefault("w", [5])),
    "size": lambda m, _: m.size,
    "snapshot": lambda m, _: _sorted(m.snapshot()),
    "stats": _stats,
    "resize": _resize,
    "reap": lambda m, _: m.reap(),
    "sweep": lambda m, _: (m.set("s", 1, ttl=-1), m.sweep().dead_workers, len(m)),
    "gates": _switch,
    "events": lambda m, _: [one.kind for one in m.events()],
    "on": lambda m, _: m.on(None, print)(),
    "sweep_if_due": lambda m, _: m.sweep_if_due()[:4],
    "sweep_interval": lambda m, _: m.sweep_interval,
    "touch": lambda m, _: (m.touch("a", 60), m.ttl("a") > 50, m.touch("z", 60)),
    "ttl": lambda m, _: m.ttl("a"),
    "unlink": _unlink,
    "update": lambda m, _: (m.update({"u": 1}, v=2), m["u"], m["v"]),
    "value_size": lambda m, _: m.value_size,
    "values": lambda m, _: sorted(m.values(), key=repr),
}


def outcome(method: str, m: Any, folder: str) -> object:
    """Call a method on a map of a few entries; return what came of it, without the map's name."""
    m.update({"a": 1, "b": "two", "l": [3], "t": (1, None)})
    result = repr(CALLS[method](m, folder))
    return re.sub(re.escape(m.name), "NAME", result)


def public() -> set[str]:
    """List the public methods and attributes of ShmMap. The pure engine also shows what are C
    functions in the other one: there only what has a call counts."""
    inner = {"attachment", "inflight", "near", "ttl_ns"}  # what the package's own modules use
    found = {name for name in dir(shmmap.ShmMap) if not name.startswith("_")} - inner
    return found if shmmap.ENGINE == "compiled" else found & set(CALLS)
