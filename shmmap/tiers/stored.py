"""What the store keeps of a value, and by which version a later write tells that it is still that.

By a codec of other programs' ("json", "msgpack", an object of one's own): what the codec makes of
it, and nothing else, so that everybody can read it. Its version is a digest of these bytes.

By "auto" and "safe": the map's own bytes behind a head of HEAD bytes.

    offset  0   1  2       14    15
            MAGIC  stamp   kind  the value, as a map has it (docs/design/value-layout.md)

Its version is the stamp: see `stamps`. With "auto" a value that is not native is a pickle: whoever
may write to the store can then run code in every process that reads it.
"""

from __future__ import annotations

from hashlib import sha1
from typing import NamedTuple

from ..checks import Value
from ..errors import ShmMapError, ValueUnreadable
from ..values._codecs_cy import pack, unpack
from ..values.codecs import Codec
from .stamps import BYTES, Stamps

MAGIC = b"\xd5\x01"
_KIND = len(MAGIC) + BYTES
HEAD = _KIND + 1
ABSENT = b""
"""The version of what is not there."""


class Stored(NamedTuple):
    """What was read from the store.

    Attributes:
        value: it.
        version: BYTES bytes that are others after every write.
    """

    value: Value
    version: bytes


class Writing:
    """Makes and reads the store's bytes of one codec. `is_stamped`: they carry stamps."""

    def __init__(self, coder: bool | Codec, stamps: Stamps) -> None:
        self._coder = coder
        self._stamps = stamps
        self.is_stamped = isinstance(coder, bool)

    def encode(self, value: Value) -> bytes:
        """Return a value's bytes, with a new stamp. Raises what the codec raises."""
        if isinstance(self._coder, bool):
            kind, data = pack(value, self._coder)
            return b"".join((MAGIC, self._stamps.next(), bytes((kind,)), data))
        return bytes(self._coder.dumps(value))

    def version_of(self, data: bytes) -> bytes:
        """Return the version of what has these bytes."""
        if self.is_stamped:
            return data[len(MAGIC):_KIND]
        return sha1(data, usedforsecurity=False).digest()[:BYTES]

    def decode(self, data: bytes, where: str) -> Stored:
        """Return the value. Raises ValueUnreadable, which names `where`, for what is none."""
        try:
            if not isinstance(self._coder, bool):
                return Stored(self._coder.loads(data), self.version_of(data))
            if not data.startswith(MAGIC) or len(data) < HEAD:
                raise ValueError(
                    f"it begins with {data[:8]!r}, which no shmmap.Tiered has written. For what "
                    'other programs write give the map codec="json" or "msgpack"'
                )
            version = self.version_of(data)
            self._stamps.met(version)
            return Stored(unpack(data[_KIND], data[HEAD:], self._coder), version)
        except MemoryError:
            raise
        except Exception as error:
            cause = error.__cause__ if isinstance(error, ShmMapError) and error.__cause__ else error
            raise ValueUnreadable(
                f"{where}: the store's value cannot be read: {type(cause).__name__}: {cause}"
            ) from error
