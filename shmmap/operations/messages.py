"""Errors that need to know the map: who holds a lock, what would fit, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import EntryTooLarge, MapCorrupted, MapFull
from ..memory.geometry import slots_needed
from ..memory.words import ShardWords
from ..printable import printable
from ..shard import _status
from ..system import process

if TYPE_CHECKING:
    from ..shard._shard_cy import Shard
    from .host import Host, Readable

PIDS = 1 << 22  # no kernel gives a greater one


def place(host: Readable, shard: Shard) -> str:
    """Name a shard of a map."""
    which = getattr(host, "label", None) or f"shard {shard.number}"
    return f"map {host.name!r}, {which}"


def state_of(pid: int) -> str:
    """Say what a process is and does. Its name is its own choice: see `printable`."""
    try:
        name, state = process.name_and_state(pid)
        return f"{printable(name)}, {state}"
    except (FileNotFoundError, ProcessLookupError):
        return "not visible" if pid < PIDS and process.exists(pid) else "ending"
    except PermissionError:
        return "not visible"
    except OSError as error:  # no descriptor left: what is known is said all the same
        return f"not visible: {error.strerror}"


def describe_wait(host: Host, shard: Shard, waited_ns: int) -> str:
    """Say who holds a shard's lock, for how long at least, and what to do."""
    owner = shard.lock.owner()
    pid, is_ours = host.worker.pid_of(owner) if owner else (0, False)
    where = f"{place(host, shard)}: not free within {waited_ns / 1e9:g} s"
    if not pid:
        return f"{where}; it was just released, or goes round among many writers: try again, " \
               "raise lock_timeout=, or use more shards="
    if not is_ours:
        return (
            f"{where}; held by process {pid} (as its own pid namespace counts: it may be in a "
            "container) for at least that long; if it is stopped or makes no progress, continue "
            "or end it there: the next writer takes over. If it is only slow, raise "
            "lock_timeout= or use more shards="
        )
    state = state_of(pid)
    advice = (
        f"it is stopped: kill -CONT {pid} lets it finish, kill -KILL {pid} lets the next "
        "writer take over" if state.rpartition(", ")[2] == "stopped" else
        "if it makes no progress, end it: the next writer takes over. If it is only slow, "
        "raise lock_timeout= or use more shards="
    )
    return f"{where}; held by process {pid} ({state}) for at least that long; {advice}"


def _longer_than_planned(host: Readable, shard: Shard) -> str:
    """Say so if the entries of a full shard take more slots each than the map was laid out for."""
    said = getattr(host, "parameters", None)
    if said is None or {said.capacity, said.key_size, said.value_size} == {None}:
        return ""  # no lengths were planned with
    whole = getattr(shard.buffer, "octets", shard.buffer)  # of a Memory, in the pure engine
    with ShardWords(whole) as header:
        entries, used, free = header.ENTRIES, header.LIVE_BYTES, header.FREE_SLOTS
    shape = host.geometry
    key_size, value_size = said.lengths()
    planned = slots_needed(key_size + value_size, shape.slot_size)
    taken = (shape.slots - free) / entries if entries > 0 and free <= shape.slots else 0.0
    if taken <= planned:
        return ""
    return (
        f"Its {entries:,} entries have {used / entries:,.0f} bytes of key and value and take "
        f"{taken:.1f} slots of {shape.slot_size} bytes each, on average; it was laid out for "
        f"key_size={key_size} and value_size={value_size}, which take {planned}: a map made anew "
        "with a key_size= and value_size= that are as long as its keys and values are holds the "
        f"{f'capacity={said.capacity:,}' if said.capacity else 'number'} that it is meant to. "
    )


def _advice(host: Readable, data_bytes: int) -> str:
    """Say with what parameters a map would hold an entry of so many bytes."""
    said = getattr(host, "parameters", None)
    return "" if said is None else f"; {said.advice(data_bytes)}"


def error_for(host: Readable, status: int, shard: Shard, data_bytes: int) -> Exception:
    """Return the exception for a status of the shard."""
    where = place(host, shard)
    if status == _status.FULL:
        advice = (
            "the write said evict=False: without it, what is least worth keeping would have gone; "
            "or make it larger, while it is used (m.resize, or python -m shmmap resize)"
            if shard.evicts else
            "or make it larger, or have it evict, while it is used (m.resize(size=...) or "
            "m.resize(on_full=\"evict\"), or python -m shmmap resize)"
        )
        return MapFull(
            f"{where} has no room for {data_bytes:,} bytes more; nothing was changed. "
            f"{_longer_than_planned(host, shard)}Remove entries or give them a ttl; {advice}"
        )
    if status == _status.TOO_LARGE:
        return EntryTooLarge(
            f"{where} holds entries of at most {shard.max_bytes:,} bytes (key "
            f"and value), this one has {data_bytes:,}{_advice(host, data_bytes)}"
        )
    return MapCorrupted(
        f"{where}: its memory holds what no operation leaves. m.check() lists what; if it "
        "stays, dump what you can read, unlink the map and make it again"
    )
