"""`shmmap watch`: print the value of a key whenever it changes, until Ctrl+C.

The map is looked at from outside, ten times a second unless told otherwise: of several writes
between two looks the last one shows. A map that is replaced by one of the same name is followed.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from ..checks import Key
from ..errors import MapNotFound, MapUnlinked, ShmMapError
from ..printable import printable
from . import findings, json_out, keys_written, named, repeating
from .entries import described, open_reader
from .map_reading import MapReader

INTERVAL_S = 0.1
_MOST = 1000  # characters of an error
_Look = tuple[object, ...]


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    command.description = __doc__
    json_out.add_look(command)
    keys_written.add_key(command)
    command.add_argument("--unpickle", action="store_true", help="load pickles, too: this runs the "
                         "code of everybody who may write to the map")
    command.add_argument("--interval", metavar="S", type=repeating.interval, default=INTERVAL_S,
                         help=f"seconds between two looks; default {INTERVAL_S}")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    """Watch; return the exit code where there is no such map, or none any more."""
    key = keys_written.read_key(options, options.key)
    reader = open_reader(options)
    last: _Look | None = None
    for _ in repeating.looks(options.interval):
        try:
            try:
                look, fields, text = _look(reader, key, options.unpickle)
            except MapUnlinked:
                reader = open_reader(options)
                look, fields, text = _look(reader, key, options.unpickle)
        except MapNotFound as error:
            return findings.say(str(error))
        except ShmMapError as error:  # it may be in the making, or may be mended
            look, fields, text = _unreadable(error)
        if look != last:
            _tell(options, fields, text)
            last = look
    return 0


def _look(reader: MapReader, key: Key, unpickles: bool) -> tuple[_Look, dict[str, Any], str]:
    """Look at the entry once: what tells it from another one, and how it reads."""
    entry = reader.find(key)
    fields, shown = described(reader, entry, unpickles)
    look = (entry is None, *(() if entry is None else (entry.kind, entry.value)))
    return look, {**fields, "problem": None}, "<no entry>" if shown is None else shown.line()


def _unreadable(error: ShmMapError) -> tuple[_Look, dict[str, Any], str]:
    """Return what a look that failed shows."""
    fields, _ = described(None, None)
    text = printable(str(error), _MOST)
    return (text,), {**fields, "problem": text}, f"<not readable: {text}>"


def _tell(options: argparse.Namespace, fields: dict[str, Any], text: str) -> None:
    now = time.time()
    if options.as_json:
        json_out.show("watch", name=options.name, time=now, **fields)
    else:
        print(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)) + f".{now % 1 * 1e3:03.0f}",
              text, flush=True)


COMMANDS = (
    named.Command("watch", "print a key's value whenever it changes, until Ctrl+C", add_command,
                  ("shmmap watch pages user:7", "shmmap watch pages hits --interval 1 --json")),
)
