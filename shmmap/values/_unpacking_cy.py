# mypy: ignore-errors
"""Containers from their bytes: the inverse of `_packing_cy`; see docs/design/value-layout.md.

The bytes may be anybody's: every count is compared with the bytes that are left before anything is
made for it, and what would not come out as it was written is damage. No code of others runs, but
what a garbage collection may run: the bytes must be private.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import i64, u64
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        ITEM_AGAIN,
        ITEM_AGAIN8,
        ITEM_AGAIN16,
        ITEM_AGAIN32,
        ITEM_BELOW8,
        ITEM_BYTES,
        ITEM_BYTES8,
        ITEM_BYTES32,
        ITEM_DICT,
        ITEM_DICT8,
        ITEM_DICT32,
        ITEM_FALSE,
        ITEM_FLOAT,
        ITEM_INT,
        ITEM_INT8,
        ITEM_INT16,
        ITEM_INT32,
        ITEM_INT64,
        ITEM_LIST,
        ITEM_LIST8,
        ITEM_LIST32,
        ITEM_NONE,
        ITEM_OTHER,
        ITEM_SET8,
        ITEM_SET32,
        ITEM_STR,
        ITEM_STR8,
        ITEM_STR32,
        ITEM_TRUE,
        ITEM_TUPLE,
        ITEM_TUPLE8,
        ITEM_TUPLE32,
        ITEMS_DEEPEST,
        ITEMS_REPEAT,
        ITEMS_VERSION,
        OTHER_TIMEZONE,
    )
    from shmmap.values._octets import (
        end_reading,
        filled,
        filled_tuple,
        give_number,
        key_text,
        new_dict,
        new_list,
        new_reader,
        new_tuple,
        numbered,
        octets_at,
        put_in_list,
        put_in_tuple,
        read_from,
        reader_t,
        real64,
        signed32,
        signed64,
        text,
        word16,
        word32,
    )
    from shmmap.values._others_cy import is_aware_code, is_own_zone, read_other_value
    from shmmap.values._packing_cy import most_weight, weigh

from shmmap.errors import MapCorrupted

COMPILED = cython.compiled


class _Damaged(Exception):
    """These bytes are none that were written."""


_OF_BYTES = (_Damaged, TypeError, ValueError, LookupError, ArithmeticError)


def unpack_items(data: bytes) -> object:
    """Decode a value. Raises MapCorrupted for bytes that `pack_items` does not write."""
    return read_items(data, len(data))


def read_items(data, length):
    """The same, of so many bytes that stay as they are. What a signal handler raises in between
    comes once; what comes twice is the bytes'."""
    try:
        return read_once(data, length)
    except _OF_BYTES as error:
        try:
            read_once(data, length)
        except _OF_BYTES as again:
            raise MapCorrupted(f"a container cannot be read: {again}") from None
        raise error


def read_once(data, length):
    """Read a value, or raise one of _OF_BYTES."""
    reader: reader_t = new_reader()
    read_from(reader, data, 1, length)
    try:
        if length < 2 or data[0] & ~ITEMS_REPEAT != ITEMS_VERSION:
            raise _Damaged("its version is unknown")
        reader.numbers = data[0] & ITEMS_REPEAT
        value: object = read_item(reader)
        if reader.at != length:
            raise _Damaged("there is more behind its end")
        return value
    finally:
        end_reading(reader)


def need(reader, length):
    """Make sure that so many bytes are left."""
    if length > reader.end - reader.at:
        raise _Damaged("it is cut off")
    return 0


def read_item(reader):
    """Read the next item."""
    kind: u64
    need(reader, 1)
    kind = reader.data[reader.at]
    reader.at += 1
    if kind < ITEM_STR:
        return kind
    if kind < ITEM_AGAIN:
        return read_text(reader, kind - ITEM_STR)
    if kind < ITEM_DICT:
        return read_again(reader, kind - ITEM_AGAIN)
    if kind < ITEM_LIST:
        return read_dict(reader, kind - ITEM_DICT)
    if kind < ITEM_TUPLE:
        return read_list(reader, kind - ITEM_LIST)
    if kind < ITEM_BYTES:
        return read_tuple(reader, kind - ITEM_TUPLE)
    if kind < ITEM_NONE:
        return read_bytes(reader, kind - ITEM_BYTES)
    if kind == ITEM_NONE:
        return None
    if kind == ITEM_TRUE:
        return True
    if kind == ITEM_FALSE:
        return False
    if kind <= ITEM_INT64:
        return read_number(reader, kind)
    return read_long(reader, kind)


