"""The key of a call: equal where the arguments are, however they were passed.

    call            key                                        of f(a, b=2, *rest, c=3, **named)
    f(1), f(a=1), f(1, 2), f(1, b=2, c=3)                      (module, name, (1,))
    f(1, 5), f(1, b=5)                                         (module, name, (1, 5))
    f(1, c=5, x=6)                                             (module, name, (1,), named)

Arguments that equal their default are left out. A key of more than KEY_BYTES is replaced by its
digest, so that an argument may be as long as it likes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING

from .values._keys_cy import pack

if TYPE_CHECKING:
    from .checks import Key

KEY_BYTES = 1024
_EMPTY = inspect.Parameter.empty
_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class CallKeys:
    """Make keys of a function's calls."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        # methods of built-in types have no module, their types have
        self._module = getattr(getattr(function, "__objclass__", None), "__module__", None)
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

    def key_for(self, args: tuple[Key, ...], kwargs: dict[str, Key]) -> Key:
        """Make the key. Raises TypeError for arguments that cannot be part of one."""
        if kwargs or len(args) > self._plain:
            args, named = self._settled(args, kwargs)
        else:
            named = ()
        function = self._function
        module = getattr(function, "__module__", self._module)
        key: tuple[Key, ...] = (module, function.__qualname__, args)
        if named:
            key += (named,)
        try:
            return shortened(key, (module, function.__qualname__))
        except TypeError as error:
            raise TypeError(
                f"cached: the arguments of {function.__qualname__} cannot be made into a key "
                f"({error}): give cached(..., key=lambda ...: ...), which makes one of them"
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


def shortened(key: Key, label: tuple[Key, ...] = ()) -> Key:
    """Return a key, or, if it is long, `label` and its digest. Raises TypeError if it is none."""
    kind, data = pack(key)
    if len(data) <= KEY_BYTES:
        return key
    return (*label, blake2b(bytes((kind,)) + data, digest_size=32).digest())


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
