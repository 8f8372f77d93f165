# mypy: ignore-errors
"""Many keys at a time. Each read and each write is one step, as those of one key are; what is
gained is the time that one after the other waits for memory.

Compiled, GROUP keys at a time are hashed; then the processor is told to fetch where the index
leads to for each, then their entries. By then the first is there. That is a hint: nothing rests on
it. So it is only with containers of Python's own: what an iterator yields is read or written before
its code goes on, which may look at the map, or change what it has yielded.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import i64, key_t, new_probe, probe_t, u64, value_t
    from shmmap.memory.layout import GROUP  # type: ignore[attr-defined]
    from shmmap.operations._decoding_cy import value_of
    from shmmap.operations._near_cy import AS_OPENED
    from shmmap.values._codecs_cy import encode as encode_value
    from shmmap.values._keys_cy import encode as encode_key
    from shmmap.values._octets import new_dict

from shmmap.checks import shown
from shmmap.errors import ValueUnreadable
from shmmap.operations._reads_cy import MISSING

COMPILED = cython.compiled
_AT_REST = frozenset((list, tuple, set, frozenset, dict, type({}.keys()), type({}.items())))


def read_many(handle, keys: Any, default: Any, unreadable: Any) -> dict:
    """Return {key: value}. What has no entry is left out, or, unless it is MISSING, has the
    default."""
    gathered: dict = new_dict(len(keys)) if type(keys) in (list, tuple) else {}
    group: list = []
    ahead: cython.bint = cython.compiled and handle.near is None and type(keys) in _AT_REST
    for key in keys:
        if not ahead:
            read_one(handle, key, default, unreadable, gathered)
            continue
        group.append(key)
        if len(group) == GROUP:
            read_group(handle, group, default, unreadable, gathered)
            group = []
    if group:
        read_group(handle, group, default, unreadable, gathered)
    return gathered


def read_one(handle, key, default, unreadable, gathered):
    """Read one key into `gathered`."""
    try:
        value: Any = handle.read(key, default, AS_OPENED)
    except ValueUnreadable as error:
        if unreadable is None:
            raise
        unreadable(error)
        return 0
    if value is not MISSING:
        gathered[key] = value
    return 0


def read_group(handle, group, default, unreadable, gathered):
    """Read GROUP keys, or less, into `gathered`."""
    if cython.compiled:
        i: u64
        found: probe_t = new_probe()
        packed: key_t = new_keys()
        kept: list = []
        for i in range(len(group)):
            kept.append(encode_key(group[i], handle.seed, packed + i))
        foresee(handle, packed, len(group))
        for i in range(len(group)):
            raw: Any = handle.fetch(packed + i, found, True)
            key: Any = group[i]
            if raw is MISSING:
                if default is not MISSING:
                    gathered[key] = default
                continue
            try:
                gathered[key] = value_of(handle, raw, found, key)
            except ValueUnreadable as error:
                if unreadable is None:
                    raise
                unreadable(error)
    return 0


def write_many(handle, pairs: Any, mode: Any, ttl: Any) -> None:
    """Write (key, value) pairs, in their order. An error stops it; those before have been
    written."""
    keys: list = []
    values: list = []
    number: u64 = 0
    ahead: cython.bint = cython.compiled and type(pairs) in _AT_REST
    try:
        for pair in pairs:
            number += 1
            if not ahead or type(pair) is not tuple or len(pair) != 2:
                if keys:
                    write_group(handle, keys, values, mode, ttl)
                key, value = pair_of(pair, number)
                try:
                    handle.write(key, value, mode, ttl, 0)
                except Exception as error:
                    name_key(handle, key, error)
                    raise
                continue
            keys.append(pair[0])
            values.append(pair[1])
            if len(keys) == GROUP:
                write_group(handle, keys, values, mode, ttl)
    finally:  # where the pairs have an end in an error, too
        if keys:
            write_group(handle, keys, values, mode, ttl)


def pair_of(pair: Any, number: Any) -> tuple:
    """Take a (key, value) pair apart. Raises TypeError or ValueError, as a dict's `update` does."""
    try:
        key, value = pair
    except (TypeError, ValueError) as error:
        raise (TypeError if isinstance(error, TypeError) else ValueError)(
            f"item {number} is {shown(pair)}, not a (key, value) pair: give a mapping, or pairs. "
            "The items before are written"
        ) from error
    return key, value


def name_key(handle, key: Any, error: Any) -> None:
    """Have an error tell at which of many keys it came, where Python has notes for that (3.11)."""
    if isinstance(error, Exception) and hasattr(error, "add_note"):
        error.add_note(f"map {handle.name!r}, key {shown(key)}; the items before are written")


def write_group(handle, queued, its_values, mode, ttl):
    """Write GROUP entries, or less, which leave these lists."""
    if cython.compiled:
        keys: list = queued[:]
        values: list = its_values[:]
        queued.clear()  # at once: what fails is not tried again
        its_values.clear()
        i: u64
        count: u64 = 0
        packed: key_t = new_keys()
        encoded: value_t = new_values()
        kept: list = []
        problem: Any = None
        try:
            for i in range(len(keys)):
                kept.append(encode_key(keys[i], handle.seed, packed + i))
                kept.append(encode_value(values[i], handle._coder, encoded + i))
                count += 1
        except BaseException as error:
            problem = error
        if count:
            foresee(handle, packed, count)
            deadline: i64 = handle.deadline_ns(ttl)
            for i in range(count):
                handle.commit(keys[i], packed + i, encoded + i, mode, deadline, 0)
        if problem is not None:
            name_key(handle, keys[count], problem)  # now: what it asks for may fail, too
            raise problem
    return 0


def foresee(handle, packed, count):
    """Have the processor fetch what these keys lead to. No code of anybody's runs between the look
    whether the map is there and the last look at its memory."""
    if cython.compiled:
        i: u64
        shard: Shard
        handle.follow()
        for i in range(count):
            shard = handle.shard_for(packed + i)
            shard.foresee(packed[i].hash)
        for i in range(count):
            shard = handle.shard_for(packed + i)
            shard.foresee_entry(packed[i].hash)
    return 0
