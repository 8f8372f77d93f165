"""What the store calls a key of the map: bytes that begin with the tier's prefix.

A str is its UTF-8, so that others find it under the name that everybody expects. All other keys
that a map has (numbers, bytes, tuples, ...), and a str that begins with the mark, are the mark and
the bytes that the map makes of them: no two keys share a name.
"""

from __future__ import annotations

from ..checks import Key, shown
from ..errors import ShmMapError
from ..memory.layout import constants
from ..values._keys_cy import pack, unpack

KEY_STR = constants()["KEY_STR"]
MARK = b"\0"
LOCKS = MARK + b"!"  # the store's names of locks begin so, behind the prefix: no kind of key does
RESERVED = "shmmap.tier"  # keys that begin so, and tuples whose first item is this, are the tier's


class StoreKeys:
    """Names of one prefix.

    >>> names = StoreKeys("shop:")
    >>> names.name_of("user:7"), names.key_of(names.name_of(("user", 7)))
    (b'shop:user:7', ('user', 7))
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix.encode()

    def name_of(self, key: Key) -> bytes:
        """Return what the store calls a key. Raises TypeError for what no map takes for a key."""
        kind: int
        data: bytes
        kind, data = pack(key)
        if is_reserved(key):
            raise ValueError(f"{shown(key)}: keys that begin with {RESERVED!r} are the tier's own")
        if kind == KEY_STR and not data.startswith(MARK) and is_text(
            data.decode("utf-8", "surrogatepass")
        ):
            return self.prefix + data
        return self.prefix + MARK + bytes((kind,)) + data

    def key_of(self, name: bytes) -> Key:
        """Return the key that the store calls so; raises ValueError where it is none of ours."""
        if not name.startswith(self.prefix):
            raise ValueError(f"{name!r} does not begin with {self.prefix!r}")
        rest = name[len(self.prefix):]
        try:
            key = unpack(rest[1], rest[2:]) if rest.startswith(MARK) else rest.decode()
            if self.name_of(key) == name:  # else others have made it up, or it is the tier's own
                return key
        except (ShmMapError, ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{name!r} names no key: {error}") from None
        raise ValueError(f"{name!r} is not what a key is called")


def is_text(text: str) -> bool:
    """Tell whether it has UTF-8: half a character has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_reserved(key: Key) -> bool:
    """Tell whether a key is the tier's own."""
    first = key[0] if isinstance(key, tuple) and key else key
    return isinstance(first, str) and first.startswith(RESERVED)
