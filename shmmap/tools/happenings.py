"""`shmmap events`: what has happened to maps, from the ring of each. Read from outside."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from typing import Any

from ..errors import MapNotFound, ShmMapError
from ..lifecycle.event_ring import Event, read_events
from ..memory.events import NUMBERS
from . import findings, json_out, named, repeating
from .map_reading import find_usable
from .seen import SeenMap

INTERVAL_S = 0.25


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    json_out.add_look(command)
    command.add_argument("--kind", choices=sorted(NUMBERS), help="of this kind only")
    command.add_argument("--follow", action="store_true",
                         help="go on with what comes, until Ctrl+C")
    command.add_argument("--interval", metavar="S", type=repeating.interval, default=INTERVAL_S,
                         help=f"with --follow: seconds between two looks; default {INTERVAL_S}")
    command.set_defaults(run=_run)


def events_of(seen: SeenMap, after: int = 0) -> list[Event]:
    """Return the events in a map's ring: of those numbers after one."""
    assert seen.control is not None
    return read_events(seen.control, after)


def as_json(event: Event) -> dict[str, Any]:
    """Describe an event as it is printed as JSON."""
    return {**event._asdict(), "text": event.text}


def in_words(event: Event) -> str:
    """Say an event in a line."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
    return f"{when}.{event.time % 1 * 1e3:03.0f}  {event.kind:<12} pid {event.pid:<8} {event.text}"


def _run(options: argparse.Namespace) -> int:
    """Show them; return the exit code."""
    seen = find_usable(options.name, options.engine, options.layout)
    if not options.follow:
        found = list(_wanted(options, events_of(seen)))
        if options.as_json:
            json_out.show("events", name=options.name, events=[as_json(one) for one in found])
        else:
            for one in found:
                print(in_words(one))
        return 0
    assert seen.control is not None
    nonce, last = seen.control.NONCE, 0
    for _ in repeating.looks(options.interval):
        try:
            seen = find_usable(options.name, options.engine, options.layout)
        except MapNotFound as error:
            return findings.say(str(error))
        except ShmMapError:  # it may be in the making
            continue
        assert seen.control is not None
        if seen.control.NONCE != nonce:  # another map has the name now
            nonce, last = seen.control.NONCE, 0
        new = events_of(seen, last)
        last = new[-1].number if new else last
        for one in _wanted(options, new):
            if options.as_json:
                json_out.show("events", name=options.name, **as_json(one))
            else:
                print(in_words(one), flush=True)
    return 0


def _wanted(options: argparse.Namespace, found: Iterable[Event]) -> Iterable[Event]:
    return (one for one in found if options.kind in (None, one.kind))


COMMANDS = (
    named.Command("events", "list what has happened to a map: takeovers, repairs, full, ...",
                  add_command, ("shmmap events pages", "shmmap events pages --follow",
                                "shmmap events pages --kind takeover --json")),
)
