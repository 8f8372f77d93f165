"""Beginning a change of the shape, taking it back, dropping it: what changes the table, but for its
cursor.

The map's owner does it, under the creation lock, which is one of a user; so no two write a row.

**Crash**: a row that is written, and not in the table word, is nobody's. **A mover that was
stopped**, and comes back, must not publish into a change that is over: so the group that is next
has its locks taken, is found not to have moved, and its tracking ended, before the word changes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import ConfigMismatch, LockTimeout, MapUnlinked
from ..lifecycle.parameters import Parameters
from ..memory.layout import constants
from ..memory.table import COLUMNS, UNITS, Table, checksum_of, read_table, row_of
from ..memory.words import ControlWords, GenerationWords, ShardWords
from ..operations._cut_cy import hold_all, hold_one
from ..operations._moves_cy import exchange_word
from ..system import segment
from .groups import group_at

if TYPE_CHECKING:
    from ..lifecycle.attachment import Attachment
    from ..memory.geometry import Geometry
    from ..operations._takes_cy import Takes
    from ..shard._shard_cy import Shard
    from .group import GroupMover

K = constants()
_TRIES = 1000
PATIENCE_NS = 5_000_000


class Busy(LockTimeout):
    """The map is on its way to a shape that is another one than asked for, and is being taken
    back: wait until that is done."""


class _Done(Exception):
    """What was to be done while all are held, is."""


def refuse_others(attachment: Attachment) -> None:
    """Refuse to change another user's map: the new segments would not be his."""
    owner = segment.owner_at(segment.control_name(attachment.name))
    if not attachment.is_private and owner not in (None, os.geteuid()):
        raise ConfigMismatch(
            f"map {attachment.name!r} belongs to uid {owner}: only that user can change its shape, "
            "since new segments belong to who makes them"
        )


def begin(
    handle: Takes, attachment: Attachment, groups: GroupMover, wanted: Parameters,
    shape: Geometry, rate: int,
) -> bool:
    """Have the map move to a shape. False: it has that shape, or is on its way to it.

    Raises:
        Busy: it is on its way to another one, or back.
        ConfigMismatch: it is another user's, or another user has taken the name of a new shard.
    """
    refuse_others(attachment)
    with attachment.store.turn(attachment.name) as turn:
        turn.check()
        if not attachment.is_private and not attachment.has_its_name():
            raise MapUnlinked(f"map {attachment.name!r} was unlinked, or replaced")
        control = attachment.control
        for _ in range(_TRIES):
            table = read_table(control)
            if _is_like(row_of(control, table.rows[-1]), wanted, shape):
                control.MOVE_RATE = rate
                return False
            if table.is_moving:  # a third generation is for the way back: without one there is none
                raise Busy(
                    f"map {attachment.name!r} is on its way to another shape, or back from there: "
                    "wait until that is done (m.resize() waits), then try again"
                )
            after = table.with_change()
            for shard in range(shape.shards):  # each is looked at again before it is made
                attachment.store.refuse_taken(
                    segment.shard_name(attachment.name, attachment.nonce, after.changes, shard))
            wanted.store_shape(row_of(control, after.rows[-1]), shape, after.changes)
            control.MOVE_RATE = rate
            if _exchange(handle, attachment, groups, table, after):
                return True
    raise LockTimeout(f"map {attachment.name!r}: its shards could not be had. Try again")


def _is_like(row: GenerationWords, wanted: Parameters, shape: Geometry) -> bool:
    """Tell whether a generation is what is wanted."""
    with ControlWords(bytearray(K["C_BYTES_TOTAL"])) as draft:
        wanted.store_shape(row_of(draft, 0), shape, row.NUMBER)
        return row_of(draft, 0).CHECK == row.CHECK


def take_back(handle: Takes, attachment: Attachment, groups: GroupMover) -> bool:
    """Have a map that is on its way go back to the shape that it had; False: it is on its way back
    already. Where nothing has moved yet, that is all."""
    refuse_others(attachment)
    with attachment.store.turn(attachment.name) as turn:
        turn.check()
        control = attachment.control
        for _ in range(_TRIES):
            table = read_table(control)
            if not table.is_moving:
                return True
            if len(table.rows) > 2:
                return False
            if table.cursors[-1] == 0:
                after = Table(table.rows[:1], (UNITS,), table.changes)
            else:
                after = table.with_change()
                _copy_row(row_of(control, after.rows[-1]), row_of(control, table.rows[0]),
                          after.changes)
            if _exchange(handle, attachment, groups, table, after):
                return True
    raise LockTimeout(f"map {attachment.name!r}: its shards could not be had. Try again")


def _copy_row(row: GenerationWords, former: GenerationWords, number: int) -> None:
    for word in COLUMNS:
        row[word] = former[word]
    row.NUMBER = number
    row.CHECK = checksum_of(row)


def _exchange(
    handle: Takes, attachment: Attachment, groups: GroupMover, table: Table, after: Table
) -> bool:
    """Exchange the table word; where something moves, while the group that is next is held, and has
    not moved: whoever is at that begins again. False: look again."""
    if not table.is_moving:
        return bool(exchange_word(handle, K["C_TABLE"], table.word(), after.word()))
    group = group_at(attachment.control, table, table.cursors[-1])
    if groups.finish(table, group):
        return False
    shards = groups.sources(group)
    if shards is None:
        handle._settled()
        return False

    def work() -> None:
        # first: else a mover that tracks would publish what the table no longer leads to, if this
        # process dies between the two. So it begins again, if need be in vain
        _forget_tracking(attachment, shards)
        exchange_word(handle, K["C_TABLE"], table.word(), after.word())
        raise _Done

    try:
        busy = hold_all(handle, shards, PATIENCE_NS, work)
    except _Done:
        return read_table(attachment.control) == after
    hold_one(handle, shards[busy])
    return False


def _forget_tracking(attachment: Attachment, shards: list[Shard]) -> None:
    for shard in shards:
        with ShardWords(attachment.places.mapping_of(shard).buffer) as header:
            header.TRACKING = 0
