"""What one cache has of a map: the entries whose keys begin with its prefix.

Every backend of this package is a `Part`, under the names that its framework calls it by. Where the
map is in the way (full, busy, damaged, unlinked), a read is a miss and a write tells that nothing
was written, as a cache that is out of reach does: the request goes on. How often that was so is
counted by reason in `stats().uncached`, and logged once a reason. Mistakes of the program are
raised: a key that is none, a value that cannot be pickled, a handle that was closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from ..checks import OURS, Key, Value, shown
from ..errors import (
    EntryTooLarge,
    MapClosed,
    MapExists,
    MapFull,
    MapNotFound,
    ShmMapError,
)
from ..lifecycle.parameters import UNSAID, MapOptions
from ..locks.keeping import note, notes_of, reason_for
from ..map import ShmMap
from ..mirroring.sides import is_watched
from ..operations._writes_cy import DEFAULT

NOTHING: Any = object()
OPTIONS = frozenset({*MapOptions.__annotations__, "size", "strict"})
_NAMES = ("name", "m", "map", "map_name", "cache_name", "location", "LOCATION")  # of the map


def check_options(
    where: str, options: Iterable[str], known: Iterable[str] = OPTIONS, *, named: str = "m",
    instead: Mapping[str, str] | None = None,
) -> None:
    """Refuse what no map and no part of one takes, before a map is opened.

    Args:
        where: whose options these are, as the error says it.
        options: their names.
        known: those that there are.
        named: the argument that has the map's name there.
        instead: what to do in place of an option that others have.

    Raises:
        TypeError: an option is unknown. The text says which there are, or what it is called here.
    """
    known, instead = set(known), instead or {}
    for option in options:
        if option not in known:
            hint = instead.get(option, "")
            if not hint and option in _NAMES:
                hint = f"the map's name, or a handle on it, is {named} here"
            if not hint and option in OURS:
                hint = f"here it is {OURS[option]}"
            hint = hint or f"there are {', '.join(sorted(known))}"
            of = "here" if option in OPTIONS else "of ShmMap"
            raise TypeError(f"{where}: {option!r} is no option {of}; {hint}")


def instead_of_ttl(hint: str) -> dict[str, str]:
    """Return `instead` for `check_options` where each entry is written with a time of its own,
    so that the map's ttl would count for none: of `ttl`, and of what others call it."""
    return {"ttl": hint, **dict.fromkeys(
        (theirs for theirs, is_here in OURS.items() if is_here.startswith("ttl=")), hint)}


def open_to_evict(name: str, options: dict[str, Any]) -> ShmMap:
    """Open a map; one that is made here evicts, unless `options` say otherwise. One that is there
    and raises is what its maker wanted, and nothing to be warned of."""
    if "on_full" in options or "fresh" in options:
        return ShmMap(name, **{"on_full": "evict", **options})
    options = {"on_unlinked": "reopen", **options}
    while True:
        with suppress(MapNotFound):
            return ShmMap.attach(name, **options)
        with suppress(MapExists):
            return ShmMap.create(name, on_full="evict", **options)


