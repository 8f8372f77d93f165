"""Codecs: what becomes of values that are not stored natively, and what a map remembers of it.

    "auto"     pickle (the default)
    "safe"     none: such a value is refused
    "json"     the standard library's json
    "msgpack"  msgpack, which is installed on its own
    an object  with `name`, `dumps(value) -> bytes` and `loads(bytes) -> value`

A map has one codec. Its name lies in the control segment, and is compared whenever the map is
opened: which code runs over the bytes of other processes is for each process to say, never for the
map.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import ConfigMismatch

PLAIN = ("auto", "safe")  # what needs no other package, nor an object
NAME_BYTES = 24
_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{NAME_BYTES}}}")


class Codec(Protocol):
    """What may be given as codec=."""

    name: str

    def dumps(self, value: Any) -> bytes:
        """Return a value as bytes."""

    def loads(self, data: bytes) -> Any:
        """Return the value that these bytes were made of."""


class Json:
    """JSON as the standard library has it: a tuple comes back as a list, keys of dicts as str."""

    name = "json"

    def __init__(self) -> None:
        from json import JSONDecoder, JSONEncoder

        self._encode = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
        self._decode = JSONDecoder().decode

    def dumps(self, value: Any) -> bytes:
        """Return a value as bytes."""
        return self._encode(value).encode("utf-8", "surrogatepass")

    def loads(self, data: bytes) -> Any:
        """Return the value that these bytes were made of."""
        return self._decode(data.decode("utf-8", "surrogatepass"))


class Msgpack:
    """msgpack: a tuple comes back as a list."""

    name = "msgpack"

    def __init__(self) -> None:
        try:
            import msgpack
        except ImportError as error:
            raise ImportError(
                'codec="msgpack" needs the package msgpack: pip install "shmmap[msgpack]"'
            ) from error
        self._pack, self._unpack = msgpack.packb, msgpack.unpackb

    def dumps(self, value: Any) -> bytes:
        """Return a value as bytes."""
        packed: bytes = self._pack(value)
        return packed

    def loads(self, data: bytes) -> Any:
        """Return the value that these bytes were made of."""
        return self._unpack(data, strict_map_key=False)


class Unavailable:
    """Stands for a codec whose object this process has not got: what needs it raises. For programs
    that copy entries as bytes."""

    def __init__(self, name: str, why: str = "") -> None:
        self.name = name
        self._why = why or "open it with codec=, the object of that name"

    def dumps(self, value: Any) -> bytes:
        """Refuse."""
        raise ConfigMismatch(
            f"the map has the codec {self.name!r}, which is not to be had here: {self._why}"
        )

    def loads(self, data: bytes) -> Any:
        """Refuse."""
        return self.dumps(data)


_MAKERS: dict[str, Callable[[], Codec]] = {"json": Json, "msgpack": Msgpack}
BUILT_IN = (*PLAIN, *_MAKERS)
_made: dict[str, Codec] = {}


def is_name(name: object) -> bool:
    """Tell whether a map may remember that as the name of its codec."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def read_codec(codec: object) -> tuple[str | None, Codec | None]:
    """Check what was given as codec=: return its name (None: nothing was given), and the object, if
    it was one.

    Raises:
        ValueError: a str that names none, or an object whose name cannot be kept.
        TypeError: it is neither a str nor an object with name, dumps and loads.
        ImportError: its package is not installed.
    """
    if codec is None:
        return None, None
    if isinstance(codec, str):
        codec = str.__str__(codec)
        if codec not in BUILT_IN:
            raise ValueError(
                f"codec={codec!r} must be one of {', '.join(map(repr, BUILT_IN))}, or an object "
                "with name, dumps and loads"
            )
        coder_of(codec)  # its package is imported now: later there may be no descriptor for that
        return codec, None
    name = getattr(codec, "name", None)
    missing = [part for part in ("dumps", "loads") if not callable(getattr(codec, part, None))]
    if not isinstance(name, str) or missing or isinstance(codec, type):
        raise TypeError(
            f"codec= must be one of {', '.join(map(repr, BUILT_IN))}, or an object with name, "
            f"dumps and loads, not {type(codec).__name__}"
            + (": give an instance of the class" if isinstance(codec, type) else "")
        )
    if not is_name(name) or name in BUILT_IN:
        raise ValueError(
            f"codec= has the name {name!r}: it must be 1 to {NAME_BYTES} of A-Z a-z 0-9 _ . - and "
            f"none of {', '.join(map(repr, BUILT_IN))}"
        )
    return name, codec  # type: ignore[return-value]


def coder_of(name: str | None) -> bool | Codec:
    """Return what `_codecs_cy.pack` takes for a map's codec: False: pickle, True: nothing more than
    what is native, or the codec."""
    if name is None or name in PLAIN:
        return name == "safe"
    if name not in _made:
        maker = _MAKERS.get(name)
        _made[name] = Unavailable(name) if maker is None else maker()
    return _made[name]


def coder_here(name: str | None) -> bool | Codec:
    """Return that, or, where its package is not installed, what says so once it is used."""
    try:
        return coder_of(name)
    except ImportError as error:
        return Unavailable(name or "", str(error))


def words_of(name: str) -> tuple[int, list[int]]:
    """Return a codec's number in a control segment, and the words of its name."""
    if name in PLAIN:
        return PLAIN.index(name), [0] * (NAME_BYTES // 8)
    data = name.encode("ascii").ljust(NAME_BYTES, b"\0")
    return len(PLAIN), [
        int.from_bytes(data[at : at + 8], "little") for at in range(0, NAME_BYTES, 8)
    ]


def name_of(number: int, words: list[int]) -> str | None:
    """Return the name that a control segment's words say; None: they say none that a creator
    writes."""
    data = b"".join(word.to_bytes(8, "little") for word in words).rstrip(b"\0")
    if number < len(PLAIN):
        return None if data else PLAIN[number]
    name = data.decode("ascii", "replace")
    return name if number == len(PLAIN) and is_name(name) and name not in PLAIN else None
