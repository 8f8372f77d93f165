"""Figures of this machine's maps for a monitoring system: which there are, and their text.

They are read as `shmmap ls` reads: from the files, without joining a map, a lock, or a trace. So a
map is the same whoever is asked: each worker of a web server may answer, and none of them has
figures of its own to be added up.

The text is OpenMetrics 1.0, which Prometheus and most others read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from math import inf
from typing import NamedTuple

from .._public import public
from ..errors import ShmMapError
from ..lifecycle import control
from ..lifecycle.event_ring import read_counts
from ..lifecycle.timings import EDGES_S, read_timings
from ..printable import printable
from . import findings, inspection, overview
from .seen import SeenMap, SeenShard

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_READABLE = ("ready", "abandoned", inspection.LINGERS)


class Family(NamedTuple):
    """Figures of one name. `kind`: "gauge"; or "counter", "histogram": these only rise."""

    name: str
    kind: str
    text: str
    unit: str = ""


class Sample(NamedTuple):
    """One figure of one map. `suffix`: of its name, beside the family's."""

    family: str
    labels: dict[str, str]
    value: float
    suffix: str = ""


FAMILIES = {family.name: family for family in (
    Family("shmmap_state", "gauge", "1: the map is in this state; see shmmap ls."),
    Family("shmmap_entries", "gauge", "Live entries."),
    Family("shmmap_shard_entries", "gauge", "Live entries of the fullest and the emptiest shard."),
    Family("shmmap_shards", "gauge", "Shards in all."),
    Family("shmmap_slots", "gauge", "Cells in all."),
    Family("shmmap_free_slots", "gauge", "Cells that are free."),
    Family("shmmap_size_bytes", "gauge", "The most that all objects together can take.", "bytes"),
    Family("shmmap_allocated_bytes", "gauge", "What they take now.", "bytes"),
    Family("shmmap_live_bytes", "gauge", "Key and value bytes of the entries.", "bytes"),
    Family("shmmap_workers", "gauge", "Live processes that use the map."),
    Family("shmmap_reads", "counter", "Reads, by whether they found an entry."),
    Family("shmmap_near_hits", "counter", "Hits that near caches answered."),
    Family("shmmap_writes", "counter", "Entries written."),
    Family("shmmap_deletes", "counter", "Entries deleted on request."),
    Family("shmmap_evicted", "counter", "Live entries removed for room."),
    Family("shmmap_expired", "counter", "Entries removed past their deadline."),
    Family("shmmap_aged", "counter", "Entries removed because they were not written for max_age."),
    Family("shmmap_lock_waits", "counter", "Lock acquisitions that had to wait."),
    Family("shmmap_takeovers", "counter", "Locks taken over from dead owners."),
    Family("shmmap_repairs", "counter", "Shards repaired."),
    Family("shmmap_read_retries", "counter", "Lock-free reads that started again."),
    Family("shmmap_locked_reads", "counter", "Reads that queued for the lock."),
    Family("shmmap_sweeps", "counter", "Whole sweeps."),
    Family("shmmap_events", "counter", "What has happened to it, by kind; see shmmap events."),
    Family("shmmap_latency_seconds", "histogram", "How long operations took: one in 1,024 reads "
           "and writes, and all waits for a lock, computations and snapshots.", "seconds"),
    Family("shmmap_unreadable_shards", "gauge", "Shards whose header is damaged or gone."),
)}
_COUNTED = ("near_hits", "writes", "deletes", "lock_waits", "takeovers", "read_retries",
            "locked_reads")
_SUMMED = ("live_bytes", "free_slots", "evicted", "expired", "aged", "repairs")


def samples(names: Iterable[str] = ()) -> Iterator[Sample]:
    """Yield the figures of these maps, or of all of this machine: see FAMILIES. Two maps of one
    name, of two engines or layouts, are told apart by labels."""
    for one in inspection.find_named(names):  # each once: a figure may be told once only
        yield from samples_of(one)


