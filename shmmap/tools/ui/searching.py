"""Keys by their beginning, and one value: read as `shmmap keys` and `shmmap get` read, bounded.

Of a map of millions of entries a search sees as many as two seconds allow, and says so; a key that
is written out is found whatever the size. No pickle is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

from ...errors import MapCorrupted, ShmMapError
from ...memory._clock_cy import monotonic
from ...memory.layout import constants
from ...printable import human, printable, printable_lines
from ...values._keys_cy import unpack
from .. import findings
from ..entries import starting_with
from ..map_reading import USABLE, MapReader, unusable
from ..seen import SeenMap
from ..shard_reading import Entry
from ..shown import Shown, key_shown, value_shown

K = constants()
KEYS_AT_MOST = 200
SECONDS_AT_MOST = 2.0
VALUE_BYTES_AT_MOST = 1 << 20
TEXT_AT_MOST = 65_536  # characters of a value in one form
HEX_BYTES_AT_MOST = 8192
_CELL = 300  # characters of a key in the list
_ROW = 16  # bytes in a line of hexadecimal digits


class _TimeIsUp(Exception):
    """A search has taken as long as it may."""


def open_reader(seen: SeenMap | None) -> MapReader:
    """Open a map that was found. Raises ShmMapError where it cannot be read."""
    if seen is None:
        raise ShmMapError("there is no such map now")
    if seen.state not in USABLE:
        raise unusable(seen)
    return MapReader(seen)


# -- keys ---------------------------------------------------------------------------------


def keys(reader: MapReader, prefix: str) -> dict[str, Any]:
    """List keys that are a str and begin so; "": keys of every type. Sorted, the key that is
    exactly that first. Raises ShmMapError, OSError where the map cannot be read at all."""
    problems: list[str] = []
    found: dict[str, dict[str, str]] = {}
    is_late = False
    until = monotonic() + SECONDS_AT_MOST

    def watch_the_time() -> None:
        if monotonic() > until:
            raise _TimeIsUp

    begins_so = starting_with(prefix or None)

    def picks(key_type: int, key: bytes) -> bool:
        watch_the_time()
        return begins_so(key_type, key)

    def note(error: Exception) -> None:
        watch_the_time()
        problems.append(printable(str(error)))

    exact = None
    try:
        exact = reader.find(prefix, wants_value=False) if prefix else None
    except ShmMapError as error:  # of one shard: the others may be sound
        note(error)
    if exact is not None:
        _add(found, exact, note)
    listed = reader.entries(picks, False, note)
    try:
        for entry in islice(listed, KEYS_AT_MOST + 1):
            _add(found, entry, note)
    except _TimeIsUp:
        is_late = True
    finally:
        listed.close()
    first = _id(exact) if exact else ""
    shown = sorted(found.values(), key=lambda one: (one["id"] != first, one["type"], one["text"]))
    return {"keys": shown[:KEYS_AT_MOST], "is_cut": len(shown) > KEYS_AT_MOST, "is_late": is_late,
            "problems": problems[:findings.SHOWN], "more_problems": max(
                0, len(problems) - findings.SHOWN)}


def _add(found: dict[str, dict[str, str]], entry: Entry, note: Callable[[Exception], None]) -> None:
    try:
        key = key_shown(entry.key_type, entry.key)
    except ShmMapError as error:
        note(error)
        return
    found[_id(entry)] = {"id": _id(entry), "type": printable(key.type), "text": key.line(_CELL)}


def _id(entry: Entry) -> str:
    """Write a key so that it can be asked for, whatever its type: see `value`."""
    return f"{entry.key_type}-{entry.key.hex()}"


# -- one value ----------------------------------------------------------------------------


def value(reader: MapReader, key_id: str) -> dict[str, Any]:
    """Describe the entry of a key, which `keys` has named. Raises ValueError where nobody has named
    such a key; ShmMapError, OSError."""
    number, separator, digits = key_id.partition("-")
    if not separator or not number.isdecimal() or len(number) > 3:
        raise ValueError("no key is named so")
    try:
        key: Any = unpack(int(number), bytes.fromhex(digits))
        shown = key_shown(int(number), bytes.fromhex(digits))
    except MapCorrupted:
        raise ValueError("no key is named so") from None
    about = {"key": {"type": printable(shown.type), "text": shown.line(_CELL)}}
    entry = reader.find(key, wants_value=False)
    if entry is not None and entry.value_bytes <= VALUE_BYTES_AT_MOST:
        entry = reader.find(key)
    if entry is None:
        return {**about, "found": False}
    return {
        **about, "found": True, "bytes": entry.value_bytes, "ttl": reader.left_s(entry),
        "version": entry.version, **_value_shown(reader, entry),
    }


def _value_shown(reader: MapReader, entry: Entry) -> dict[str, Any]:
    if entry.value_bytes > VALUE_BYTES_AT_MOST:
        return {"type": None, "forms": [], "problem": (
            f"a value of more than {human(VALUE_BYTES_AT_MOST)} is not shown here: "
            f"shmmap get {reader.seen.name} has it")}
    try:
        shown = value_shown(entry, reader.codec)
    except ShmMapError as error:
        return {"type": None, "forms": [], "problem": printable(str(error))}
    return {"type": printable(shown.type), "forms": _forms(shown), "problem": None}


def _forms(shown: Shown) -> list[dict[str, Any]]:
    """Write a value in the forms that it has: the one that reads best first."""
    if shown.hex is not None:
        data = bytes.fromhex(shown.hex)
        forms = [_form("hex", _dump(data[:HEX_BYTES_AT_MOST]), len(data) > HEX_BYTES_AT_MOST)]
        if shown.type == "bytes" and (text := _decoded(data)):
            forms.insert(0, _form("UTF-8", text, len(data) > TEXT_AT_MOST))
        return forms
    is_cut = len(shown.text) > TEXT_AT_MOST
    forms = [_form("text" if shown.type == "str" else "Python", shown.text[:TEXT_AT_MOST], is_cut)]
    document = shown.value
    if shown.type == "str" and not is_cut and shown.text.lstrip()[:1] in ("{", "["):
        try:
            document = json.loads(shown.text)
        except (ValueError, RecursionError):
            document = None
    if isinstance(document, (dict, list)):
        with suppress(ValueError, RecursionError):  # too deep, or a number of too many digits
            forms.insert(0, _form("JSON", *_indented(document)))
    return forms


def _form(name: str, text: str, is_cut: bool) -> dict[str, Any]:
    return {"name": name, "text": printable_lines(text), "is_cut": is_cut}


def _decoded(data: bytes) -> str:
    """Return bytes as text; "": they are none that a person reads."""
    try:
        text = data[:TEXT_AT_MOST].decode("utf-8", "strict" if len(data) <= TEXT_AT_MOST
                                          else "ignore")
    except ValueError:
        return ""
    return text if all(one.isprintable() or one in "\n\r\t" for one in text) else ""


def _indented(document: Any) -> tuple[str, bool]:
    """Write a document as JSON for people, and tell whether it was cut: indented, a few bytes can
    become very many, so it is written no further than it is shown."""
    parts, length = [], 0
    for part in json.JSONEncoder(ensure_ascii=False, indent=2).iterencode(document):
        parts.append(part)
        length += len(part)
        if length > TEXT_AT_MOST:
            break
    return "".join(parts)[:TEXT_AT_MOST], length > TEXT_AT_MOST


def _dump(data: bytes) -> str:
    """Write bytes in lines: where they are, hexadecimal digits, and those that print.

    >>> print(_dump(bytes(range(60, 68))))
    00000  3c 3d 3e 3f 40 41 42 43                          <=>?@ABC
    """
    return "\n".join(
        f"{at:05x}  {data[at:at + _ROW].hex(' '):<{3 * _ROW - 1}}  "
        + "".join(chr(one) if 32 <= one < 127 else "." for one in data[at:at + _ROW])
        for at in range(0, len(data), _ROW)
    )
