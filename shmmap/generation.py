"""The generation of a function's results: a number in each of their keys, kept in the map.

    clear   remove the entry that has the number, in one step: no worker finds an old result again,
            since whoever needs the number next makes a new one
    look    read the number; where there is none, add one

The numbers are drawn at random from so many that none comes twice. So where the entry is lost
(evicted, or cleared with all of the map) the results are lost with it, and never come back. Old
results are removed afterwards, one by one; one that is stored later, by a worker that was computing
it, is found by nobody and goes when its time has come.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from .errors import ShmMapError
from .operations._reads_cy import MISSING

if TYPE_CHECKING:
    from .checks import Key
    from .map import ShmMap

MARK = "shmmap.cached"
Label = tuple["Key", "Key"]


def place_of(label: Label) -> Key:
    """Return the key of the entry that has the number: a str, which is looked up fastest."""
    name, version = label
    return f"{MARK}:{name}" if version is None else f"{MARK}:{name}:{version!r}"


def generation_of(m: ShmMap, label: Label) -> int:
    """Return the number of what is stored now; where there is none, begin a generation."""
    place = place_of(label)
    while True:
        found = m.get(place, MISSING) if m.near is None else (
            m.get(place, MISSING, consistency="linearizable")  # a clearing counts at once
        )
        if type(found) is int:
            return found
        new = int.from_bytes(os.urandom(7), "little")
        if found is not MISSING:  # somebody else's
            m.delete(place)
        if m.add(place, new, None):
            return new


def renew(m: ShmMap, label: Label) -> None:
    """Have the number count as written now, as a result is that was stored just now: a sweep
    removes what was not written for long."""
    if m.max_age:
        with suppress(ShmMapError):
            m.touch(place_of(label), None)


def clear(m: ShmMap, label: Label) -> None:
    """End a generation, in one step; then remove its results: O(entries of the map)."""
    m.delete(place_of(label))
    with suppress(ShmMapError):  # they are found by nobody
        for key in m:
            if type(key) is tuple and len(key) > 3 and key[:2] == label and (
                key[2] != m.get(place_of(label))
            ):
                m.delete(key)
