"""What `inspection` finds: a map as seen from outside, its shards and workers."""

from __future__ import annotations

from typing import NamedTuple

from ..memory.words import ControlWords, ShardWords


class SeenWorker(NamedTuple):
    """A live worker: its row, its pid (as its own namespace counts), whether that is ours."""

    row: int
    pid: int
    namespace_is_ours: bool


class SeenShard(NamedTuple):
    """A shard's header; `entries` are the live ones, `header` is None if it is not readable:
    `problem` says why."""

    number: int
    entries: int
    header: ShardWords | None
    problem: str = ""


class SeenMap(NamedTuple):
    """A map, or what is left of one.

    `workers` is None where nothing can be known about them, and `unknown` says why; `leftover`
    means that no process can ever use it again as it is; `problem` says why it cannot be read or
    used, "" for none.
    """

    name: str
    objects: tuple[str, ...]
    allocated: int
    owner: int
    state: str
    problem: str
    leftover: bool
    control: ControlWords | None
    workers: tuple[SeenWorker, ...] | None
    unknown: str = ""
