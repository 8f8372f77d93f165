"""`shmmap get`, `ttl`, `keys` and `scan`: look at entries of a map, without joining it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..errors import ShmMapError
from ..memory.layout import constants
from ..printable import printable
from . import findings, json_out, keys_written, named
from .map_reading import MapReader, find_usable
from .shard_reading import Entry, Picks
from .shown import Shown, key_shown, value_shown

K = constants()
_CELL = 200  # characters of a value in a line of scan


def _add_unpickle(command: argparse.ArgumentParser) -> None:
    command.add_argument("--unpickle", action="store_true", help="load pickles, too: this runs the "
                         "code of everybody who may write to the map")


def add_get(command: argparse.ArgumentParser) -> None:
    """Say what `get` takes."""
    json_out.add_look(command)
    keys_written.add_key(command)
    _add_unpickle(command)
    command.set_defaults(run=_get)


def add_ttl(command: argparse.ArgumentParser) -> None:
    """Say what `ttl` takes."""
    json_out.add_look(command)
    keys_written.add_key(command)
    command.set_defaults(run=_ttl)


def add_keys(command: argparse.ArgumentParser) -> None:
    """Say what `keys` takes."""
    json_out.add_look(command)
    _add_range(command)
    command.set_defaults(run=_keys)


def add_scan(command: argparse.ArgumentParser) -> None:
    """Say what `scan` takes."""
    json_out.add_look(command)
    _add_range(command)
    _add_unpickle(command)
    command.set_defaults(run=_scan)


def _add_range(command: argparse.ArgumentParser) -> None:
    command.add_argument("--prefix", metavar="P", help="only keys that are a str and begin so")
    command.add_argument("--limit", metavar="N", type=keys_written.count,
                         help="no more entries than this")


def open_reader(options: argparse.Namespace) -> MapReader:
    """Find the map that a command is about."""
    return MapReader(find_usable(options.name, options.engine, options.layout))


# -- one entry ----------------------------------------------------------------------------


def described(
    reader: MapReader | None, entry: Entry | None, unpickles: bool = False
) -> tuple[dict[str, Any], Shown | None]:
    """Return an entry as a part of what is printed as JSON, and its value as it reads."""
    if entry is None or reader is None:
        return {"found": False, "value": None, "ttl": None, "bytes": None, "version": None}, None
    shown = value_shown(entry, reader.codec, unpickles)
    return {
        "found": True, "value": shown.as_json(), "ttl": reader.left_s(entry),
        "bytes": entry.value_bytes, "version": entry.version,
    }, shown


def _get(options: argparse.Namespace) -> int:
    key = keys_written.read_key(options, options.key)
    reader = open_reader(options)
    entry = reader.find(key)
    fields, shown = described(reader, entry, options.unpickle)
    if options.as_json:
        json_out.show("get", name=options.name, **fields)
    elif shown is not None:
        print(shown.line())
    else:
        return _not_found(options)
    return int(entry is None)


def _ttl(options: argparse.Namespace) -> int:
    key = keys_written.read_key(options, options.key)
    reader = open_reader(options)
    entry = reader.find(key)
    left_s = None if entry is None else reader.left_s(entry)
    if options.as_json:
        json_out.show("ttl", name=options.name, found=entry is not None, ttl=left_s)
    elif entry is None:
        return _not_found(options)
    else:
        print(seconds(left_s))
    return int(entry is None)


def _not_found(options: argparse.Namespace) -> int:
    return findings.say(f"map {options.name!r} has no key {options.key!r}"
                        + (f" ({options.key_kind})" if options.key_kind != "text" else ""))


def seconds(left_s: float | None) -> str:
    """Write how long an entry has."""
    return keys_written.NEVER if left_s is None else f"{left_s:.2f}"


# -- many ---------------------------------------------------------------------------------


def starting_with(prefix: str | None) -> Picks:
    """Make what tells the keys that are wanted."""
    if prefix is None:
        return lambda key_type, key: True
    start, wanted = prefix.encode("utf-8", "surrogatepass"), K["KEY_STR"]
    return lambda key_type, key: key_type == wanted and key.startswith(start)


class _Listing:
    """A listing of a map, which goes on where an entry cannot be read, and then says so."""

    def __init__(self, options: argparse.Namespace, wants_values: bool) -> None:
        self.reader = open_reader(options)
        self.problems: list[str] = []
        self.count = 0
        self._options = options
        self._wants_values = wants_values

    def __iter__(self) -> Iterator[tuple[Entry, Shown, Shown | None]]:
        """Yield each entry, its key, and its value if that is wanted."""
        found = self.reader.entries(
            starting_with(self._options.prefix), self._wants_values, self._note)
        try:
            for entry in islice(found, self._options.limit):
                try:
                    shown = self._shown(entry)
                except ShmMapError as error:
                    self._note(error)
                    continue
                self.count += 1
                yield entry, *shown
        except (ShmMapError, OSError) as error:  # of the whole map
            self._note(error)

    def _shown(self, entry: Entry) -> tuple[Shown, Shown | None]:
        key = key_shown(entry.key_type, entry.key)
        if not self._wants_values:
            return key, None
        try:
            return key, value_shown(entry, self.reader.codec, self._options.unpickle)
        except ShmMapError as error:
            raise type(error)(f"key {key.line(_CELL)}: {error}") from None

    def _note(self, error: Exception) -> None:
        self.problems.append(str(error))

    def end(self) -> int:
        """Say what could not be read; return the exit code."""
        for problem in self.problems[:findings.SHOWN]:
            findings.say(problem)
        if len(self.problems) > findings.SHOWN:
            findings.say(f"and {len(self.problems) - findings.SHOWN:,} more: "
                         f"python -m shmmap check {self._options.name}")
        return int(bool(self.problems))


def _keys(options: argparse.Namespace) -> int:
    listing = _Listing(options, wants_values=False)
    if options.as_json:
        document = json_out.Listing("keys", name=options.name)
        document.show("keys", (key.as_json() for _, key, _ in listing))
        document.end(count=listing.count, problems=listing.problems)
        return int(bool(listing.problems))
    for _, key, _ in listing:
        print(key.line())
    return listing.end()


def _scan(options: argparse.Namespace) -> int:
    listing = _Listing(options, wants_values=True)
    if options.as_json:
        document = json_out.Listing("scan", name=options.name)
        document.show("entries", (
            {"key": key.as_json(), "ttl": listing.reader.left_s(entry), "bytes": entry.value_bytes,
             "version": entry.version, "value": value.as_json()}
            for entry, key, value in listing if value is not None
        ))
        document.end(count=listing.count, problems=listing.problems)
        return int(bool(listing.problems))
    print("KEY\tTTL\tBYTES\tTYPE\tVALUE")
    for entry, key, value in listing:
        assert value is not None
        print(key.line(), seconds(listing.reader.left_s(entry)), entry.value_bytes,
              printable(value.type), value.line(_CELL), sep="\t")
    return listing.end()


COMMANDS = (
    named.Command("get", "show the value of a key", add_get,
                  ("shmmap get pages user:7", "shmmap get pages --literal \"('user', 7)\" --json")),
    named.Command("keys", "list the keys of a map", add_keys,
                  ("shmmap keys pages --prefix user: --limit 20",)),
    named.Command("scan", "list entries: key, ttl, bytes, type, value", add_scan,
                  ("shmmap scan pages --limit 5", "shmmap scan pages --json | jq .entries[].key")),
    named.Command("ttl", "show the seconds that an entry has", add_ttl,
                  ("shmmap ttl pages user:7",)),
)
