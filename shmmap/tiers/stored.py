"""What the store keeps of a value, and by which version a later write tells that it is still that.

By a codec of other programs' ("json", "msgpack", an object of one's own): what the codec makes of
it, and nothing else, so that everybody can read it. Its version is a digest of these bytes.

By "auto" and "safe": the map's own bytes behind a head.

    offset  0      2      14    15
            MAGIC  stamp  kind  the value, as a map has it: docs/design/value-layout.md

Its version is the stamp: see `stamps`. A tombstone, which says when a key was removed, is such a
head alone, of the kind TOMBSTONE: every read takes it for nothing. With "auto" a value that is not
native is a pickle: whoever may write to the store can then run code in every process that reads
it.
"""

from __future__ import annotations

from hashlib import sha1

from ..checks import Value
from ..errors import ShmMapError, ValueUnreadable
from ..values._codecs_cy import pack, unpack
from ..values.codecs import Codec
from ._copies_cy import CODED
from .stamps import BYTES, Stamps
from .store import Found

MAGIC = b"\xd5\x01"
ABSENT = b""
"""The version of what is not there."""
TOMBSTONE = 254  # in place of a kind
_KIND = len(MAGIC) + BYTES


def is_tombstone(data: bytes) -> bool:
    """Tell whether these bytes of a codec with stamps say that the key was removed."""
    return len(data) == _KIND + 1 and data[_KIND] == TOMBSTONE and data.startswith(MAGIC)


class Writing:
    """Makes and reads the store's bytes of one codec. `is_stamped`: they carry stamps."""

    def __init__(self, coder: bool | Codec, stamps: Stamps) -> None:
        self._coder = coder
        self._stamps = stamps
        self.is_stamped = isinstance(coder, bool)

    def encode(self, value: Value) -> bytes:
        """Return a value's bytes, with a new stamp. Raises what the codec raises."""
        return self.stamped(*self.pack(value))

    def pack(self, value: Value) -> tuple[int, bytes]:
        """Return a value's kind and bytes, as a copy has them. Raises what the codec raises."""
        if isinstance(self._coder, bool):
            kind, data = pack(value, self._coder)
            return kind, data
        return CODED, bytes(self._coder.dumps(value))

    def stamped(self, kind: int, data: bytes) -> bytes:
        """Return the store's bytes of what `pack` has made, with a new stamp."""
        return self.stored(kind, data, self._stamps.next() if self.is_stamped else b"")

    def stored(self, kind: int, data: bytes, stamp: bytes) -> bytes:
        """Return the store's bytes of what `pack` has made, with that stamp."""
        return b"".join((MAGIC, stamp, bytes((kind,)), data)) if self.is_stamped else data

    def met(self, stamp: bytes) -> None:
        """Make what is written next later than a stamp, unless that is not to be believed."""
        self._stamps.met(stamp)

    def after(self, stamp: bytes, kind: int, data: bytes) -> bytes:
        """Return the store's bytes of what `pack` has made, just later than a stamp."""
        return self.stored(kind, data, self._stamps.after(stamp))

    def tombstone(self, stamp: bytes = b"") -> bytes:
        """Return the store's bytes of what is removed now, or was with that stamp."""
        return self.stored(TOMBSTONE, b"", stamp or self._stamps.next())

    def there(self, found: Found | None) -> Found | None:
        """Return what was found; None for a tombstone. What is written next is later than that."""
        if found is None or not self.is_stamped or not is_tombstone(found.data):
            return found
        self._stamps.met(found.data[len(MAGIC):_KIND])
        return None

    def read(self, data: bytes, where: str) -> tuple[bytes, int, bytes]:
        """Return version, kind and bytes as a map's copy has them. Raises ValueUnreadable, which
        says `where`."""
        if isinstance(self._coder, bool):
            if not data.startswith(MAGIC) or len(data) <= _KIND:
                raise ValueUnreadable(
                    f"{where}: it begins with {data[:8]!r}, which no shmmap.Tiered has written. "
                    'For what other programs write give the map codec="json" or "msgpack"'
                )
            version = data[len(MAGIC):_KIND]
            self._stamps.met(version)
            return version, data[_KIND], data[_KIND + 1:]
        version = sha1(data, usedforsecurity=False).digest()[:BYTES]
        try:  # what a map has natively is read several times as fast as what a codec has
            kind, packed = pack(self.decode(CODED, data, where), True)
        except TypeError:
            return version, CODED, data
        return version, kind, packed

    def decode(self, kind: int, data: bytes, where: str) -> Value:
        """Return the value. Raises ValueUnreadable, which says `where`, for what is none."""
        try:
            return self._decode(kind, data)
        except MemoryError:
            raise
        except Exception as error:
            try:
                self._decode(kind, data)
            except Exception as again:
                if type(again) is not type(error):
                    raise
            else:
                raise error  # a signal handler's, which comes once
            cause = error.__cause__ if isinstance(error, ShmMapError) and error.__cause__ else error
            raise ValueUnreadable(
                f"{where}: the value cannot be read: {type(cause).__name__}: {cause}"
            ) from error

    def _decode(self, kind: int, data: bytes) -> Value:
        if kind == CODED and not isinstance(self._coder, bool):
            return self._coder.loads(data)
        return unpack(kind, data, self._coder is not False)