class Part:
    """A part of a map, or, without a prefix, all of it.

    Args:
        m: a map's handle, or the name of a map to open with `options`, which are those of ShmMap;
            `on_full="evict"` is the default here.
        prefix: the first item of every key of this part; None: the keys are as they are given.
        strict: True: raise what the map raises. So does each part while a Mirror asks it.

    Raises:
        TypeError: `m` is neither, or there is no such option.

    >>> with ShmMap("doctest", size="1MB", ephemeral=True) as m:
    ...     pages, users = Part(m, "page"), Part(m, "user")
    ...     pages.set("a", 1), users.set("a", 2), pages.get("a"), pages.clear(), users.get("a")
    (True, True, 1, 1, 2)
    """

    def __init__(
        self, m: ShmMap | str, prefix: Key = None, *, strict: bool = False, **options: Any
    ) -> None:
        check_options("Part", options)
        if m is UNSAID or not isinstance(m, (str, ShmMap)):
            given = "" if m is UNSAID else f", not {type(m).__name__}"
            raise TypeError(f"say the map's name, or a handle on it{given}")
        if isinstance(m, str):
            m = open_to_evict(m, options)
        elif options:
            raise TypeError(f"{', '.join(options)}: options are for a map that is opened here; "
                            "this one is open already")
        self.map = m
        self.prefix = prefix
        self.strict = strict

    def __repr__(self) -> str:
        return self.described(self)

    def described(self, user: object) -> str:
        """Return a repr for what uses this part: its class, the map's name and the prefix."""
        prefix = "" if self.prefix is None else f", prefix {shown(self.prefix)}"
        return f"<{type(user).__name__}: map {self.map.name!r}{prefix}>"

    def key(self, key: Key) -> Key:
        """Return what the map calls a key of this part."""
        return key if self.prefix is None else (self.prefix, key)

    def get(self, key: Key, default: Value = None) -> Value:
        """Return the value of `key`; default: there is none, or it cannot be read just now."""
        try:
            return self.map.get(self.key(key), default)
        except ShmMapError as error:
            return self.missed(error, key, default)

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Value]:
        """Return {key: value} of those that are there."""
        found = {key: self.get(key, NOTHING) for key in keys}
        return {key: value for key, value in found.items() if value is not NOTHING}

    def has(self, key: Key) -> bool:
        """Tell whether there is an entry."""
        try:
            return self.key(key) in self.map
        except ShmMapError as error:
            return bool(self.missed(error, key, False))

    def set(self, key: Key, value: Value, ttl: float | None = DEFAULT) -> bool:
        """Write; tell whether it was written. Where it was not, no older value stays either."""
        try:
            self.map.set(self.key(key), value, ttl)
            return True
        except ShmMapError as error:
            if isinstance(error, (EntryTooLarge, MapFull)):
                self.delete(key)
            return bool(self.missed(error, key, False))

    def set_many(self, mapping: Mapping[Key, Value], ttl: float | None = DEFAULT) -> list[Key]:
        """Write every item; return the keys of those that were not written."""
        return [key for key, value in mapping.items() if not self.set(key, value, ttl)]

    def add(self, key: Key, value: Value, ttl: float | None = DEFAULT) -> bool:
        """Write where there is no entry; tell whether it was written. One step."""
        try:
            return self.map.add(self.key(key), value, ttl)
        except ShmMapError as error:
            return bool(self.missed(error, key, False))

    def touch(self, key: Key, ttl: float | None = DEFAULT) -> bool:
        """Give an entry another ttl; tell whether there is one."""
        try:
            return self.map.touch(self.key(key), ttl)
        except ShmMapError as error:
            return bool(self.missed(error, key, False))

    def incr(
        self, key: Key, delta: float = 1, ttl: float | None = DEFAULT, *, create: bool = True
    ) -> Any:
        """Add to a number, in one step, and return the sum; None: it cannot be done just now. An
        entry that is there keeps its deadline.

        Raises:
            KeyError: there is none, and `create` is False.
            TypeError, ValueError: what is there is no number.
        """
        try:
            return self.map.incr(self.key(key), delta, ttl=ttl, create=create)
        except ShmMapError as error:
            return self.missed(error, key, None)

    def delete(self, key: Key) -> bool:
        """Remove an entry; tell whether there was one."""
        try:
            return self.map.delete(self.key(key))
        except ShmMapError as error:
            return bool(self.missed(error, key, False))

    def keys(self) -> Iterator[Key]:
        """Iterate over the keys, without the prefix. O(entries of the map)."""
        if self.prefix is None:
            yield from self.map
        else:
            for key in self.map.keys(prefix=(self.prefix,)):
                if len(key) == 2:  # others begin so, too, and are no keys of this part
                    yield key[1]

    def clear(self) -> int:
        """Remove every entry of this part; count them. O(entries of the map)."""
        try:
            return sum(map(self.delete, list(self.keys())))
        except ShmMapError as error:
            return int(self.missed(error, self.prefix, 0))

    def close(self) -> None:
        """Close the handle. The map stays."""
        self.map.close()

    def missed(self, error: ShmMapError, key: Key, otherwise: Value) -> Value:
        """Count that the map was in the way, tell it the first time, and go on."""
        if self.strict or is_watched() or isinstance(error, MapClosed):
            raise error
        m: Any = self.map
        cannot = "cannot be read or written just now"
        if isinstance(error, EntryTooLarge):  # now and later
            cannot = "cannot be written"
        note(m, notes_of(m), reason_for(error), f"{shown(key)} {cannot} "
             f"({type(error).__name__}: {error}); the request goes on without it")
        return otherwise
