"""Private memory that shards are copied into, and who judges the owners of locks there."""

from __future__ import annotations

import mmap
import sys

_NORESERVE = 0x4000 if sys.platform == "linux" else 0  # elsewhere the bit means other things


class Quiet:
    """The judge of lock owners in memory that nobody else knows: there are none to judge."""

    def is_dead(self, token: int) -> bool:
        """Judge nobody dead."""
        return False


def private_room(name: str, size: int, purpose: str) -> memoryview:
    """Return so many zero bytes of this process. Pages that nothing is written to cost nothing.

    Args:
        name: of the map, for the message.
        size: bytes.
        purpose: "for a snapshot", say.

    Raises:
        MemoryError: there is no address space for them.
    """
    try:
        return memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE))
    except OSError as error:
        raise MemoryError(
            f"map {name!r}: no address space of {size:,} bytes {purpose} ({error})"
        ) from error
