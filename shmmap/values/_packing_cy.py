# mypy: ignore-errors
"""Containers as bytes, and what may lie in them: see docs/design/value-layout.md.

Types are exact. What is not of these types has no such bytes, and neither has a container with that
in it: then the whole value is for the map's codec.

An object that comes again is written as the number of its first time, and is one object again once
it is read. Short strings come again most: keys of dicts.

Compiled, nobody's code runs meanwhile, but where Python's own objects are made (of a set, or one of
the classes of `_others_cy`) a garbage collection may, up to Python 3.11: so what has a number is
kept alive from there on, and a container that changes is noticed. Pure, it may at any time: each
container is copied first.
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
        ITEM_DICT,
        ITEM_DICT8,
        ITEM_FALSE,
        ITEM_FEW,
        ITEM_FLOAT,
        ITEM_FROZENSET8,
        ITEM_HEAD_MOST,
        ITEM_INT,
        ITEM_INT8,
        ITEM_INT16,
        ITEM_INT32,
        ITEM_INT64,
        ITEM_LIST,
        ITEM_LIST8,
        ITEM_NONE,
        ITEM_SET8,
        ITEM_STR,
        ITEM_STR8,
        ITEM_TRUE,
        ITEM_TUPLE,
        ITEM_TUPLE8,
        ITEMS_DEEPEST,
        ITEMS_REPEAT,
        ITEMS_VERSION,
        VALUE_LENGTH_MAX,
    )
    from shmmap.values._octets import (
        begin_writing,
        end_writing,
        keep_alive,
        new_writer,
        number,
        number_of,
        put8,
        put16,
        put32,
        put64,
        put_octets,
        put_real,
        put_short,
        reserve,
        writer_t,
        written,
    )
    from shmmap.values._others_cy import (
        is_own_zone,
        other_code,
        put_bytes,
        put_count,
        put_other,
        zone_of,
    )

COMPILED = cython.compiled
TOO_DEEP, BEGUN, KNOWN = 0, 1, 2  # what `begin` did


def pack_items(value):
    """Encode a value; None: it is none of those types, or has something in it that is not, or is
    nested too deeply."""
    writer: writer_t = new_writer()
    begin_writing(writer)
    try:
        put8(writer, ITEMS_VERSION)
        if not put_item(writer, value):
            return None
        if writer.repeats:
            if writer.too_heavy:
                return None
            writer.data[0] = ITEMS_VERSION | ITEMS_REPEAT
        return written(writer)
    finally:
        end_writing(writer)


def put_item(writer, value):
    """Write an item; False: it cannot be written."""
    if type(value) is str:
        return put_text(writer, value)
    if type(value) is int:
        return put_int(writer, value)
    if type(value) is dict:
        return put_dict(writer, value)
    if type(value) is list:
        return put_list(writer, value)
    reserve(writer, ITEM_HEAD_MOST)
    if value is None:
        put8(writer, ITEM_NONE)
    elif value is True:
        put8(writer, ITEM_TRUE)
    elif value is False:
        put8(writer, ITEM_FALSE)
    elif type(value) is float:
        put8(writer, ITEM_FLOAT)
        put_real(writer, value)
    else:
        return put_rarer(writer, value)
    return True


def put_rarer(writer, value):
    """Write an item of the types that are less frequent; False: it cannot be written."""
    kind = type(value)
    if kind is tuple:
        return put_tuple(writer, value)
    if kind is set or kind is frozenset:
        return put_set(writer, value, ITEM_SET8 if kind is set else ITEM_FROZENSET8)
    if kind is bytes:
        if not put_again(writer, value, len(value) > 1):
            put_bytes(writer, value)
        return True
    return put_of_library(writer, value)


def put_of_library(writer, value):
    """Write an item of the classes of `_others_cy`; False: it is of none."""
    code: u64 = other_code(type(value))
    if code == 0:
        return False
    if put_number(writer, value):
        return True
    keep_alive(writer)
    zone: object = zone_of(value, code)
    if zone is not None and not is_own_zone(zone):
        return False
    if not put_other(writer, value, code, zone is not None):
        return False
    if zone is not None and not put_item(writer, zone):
        return False
    number(writer, value)
    return True


def put_again(writer, value, has_number):
    """Write the number that an object has, if it has one; tell whether it did. What has none gets
    the next, if it is to have one: at once, as a string does."""
    if not has_number:
        return False
    if put_number(writer, value):
        return True
    number(writer, value)
    return False


def put_number(writer, value):
    """Write the number that an object has; False: it has none."""
    found: i64 = number_of(writer, value)
    if found < 0:
        return False
    if found < ITEM_DICT - ITEM_AGAIN:
        put8(writer, ITEM_AGAIN + found)
    elif found < 1 << 8:
        put8(writer, ITEM_AGAIN8)
        put8(writer, found)
    elif found < 1 << 16:
        put8(writer, ITEM_AGAIN16)
        put16(writer, found)
    else:
        put8(writer, ITEM_AGAIN32)
        put32(writer, found)
    return True


def put_text(writer, value):
    """Write a str."""
    length: u64 = 0
    if put_short(writer, value, ITEM_STR, ITEM_AGAIN):
        return True
    reserve(writer, ITEM_HEAD_MOST)
    if not cython.compiled:
        return put_encoded(writer, value)
    data = utf8_of(value, cython.address(length))
    if data == cython.NULL:  # lone surrogates
        return put_encoded(writer, value)
    if put_again(writer, value, length > 1):
        return True
    return put_str(writer, data, length)


def put_encoded(writer, value):
    """Write a str that only this makes bytes of."""
    data: bytes = value.encode("utf-8", "surrogatepass")
    if put_again(writer, value, len(data) > 1):
        return True
    return put_str(writer, data, len(data))


def put_str(writer, data, length):
    """Write a str's UTF-8; False: it is too long for any value."""
    if length < ITEM_AGAIN - ITEM_STR:
        put8(writer, ITEM_STR + length)
    elif length > VALUE_LENGTH_MAX:
        return False
    else:
        put_count(writer, ITEM_STR8, length)
    reserve(writer, length + ITEM_HEAD_MOST)
    put_octets(writer, data, length)
    return True


