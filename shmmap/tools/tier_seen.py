"""`shmmap tier`: how fresh the copies are that a `Tiered` has in a map. Read from outside: the
store is not asked. See docs/design/tiers.md for the three times."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..errors import ShmMapError
from ..locks.lock_table import LOCK, Record, name_of
from ..printable import printable
from ..tiers.freshness import NEVER, known_in
from ..values._keys_cy import unpack
from . import findings, json_out, named
from .entries import open_reader
from .lock_list import holder_of
from .map_reading import MapReader
from .shard_reading import Entry
from .shown import plain_value
from .tier_keys import feed_key, is_state


class SeenTier(NamedTuple):
    """What a map says of one tier's copies.

    Attributes:
        store, prefix: what it is a tier of.
        is_known: whether anything is known of the copies in this very map; else the times are None.
        since_s: for so many seconds every change was told of; None: none is, or nobody listens yet.
        proven_s: so many seconds ago all that had changed by then had been taken out; None: never.
        floor_s: what was asked for more than so many seconds ago is given to nobody.
        listener: the pid of the process that hears what changes; None: there is none just now.
    """

    store: str
    prefix: str
    is_known: bool
    since_s: float | None
    proven_s: float | None
    floor_s: float | None
    listener: int | None


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    command.description = __doc__
    json_out.add_look(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    """Show each tier; return the exit code."""
    problems: list[str] = []
    reader = open_reader(options)
    tiers = list(_tiers(reader, problems))
    if options.as_json:
        json_out.show("tier", name=options.name, tiers=[one._asdict() for one in tiers],
                      problems=problems)
        return int(bool(problems) or not tiers)
    for one in tiers:
        print(printable(f"{one.store}, prefix {one.prefix!r}", 1000))
        for name, value in one._asdict().items():
            if name.endswith("_s"):
                print(f"  {name[:-2]:<10}{'-' if value is None else f'{value:.3f} s ago'}")
        print(f"  listener  {'nobody' if one.listener is None else f'pid {one.listener}'}")
        if not one.is_known:
            print("  nothing is known of the copies in this map: the store is asked")
    for problem in problems:
        findings.say(problem)
    if not tiers:
        findings.say(f"map {options.name!r}: no tier has anything to say of copies in it")
    return int(bool(problems) or not tiers)


def _tiers(reader: MapReader, problems: list[str]) -> Iterator[SeenTier]:
    """Yield what a map says of its tiers."""
    def note(error: Exception) -> None:
        problems.append(str(error))

    holders = {entry.key: entry for entry in reader.named_locks(note)}
    for entry in reader.entries(is_state, True, note):
        try:
            key: Any = unpack(entry.key_type, entry.key)
            found = plain_value(entry, reader.codec)
        except ShmMapError as error:
            note(error)
            continue
        if isinstance(key, tuple) and len(key) == 3 and _is_owner(key[2]):
            feed = holders.get(name_of(LOCK, feed_key(entry.key_type, entry.key)))
            yield _tier(reader, key[2], found, feed)


def _is_owner(owner: object) -> bool:
    return isinstance(owner, tuple) and [type(part) for part in owner] == [str, str]


def _tier(reader: MapReader, owner: Any, found: Any, feed: Entry | None) -> SeenTier:
    """Describe a tier; see `tiers.freshness` for what was found. `feed`: the lock of the process
    that listens."""
    now_ns = reader.now_ns()

    def ago(time_ns: int) -> float | None:
        return None if time_ns in (0, NEVER) else (now_ns - time_ns) / 1e9

    record = Record.unpack(feed.value) if feed else None
    listener, lives = holder_of(reader, record) if record else (None, False)
    known = known_in(found, reader.control.NONCE)
    since, proven, floor = map(ago, known) if known else (None, None, None)
    store, prefix = owner
    return SeenTier(store, prefix, known is not None, since, proven, floor,
                    listener if lives else None)


COMMANDS = (
    named.Command("tier", "show how fresh the copies of a Tiered are in its map", add_command,
                  ("shmmap tier near", "shmmap tier near --json | jq .tiers[].proven_s")),
)
