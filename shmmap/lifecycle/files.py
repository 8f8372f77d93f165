"""Which files in /dev/shm a map's parts have: all but its control segment, which leads to them.

A map that moves to another geometry has shards of up to three generations, and some whose names end
in the token of the mover that fills them. What the table of generations names is computed from it;
/dev/shm is listed for the rest: what a mover has under private names, and what a dead one left of a
generation that is no longer in use. All of them have the map's nonce.

**Removing**: STATE is RETIRED first, then this is asked. A mover looks at STATE after it has made a
segment, and removes that itself. What it renames meanwhile is found under the second name, since
the names that are listed come before those that are computed.
**Where /dev/shm cannot be listed**, or another one is seen there (chroot): the computed ones have
to do.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..memory import geometry
from ..memory.table import generations_of
from ..memory.words import ControlWords, GenerationWords
from ..system import segment

_SHARD = re.compile(r"([0-9]+)\.([0-9]+)(?:\.([0-9a-f]{16}))?")  # what follows the nonce


def of_map(name: str, control: ControlWords) -> list[str]:
    """List the files of a map's parts, as far as its words can be believed, and those of its
    shards that /dev/shm has besides. Not all of them are there. Takes no lock."""
    nonce = control.NONCE
    return with_listed(name, nonce, computed(name, nonce, generations_of(control)))


def computed(name: str, nonce: int, rows: Iterable[GenerationWords]) -> list[str]:
    """List the files of the parts of a map that has these generations, under their public names."""
    segments = labels(name, nonce, {(row.NUMBER, row.SHARDS): None for row in rows})
    semaphores = [segment.semaphore_file(label) for label in segments]
    return [*semaphores, *segments, segment.liveness_name(name, nonce)]


def labels(name: str, nonce: int, generations: Iterable[tuple[int, int]]) -> list[str]:
    """List the names of a map's shards, given number and shards of each generation, then that of
    its lock shard."""
    found = []
    for number, shards in generations:
        if 1 <= shards <= geometry.SHARD_LIMIT:
            start = segment.shard_name(name, nonce, number, 0).removesuffix("0")
            found += [f"{start}{shard}" for shard in range(shards)]
    return [*found, segment.locks_name(name, nonce)]


def with_listed(name: str, nonce: int, known: list[str]) -> list[str]:
    """Put the other files of a map's shards before those that are known."""
    others = set(listed(name, nonce)).difference(known)
    return [*(label for label in sorted(others) if _may_be_removed(label)), *known]


def listed(name: str, nonce: int) -> list[str]:
    """List what /dev/shm has under names of a map's shards, of any generation, private ones too;
    empty, where it cannot be listed."""
    try:
        entries = os.listdir(segment.SHM_DIRECTORY)
    except OSError:
        return []
    return [found.file for found in of_shards(entries, name, nonce)]


class Found(NamedTuple):
    """A file under the name of a shard's segment, or of its semaphore.

    Attributes:
        file: its name, as a segment's.
        generation: the number of the shard's generation.
        number: the shard's, in that.
        token: of the mover that has made it; 0: it has the name that all know.
    """

    file: str
    generation: int
    number: int
    token: int


def of_shards(entries: Iterable[str], name: str, nonce: int) -> Iterator[Found]:
    """Go through those of some files that have names of a map's shards."""
    start = f"shmmap.{name}.{nonce:016x}."
    for entry in entries:
        shard = entry.removeprefix("sem.")
        match = _SHARD.fullmatch(shard, len(start)) if shard.startswith(start) else None
        if match is not None:
            yield Found("/" + entry, int(match[1]), int(match[2]), int(match[3] or "0", 16))


def _may_be_removed(label: str) -> bool:
    """Tell whether a file is one that this process may remove. A stranger can give any name to a
    file, and must not stand in the way of an unlink by that."""
    try:
        status = os.lstat(segment.SHM_DIRECTORY + label)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and os.geteuid() in (0, status.st_uid)
