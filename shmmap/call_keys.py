"""The key of a call: equal where the arguments are, however they were passed.

    call            key                                        of f(a, b=2, *rest, c=3, **named)
    f(1), f(a=1), f(1, 2), f(1, b=2, c=3)                      (name, version, generation, (1,))
    f(1, 5), f(1, b=5)                                         (name, version, generation, (1, 5))
    f(1, c=5, x=6)                                             (..., generation, (1,), named)

`name` is `prefix=`, or the function's module and name; `generation`: see `generation.py`. Arguments
that equal their default are left out. With `key=` what that gives is in the arguments' place. What
has more than KEY_BYTES is replaced by its digest, so an argument may be as long as it likes.

A class is named by its module and name, an object by what its `__shmmap_key__` gives, so methods
and class methods have keys.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING

from .values._keys_cy import pack

if TYPE_CHECKING:
    from .checks import Key, Value

KEY_BYTES = 1024
HOOK = "__shmmap_key__"
_WORD = 1 << 63
_EMPTY = inspect.Parameter.empty
_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class NoKey(TypeError):
    """An argument cannot be part of a key."""


class CallKeys:
    """Make keys of a function's calls."""

    def __init__(
        self, function: Callable[..., Value], key: Callable[..., Key] | None = None,
        version: Key = None, prefix: str | None = None,
    ) -> None:
        self._function = function
        self._key = key
        self._version = version
        self._prefix = prefix
        kind = type(function)
        # methods of built-in types have no module, their types have; objects that are called too
        self._module = getattr(
            getattr(function, "__objclass__", None), "__module__", kind.__module__
        )
        self._signature: inspect.Signature | None = None
        with suppress(TypeError, ValueError):  # one that is written in C does not say
            # what a decorator between us and the function makes of the arguments, nobody knows
            self._signature = inspect.signature(function, follow_wrapped=False)
        parameters = self._signature.parameters.values() if self._signature else ()
        # so many arguments, passed by position, are a key as they are: none has a default
        self._plain = 0
        for parameter in parameters:
            if parameter.kind not in _BY_PLACE or parameter.default is not _EMPTY:
                break
            self._plain += 1

    def label(self) -> tuple[Key, Key]:
        """Return what the keys of all calls begin with: (name, version)."""
        if self._prefix is not None:
            return self._prefix, self._version
        function = self._function
        module = getattr(function, "__module__", None) or self._module
        name = getattr(function, "__qualname__", type(function).__qualname__)
        return f"{module}.{name}", self._version

    def part_for(self, args: tuple[Value, ...], kwargs: dict[str, Value]) -> tuple[Key, ...]:
        """Return what the key of a call ends with. Raises NoKey."""
        if self._key is not None:
            part: tuple[Key, ...] = (self._key(*args, **kwargs),)
        elif kwargs or len(args) > self._plain:
            args, named = self._settled(args, kwargs)
            part = (args, named) if named else (args,)
        else:
            part = (args,)
        try:
            return shortened(part)
        except TypeError:
            pass
        try:
            return shortened(_stand_in(part))
        except TypeError as error:
            raise NoKey(
                f"cached: what {self.label()[0]} is called with cannot be made into a key "
                f"({error}): give cached(..., key=lambda ...: ...), which makes one of it, or its "
                f"class a method {HOOK}() that returns one"
            ) from None

    def _settled(
        self, args: tuple[Key, ...], kwargs: dict[str, Key]
    ) -> tuple[tuple[Key, ...], tuple[Key, ...]]:
        """Return the arguments by position and those by name, as they are for every such call."""
        as_passed = args, tuple(sorted(kwargs.items()))
        if self._signature is None:
            return as_passed
        try:
            given = self._signature.bind(*args, **kwargs).arguments
        except TypeError:  # the function will say so, in words of its own
            return as_passed
        place: list[Key] = []
        named: dict[str | bytes, Key] = {}
        has_gap = False
        parameters = self._signature.parameters
        rest = any(p.kind is p.VAR_POSITIONAL and given.get(p.name) for p in parameters.values())
        for name, parameter in parameters.items():
            value = given.get(name, _EMPTY)
            if parameter.kind is parameter.VAR_POSITIONAL:
                place += () if value is _EMPTY else value
            elif parameter.kind is parameter.VAR_KEYWORD:
                named.update({} if value is _EMPTY else value)
            elif value is _EMPTY or (_is_same(value, parameter.default) and not rest):
                has_gap = True
            elif parameter.kind in _BY_PLACE and not has_gap:
                place.append(value)
            elif parameter.kind is parameter.KEYWORD_ONLY and _is_same(value, parameter.default):
                continue
            else:  # one of **named may have the name of what is passed by position alone
                only = parameter.kind is parameter.POSITIONAL_ONLY
                named[name.encode() if only else name] = value
        by_name = sorted(named.items(), key=lambda pair: (type(pair[0]).__name__, pair[0]))
        return tuple(place), tuple(by_name)


def shortened(part: tuple[Key, ...]) -> tuple[Key, ...]:
    """Return a part of a key, or, if it is long, its digest. Raises TypeError if it is none."""
    if len(part) == 1 and type(part[0]) is tuple and _is_short(part[0]):
        return part
    kind, data = pack(part)
    if len(data) <= KEY_BYTES:
        return part
    return (blake2b(bytes((kind,)) + data, digest_size=32).digest(),)


def _is_short(args: tuple[Value, ...]) -> bool:
    """Tell whether arguments are part of a key that is not long, where that is seen at a glance."""
    if len(args) > 4:
        return False
    for one in args:
        kind = type(one)
        if kind is str or kind is bytes:
            if len(one) > 48:
                return False
        elif kind is int:
            if not -_WORD <= one < _WORD:
                return False
        elif kind is float:
            if one != one:  # NaN is no key
                return False
        elif one is not None and kind is not bool:
            return False
    return True


def _stand_in(thing: Value) -> Key:
    """Return a key in the place of what is none itself, where there is one."""
    if type(thing) is tuple:
        return tuple(map(_stand_in, thing))
    if isinstance(thing, type):
        return b"class", thing.__module__, thing.__qualname__
    kind = type(thing)
    hook = getattr(kind, HOOK, None)
    if hook is None:
        return thing
    return b"object", kind.__module__, kind.__qualname__, hook(thing)


def _is_same(value: object, default: object) -> bool:
    """Tell whether an argument is the default, as a key of a map tells."""
    if value is default:
        return True
    if default is _EMPTY:
        return False
    try:
        return bool(pack(value) == pack(default))
    except TypeError:
        return False
