"""`shmmap ls`: every map of this machine, and what dead processes left."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from ..lifecycle import control
from ..lifecycle.names import namespace_of
from . import findings, inspection, json_out, named, overview, repeating
from .inspection import SeenMap

EVERY_S = 2.0  # of --watch
_READABLE = ("ready", inspection.LINGERS, "abandoned")


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    command.add_argument("--watch", metavar="S", type=repeating.interval, nargs="?", const=EVERY_S,
                         help=f"look again every so many seconds ({EVERY_S:g}), until Ctrl+C")
    command.add_argument("--names", action="store_true", help="only the names, one a line")
    json_out.add_option(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    """List the maps once, or again and again; return the exit code."""
    if options.watch is None:
        return _list(options)
    for number in repeating.looks(options.watch):
        repeating.clear_screen()
        if number and not options.as_json:
            print()
        _list(options)
        if sys.stdout is not None:  # a pipe's reader wants it now
            sys.stdout.flush()
    return 0


def _list(options: argparse.Namespace) -> int:
    seen = inspection.find_maps()
    if options.as_json:
        json_out.show("ls", maps=[as_json(one) for one in seen])
        return 0
    if options.names:
        for name in dict.fromkeys(one.name for one in seen):
            print(name)
        return 0
    if not seen:
        print("no maps")
        return 0
    _table(seen)
    return 0


def as_json(one: SeenMap) -> dict[str, Any]:
    """Describe a map as it is printed as JSON."""
    entries = size = unread = None
    moving = ""
    if one.state in _READABLE and one.control:
        shards = inspection.shards_of(one)
        unread = sum(shard.header is None for shard in shards)
        entries = None if unread else sum(shard.entries for shard in shards)
        size = control.geometry_of(one.control).total_bytes
        moving = inspection.move_in_words(one.control)
    return {
        "name": one.name, "state": one.state, "problem": one.problem or None,
        "is_leftover": one.leftover, "engine": overview.engine_of(one),
        "layout": overview.layout_of(one), "entries": entries, "unreadable_shards": unread,
        "size_bytes": size, "allocated_bytes": one.allocated, "moving": moving or None,
        "workers": None if one.workers is None else [worker.pid for worker in one.workers],
        "owner": findings.user_name(one.owner), "uid": one.owner,
    }


def _table(seen: Sequence[SeenMap]) -> None:
    """Print the maps, those of one namespace together."""
    heads = ("NAME", "STATE", "ENGINE", "LAYOUT", "ENTRIES", "SIZE", "ALLOCATED", "WORKERS",
             "OWNER")
    hidden: list[str] = []
    table = [heads, *(_row(one, hidden) for one in seen)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    namespace = None  # maps of one are together, between empty lines
    for row in table:
        if row is not heads and namespace_of(row[0]) != namespace:
            if namespace is not None:
                print()
            namespace = namespace_of(row[0])
        cells = [
            cell.rjust(width) if 3 <= place <= 7 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    for one in seen:
        if one.problem:
            print(f"{one.label}: {one.problem}")
    for line in hidden:
        print(line)
    left = [one for one in seen if one.leftover and os.geteuid() in (0, one.owner)]
    if left:
        print(f"remove the leftovers with: {findings.unlink_command(left)}")


def _row(one: SeenMap, hidden: list[str]) -> tuple[str, ...]:
    """Return the cells of a map; add a line to `hidden` where not all of them can be told."""
    state = f"{one.state} (leftover)" if one.leftover else one.state
    entries = size = "-"
    engine, layout = overview.engine_of(one) or "-", str(overview.layout_of(one) or "-")
    if one.state in _READABLE and one.control:
        shards = inspection.shards_of(one)
        entries = f"{sum(shard.entries for shard in shards):,}"
        if bad := [shard for shard in shards if shard.header is None]:
            entries = "?"
            hidden.append(f"{one.label}: {len(bad):,} of {len(shards):,} shards not readable, the "
                          f"first: {bad[0].problem}")
        size = findings.human(control.geometry_of(one.control).total_bytes)
        if moving := inspection.move_in_words(one.control):
            hidden.append(f"{one.label}: moving {moving}")
    count = "-" if one.workers is None else str(len(one.workers))
    return (
        one.name, state, engine, layout, entries, size, findings.human(one.allocated), count,
        findings.user_name(one.owner),
    )


COMMANDS = (
    named.Command("ls", "list every map, and what dead processes left", add_command,
                  ("shmmap ls", "shmmap ls --watch 5", "shmmap ls --json | jq .maps[].name")),
)
