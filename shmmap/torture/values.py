"""Values that say whether they are whole: who wrote them, for which key, as which operation."""

from __future__ import annotations

import random
import struct
from typing import NamedTuple

import xxhash

_HEAD = struct.Struct("<IIQ")
_DIGEST_BYTES = 8
_SHIFTS = 20_000  # where a filling may begin; also the longest that a side map gets


class Torn(Exception):
    """A value that is not, byte for byte, what one writer wrote."""


class Identity(NamedTuple):
    """What a value says about itself."""

    owner: int
    key: int
    number: int


class Fillings:
    """Cuts the fillings of values out of one block of random bytes."""

    def __init__(self, lengths: tuple[int, ...]) -> None:
        self._lengths = lengths
        self._block = random.Random(1).randbytes(max(lengths) + _SHIFTS)

    def cut(self, rng: random.Random, lengths: tuple[int, ...] = ()) -> bytes:
        """Return a filling of one of the lengths."""
        length = rng.choice(lengths or self._lengths)
        start = int(rng.random() * _SHIFTS)
        return self._block[start : start + length]


def make_value(identity: Identity, filling: bytes, pickled: bool = False) -> bytes | tuple[bytes]:
    """Return a value of this identity: bytes, or a tuple of them, which a map pickles."""
    body = _HEAD.pack(*identity) + filling
    value = xxhash.xxh3_64_digest(body) + body
    return (value,) if pickled else value


def read_value(value: object) -> Identity:
    """Return a value's identity. Raises Torn."""
    whole = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    if not isinstance(whole, bytes) or len(whole) < _DIGEST_BYTES + _HEAD.size:
        raise Torn(f"{value!r:.80} is no value that a worker writes")
    body = whole[_DIGEST_BYTES:]
    identity = Identity(*_HEAD.unpack_from(body))
    if xxhash.xxh3_64_digest(body) != whole[:_DIGEST_BYTES]:
        raise Torn(f"a value of {len(whole)} bytes that says {identity}: wrong checksum")
    return identity
