"""`shmmap set`, `del`, `touch`, `clear` and `sweep`: change a map, as one more of its workers.

Unlike the commands that look, these join the map: they need its engine, and its owner's rights,
and take its locks as every worker does.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..map import ShmMap
from ..operations._writes_cy import DEFAULT
from . import findings, keys_written, named, unlinking


def _add_set(command: argparse.ArgumentParser) -> None:
    named.add_name(command)
    keys_written.add_key(command, beside_value=True)
    keys_written.add_value(command)
    command.add_argument("--ttl", metavar="S", type=keys_written.ttl, default=DEFAULT,
                         help="seconds, or never; default: the map's own")
    command.set_defaults(run=_set)


def _add_del(command: argparse.ArgumentParser) -> None:
    named.add_name(command)
    keys_written.add_key(command, nargs="+")
    command.set_defaults(run=_del)


def _add_touch(command: argparse.ArgumentParser) -> None:
    named.add_name(command)
    keys_written.add_key(command)
    command.add_argument("--ttl", metavar="S", type=keys_written.ttl, required=True,
                         help="seconds from now on, or never")
    command.set_defaults(run=_touch)


def _add_clear(command: argparse.ArgumentParser) -> None:
    named.add_name(command)
    command.add_argument("--prefix", metavar="P", help="only entries whose key is a str that "
                         "begins so")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.set_defaults(run=_clear)


def _add_sweep(command: argparse.ArgumentParser) -> None:
    named.add_name(command)
    command.set_defaults(run=_sweep)


def _join(options: argparse.Namespace) -> ShmMap:
    return ShmMap.attach(options.name, **named.trusted(options.name))


def _set(options: argparse.Namespace) -> int:
    key = keys_written.read_key(options, options.key)
    value = keys_written.read_value(options)
    with _join(options) as m:
        try:
            m.set(key, value, options.ttl)
        except TypeError as error:  # a map with codec="safe" has no bytes for it
            return findings.say(f"map {options.name!r}: {error}")
    return 0


def _del(options: argparse.Namespace) -> int:
    keys = [keys_written.read_key(options, text) for text in options.key]
    with _join(options) as m:
        missing = [text for text, key in zip(options.key, keys, strict=True) if not m.delete(key)]
    for text in missing:
        findings.say(f"map {options.name!r} has no key {text!r}")
    return int(bool(missing))


def _touch(options: argparse.Namespace) -> int:
    key = keys_written.read_key(options, options.key)
    with _join(options) as m:
        if m.touch(key, options.ttl):
            return 0
    return findings.say(f"map {options.name!r} has no key {options.key!r}")


def _clear(options: argparse.Namespace) -> int:
    with _join(options) as m:
        keys: Any = None if options.prefix is None else list(m.keys(prefix=options.prefix))
        count = len(m) if keys is None else len(keys)
        which = "" if keys is None else f" whose keys begin with {options.prefix!r}"
        if count and not options.yes:
            if sys.stdin is None or not sys.stdin.isatty():
                return findings.say(f"nothing was removed: say --yes to remove {count:,} entries"
                                    f"{which} of map {options.name!r}")
            if not unlinking.agreed(f"Remove {count:,} entries{which} of map {options.name}? "
                                    "[y/N] "):
                print("nothing was removed")
                return 0
        if keys is None:
            m.clear()
            print(f"removed about {count:,} entries: all that there were")
        else:
            print(f"removed {m.delete_many(keys):,} entries")
    return 0


def _sweep(options: argparse.Namespace) -> int:
    with _join(options) as m:
        report = m.sweep()
    print(f"{report.expired:,} expired, {report.aged:,} by age, {report.dead_workers:,} rows and "
          f"{report.dead_locks:,} named locks of the dead ({report.seconds:.2f} s)")
    if report.busy_shards:
        return findings.say(f"{report.busy_shards:,} shard(s) were passed by: their locks were not "
                            "free. Try again")
    return 0


COMMANDS = (
    named.Command("set", "write an entry", _add_set,
                  ("shmmap set pages user:7 Ada --ttl 60",
                   "shmmap set pages user:7 '{\"name\": \"Ada\"}' --json",
                   "shmmap set pages logo - < logo.png")),
    named.Command("del", "remove entries", _add_del, ("shmmap del pages user:7 user:8",)),
    named.Command("touch", "give an entry another ttl", _add_touch,
                  ("shmmap touch pages user:7 --ttl 60", "shmmap touch pages user:7 --ttl never")),
    named.Command("clear", "remove all entries, or those whose keys begin alike", _add_clear,
                  ("shmmap clear pages --prefix user: --yes",)),
    named.Command("sweep", "remove what has expired now, and what the dead left", _add_sweep,
                  ("shmmap sweep pages",)),
)
