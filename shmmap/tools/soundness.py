"""`shmmap check`: check a map from outside, without a lock and without joining it.

The objects are looked at as fsck does. Each shard is copied and compared with what lies there after
that: where both are the same, there was an instant at which the shard was so, and the copy is
checked by the code of `ShmMap.check`. A shard that is never the same twice, since it is written all
the time, is told, and its entries are read one by one; `fsck` checks it under its lock, which
needs the map's owner and its engine.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from ..errors import MapCorrupted, ShmMapError
from ..lifecycle import checking
from ..memory import geometry
from ..memory._clock_cy import Clock
from ..memory.layout import SHARD, Areas, record_bytes
from ..memory.words import ShardWords
from ..printable import printable_lines
from ..shard._checking_cy import Checker
from ..shard._shard_cy import Shard
from ..system import segment
from ..values import _codecs_cy, _keys_cy
from . import findings, fsck, json_out, named
from .map_reading import MapReader, find_usable
from .seen import SeenShard
from .shard_reading import ShardReader

COPIES = 8  # of a shard, until two are the same
_CHUNK = 1 << 20
_CONTENDED = range(16, 24)  # words of a header that whoever waits changes: OWNER and its line
SHOWN = 10  # problems of one shard
THE_LOCKS = "the lock shard"


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    command.description = __doc__
    json_out.add_look(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    """Check a map; return the exit code."""
    seen = find_usable(options.name, options.engine, options.layout)
    found = [(segment.SHM_DIRECTORY, text) for text in fsck.object_problems(seen)]
    busy: list[str] = []
    parts: list[str] = []
    for label, problems, was_settled in _check_all(MapReader(seen)):
        parts.append(label)
        found += [(label, text) for text in problems]
        busy += [] if was_settled else [label]
    if options.as_json:
        json_out.show("check", name=options.name, is_sound=not found, shards=len(parts),
                      unsettled=busy, problems=[{"where": label, "text": text}
                                                for label, text in found])
        return int(bool(found))
    told: dict[str, int] = {}
    for label, text in found:
        told[label] = told.get(label, 0) + 1
        if told[label] <= SHOWN:
            print(printable_lines(f"{label}: {text}"))
    for label, count in told.items():
        if count > SHOWN:
            print(f"{label}: and {count - SHOWN:,} more")
    for label in busy[:findings.SHOWN]:
        print(f"{label}: it changes all the time: only its entries were looked at, one by one")
    if busy:
        print(f"{len(busy):,} shard(s) changed all the time; under their locks: python -m shmmap "
              f"fsck {options.name}")
    shards = sum(label.startswith("shard ") for label in parts)
    locks = " and that of its named locks" * (THE_LOCKS in parts)
    print(f"map {options.name}: {len(found):,} problem(s) in {shards:,} shard(s){locks}")
    return int(bool(found))


def _check_all(reader: MapReader) -> Iterator[tuple[str, list[str], bool]]:
    """Check each shard, and the lock shard: its name, what is wrong, and whether all of it was
    checked."""
    try:
        for shard in reader.shards():
            label = f"shard {shard.seen.number}"
            try:
                yield label, *check_shard(shard, reader.control.HASH_SEED)
            except (ShmMapError, OSError) as error:
                yield label, [str(error)], True
    except (ShmMapError, OSError) as error:  # the others cannot be come by
        yield f"map {reader.seen.label}", [str(error)], True
        return
    control = reader.control
    label = segment.locks_name(reader.seen.name, control.NONCE)
    seen = SeenShard(geometry.LOCK_NUMBER, 0, None, "", 0, geometry.lock_geometry(), label)
    try:
        locks = ShardReader(label, seen, control.NONCE, control.HASH_SEED, THE_LOCKS)
    except (ShmMapError, OSError) as error:
        yield THE_LOCKS, [str(error)], True
        return
    try:
        yield THE_LOCKS, *check_shard(locks, control.HASH_SEED)
    except (ShmMapError, OSError) as error:
        yield THE_LOCKS, [str(error)], True
    finally:
        locks.close()


def check_shard(reader: ShardReader, seed: int) -> tuple[list[str], bool]:
    """List what is wrong in a shard, and tell whether it was checked as a whole. Raises
    MapCorrupted where its file is cut off."""
    for _ in range(COPIES):
        copied = _settled_copy(reader)
        if copied is not None:
            return _problems(copied, reader, seed), True
        if reader.has_moved():
            return [], True  # another one has its entries, which are checked there or were
    return _entry_problems(reader), False


def _settled_copy(reader: ShardReader) -> bytearray | None:
    """Copy a shard as it was at one instant; None: it changed meanwhile, or is in mid-change."""
    areas = reader.shape.areas
    end = areas.end if reader.header().HAS_DEADLINES else areas.deadlines
    copied = bytearray(reader.image(0, end))
    head = record_bytes(SHARD)
    if _steady(copied[:head]) != _steady(reader.image(0, head)):
        return None
    for start, stop in _compared(areas, end):
        for at in range(start, stop, _CHUNK):
            until = min(at + _CHUNK, stop)
            if copied[at:until] != reader.image(at, until):
                return None
    if _steady(copied[:head]) != _steady(reader.image(0, head)):
        return None
    if ShardWords(copied).DIRTY:
        return None
    if end == areas.deadlines:
        ShardWords(copied).HAS_DEADLINES = 0
    return copied


def _steady(header: bytes | bytearray) -> list[int]:
    """Return the words of a header that only the holder of the lock changes."""
    return [word for at, word in enumerate(memoryview(header).cast("Q")) if at not in _CONTENDED]


def _compared(areas: Areas, end: int) -> list[tuple[int, int]]:
    """List the parts of a shard that only the holder of the lock changes: not those where readers
    note hits."""
    return [(areas.index, areas.state), (areas.changed, end)]


def _problems(copied: bytearray, reader: ShardReader, seed: int) -> list[str]:
    """Check a copy: as `lifecycle.checking` does."""
    shape: Any = reader.shape
    twin = Shard(copied, reader.seen.number, shape.slots, shape.slot_size, shape.buckets,
                 shape.evicts, shape.shards.bit_length() - 1, seed, None, Clock())
    found: list[str] = Checker(twin).problems()
    return found + [f"V1: slot {slot}: {why}"
                    for slot, _, why in checking.unreadable(copied, shape)]


def _entry_problems(reader: ShardReader) -> list[str]:
    """Read the entries one by one, and list what is wrong with them."""
    found: list[str] = []
    entries = reader.entries(lambda *of: True, True, 0, set(), lambda e: found.append(str(e)))
    for entry in entries:
        try:
            _keys_cy.unpack(entry.key_type, entry.key)
            _codecs_cy.verify(entry.kind, entry.value)
        except MapCorrupted as error:
            found.append(f"V1: {error}")
    return found


COMMANDS = (
    named.Command("check", "check a map without a lock; see fsck for repairs", add_command,
                  ("shmmap check pages", "shmmap check pages --json")),
)
