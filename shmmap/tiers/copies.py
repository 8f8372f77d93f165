"""A copy of what a store has: the bytes that a map keeps of it, and what they say. See
`_copies_cy`, which has their layout."""

from __future__ import annotations

from typing import NamedTuple

import xxhash

from ._copies_cy import ASKED, HEAD, TAG
from .stored import ABSENT

_ABSENT = ASKED + TAG  # bytes of what the store has not


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

    def as_bytes(self, tag: int) -> bytes:
        """Return what the map keeps."""
        head = self.asked.to_bytes(ASKED, "little") + tag.to_bytes(TAG, "little")
        if not self.version:
            return head
        return b"".join((head, self.version, bytes((self.kind,)), self.data))


def tag_of(owner: tuple[str, ...]) -> int:
    """Return the tag of the tier of a store, a prefix, and more."""
    return int(xxhash.xxh32_intdigest("\0".join(owner).encode("utf-8", "surrogatepass")))


def read(found: object, tag: int) -> Copy | None:
    """Return the copy of that tier which these bytes are; None: a mark, or somebody else's."""
    if type(found) is not bytes or len(found) < _ABSENT or _ABSENT < len(found) < HEAD or (
        int.from_bytes(found[ASKED:_ABSENT], "little") != tag
    ):
        return None
    asked = int.from_bytes(found[:ASKED], "little")
    if len(found) == _ABSENT:
        return Copy(asked)
    return Copy(asked, found[_ABSENT : HEAD - 1], found[HEAD - 1], found[HEAD:])
