"""`shmmap stats` and `shmmap workers`: what a map is doing, and who uses it. Read from outside."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from ..lifecycle import control, lingering
from ..lifecycle.event_ring import read_counts
from ..lifecycle.stats import Stats
from ..lifecycle.timings import Histogram, in_units, read_timings
from ..memory.words import RowWords
from ..operations.messages import state_of
from ..system import liveness
from . import findings, inspection, json_out, named
from .map_reading import find_usable
from .seen import SeenMap, SeenWorker

PROCESS_S_OWN = ("sweep_failures", "uncached")  # of Stats: what only the process itself knows


def add_stats(command: argparse.ArgumentParser) -> None:
    """Say what `stats` takes."""
    json_out.add_look(command)
    command.set_defaults(run=_stats)


def add_workers(command: argparse.ArgumentParser) -> None:
    """Say what `workers` takes."""
    json_out.add_look(command)
    command.set_defaults(run=_workers)


# -- stats --------------------------------------------------------------------------------


def _stats(options: argparse.Namespace) -> int:
    seen = find_usable(options.name, options.engine, options.layout)
    figures, unread = stats_of(seen)
    if options.as_json:
        json_out.show("stats", name=options.name, **figures, unreadable_shards=unread)
        return int(bool(unread))
    for name, value in figures.items():
        print(f"{name:<18}{_in_words(value)}".rstrip())
    if unread:
        return findings.say(f"map {options.name!r}: {unread:,} shard(s) cannot be read, and are "
                            f"not in these figures: python -m shmmap check {options.name}")
    return 0


def stats_of(seen: SeenMap) -> tuple[dict[str, Any], int]:
    """Return a map's figures under the names of `Stats`, and how many shards are not in them."""
    assert seen.control is not None
    shards = inspection.shards_of(seen)
    sums = inspection.sums_of(shards)
    live_bytes = sums["live_bytes"]
    unsorted: dict[str, Any] = {
        **sums, **inspection.operations_of(seen.control),
        "entries": sum(shard.entries for shard in shards),
        "slots": sum(shard.shape.slots for shard in shards),
        "size_bytes": control.geometry_of(seen.control).total_bytes,
        "allocated_bytes": seen.allocated,
        "amplification": seen.allocated / live_bytes if live_bytes else None,
        "sweeps": seen.control.SWEEP_EPOCH,
        "workers": None if seen.workers is None else [worker.pid for worker in seen.workers],
        "shard_entries": [shard.entries for shard in shards],
        "taken_s": lingering.now_ns() / 1e9,
        "latency": [described(name, one) for name, one in read_timings(seen.control).items()],
        "events": [{"kind": kind, "count": count}
                   for kind, count in read_counts(seen.control).items()],
    }
    found = {name: unsorted[name] for name in Stats._fields if name not in PROCESS_S_OWN}
    return found, sum(shard.header is None for shard in shards)


def described(name: str, one: Histogram) -> dict[str, Any]:
    """Describe a histogram as it is printed as JSON."""
    return {"name": name, "count": one.total, "p50_s": one.percentile(50),
            "p99_s": one.percentile(99), "counts": list(one.counts)}


def latency_in_words(one: dict[str, Any]) -> str:
    """Say what such a description says."""
    if not one["count"]:
        return "-"
    return f"{one['count']:,}, 50 % within {in_units(one['p50_s'])}, 99 % within " + (
        in_units(one["p99_s"]))


def _in_words(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        if "kind" in value[0]:
            return ", ".join(f"{one['count']:,} {one['kind']}" for one in value if one["count"])
        return f"\n{'':18}".join(f"{one['name']}: {latency_in_words(one)}" for one in value)
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}"


# -- workers ------------------------------------------------------------------------------


def _workers(options: argparse.Namespace) -> int:
    seen = find_usable(options.name, options.engine, options.layout)
    if options.as_json:
        json_out.show("workers", name=options.name, is_known=seen.workers is not None,
                      workers=[one for _, one in workers_of(seen)])
        return int(seen.workers is None)
    if seen.workers is None:
        return findings.say(f"map {options.name!r}: its workers are not known: {seen.unknown}")
    print("PID\tROW\tSINCE\tHITS\tMISSES\tWRITES\tDELETES\tWAITS\tPROCESS")
    for worker, one in workers_of(seen):
        process = one["process"] or "of another pid namespace"
        print(worker.pid, worker.row, f"{one['joined_s']:.0f} s", *(
            f"{one[name]:,}" for name in ("hits", "misses", "writes", "deletes", "waits")
        ), process, sep="\t")
    return 0


def workers_of(seen: SeenMap) -> Iterator[tuple[SeenWorker, dict[str, Any]]]:
    """Describe the live workers of a map, as they are printed as JSON."""
    assert seen.control is not None
    now_ns = lingering.now_ns()
    for worker in seen.workers or ():
        row: RowWords = inspection.row_at(seen.control, worker.row)
        yield worker, {
            "pid": worker.pid, "row": worker.row,
            "is_of_this_pid_namespace": worker.namespace_is_ours,
            "process": state_of(worker.pid) if worker.namespace_is_ours else None,
            "joined_s": max(0, now_ns - row.JOINED_NS) / 1e9,
            **{name: row[counter] for name, (counter, _) in liveness.COUNTERS.items()},
        }


COMMANDS = (
    named.Command("stats", "show a map's figures: entries, hits, bytes, repairs", add_stats,
                  ("shmmap stats pages", "shmmap stats pages --json | jq .hits")),
    named.Command("workers", "list the processes that use a map, and what each has done",
                  add_workers, ("shmmap workers pages",)),
)
