"""What the tuner of the shard count sees of a map, and what comes of its decisions.

`consider` is called after each round of the sweeper, by the process that has swept.

**Locks**: none. Counters are read while others count: a round that cannot be is passed over.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import SharedMemoryFull, ShmMapError
from ..lifecycle.gates import is_on
from ..lifecycle.stats import WAITS
from ..memory.table import generation_of, read_table
from ..memory.words import ShardWords
from ..system.presences import alive
from .fitting import count_need
from .resizing import resize as move
from .tuning import DEFAULTS, AutoShards, Decision, Observation, Tuner
from .wish import plan_wish

if TYPE_CHECKING:
    from ..copies.hosts import OpenMap
    from ..lifecycle.attachment import Attachment

    Resizer = Callable[[int, int | None], object]

GATE = "auto-shards"
_ROOM = 8  # times its longest entry, in a shard that is smaller than what a map had before


def observe(attached: Attachment) -> Observation:
    """Look at a map: one pass over the rows of workers and the headers of shards. Takes no lock."""
    control = attached.control
    table, generation = read_table(control), generation_of(control)
    number, shards, slots = generation.NUMBER, generation.SHARDS, generation.SLOTS
    changed_ns, free, waits = control.MOVER_BEAT_NS, 0, []
    for mapping in attached.mappings:
        with ShardWords(mapping.buffer) as header:
            waits.append(tuple([header[word] for word in WAITS]))
            free += header.FREE_SLOTS
    totals = attached.worker.totals()
    changes = totals["writes"] + totals["deletes"] + totals["locked_reads"]
    return Observation(
        attached.clock.now_ns(), totals["hits"] + totals["misses"] + changes, changes,
        tuple(waits), max(0, shards * slots - free), shards * slots, shards, number,
        table.is_moving or read_table(control) != table or len(waits) != shards, changed_ns,
    )


def refusal_of(m: OpenMap, attached: Attachment, shards: int) -> str:
    """Say why a map cannot have so many shards with the size that it has; "": it can.

    The longest entry that it has must have room in a shard, and one eight times as long as well
    where more shards are asked for: the next one may be longer. A map that does not evict must have
    room for all. Looks at every entry; takes no lock. Raises MapClosed, MapUnlinked, MapCorrupted.
    """
    asked = attached.parameters._replace(shards=shards)
    try:
        shape = plan_wish(attached, asked).shape
    except (ValueError, SharedMemoryFull) as error:
        return str(error)
    need = count_need(m, shape.slot_size, shape.max_entry_bytes)
    longest = max(sum(asked.lengths()), need.longest)
    if shape.max_entry_bytes < longest * (_ROOM if shards > attached.geometry.shards else 1):
        return (f"one of {shards} shards would have room for an entry of {shape.max_entry_bytes:,} "
                f"bytes, and the map has one of {longest:,}, or was made for such")
    if shape.evicts or need.fits(shape):
        return ""
    return (f"one of {shards} shards would need {max(need.by_shard(shards)):,} slots and one in "
            f"reserve, and would have {shape.slots:,}")


class _Looked:
    """What this process has seen of a map so far."""

    def __init__(self) -> None:
        self.tuner = Tuner()
        self.last: Observation | None = None


_looked: weakref.WeakKeyDictionary[Attachment, _Looked] = weakref.WeakKeyDictionary()


def settings_of(attached: Attachment) -> AutoShards:
    """Return what the handles of this process say, the first that says anything; the defaults
    where none does."""
    for handle in alive(attached.handles):
        said = handle._request.auto_shards
        if isinstance(said, AutoShards):
            return said
    return DEFAULTS


def consider(attached: Attachment, m: OpenMap, resize: Resizer | None = None) -> Decision | None:
    """Look at a map after a round of its sweeper, and have its number of shards changed if that is
    called for. By the process that has swept it, in the task that did.

    Args:
        attached: the map.
        m: one of this process's handles on it.
        resize: begins to move the map to so many shards, at most so many entries a second (None:
            no limit); None: as `m.resize` does in the background. What it raises of ShmMapError or
            ValueError is logged; the pause goes on.

    Returns:
        What was decided; None: the gate is off, or no other process can have the map. With
        `dry_run` it is what would have been done.
    """
    if attached.is_private or not is_on(attached.control.FEATURES, GATE):
        _looked.pop(attached, None)  # switched on again, it begins anew
        return None
    state = _looked.setdefault(attached, _Looked())
    said = state.tuner.settings = settings_of(attached)
    current = observe(attached)
    decision = state.tuner.decide(
        state.last, current, lambda shards: refusal_of(m, attached, shards)
    )
    state.last = current
    logger, what = logging.getLogger("shmmap"), f"{GATE}: map {m.name!r}"
    if decision.shards is None:
        logger.debug("%s stays with %d shards: %s", what, current.shards, decision.why)
        return decision
    logger.info("%s %s from %d to %d shards: %s", what, "would go" if said.dry_run else "goes",
                current.shards, decision.shards, decision.why)
    if not said.dry_run:
        try:
            if resize is not None:
                resize(decision.shards, said.rate)
            else:
                move(m, attached, {"shards": decision.shards}, said.rate, None, wait=False)
        except (ShmMapError, ValueError) as error:
            logger.warning("%s could not go to %d shards: %s", what, decision.shards, error)
    return decision