def read_number(reader, kind):
    """Read a float, or an int of a fixed length."""
    at: u64 = reader.at
    length: u64 = 8
    if kind == ITEM_INT8:
        length = 1
    elif kind == ITEM_INT16:
        length = 2
    elif kind == ITEM_INT32:
        length = 4
    need(reader, length)
    reader.at += length
    if kind == ITEM_FLOAT:
        return real64(reader.data, at)
    if kind == ITEM_INT8:
        return reader.data[at]
    if kind == ITEM_INT16:
        return word16(reader.data, at)
    if kind == ITEM_INT32:
        return signed32(reader.data, at)
    return signed64(reader.data, at)


def read_count(reader, kind):
    """Read the length or the count that follows a first byte of these."""
    at: u64 = reader.at
    if kind < ITEM_STR32:
        need(reader, 1)
        reader.at += 1
        return reader.data[at]
    if kind == ITEM_AGAIN16:
        need(reader, 2)
        reader.at += 2
        return word16(reader.data, at)
    need(reader, 4)
    reader.at += 4
    return word32(reader.data, at)


def read_long(reader, kind):
    """Read an item of the kinds that are less frequent."""
    count: u64
    if kind == ITEM_OTHER:
        return read_other(reader)
    if kind == ITEM_BELOW8:
        below: i64 = read_count(reader, ITEM_INT8)
        return -1 - below
    if kind > ITEM_INT:
        raise _Damaged(f"nothing begins with {kind:#x}")
    count = read_count(reader, kind)
    if kind in (ITEM_STR8, ITEM_STR32):
        return read_text(reader, count)
    if kind in (ITEM_BYTES8, ITEM_BYTES32):
        return read_bytes(reader, count)
    if kind in (ITEM_DICT8, ITEM_DICT32):
        return read_dict(reader, count)
    if kind in (ITEM_LIST8, ITEM_LIST32):
        return read_list(reader, count)
    if kind in (ITEM_TUPLE8, ITEM_TUPLE32):
        return read_tuple(reader, count)
    if kind in (ITEM_AGAIN8, ITEM_AGAIN16, ITEM_AGAIN32):
        return read_again(reader, count)
    if kind == ITEM_INT:
        return read_big(reader, count)
    return read_set(reader, count, kind in (ITEM_SET8, ITEM_SET32))


def read_again(reader, number):
    """Return the item of that number."""
    if number < reader.count:
        return numbered(reader, number)
    raise _Damaged(f"there is no item {number} before it")


def noted(reader, made, has_number):
    """Return an item, which gets the next number if it is to have one, and any item stands for
    another."""
    if reader.numbers and has_number:
        give_number(reader, made)
    return made


def read_text(reader, length):
    """Read a str."""
    need(reader, length)
    made: object = text(reader.data, reader.at, length)
    reader.at += length
    return noted(reader, made, length > 1)


def read_key(reader):
    """Read the key of a dict: mostly a short str that was read before."""
    kind: u64
    need(reader, 1)
    kind = reader.data[reader.at]
    if kind < ITEM_STR or kind >= ITEM_AGAIN:
        again: u64 = kind - ITEM_AGAIN
        if kind >= ITEM_AGAIN and kind < ITEM_DICT and again < reader.count:
            reader.at += 1
            return light(reader, numbered(reader, again))
        return light(reader, read_item(reader))
    length: u64 = kind - ITEM_STR
    reader.at += 1
    need(reader, length)
    made: object = key_text(reader.data, reader.at, length)
    reader.at += length
    return noted(reader, made, length > 1)