def put_int(writer, value):
    """Write an int."""
    word: i64 = 0
    reserve(writer, ITEM_HEAD_MOST)
    if cython.compiled:
        if not fits_word(value, cython.address(word)):
            return put_big(writer, value)
    else:
        word = value
        if not -(1 << 63) <= value < 1 << 63:
            return put_big(writer, value)
    if word < 0:
        if word >= -0x100:
            put8(writer, ITEM_BELOW8)
            put8(writer, -1 - word)
        elif word >= -0x80000000:
            put8(writer, ITEM_INT32)
            put32(writer, word)
        else:
            put8(writer, ITEM_INT64)
            put64(writer, word)
    elif word < ITEM_STR:
        put8(writer, word)
    elif word < 0x100:
        put8(writer, ITEM_INT8)
        put8(writer, word)
    elif word < 0x10000:
        put8(writer, ITEM_INT16)
        put16(writer, word)
    elif word < 0x80000000:
        put8(writer, ITEM_INT32)
        put32(writer, word)
    else:
        put8(writer, ITEM_INT64)
        put64(writer, word)
    return True


def put_big(writer, value):
    """Write an int of more than 8 bytes."""
    length: u64 = (value.bit_length() + 8) // 8
    data: bytes = value.to_bytes(length, "little", signed=True)
    put8(writer, ITEM_INT)
    put32(writer, length)
    reserve(writer, length + ITEM_HEAD_MOST)
    put_octets(writer, data, length)
    return True


# -- keys that contain others ----------------------------------------------------------------


def most_weight(place):
    """Return how many items all keys that end before that place may have, one by one."""
    return 1000 + 16 * place


def weigh(key, most):
    """Count the items of a key, each as often as it is met; -1: more than `most`."""
    weight: i64 = 1
    one: i64
    if most < 1:
        return -1
    if type(key) is tuple or type(key) is frozenset:
        for item in key:
            one = weigh(item, most - weight)
            if one < 0:
                return -1
            weight += one
    return weight


# -- containers -----------------------------------------------------------------------------
# Each gets its number when all that is in it has been written. So one that contains itself is just
# too deep.


def begin(writer, value, count, few, many, has_number):
    """Begin a container of so many items, whose first byte is one of these: BEGUN; it was written
    before, and so is its number: KNOWN; it is nested too deeply: TOO_DEEP."""
    reserve(writer, ITEM_HEAD_MOST)
    if has_number and put_number(writer, value):
        return KNOWN
    writer.depth += 1
    if writer.depth > ITEMS_DEEPEST:
        return TOO_DEEP
    if few and count < ITEM_FEW:
        put8(writer, few + count)
    else:
        put_count(writer, many, count)
    return BEGUN


def finish(writer, value, count, done, has_number):
    """End a container that has so many items, of which so many were written."""
    if done != count:
        raise RuntimeError("a container changed while it was being encoded")
    writer.depth -= 1
    if has_number:
        number(writer, value)
    return True


def put_key(writer, key):
    """Write a key of a dict, or an item of a set; False: it cannot be written. Hashing what
    contains one object many times takes long: who reads it is spared that."""
    if not put_item(writer, key):
        return False
    if type(key) is tuple or type(key) is frozenset:
        weight: i64 = weigh(key, most_weight(writer.used) - writer.weight)
        writer.weight += weight
        writer.too_heavy |= weight < 0
    return True


def put_dict(writer, value):
    """Write a dict."""
    items: dict = value if cython.compiled else value.copy()
    count: u64 = len(items)
    done: u64 = 0
    begun: i64 = begin(writer, value, count, ITEM_DICT, ITEM_DICT8, True)
    if begun != BEGUN:
        return begun == KNOWN
    for key, item in items.items():
        if not put_key(writer, key) or not put_item(writer, item):
            return False
        done += 1
    return finish(writer, value, count, done, True)


def put_list(writer, value):
    """Write a list."""
    items: list = value if cython.compiled else value.copy()
    count: u64 = len(items)
    done: u64 = 0
    begun: i64 = begin(writer, value, count, ITEM_LIST, ITEM_LIST8, True)
    if begun != BEGUN:
        return begun == KNOWN
    for item in items:
        if not put_item(writer, item):
            return False
        done += 1
    return finish(writer, value, count, done, True)


def put_tuple(writer, value):
    """Write a tuple."""
    items: tuple = value
    count: u64 = len(items)
    done: u64 = 0
    begun: i64 = begin(writer, value, count, ITEM_TUPLE, ITEM_TUPLE8, count > 0)
    if begun != BEGUN:
        return begun == KNOWN
    for item in items:
        if not put_item(writer, item):
            return False
        done += 1
    return finish(writer, value, count, done, count > 0)


def put_set(writer, value, kind):
    """Write a set, or a frozenset."""
    items: object = value if cython.compiled else value.copy()
    count: u64 = len(items)
    done: u64 = 0
    has_number: cython.bint = kind == ITEM_SET8 or count > 0
    begun: i64 = begin(writer, value, count, 0, kind, has_number)
    if begun != BEGUN:
        return begun == KNOWN
    keep_alive(writer)
    for item in items:
        if not put_key(writer, item):
            return False
        done += 1
    return finish(writer, value, count, done, has_number)
