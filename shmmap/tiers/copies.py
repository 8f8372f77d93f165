"""A copy of what a store has: the bytes that a map keeps of it, and what they say. See
`_copies_cy`, which has their layout."""

from __future__ import annotations

from typing import NamedTuple

from ._copies_cy import ASKED, CODED, HEAD
from .stored import ABSENT

__all__ = ["CODED", "Copy", "read"]


class Copy(NamedTuple):
    """What the store had when it was asked.

    Attributes:
        asked: nanoseconds since boot.
        version: the store's; ABSENT: it had nothing.
        kind, data: the value, as a map has it, or CODED and a codec's bytes.
    """

    asked: int
    version: bytes = ABSENT
    kind: int = 0
    data: bytes = b""

    def as_bytes(self) -> bytes:
        """Return what the map keeps."""
        asked = self.asked.to_bytes(ASKED, "little")
        return b"".join((asked, self.version, bytes((self.kind,)), self.data)) if (
            self.version) else asked


def read(found: object) -> Copy | None:
    """Return the copy that these bytes are; None: a mark, or what others have put there."""
    if type(found) is not bytes or len(found) < ASKED or ASKED < len(found) < HEAD:
        return None
    asked = int.from_bytes(found[:ASKED], "little")
    if len(found) == ASKED:
        return Copy(asked)
    return Copy(asked, found[ASKED : HEAD - 1], found[HEAD - 1], found[HEAD:])
