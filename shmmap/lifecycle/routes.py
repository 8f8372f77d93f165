"""Which shard a process goes by for each part of the hash: see docs/design/moving.md.

It is known from when the map was opened, and stays so until a shard is found to have moved; then
the routes that led to that one are renewed, and no others. An operation of one key renews only that
which it needs: to map all 16 shards that one may split into takes 600 us. The rest follow as they
are met, or by whoever unmaps what has moved.

**Threads**: nothing is held. Two may find the same; what was found first is used by both. Routes
that another thread's undo lead to a shard that has moved: they are renewed once more.
**Fork, re-entry**: as of threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import MapCorrupted, MapNotFound
from ..memory.layout import constants
from ..memory.table import UNITS, Table, generation_of, read_table, row_of
from ..operations._moves_cy import unsay_moved
from ..operations.routing import spread
from ..shard._lookup_cy import PUBLIC
from ..system import segment
from ..system.presences import alive
from ..system.tasks import sleep
from .control import REMOVE, shape_of

if TYPE_CHECKING:
    from ..locks.hosts import MapHandle
    from ..memory.geometry import Geometry
    from ..shard._shard_cy import Shard
    from .attachment import Attachment

_ALL_UNITS = constants()["ALL_UNITS"]
_TRIES = 200
_PAUSE_S = 0.005


class _Lost(Exception):
    """A segment is not there under any name that it could have."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.label = label


def find_all(attachment: Attachment) -> None:
    """Find all shards, as a process that opens the map does."""
    for turn in range(_TRIES):
        table = read_table(attachment.control)
        try:
            attachment.shards = spread(_open_range(attachment, table, 0, UNITS, None))
            return
        except (_Lost, MapCorrupted) as error:  # a row may have been written anew as it was read
            if read_table(attachment.control) == table:
                _give_up(attachment, error, turn, table)


def first_shard(attachment: Attachment) -> Shard:
    """Return the shard that has the first entries now, also where this process has not met it yet.
    `snapshots` is held, so that nobody unmaps it.

    Raises:
        MapCorrupted, SystemCallError: it is not there, or cannot be mapped.
    """
    shard = attachment.shards[0]
    turn = 0
    while shard.moved_to():
        table = read_table(attachment.control)
        try:
            shard = _open_range(attachment, table, 0, 1, shard)[0]
        except (_Lost, MapCorrupted) as error:
            if read_table(attachment.control) == table:
                _give_up(attachment, error, turn, table)
        turn += 1
    return shard


def renew(attachment: Attachment, handle: MapHandle, shard: Shard, unit: int) -> None:
    """Have the process go by those shards that have the entries of one that has moved: of a unit of
    the hash that it had, or of ALL_UNITS. Nothing is held. Where none can have come after it, it
    has not moved.

    Raises:
        LockTimeout: that is so, and its lock could not be had.
        SystemCallError, MemoryError: the new ones cannot be mapped; nothing has changed.
        MapCorrupted: they are not there.
        MapUnlinked: the map was unlinked meanwhile.
    """
    if generation_of(attachment.control).NUMBER == shard.generation:
        unsay_moved(handle, shard)
        return
    first, last = unit, unit + 1
    if unit == _ALL_UNITS:
        width = UNITS >> shard.shard_bits
        first, last = shard.number * width, (shard.number + 1) * width
    for turn in range(_TRIES):
        if not _leads_to(attachment.shards, first, last, shard):  # another thread was quicker
            break
        table = read_table(attachment.control)
        try:
            found = _open_range(attachment, table, first, last, shard)
        except (_Lost, MapCorrupted) as error:
            attachment.refuse_lost()
            if read_table(attachment.control) == table:
                _give_up(attachment, error, turn, table)
            continue
        _put(attachment, shard, found)
        break
    for one in {id(one): one for one in (*alive(attachment.handles), handle)}.values():
        if one.attachment is attachment:
            one._route(attachment.shards)
    attachment.look_after()  # also where all has moved: somebody has to unmap what was


