"""Every public operation, as something that judges its own answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import shmmap
from shmmap.locks import keeping

from .subject import LOCKS
from .trial import MISS, Trial, Wrong, same

FULL: tuple[type[Exception], ...] = (shmmap.MapFull,)
VALUES: list[Any] = [5, "text", b"", b"x" * 30, "y" * 90, b"z" * 400, None, True, 2.5, 1 << 70]


class Operation(NamedTuple):
    """How to run an operation, and the errors that it may raise in an undamaged map, too."""

    act: Callable[[Trial], str | None]
    errors: tuple[type[Exception], ...]


OPERATIONS: dict[str, Operation] = {}
logging.getLogger("shmmap").addHandler(logging.NullHandler())  # what was not kept is judged here


def operation(*errors: type[Exception]) -> Callable[[Any], Any]:
    """Add a function to the list of operations."""

    def add(function: Any) -> Any:
        OPERATIONS[function.__name__] = Operation(function, errors)
        return function

    return add


# -- reading --------------------------------------------------------------------------------


@operation()
def get(t: Trial) -> str:
    key = t.key()
    return t.saw(key, t.m.get(key, MISS))


@operation()
def subscript(t: Trial) -> str:
    key = t.key()
    try:
        value = t.m[key]
    except KeyError:
        value = MISS
    return t.saw(key, value)


@operation()
def contains(t: Trial) -> str:
    key = t.key()
    return _found(t, key, key in t.m)


def _found(t: Trial, key: Any, there: bool) -> str:
    """Judge whether an entry may be there."""
    if not there:
        return t.saw(key, MISS)
    if t.right.get(key, 0) is MISS:
        raise Wrong(f"{key!r} is not there, and was found")
    return "found"


@operation()
def get_many(t: Trial) -> str:
    keys = list(dict.fromkeys(t.key() for _ in range(5)))
    found = t.m.get_many(keys)
    for key in keys:
        t.saw(key, found.get(key, MISS))
    return "answer"


@operation()
def ttl(t: Trial) -> str:
    key = t.key()
    try:
        left = t.m.ttl(key)
    except KeyError:
        return t.saw(key, MISS)
    if left is not None and not left >= 0:
        raise Wrong(f"{key!r} has {left} s left")
    return _found(t, key, True)


@operation()
def length(t: Trial) -> str:
    found, slots = len(t.m), t.subject.shape.shards * t.subject.shape.slots
    if not 0 <= found <= slots:
        raise Wrong(f"{found} entries in {slots} slots")
    return "answer"


@operation()
def keys(t: Trial) -> str:
    found = list(t.m.keys())
    for key in found:
        _found(t, key, True)
    _all_there(t, found)
    return "answer"


@operation()
def items(t: Trial) -> str:
    found = list(t.m.items())
    for key, value in found:
        t.saw(key, value)
    _all_there(t, [key for key, _ in found])
    return "answer"


@operation()
def snapshot(t: Trial) -> str:
    taken = t.m.snapshot()
    found = list(taken.items())
    for key, value in found:
        t.saw(key, value)
    _all_there(t, [key for key, _ in found])
    if len(list(taken.raw_entries())) != len(found):
        raise Wrong("a snapshot has other raw entries than entries")
    return "answer"


@operation()
def prefixed(t: Trial) -> str:
    prefix = t.rng.choice(("", "k", "key", b"", b"k"))
    for key, value in t.m.items(prefix=prefix):
        t.saw(key, value)
        if not isinstance(key, type(prefix)) or not key.startswith(prefix):
            raise Wrong(f"{key!r} does not start with {prefix!r}")
    return "answer"


def _all_there(t: Trial, listed: list[Any]) -> None:
    missing = t.sure - set(listed)
    if missing:
        raise Wrong(f"{sorted(map(repr, missing))[:3]} are not listed")


@operation()
def values(t: Trial) -> str:
    listed = list(t.m.values())
    if len(listed) < len(t.sure):
        raise Wrong(f"{len(listed)} values of {len(t.sure)} entries")
    return "answer"


@operation()
def as_text(t: Trial) -> str:
    return "answer" if t.m.name in repr(t.m) else "nonsense"


@operation()
def equal(t: Trial) -> str:
    return "equal" if t.m == {"another": "map"} else "different"


@operation()
def stats(t: Trial) -> str:
    found = t.m.stats()
    return "answer" if len(found.shard_entries) == t.subject.shape.shards else "nonsense"


@operation()
def check(t: Trial) -> str:
    return "problems" if t.m.check() else "clean"


# -- writing --------------------------------------------------------------------------------


def _write(t: Trial, act: Callable[[Any, Any], Any]) -> str:
    """Write some key; `act` tells whether it did (None: always)."""
    key, value = t.key(), t.rng.choice(VALUES)
    return _note(t, key, value, lambda: act(key, value))


def _note(t: Trial, key: Any, value: Any, act: Callable[[], Any]) -> str:
    """Note what a write did: all of it, nothing, or, where it raised, who knows."""
    try:
        done = act()
    except shmmap.MapFull:
        t.wrote_nothing_but_room()
        raise
    except Exception:
        t.unsure(key)
        raise
    if done is None or done is True:
        t.wrote(key, value)
        return "done"
    return "refused"


@operation(*FULL)
def set_item(t: Trial) -> str:
    return _write(t, t.m.__setitem__)


@operation(*FULL)
def set_(t: Trial) -> str:
    return _write(t, lambda key, value: t.m.set(key, value, ttl=t.rng.choice((None, 500.0))))


@operation(*FULL)
def add(t: Trial) -> str:
    return _write(t, t.m.add)


@operation(*FULL)
def replace(t: Trial) -> str:
    return _write(t, t.m.replace)


@operation(*FULL)
def cas(t: Trial) -> str:
    key, value = t.key(), t.rng.choice(VALUES)
    old, version = t.m.get_versioned(key, MISS)
    t.saw(key, old)
    return _note(t, key, value, lambda: t.m.cas(key, value, version))


@operation(*FULL)
def setdefault(t: Trial) -> str:
    return _find_or_write(t, t.m.setdefault)


class NotKept(Exception):
    """A result was computed, and could not be stored."""


@operation(*FULL)
def get_or_set(t: Trial) -> str:
    m, notes = t.m, keeping.notes_of(t.m)
    before = notes.times()

    def act(key: Any, value: Any) -> Any:
        found = m.get_or_set(key, lambda: value, timeout=0)
        if notes.times() != before:  # there was no room for it: what was computed is given
            raise NotKept
        return found

    try:
        return _of_locks(t, lambda: _find_or_write(t, act))
    except NotKept:
        return "given, not kept"


def _find_or_write(t: Trial, act: Callable[[Any, Any], Any]) -> str:
    key, value = t.key(), t.rng.choice(VALUES)
    try:
        found = act(key, value)
    except Exception:
        t.unsure(key)
        raise
    if key not in t.right or t.right[key] is MISS or key not in t.sure:
        if key in t.right and t.right[key] is not MISS and same(found, t.right[key]):
            return "found"
        t.wrote(key, found)
        return "done"
    return t.saw(key, found)


@operation(*FULL)
def set_many(t: Trial) -> str:
    new = {t.key(): t.rng.choice(VALUES) for _ in range(4)}
    try:
        t.m.set_many(new)
    except Exception:
        for key in new:
            t.unsure(key)
        t.wrote_nothing_but_room()
        raise
    for key, value in new.items():
        t.wrote(key, value)
    return "done"


@operation(TypeError, OverflowError, *FULL)
def incr(t: Trial) -> str:
    key, delta = t.key(), t.rng.choice((1, -1, 1 << 40, (1 << 63) - 1))
    old = t.right.get(key)
    try:
        value = t.m.incr(key, delta)
    except (TypeError, OverflowError) as error:
        if key in t.sure and type(old) is int and -(1 << 62) <= old + delta < 1 << 62:
            raise Wrong(f"{key!r} is {old}: {error}") from None
        raise
    except Exception:
        t.unsure(key)
        raise
    if type(old) is int and key in t.sure and value != old + delta:
        raise Wrong(f"{key!r} was {old}, plus {delta} gave {value}")
    t.wrote(key, value)
    return "answer"


@operation()
def touch(t: Trial) -> str:
    key = t.key()
    return _found(t, key, t.m.touch(key, t.rng.choice((None, 700.0))))


@operation(shmmap.EntryTooLarge)
def too_large(t: Trial) -> str:
    t.m.set("huge", bytes(100_000))
    raise Wrong("an entry larger than a shard was taken")


# -- removing -------------------------------------------------------------------------------


@operation()
def delete(t: Trial) -> str:
    key = t.key()
    return _removed(t, key, lambda: t.m.delete(key))


@operation()
def delete_item(t: Trial) -> str:
    key = t.key()

    def act() -> bool:
        try:
            del t.m[key]
            return True
        except KeyError:
            return False

    return _removed(t, key, act)


def _removed(t: Trial, key: Any, act: Callable[[], bool]) -> str:
    try:
        there = act()
    except Exception:
        t.unsure(key)
        raise
    outcome = _found(t, key, there)
    t.removed(key)
    return outcome


@operation()
def pop(t: Trial) -> str:
    key = t.key()
    try:
        value = t.m.pop(key, MISS)
    except Exception:
        t.unsure(key)
        raise
    outcome = t.saw(key, value)
    t.removed(key)
    return outcome


@operation()
def popitem(t: Trial) -> str:
    try:
        key, value = t.m.popitem()
    except KeyError:
        return "empty"
    except Exception:
        t.forget_all()
        raise
    outcome = t.saw(key, value)
    t.removed(key)
    return outcome


@operation()
def delete_many(t: Trial) -> str:
    chosen = list(dict.fromkeys(t.key() for _ in range(4)))
    try:
        count = t.m.delete_many(chosen)
    except Exception:
        for key in chosen:
            t.unsure(key)
        raise
    if count < len(t.sure & set(chosen)):
        raise Wrong(f"{count} of {chosen} were deleted")
    for key in chosen:
        t.removed(key)
    return "answer"


@operation()
def clear(t: Trial) -> str:
    t.forget_all()
    t.m.clear()
    t.cleared()
    return "done"


# -- care -----------------------------------------------------------------------------------


@operation()
def sweep(t: Trial) -> str:
    return _of_locks(t, lambda: "done" if t.m.sweep() else "nothing")


@operation()
def sweep_if_due(t: Trial) -> str:
    return _of_locks(t, lambda: "not due" if t.m.sweep_if_due() is None else "done")


@operation()
def lock(t: Trial) -> str:
    return _of_locks(t, lambda: t.try_lock(t.rng.choice(LOCKS)))


def _of_locks(t: Trial, act: Callable[[], str]) -> str:
    """Do what needs the lock shard too, which may be damaged."""
    try:
        return act()
    except (shmmap.MapCorrupted, shmmap.MapFull, shmmap.LockTimeout, shmmap.LockLost):
        if not t.locks_damaged or t.repaired:
            raise
        return "refused"


@operation()
def repair(t: Trial) -> str:
    t.m.repair()
    return "done"
