"""The maps of this machine, for a prompt: what `shmmap ls` prints, as objects."""

from __future__ import annotations

from typing import NamedTuple

from .._public import public
from ..lifecycle import control
from ..printable import human
from . import findings, inspection
from .seen import SeenMap


@public
class MapInfo(NamedTuple):
    """A map, as `maps()` found it.

    Attributes:
        name: its name; that of `ShmMap.attach(name)`.
        state: "ready", or what is wrong with it, as `shmmap ls` says it.
        entries: live entries; None: that cannot be read.
        size: bytes that it can take at most; None: that cannot be read.
        allocated: bytes that it takes now.
        engine: "compiled" or "pure", which made it; None: that cannot be read. Maps of one name
            that two engines or two versions made are two maps.
        layout: the version of the memory layout; None: that cannot be read.
        workers: pids of the live processes that use it; None: that cannot be found out.
        owner: the user whose map it is.
    """

    name: str
    state: str
    entries: int | None
    size: int | None
    allocated: int
    engine: str | None
    layout: int | None
    workers: tuple[int, ...] | None
    owner: str


class Maps(list[MapInfo]):
    """A list of maps that prints as a table."""

    def __repr__(self) -> str:
        heads = ("NAME", "STATE", "ENGINE", "LAYOUT", "ENTRIES", "SIZE", "ALLOCATED", "WORKERS",
                 "OWNER")
        table = [heads, *map(_cells, self)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        )
        return "\n".join(lines) if self else "no maps"


def maps() -> Maps:
    """List the maps of this machine: see MapInfo. Opens none of them, and takes no lock.

    >>> with shmmap.ShmMap("doctest", size="1MB", ephemeral=True) as m:
    ...     m["a"] = 1
    ...     [(one.name, one.entries) for one in shmmap.maps() if one.name == "doctest"]
    [('doctest', 1)]
    """
    return Maps(map(_info, inspection.find_maps()))


def _info(one: SeenMap) -> MapInfo:
    entries = size = None
    if one.control is not None and one.state in ("ready", "abandoned"):
        size = control.geometry_of(one.control).total_bytes
        shards = inspection.shards_of(one)
        if all(shard.header is not None for shard in shards):
            entries = sum(shard.entries for shard in shards)
    workers = None if one.workers is None else tuple(worker.pid for worker in one.workers)
    return MapInfo(one.name, one.state, entries, size, one.allocated,
                   engine_of(one), layout_of(one), workers,
                   findings.user_name(one.owner))


def engine_of(one: SeenMap) -> str | None:
    """Tell which engine made a map, as far as anything says it."""
    return None if one.state == "parts" else one.actual.engine or None


def layout_of(one: SeenMap) -> int | None:
    """Tell of which layout version a map is, as far as anything says it."""
    return None if one.state == "parts" else one.actual.layout or None


def _cells(one: MapInfo) -> tuple[str, ...]:
    return (
        one.name, one.state, one.engine or "?", str(one.layout or "?"),
        "?" if one.entries is None else f"{one.entries:,}",
        "?" if one.size is None else human(one.size), human(one.allocated),
        "?" if one.workers is None else str(len(one.workers)), one.owner,
    )
