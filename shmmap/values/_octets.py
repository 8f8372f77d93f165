"""Private bytes, and the objects made of them: how `_packing_cy` writes, `_unpacking_cy` reads.

This is the pure life; `_octets.pxd` is the compiled one. As with `_atomics`, they are written by
hand. `data` is what is read, `at` a place in it (bytes); numbers are little-endian.
"""

from __future__ import annotations

import struct
from typing import Any

octets_t = bytes
reader_t = writer_t = Any  # pointers in the compiled life; here, the thing itself

_SIGNED32 = struct.Struct("<i").unpack_from
_SIGNED64 = struct.Struct("<q").unpack_from
_WORD16 = struct.Struct("<H").unpack_from
_WORD32 = struct.Struct("<I").unpack_from
_REAL64 = struct.Struct("<d").unpack_from


# -- reading --------------------------------------------------------------------------------


class Reader:
    """What is being read, from `at` up to `end`, and what later items may stand for."""

    __slots__ = ("at", "claimed", "data", "depth", "end", "items", "numbers", "weight")
    data: bytes
    at: int
    end: int
    depth: int
    claimed: int  # how many items all containers said that they have
    items: list[Any]
    numbers: int  # whether any item stands for one that has a number
    weight: int

    @property
    def count(self) -> int:
        """How many items have a number."""
        return len(self.items)


new_reader = Reader


def read_from(reader: Reader, data: bytes, at: int, end: int) -> None:
    """Begin to read."""
    reader.data, reader.at, reader.end = data, at, end
    reader.depth, reader.claimed, reader.weight, reader.numbers = 0, 0, 0, False
    reader.items = []


def end_reading(reader: Reader) -> None:
    """Let go of what was numbered."""
    reader.items.clear()


def give_number(reader: Reader, item: object) -> None:
    """Give an item the next number."""
    reader.items.append(item)


def numbered(reader: Reader, number: int) -> object:
    """Return the item of that number."""
    return reader.items[number]


def signed32(data: bytes, at: int) -> int:
    """Read a signed number of 4 bytes."""
    return _SIGNED32(data, at)[0]  # type: ignore[no-any-return]


def signed64(data: bytes, at: int) -> int:
    """Read a signed number of 8 bytes."""
    return _SIGNED64(data, at)[0]  # type: ignore[no-any-return]


def word16(data: bytes, at: int) -> int:
    """Read a number of 2 bytes."""
    return _WORD16(data, at)[0]  # type: ignore[no-any-return]


def word32(data: bytes, at: int) -> int:
    """Read a number of 4 bytes."""
    return _WORD32(data, at)[0]  # type: ignore[no-any-return]


def real64(data: bytes, at: int) -> float:
    """Read an IEEE 754 number."""
    return _REAL64(data, at)[0]  # type: ignore[no-any-return]


def octets_at(data: bytes, at: int, length: int) -> bytes:
    """Copy bytes."""
    return data[at : at + length]


def text(data: bytes, at: int, length: int) -> str:
    """Decode UTF-8 in which lone surrogates pass. Raises UnicodeDecodeError."""
    return data[at : at + length].decode("utf-8", "surrogatepass")


key_text = text  # compiled: from those that were decoded lately, where it is among them


def new_list(length: int) -> list[Any]:
    """Make a list of places; fill all of them, then take what `filled` returns."""
    return [None] * length


new_tuple = new_list


def new_dict(length: int) -> dict[Any, Any]:
    """Make a dict that is about to have so many items."""
    return {}


def put_in_list(made: list[Any], at: int, item: object) -> None:
    """Fill a place."""
    made[at] = item


put_in_tuple = put_in_list


def filled(made: list[Any]) -> list[Any]:
    """Return a list whose places are filled."""
    return made


def filled_tuple(made: list[Any]) -> tuple[Any, ...]:
    """Return the tuple of what is in the places."""
    return tuple(made)


# -- writing --------------------------------------------------------------------------------


class Writer:
    """What is being written, and the number of each item that was."""

    __slots__ = ("data", "depth", "known", "repeats", "too_heavy", "weight")
    data: bytearray
    depth: int
    known: dict[int, tuple[int, object]]
    repeats: bool  # whether any item was written as the number of another
    weight: int  # of the keys that contain others; see `weigh`
    too_heavy: bool

    @property
    def used(self) -> int:
        """How many bytes were written."""
        return len(self.data)


new_writer = Writer


def begin_writing(writer: Writer) -> None:
    """Begin to write."""
    writer.data, writer.depth, writer.weight = bytearray(), 0, 0
    writer.repeats = writer.too_heavy = False
    writer.known = {}


def end_writing(writer: Writer) -> None:
    """Let go of what was numbered."""
    writer.known.clear()


def keep_alive(writer: Writer) -> None:
    """Keep what has a number alive from now on: here, it always is."""


def reserve(writer: Writer, length: int) -> None:
    """Make sure of room for so many bytes more."""


def put8(writer: Writer, v: int) -> None:
    """Write a byte: the lowest 8 bits."""
    writer.data.append(v & 0xFF)


def put16(writer: Writer, v: int) -> None:
    """Write the lowest 16 bits."""
    writer.data += (v & 0xFFFF).to_bytes(2, "little")


def put32(writer: Writer, v: int) -> None:
    """Write the lowest 32 bits."""
    writer.data += (v & 0xFFFF_FFFF).to_bytes(4, "little")


def put64(writer: Writer, v: int) -> None:
    """Write the lowest 64 bits."""
    writer.data += (v & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little")


def put_real(writer: Writer, v: float) -> None:
    """Write an IEEE 754 number."""
    writer.data += struct.pack("<d", v)


def put_octets(writer: Writer, data: bytes, length: int) -> None:
    """Write bytes."""
    writer.data += data[:length]


def number_of(writer: Writer, item: object) -> int:
    """Return the number that this very object has; -1: none."""
    found = writer.known.get(id(item))
    if found is None:
        return -1
    writer.repeats = True
    return found[0]


def number(writer: Writer, item: object) -> None:
    """Give an object the next number, and keep it: another could get its id."""
    writer.known[id(item)] = (len(writer.known), item)


def put_short(writer: Writer, text: str, head: int, again: int) -> bool:
    """Write a str at once if it is of the most frequent sort: short and ASCII; here, none is."""
    return False


def written(writer: Writer) -> bytes:
    """Return what was written."""
    return bytes(writer.data)
