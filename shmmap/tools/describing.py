"""`shmmap info`: one map, its parameters, layout, operations, balance and workers."""

from __future__ import annotations

import argparse
from typing import Any

from ..lifecycle import control
from ..lifecycle.parameters import argument, as_text
from ..lifecycle.timings import read_timings
from ..memory.layout import LAYOUT_VERSION
from ..operations.messages import state_of
from ..printable import printable
from ..system import segment
from . import figures, findings, happenings, inspection, json_out, listing, named, unlinking
from .inspection import SeenMap, SeenWorker


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    json_out.add_look(command)
    command.set_defaults(run=_run)


def as_json(one: SeenMap) -> dict[str, Any]:
    """Describe a map as it is printed as JSON."""
    assert one.control is not None
    return {
        **listing.as_json(one), "nonce": f"{one.control.NONCE:016x}",
        "objects": len(one.objects), "parameters": parameters_of(one),
        "geometry": geometry_of(one), "stats": figures.stats_of(one)[0],
    }


def parameters_of(one: SeenMap) -> dict[str, Any]:
    """Return what a map was made with, under the names of ShmMap's arguments; times in seconds."""
    assert one.control is not None
    return {
        argument(field): (value / 1e9 if value else None) if field.endswith("_ns") else value
        for field, value in inspection.parameters_of(one.control)._asdict().items()
        if field not in ("shards", "hash_seed")
    }


def geometry_of(one: SeenMap) -> dict[str, int]:
    """Return the shape that a map has, or is moving to."""
    assert one.control is not None
    shape = control.geometry_of(one.control)
    return {"shards": shape.shards, "slots": shape.slots, "slot_size": shape.slot_size,
            "buckets": shape.buckets, "max_entry_bytes": shape.max_entry_bytes}


def _run(options: argparse.Namespace) -> int:
    """Show a map; return the exit code."""
    found = seen = inspection.find_maps(options.name)
    if options.engine or options.layout is not None:
        seen = unlinking.chosen(found, options.engine, options.layout)
    if not seen:
        return findings.say(findings.no_map(options.name, found))
    one = seen[0]
    if one.state not in ("ready", inspection.LINGERS):
        return findings.say(f"map {one.label!r} is {one.state}: {one.problem}")
    if options.as_json:
        json_out.show("info", **as_json(one), others=[other.label for other in seen[1:]])
        return 0
    for other in seen[1:]:
        print(f"there is another map of that name: {other.label}")
    for title, lines in (
        (f"map {one.name}", _about(one)), ("parameters", _parameters(one)),
        ("layout", _layout(one)), ("operations by all workers", _operations(one)),
        ("how long they took", _latency(one)),
        ("shards", _balance(one)), ("workers", _workers(one)),
        ("last events", _events(one)),
    ):
        print(title)
        for name, value in lines:
            print(f"  {name:<16}{value}".rstrip())
    return 0


_Lines = list[tuple[str, object]]
_EVENTS = 8  # of the last ones


def _about(one: SeenMap) -> _Lines:
    assert one.control is not None
    return [
        ("owner", findings.user_name(one.owner)),
        ("engine", control.ENGINES[one.control.ENGINE]),
        ("nonce", f"{one.control.NONCE:016x}"),
        ("objects", f"{len(one.objects):,} in {segment.SHM_DIRECTORY}"),
        ("size", f"{control.geometry_of(one.control).total_bytes:,} bytes at most"),
        ("allocated", f"{one.allocated:,} bytes now"),
    ]


def _parameters(one: SeenMap) -> _Lines:
    assert one.control is not None
    lines: _Lines = []
    for field, value in inspection.parameters_of(one.control)._asdict().items():
        if field not in ("shards", "hash_seed"):
            text = as_text(field, value)
            without = "none" if field.endswith("_ns") else "not said"
            lines.append((argument(field), without if text is None else text))
    return lines


def _layout(one: SeenMap) -> _Lines:
    assert one.control is not None
    shape = control.geometry_of(one.control)
    moving = inspection.move_in_words(one.control)
    return [
        ("version", LAYOUT_VERSION), ("shards", f"{shape.shards:,}"),
        *([("moving", moving)] if moving else []),
        ("slots a shard", f"{shape.slots:,} of {shape.slot_size:,} bytes"),
        ("buckets a shard", f"{shape.buckets:,}"),
        ("largest entry", f"{shape.max_entry_bytes:,} bytes of key and value"),
    ]


def _operations(one: SeenMap) -> _Lines:
    assert one.control is not None
    lines: _Lines = [
        (name.replace("_", " "), f"{count:,}")
        for name, count in inspection.counters_of(one.control).items()
    ]
    return [*lines, ("sweeps", f"{one.control.SWEEP_EPOCH:,}")]


def _latency(one: SeenMap) -> _Lines:
    assert one.control is not None
    return [(name.replace("_", " "), figures.latency_in_words(figures.described(name, timed)))
            for name, timed in read_timings(one.control).items()]


def _events(one: SeenMap) -> _Lines:
    found = happenings.events_of(one)[-_EVENTS:]
    return [("", happenings.in_words(event)) for event in found] or [("none", "")]


def _balance(one: SeenMap) -> _Lines:
    assert one.control is not None
    shards = inspection.shards_of(one)
    sums = inspection.sums_of(shards)
    entries = sorted((shard.entries, shard.generation, shard.number) for shard in shards)
    used = sum(max(0, shard.shape.slots - shard.header.FREE_SLOTS)
               for shard in shards if shard.header)
    total = sum(shard.shape.slots for shard in shards)
    bad = [shard for shard in shards if shard.header is None]
    is_moving = len({shard.generation for shard in shards}) > 1

    def label(generation: int, number: int) -> str:
        return f"{generation}.{number}" if is_moving else str(number)

    (least, *lowest), (most, *highest) = entries[0], entries[-1]
    return [
        ("entries", f"{sum(count for count, _, _ in entries):,}"),
        ("live bytes", f"{sums['live_bytes']:,} of keys and values, expired ones included"),
        ("slots used", f"{used:,} of {total:,} ({used / total:.1%})"),
        ("balance", f"least {least:,} (shard {label(*lowest)}), "
                    f"median {entries[len(entries) // 2][0]:,}, "
                    f"most {most:,} (shard {label(*highest)})"),
        ("removed", f"{sums['evicted']:,} evicted, {sums['expired']:,} expired, "
                    f"{sums['aged']:,} by age"),
        ("repairs", f"{sums['repairs']:,}"),
        *([("not readable", ", ".join(f"{label(one.generation, one.number)} ({one.problem})"
                                      for one in bad))] if bad else []),
    ]


def _workers(one: SeenMap) -> _Lines:
    if one.workers is None:
        return [("not known", printable(one.unknown))]
    if not one.workers:
        return [("none", "")]
    return [(f"row {worker.row}", _describe(worker)) for worker in one.workers]


def _describe(worker: SeenWorker) -> str:
    if not worker.namespace_is_ours:
        return f"pid {worker.pid} of another pid namespace"
    name, found, state = state_of(worker.pid).rpartition(", ")
    return f"pid {worker.pid}  {name}  {state}" if found else f"pid {worker.pid}  ({state})"


COMMANDS = (
    named.Command("info", "show one map: parameters, sizes, workers, balance", add_command,
                  ("shmmap info pages", "shmmap info pages --json | jq .parameters")),
)
