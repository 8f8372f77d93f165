"""Changing an entry by what it holds: `apply`, and counters of every kind of number.

    1  read the value from the map, with its version
    2  compute the new one, with nothing held: this may run anybody's code
    3  write it, if the entry still has that version; else again from 1

So each change is one step, that of 3. Where others change the entry again and again, who computes
gives up after a while: see `Patience`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, overload

from ..checks import Key, Value, number, refuse_coroutine, shown
from ..errors import EditConflict
from ..memory._clock_cy import monotonic
from ..values._codecs_cy import pack, unpack
from ._changes_cy import KEPT, check_ttl, put_if, read_and_touch, versioned
from ._pop_any_cy import ROUNDS
from ._reads_cy import MISSING
from ._writes_cy import DEFAULT

if TYPE_CHECKING:
    from ._takes_cy import Takes

_WORDS = range(-(1 << 63), 1 << 63)  # what a counter can hold
_UNCHANGING = (str, int, float, bytes, bool, type(None))


class Deletion:
    """The type of DELETE."""

    def __repr__(self) -> str:
        return "shmmap.DELETE"

    def __reduce__(self) -> NoReturn:
        raise TypeError("shmmap.DELETE says that an entry is to be removed; it cannot be stored")


DELETE: Any = Deletion()  # in place of a new value: remove the entry


class Patience:
    """How often a change is tried again: some times in any case, then for `lock_timeout`."""

    def __init__(self, m: Takes, key: Key, what: str) -> None:
        self._map: Any = m
        self._key = key
        self._what = what
        self._tries = 0
        self._until = 0.0

    def once_more(self) -> None:
        """Count a try that came too late. Raises EditConflict after the last one."""
        self._tries += 1
        if self._tries == ROUNDS:
            self._until = monotonic() + self._map._lock_timeout
        if self._tries >= ROUNDS and monotonic() >= self._until:
            raise EditConflict(
                f"map {self._map.name!r}, key {shown(self._key)}: others have changed the entry "
                f"each of the {self._tries:,} times that {self._what} was about to write it, for "
                f"{self._map._lock_timeout:g} s; nothing was changed. Have the function take less "
                "time, or every process that changes this key do so with m.edit(key), which lets "
                "one after the other"
            )


def begin_with(m: Any, key: Key, default: Value) -> Value:
    """Return the value to begin with where there is none: a new object each time."""
    if default is MISSING:
        raise KeyError(key)
    if callable(default):
        return default()
    if type(default) in _UNCHANGING:
        return default
    kind, data = pack(default, m._coder)
    return unpack(kind, data, m._coder)


def store(
    m: Takes, key: Key, value: Value, version: int, deadline_ns: int, ttl: float | None,
    evict: bool,
) -> bool:
    """Write, or remove, what was read as this version; False: it has another one by now."""
    if value is not DELETE:
        return bool(put_if(m, key, value, version, deadline_ns, ttl, evict))
    return not version or bool(put_if(m, key, None, version, 0, 0, evict))


def change(
    m: Takes, key: Key, function: Callable[[Value], Value], default: Value, ttl: float | None,
    evict: bool,
) -> Value:
    """See Changes.apply."""
    if not callable(function):
        raise TypeError(f"apply: function must be callable, not {type(function).__name__}")
    check_ttl(m, ttl)
    patience = Patience(m, key, "apply")
    while True:
        value, version, deadline_ns = versioned(m, key)
        if not version:
            value = begin_with(m, key, default)
        new = function(value)
        refuse_coroutine(new, "apply", "async with m.edit(...)")
        if new is None and type(value) not in _UNCHANGING:
            _refuse_changed(m, key, value, version, default)
        if store(m, key, new, version, deadline_ns, ttl, evict):
            return None if new is DELETE else new
        patience.once_more()


def _refuse_changed(m: Any, key: Key, value: Value, version: int, default: Value) -> None:
    """Refuse None of a function that has changed its argument: it has forgotten to return it."""
    same, now, _ = versioned(m, key)
    if now != version:
        return  # the function is called again
    if not version:
        same = begin_with(m, key, default)
    if pack(value, m._coder) != pack(same, m._coder):
        raise TypeError(
            f"apply: map {m.name!r}, key {shown(key)}: the function has changed the value and "
            "returned None, which would take its place. Have it return the value, or write "
            "`with m.edit(key) as value: ...`; nothing was changed"
        )


def add(
    m: Takes, key: Key, delta: float, initial: float, ttl: float | None, evict: bool, create: bool
) -> float:
    """See Writes.incr: what that cannot do in place, a float or a pickled number."""
    check_ttl(m, ttl)
    patience = Patience(m, key, "incr")
    while True:
        value, version, deadline_ns = versioned(m, key)
        if not version and not create:
            raise KeyError(key)
        old = _counted(key, value) if version else initial
        total = _sum(key, old, delta)
        life = KEPT if version else ttl
        if store(m, key, total, version, deadline_ns, life, evict):
            return total
        patience.once_more()


def _counted(key: Key, value: Value) -> float:
    try:
        return number(value, "its value")
    except TypeError:
        raise TypeError(
            f"incr: the value of {shown(key)} is no number (int or float), but of type "
            f"{type(value).__name__}. To change it in one step: m.apply(key, function)"
        ) from None


def _sum(key: Key, value: float, delta: float) -> float:
    """Add as Python does; refuse what no counter can hold."""
    try:
        total = value + delta
        fits = total in _WORDS if type(total) is int else isfinite(total)
    except OverflowError:  # an integer that no float can be
        fits = False
    if not fits:
        kind = "64 bits" if type(value) is type(delta) is int else "the finite floats"
        raise OverflowError(
            f"incr: {shown(key)} is at {shown(value)}, adding {shown(delta)} leaves {kind}"
        )
    return total


class Counting(Protocol):
    """The type of `incr`: whole numbers give an int, others a float."""

    @overload
    def __call__(
        self, key: Key, delta: int = 1, initial: int = 0, ttl: float | None = ..., *,
        evict: bool = True, create: bool = True,
    ) -> int: ...
    @overload
    def __call__(
        self, key: Key, delta: float = 1, initial: float = 0, ttl: float | None = ..., *,
        evict: bool = True, create: bool = True,
    ) -> float: ...
    def __call__(self, key: Key, *more: Value, **named: Value) -> Value:
        """Add."""


class Changes:
    """The changing operations of a map that are more than one step of the engine."""

    def _add_number(
        self: Any, key: Key, delta: float, initial: float, ttl: float | None, evict: bool,
        create: bool,
    ) -> float:
        """Do what `incr` cannot do in place."""
        return add(self, key, delta, initial, ttl, evict, create)

    def apply(
        self: Any, key: Key, function: Callable[[Value], Value], default: Value = MISSING,
        ttl: float | None = KEPT, *, evict: bool = True,
    ) -> Value:
        """Put `function(value)` in place of the value of `key`, and return it: one step.

        Args:
            function: gets the value, a copy of its own, and returns the new one, or
                `shmmap.DELETE` to remove the entry (None is returned then). It is called again
                where another process has changed the entry meanwhile, so it must do nothing
                else. No shard is locked meanwhile.
            default: what the function gets where there is no entry; what is callable (`dict`,
                `list`) is called for it. Not given: KeyError.
            ttl: seconds from now, None: no expiry. Not given: an entry that is there keeps its
                deadline, a new one gets the map's default.
            evict: as for `set`.

        Raises:
            EditConflict: others have changed the entry each time, for `lock_timeout` seconds.
            TypeError: the function has changed a list, say, and returned nothing.
        What the function raises, and the error of a value that cannot be read here, changes
        nothing.

        >>> with ShmMap("doctest", size="1MB", ephemeral=True) as m:
        ...     m.apply("tags", lambda tags: [*tags, "new"], default=list)
        ...     m.apply("left", lambda n: n - 1, default=10)
        ['new']
        9
        """
        return change(self, key, function, default, ttl, evict)

    @overload
    def decr(
        self, key: Key, delta: int = ..., initial: int = ..., ttl: float | None = ..., *,
        evict: bool = ..., create: bool = ...,
    ) -> int:
        """Subtract a whole number."""

    @overload
    def decr(
        self, key: Key, delta: float = ..., initial: float = ..., ttl: float | None = ..., *,
        evict: bool = ..., create: bool = ...,
    ) -> float:
        """Subtract any other number."""

    def decr(
        self: Any, key: Key, delta: float = 1, initial: float = 0, ttl: float | None = DEFAULT,
        *, evict: bool = True, create: bool = True,
    ) -> float:
        """Subtract `delta` from the number at `key`; return the difference: see `incr`. A missing
        key starts from `initial`."""
        by = -number(delta, "decr: delta")
        return self.incr(  # type: ignore[no-any-return]
            key, by, initial, ttl, evict=evict, create=create
        )

    def get_and_touch(
        self: Any, key: Key, ttl: float | None = DEFAULT, default: Value = None
    ) -> Value:
        """Return the value of `key`, or `default`, and have its ttl start anew: one step.

        `ttl`: seconds; the map's default if not given, None: no expiry, 0 or less: it is removed.
        Locks one shard; never answered from a near cache.
        """
        value = read_and_touch(self, key, ttl)
        return default if value is MISSING else value

    def getdel(self: Any, key: Key, default: Value = None) -> Value:
        """Remove `key` and return its value, in one step; `default` if there is none: `pop`, which
        raises KeyError then."""
        return self.pop(key, default)