def samples_of(seen: SeenMap) -> Iterator[Sample]:
    """Yield the figures of one map."""
    labels = {"map": printable(seen.name), "engine": overview.engine_of(seen) or "unknown",
              "layout": str(overview.layout_of(seen) or "unknown"),
              "owner": findings.user_name(seen.owner)}

    def sample(name: str, value: float, **more: str) -> Sample:
        return Sample(f"shmmap_{name}", {**labels, **more}, value)

    yield sample("state", 1, state=seen.state)
    yield sample("allocated_bytes", seen.allocated)
    if seen.workers is not None:
        yield sample("workers", len(seen.workers))
    if seen.control is None or seen.state not in _READABLE:
        return
    try:
        counted = inspection.operations_of(seen.control)
        shards = inspection.shards_of(seen)
        size = control.geometry_of(seen.control).total_bytes
    except (ShmMapError, OSError):  # it went meanwhile
        return
    yield sample("size_bytes", size)
    yield sample("reads", counted["hits"], found="yes")
    yield sample("reads", counted["misses"], found="no")
    for name in _COUNTED:
        yield sample(name, counted[name])
    yield sample("sweeps", seen.control.SWEEP_EPOCH)
    for kind, count in read_counts(seen.control).items():
        yield sample("events", count, kind=kind)
    for name, one in read_timings(seen.control).items():
        sums = accumulate(one.counts)
        for edge_s, count in zip((*EDGES_S, inf), sums, strict=True):
            le = "+Inf" if edge_s == inf else repr(edge_s)
            yield sample("latency_seconds", count, operation=name, le=le)._replace(suffix="_bucket")
        yield sample("latency_seconds", one.total, operation=name)._replace(suffix="_count")
        yield sample("latency_seconds", one.seconds, operation=name)._replace(suffix="_sum")
    yield from (sample(name, value, **more) for name, value, more in _of_shards(shards))


def _of_shards(shards: list[SeenShard]) -> Iterator[tuple[str, int, dict[str, str]]]:
    readable = [shard for shard in shards if shard.header is not None]
    yield "unreadable_shards", len(shards) - len(readable), {}
    yield "entries", sum(shard.entries for shard in readable), {}
    yield "slots", sum(shard.shape.slots for shard in readable), {}
    sums = inspection.sums_of(shards)
    for name in _SUMMED:
        yield name, sums[name], {}
    yield "shards", len(shards), {}
    entries = [shard.entries for shard in readable]
    for which, of in (("fullest", max), ("emptiest", min)):
        yield "shard_entries", of(entries, default=0), {"which": which}


@public
def openmetrics(*names: str) -> str:
    """Return the figures of maps as OpenMetrics text, of CONTENT_TYPE.

    Takes no lock and opens no map, so any process may be asked; costs 0.1 ms and more a map, and
    as much a hundred shards.

    Args:
        names: of maps of this machine; none: all of them.

    >>> with shmmap.ShmMap("doctest", size="1MB", ephemeral=True) as m:
    ...     m["a"] = 1
    ...     print([line for line in shmmap.openmetrics("doctest").splitlines()
    ...            if line.startswith("shmmap_entries")][0][:29])
    shmmap_entries{map="doctest",
    """
    by_family: dict[str, list[Sample]] = {}
    for sample in samples(names):
        by_family.setdefault(sample.family, []).append(sample)
    lines = []
    for name, family in FAMILIES.items():
        lines += [f"# TYPE {name} {family.kind}"]
        lines += [f"# UNIT {name} {family.unit}"] if family.unit else []
        lines += [f"# HELP {name} {_escaped(family.text)}"]
        suffix = "_total" if family.kind == "counter" else ""
        for sample in by_family.get(name, ()):
            labels = ",".join(f'{key}="{_escaped(text)}"' for key, text in sample.labels.items())
            lines.append(f"{name}{suffix}{sample.suffix}{{{labels}}} {sample.value}")
    return "\n".join([*lines, "# EOF", ""])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