def light(reader, key):
    """Return the key of a dict, or the item of a set, if it can be hashed in reasonable time."""
    if reader.numbers and (type(key) is tuple or type(key) is frozenset):
        weight: i64 = weigh(key, most_weight(reader.at) - reader.weight)
        if weight < 0:
            raise _Damaged("its keys contain too much")
        reader.weight += weight
    return key


def read_raw(reader, length):
    """Read bytes that have no number."""
    need(reader, length)
    made: object = octets_at(reader.data, reader.at, length)
    reader.at += length
    return made


def read_bytes(reader, length):
    """Read a bytes object."""
    made: object = read_raw(reader, length)
    return noted(reader, made, length > 1)


def read_big(reader, length):
    """Read an int of more than 8 bytes."""
    data: object = read_raw(reader, length)
    return int.from_bytes(data, "little", signed=True)


def read_other(reader):
    """Read an item of the types of `_others_cy`."""
    need(reader, 2)
    code: u64 = reader.data[reader.at]
    kind: u64 = reader.data[reader.at + 1]
    reader.at += 2
    length: u64 = kind - ITEM_BYTES
    if kind in (ITEM_BYTES8, ITEM_BYTES32):
        length = read_count(reader, kind)
    elif not ITEM_BYTES <= kind < ITEM_NONE:
        raise _Damaged(f"{kind:#x} begins no bytes")
    need(reader, length)
    at: u64 = reader.at
    reader.at += length
    zone: object = read_own_zone(reader) if is_aware_code(code) else None
    return noted(reader, read_other_value(code, reader.data, at, length, zone), True)


def read_own_zone(reader):
    """Read the zone behind a time: a timezone, or the number of one. Nothing else is begun to be
    read here, times of all things, which could be chained without end."""
    need(reader, 1)
    if reader.data[reader.at] == ITEM_OTHER:
        need(reader, 2)
        if reader.data[reader.at + 1] != OTHER_TIMEZONE:
            raise _Damaged("a time has no zone")
    zone: object = read_item(reader)
    if not is_own_zone(zone):
        raise _Damaged("a time has no zone")
    return zone


# -- containers -----------------------------------------------------------------------------


def go_deeper(reader, count):
    """Begin a container with so many items, each of one byte at least, and of no other container:
    all together have no more of them than the value has bytes."""
    reader.claimed += count
    if count > reader.end - reader.at or reader.claimed > reader.end:
        raise _Damaged("it is cut off")
    reader.depth += 1
    if reader.depth > ITEMS_DEEPEST:
        raise _Damaged("it is nested too deeply")
    return 0


def read_dict(reader, count):
    """Read a dict."""
    i: u64
    go_deeper(reader, 2 * count)
    made: dict = new_dict(count)
    for i in range(count):
        key: object = read_key(reader)
        made[key] = read_item(reader)
    if len(made) != count:
        raise _Damaged("a dict has a key twice")
    reader.depth -= 1
    return noted(reader, made, True)


def read_list(reader, count):
    """Read a list."""
    i: u64
    go_deeper(reader, count)
    places: object = new_list(count)
    for i in range(count):
        put_in_list(places, i, read_item(reader))
    made: object = filled(places)
    reader.depth -= 1
    return noted(reader, made, True)


def read_tuple(reader, count):
    """Read a tuple."""
    i: u64
    if count == 0:
        return ()
    go_deeper(reader, count)
    places: object = new_tuple(count)
    for i in range(count):
        put_in_tuple(places, i, read_item(reader))
    made: object = filled_tuple(places)
    reader.depth -= 1
    return noted(reader, made, True)


def read_set(reader, count, changes):
    """Read a set, or a frozenset."""
    i: u64
    go_deeper(reader, count)
    items: set = set()
    for i in range(count):
        items.add(light(reader, read_item(reader)))
    if len(items) != count:
        raise _Damaged("a set has an item twice")
    made: object = items if changes else frozenset(items)
    reader.depth -= 1
    return noted(reader, made, changes or count > 0)
