"""`shmmap locks`: the named locks of a map, and who holds them. Read from outside.

`--break` frees one.

A lock lies under a digest of its key, from which nobody can tell the key. So keys are tried: those
that were given, those of the map, for a lock is mostly of one, and those of its tiers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..checks import Key
from ..locks.lock_table import FLIGHT, LOCK, OPEN, PERMIT, Record, name_of
from ..memory.geometry import LOCK_SLOTS
from ..memory.layout import constants
from ..values._keys_cy import pack
from ..values.more_keys import packed_key
from . import findings, inspection, json_out, keys_written, lock_breaking, named
from .entries import open_reader, seconds
from .map_reading import MapReader
from .shard_reading import Entry
from .shown import Shown, key_shown
from .tier_keys import lock_keys

K = constants()
SEARCHED = 100_000  # keys of the map at most
_KINDS = {LOCK: "lock", FLIGHT: "computing", PERMIT: "permit"}


class Held(NamedTuple):
    """A named lock that is held, or was.

    Attributes:
        kind: "lock"; "computing": of a value (get_or_set, cached); "permit": of a semaphore.
        digest: what it lies under.
        state: "held"; "abandoned": its holder is dead, and the next that wants it has it; "open":
            the result of that computing cannot be kept, so nobody waits for it; "damaged".
        pid: of the holder; None: it cannot be told, or there is none.
        held_s: seconds since it was taken.
        lease_s: seconds until it is free whatever its holder does; None: it has no lease.
        token: its fencing token.
        key: None: it is not known.
    """

    kind: str
    digest: str
    state: str
    pid: int | None
    held_s: float | None
    lease_s: float | None
    token: int
    key: Shown | None


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    command.description = __doc__
    json_out.add_look(command)
    command.add_argument("--key", metavar="KEY", action="append", default=[],
                         help="a key that one of them may be of; again for another one")
    keys_written.add_key_kinds(command)
    lock_breaking.add_options(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    """List the locks, or break some; return the exit code."""
    if options.breaks:
        return lock_breaking.run(options)
    if options.yes:
        raise keys_written.WrongUsage("--yes goes with --break: nothing else asks")
    given = [keys_written.read_key(options, text) for text in options.key]
    reader = open_reader(options)
    problems: list[str] = []
    locks = list(held_locks(reader, given, problems))
    if options.as_json:
        json_out.show("locks", name=options.name, problems=problems, locks=[
            {**one._asdict(), "key": None if one.key is None else one.key.as_json()}
            for one in locks
        ])
        return int(bool(problems))
    print("KIND\tSTATE\tPID\tHELD\tLEASE\tKEY")
    for one in locks:
        held = "-" if one.held_s is None else f"{one.held_s:.1f} s"
        lease = "-" if one.lease_s is None else seconds(one.lease_s) + " s"
        key = f"? ({one.digest})" if one.key is None else one.key.line()
        print(one.kind, one.state, one.pid or "-", held, lease, key, sep="\t")
    for problem in problems:
        findings.say(problem)
    return int(bool(problems))


def held_locks(reader: MapReader, given: Iterable[Key], problems: list[str]) -> Iterator[Held]:
    """Yield the named locks of a map, the longest held first."""
    def note(error: Exception) -> None:
        problems.append(str(error))

    entries = list(reader.named_locks(note))
    known = _keys_of({entry.key for entry in entries}, reader, given, note)
    found = [_described(reader, entry, known.get(entry.key)) for entry in entries]
    yield from sorted(found, key=lambda one: -(one.held_s or 0))


def _keys_of(
    names: set[bytes], reader: MapReader, given: Iterable[Key], note: Any
) -> dict[bytes, Shown]:
    """Find the keys of as many names as can be found."""
    found: dict[bytes, Shown] = {}
    for key in given:
        tried = [name_of(kind, key) for kind in (LOCK, FLIGHT)]
        tried += [name_of(PERMIT, key, number) for number in range(LOCK_SLOTS)]
        found.update((name, key_shown(*pack(key))) for name in tried if name in names)
    for number, entry in enumerate(reader.entries(lambda *of: True, False, note) if names else ()):
        if number == SEARCHED or len(found) == len(names):
            break
        theirs = lock_keys(entry.key_type, entry.key)
        for packed in ((entry.key_type, entry.key), *map(pack, theirs)):
            for name in {name_of(kind, packed_key(*packed)) for kind in (LOCK, FLIGHT)} & names:
                found[name] = key_shown(*packed)
    return found


def _described(reader: MapReader, entry: Entry, key: Shown | None) -> Held:
    """Describe one lock."""
    record = Record.unpack(entry.value)
    state, pid, held_s = "damaged", None, None
    if entry.value == OPEN:
        state = "open"
    elif record is not None:
        pid, lives = holder_of(reader, record)
        state = "held" if lives else "abandoned"
        held_s = max(0, reader.now_ns() - record.since_ns) / 1e9
    return Held(_KINDS.get(entry.key[:1], "?"), entry.key[1:].hex(), state, pid, held_s,
                reader.left_s(entry), entry.version, key)


def holder_of(reader: MapReader, record: Record) -> tuple[int | None, bool]:
    """Return the pid of a record's holder (None: it has no row any more), and whether it lives, as
    far as that can be told."""
    number = record.token >> K["TOKEN_ROW_SHIFT"]
    if number >= reader.control.ROWS:
        return None, False
    row = inspection.row_at(reader.control, number)
    incarnation = record.token >> K["TOKEN_INCARNATION_SHIFT"] & K["INCARNATION_MASK"]
    if not row.STATE or row.INCARNATION != incarnation:
        return None, False
    workers = reader.seen.workers
    return row.PID, workers is None or any(worker.row == number for worker in workers)


COMMANDS = (
    named.Command("locks", "list named locks: holder, since when, lease", add_command,
                  ("shmmap locks pages", "shmmap locks pages --key nightly",
                   "shmmap locks pages --break --key nightly")),
)
