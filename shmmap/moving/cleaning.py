"""What dead movers left: segments that nobody published, or that nobody looks for any more. See the
table in docs/design/moving.md.

Files are found by their names, in a listing of /dev/shm. Where that cannot be read nothing is
removed; it goes with the map.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import ShmMapError
from ..lifecycle import files
from ..memory.table import UNITS, read_table, row_of
from .groups import Place, group_at

if TYPE_CHECKING:
    from ..lifecycle.attachment import Attachment
    from ..lifecycle.files import Found
    from .segments import Segments

def clean(attachment: Attachment, segments: Segments) -> None:
    """Remove what dead movers left."""
    try:
        entries = attachment.store.list()
    except OSError:
        return
    for found in files.of_shards(entries, attachment.name, attachment.nonce):
        with suppress(ShmMapError):
            changes = read_table(attachment.control).changes
            if _is_left(attachment, segments, found) and (
                read_table(attachment.control).changes == changes  # else rows are others
            ):
                attachment.store.remove(found.file)


def _is_left(attachment: Attachment, segments: Segments, found: Found) -> bool:
    """Tell whether nobody will look for a segment, or a semaphore, any more."""
    _, generation, number, token = found
    is_dead = token == 0 or attachment.worker.is_dead(token)  # first: it may publish, then die
    control = attachment.control
    table = read_table(control)
    for at, row_number in enumerate(table.rows):
        row = row_of(control, row_number)
        if row.NUMBER != generation:
            continue
        shards = row.SHARDS
        first, last = number * UNITS // shards, (number + 1) * UNITS // shards
        is_newest = at == len(table.rows) - 1
        if not is_newest:
            later = table.cursors[at + 1 :]
            return bool(token) or last <= max(later)
        if not token:
            return False
        if last <= table.cursors[-1] or not table.is_moving:
            return True  # it was renamed, or never published
        if not is_dead:
            return False
        group = group_at(control, table, first)
        return not _was_published(segments, group.old, token)
    return read_table(control) == table and generation <= table.changes


def _was_published(segments: Segments, old: tuple[Place, ...], token: int) -> bool:
    for place in old:
        found = segments.attach(place)
        if found is None:
            return True  # others are at it
        mapping, moved = found
        mapping.close()
        if moved == token:
            return True
    return False
