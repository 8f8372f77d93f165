"""Keys and values for people and programs to look at: as text in one line, and as JSON.

Whatever a map holds was written by others. So nothing of it is run (pickles are shown as pickles,
unless they are asked for), nothing reaches a terminal but by `printable`, and nothing grows
while it is written: a few bytes can stand for a list of a million times itself.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..errors import MapCorrupted, ShmMapError
from ..memory.layout import constants
from ..printable import printable
from ..values import _codecs_cy, codecs
from ..values._keys_cy import unpack as unpack_key
from .shard_reading import Entry

K = constants()
ITEMS_AT_MOST = 1_000_000  # in a value, each counted as often as it is met
BITS_AT_MOST = 14_000  # of an int in decimal digits: from 4,300 of them on Python writes none
_SCALARS = (str, int, bool, type(None))


class Shown(NamedTuple):
    """A key or value to be looked at.

    Attributes:
        type: what it is: "str", "int", "bytes", "none", "pickle", "coded", ...
        text: how it reads; not yet printable.
        value: itself, where JSON says it exactly; else None.
        hex: its bytes, where it is bytes, or nobody decoded it; else None.
    """

    type: str
    text: str
    value: Any = None
    hex: str | None = None

    def line(self, most: int | None = None) -> str:
        """Return how it reads in one line, of at most so many characters before their escapes."""
        if most is None:
            return printable(self.text, len(self.text))
        return printable(self.text, most)

    def as_json(self) -> dict[str, Any]:
        """Return it as a part of what is printed as JSON."""
        return self._asdict()


def key_shown(key_type: int, key: bytes) -> Shown:
    """Show an encoded key. Raises MapCorrupted."""
    return _shown(unpack_key(key_type, key))


def value_shown(entry: Entry, codec: str, unpickles: bool = False) -> Shown:
    """Show an entry's value, in a map of that codec. Raises MapCorrupted, and ShmMapError for what
    cannot be decoded here."""
    kind, data = entry.kind, entry.value
    if kind not in (K["VALUE_PICKLE"], K["VALUE_CODED"]):
        return _shown(_codecs_cy.unpack(kind, data, True))
    _codecs_cy.verify(kind, data)
    if kind == K["VALUE_PICKLE"]:
        if not unpickles:
            return Shown("pickle", f"<pickle, {len(data) - 8:,} bytes>", None, data[8:].hex())
        return _decoded(lambda: _codecs_cy.unpack(kind, data, False), "unpickled")
    if codec not in codecs.BUILT_IN:
        return Shown("coded", f"<by the codec {codec}, {len(data) - 8:,} bytes>", None,
                     data[8:].hex())
    coder = codecs.coder_here(codec)
    return _decoded(lambda: _codecs_cy.unpack(kind, data, coder), f"decoded as {codec}")


def plain_value(entry: Entry, codec: str) -> Any:
    """Return an entry's value, where nobody's code has to run for that. Raises as `value_shown`,
    and ShmMapError for a pickle."""
    coder = codecs.coder_here(codec)
    try:
        return _codecs_cy.unpack(entry.kind, entry.value, True if type(coder) is bool else coder)
    except (MapCorrupted, MemoryError):
        raise
    except Exception as error:
        text = printable(f"{type(error).__name__}: {error}")
        raise ShmMapError(f"a value cannot be decoded here: {text}") from None


def _decoded(decode: Any, how: str) -> Shown:
    """Show what runs somebody else's code to be had, or a parser that was not made for hostile
    bytes."""
    try:
        return _shown(decode())
    except (MapCorrupted, MemoryError):
        raise
    except Exception as error:
        text = printable(f"{type(error).__name__}: {error}")
        raise ShmMapError(f"a value cannot be {how} here: {text}") from None


def _shown(value: Any) -> Shown:
    kind = "none" if value is None else type(value).__name__
    if type(value) is bytes:
        return Shown(kind, value.hex(), None, value.hex())
    if type(value) is str:
        return Shown(kind, value, value)
    try:
        if _count(value, {}) > ITEMS_AT_MOST:
            return Shown(kind, f"<{kind}, more than {ITEMS_AT_MOST:,} items when written out>")
        if type(value) is int and value.bit_length() > BITS_AT_MOST:
            return Shown(kind, hex(value))
        return Shown(kind, repr(value), value if _is_exact(value) else None)
    except RecursionError:
        return Shown(kind, f"<{kind}, nested too deeply to be written out>")
    except ValueError:  # of an int inside, which has too many digits
        return Shown(kind, f"<{kind}, with a number of too many digits>")


def _count(value: Any, known: dict[int, int]) -> int:
    """Count the items of a value, itself too, as often as they would be written."""
    if type(value) not in (dict, list, tuple, set, frozenset):
        return 1
    found = known.get(id(value))
    if found is None:
        inside = [*value.keys(), *value.values()] if type(value) is dict else value
        found = known[id(value)] = 1 + sum(_count(one, known) for one in inside)
    return found


def _is_exact(value: Any) -> bool:
    """Tell whether JSON says exactly this. What `_count` has bounded."""
    kind = type(value)
    if kind is int:
        return bool(value.bit_length() <= BITS_AT_MOST)
    if kind in _SCALARS:
        return True
    if kind is float:
        return math.isfinite(value)
    if kind is list:
        return all(map(_is_exact, value))
    return kind is dict and all(
        type(key) is str and _is_exact(one) for key, one in value.items())