def _leads_to(routes: list[Shard], first: int, last: int, shard: Shard) -> bool:
    """Tell whether any of these units of the hash is looked for in a shard."""
    count = len(routes)
    return shard in routes[first * count // UNITS : -(-last * count // UNITS)]


def _give_up(attachment: Attachment, error: Exception, turn: int, table: Table) -> None:
    """Raise where a shard is not there, once that cannot be since others are at it."""
    if turn < (_TRIES - 1 if table.is_moving else 1):
        sleep(_PAUSE_S)
        return
    if isinstance(error, _Lost):
        raise MapCorrupted(
            f"map {attachment.name!r} has lost its segment {error.label}: "
            + REMOVE.format(attachment.name)
        ) from None
    raise error


def _open_range(
    attachment: Attachment, table: Table, first: int, last: int, former: Shard | None
) -> list[Shard]:
    """Open the shards that have these units of the hash, in order; where `former` had them, and has
    moved: those that came after it."""
    found = []
    generations = {at: _generation(attachment, at) for at in table.rows}
    unit = first
    while unit < last:
        (generation, shape), token = generations[table.row_at(unit)], 0
        if former is not None and generation == former.generation:
            generation, shape = generations[table.rows[-1]]  # the table is not there yet
            token = former.moved_to()
            if generation == former.generation:
                raise _Lost(attachment.places.label_of(former))
        number = unit * shape.shards // UNITS
        found.append(_open(attachment, generation, number, shape, token))
        unit = (number + 1) * UNITS // shape.shards
    return found


def _generation(attachment: Attachment, at: int) -> tuple[int, Geometry]:
    """Read a row of the table: the generation's number, and how it is laid out."""
    row = row_of(attachment.control, at)
    return row.NUMBER, shape_of(row)


def private_label(public: str, token: int) -> str:
    """Name a segment that its mover has not published yet, or not renamed."""
    return f"{public}.{token:016x}"


def _open(
    attachment: Attachment, generation: int, number: int, shape: Geometry, token: int
) -> Shard:
    """Open one shard, or return the one that this process has. `token`: of the mover that may not
    have given it its public name yet; 0: the table leads to it, so that it has that."""
    places = attachment.places
    known = places.known.get((generation, number))
    if known is not None:
        return known
    public = segment.shard_name(attachment.name, attachment.nonce, generation, number)
    names = [(public, PUBLIC)]
    if token > PUBLIC:
        names.insert(0, (private_label(public, token), token))
    for label, mover in names:
        try:
            place = places.attach(label, public, shape, generation, number, number)
        except MapNotFound:
            continue
        place.shard.mover = mover
        kept = places.known.setdefault((generation, number), place.shard)
        if kept is not place.shard:
            places.close(place)
        elif attachment.locks is not None:
            place.mapping.tell(attachment.worker.fork_page.flag_address)
        return kept
    raise _Lost(public)


def _put(attachment: Attachment, former: Shard, found: list[Shard]) -> None:
    """Put shards in the place of one that has moved: where its routes led, and nowhere else. An
    operation waits for this."""
    old = attachment.shards
    if former not in old:  # another thread was quicker
        return
    bits = max([len(old).bit_length() - 1, *[shard.shard_bits for shard in found]])
    each = (1 << bits) // len(old)
    routes = [shard for shard in old for _ in range(each)]
    for shard in found:
        narrow = shard if shard.shard_bits > former.shard_bits else former
        width = 1 << bits - narrow.shard_bits
        for at in range(narrow.number * width, (narrow.number + 1) * width):
            if routes[at] is former:
                routes[at] = shard
    while len(routes) > 1 and routes[::2] == routes[1::2]:
        routes = routes[::2]
    attachment.shards = routes


def let_go(attachment: Attachment, own: int = 0) -> bool:
    """Unmap shards that have moved, if nobody in this process can be in the middle of anything with
    them; tell whether none is mapped any more. `own`: operations of one handle that this task is
    in, and that use none of them.

    Here alone shards are unmapped of a map that is open. Who looks at one elsewhere is in an
    operation, or has a handle marked (`operations.marking`), holds `snapshots`, or sweeps.
    """
    if not attachment.snapshots.acquire(blocking=False):
        return False
    try:  # first: another thread may be unmapping what this one would look at
        routes = attachment.shards
        met = attachment.places.moved_places()
        gone = [place for place in met if place.shard not in routes]
        if not gone:
            return not met  # what this process still goes by goes later
        handles = [one for one in (*alive(attachment.handles), *attachment.movers)
                   if one.attachment is not None]  # else another thread is opening it
        for handle in handles:
            if handle.attachment is attachment:
                handle._route(routes)  # first: what begins after the look goes by these
        if attachment.sweeper is not None and attachment.sweeper.is_busy():
            return False
        under_way = [handle._under_way() for handle in handles]
        if sum([others for others, _ in under_way]) or sum([mine for _, mine in under_way]) > own:
            return False  # also where this task is in the middle of something by another handle
        for handle in handles:
            if handle.near is not None:
                handle.near.forget_moved()
        if attachment.shards is not routes:
            return False
        for place in gone:
            attachment.places.close(place)
        return len(gone) == len(met)
    finally:
        attachment.snapshots.release()
