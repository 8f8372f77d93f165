"""Keeping a function's results for all machines: `@tier.cached()`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..call_keys import CallKeys, NoKey
from ..checks import Key, Value
from ..decorator import check_function
from ..locks.keeping import note, notes_of

if TYPE_CHECKING:
    from .tiered import Tiered


def cached(
    tier: Tiered, ttl: Any, key: Callable[..., Key] | None, version: Key, prefix: str | None,
    timeout: Any,
) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """See Tiered.cached."""
    def decorate(function: Callable[..., Value]) -> Callable[..., Value]:
        if not callable(function):
            raise TypeError(f"cached: there is no function to decorate: {function!r} was given. "
                            "Write @tier.cached()")
        if check_function(function, key, prefix):
            raise TypeError(f"cached: {function!r} is a coroutine function, which a tier does not "
                            "keep results of")
        keys = CallKeys(function, key, version, prefix)

        def key_for(*args: Value, **kwargs: Value) -> Key:
            return (*keys.label(), *keys.part_for(args, kwargs))

        def wrapper(*args: Value, **kwargs: Value) -> Value:
            try:
                place = key_for(*args, **kwargs)
            except NoKey as error:
                note(tier.map, notes_of(tier.map), "no_key", f"{error}; it is computed each time")
                return function(*args, **kwargs)
            return tier.get_or_set(place, lambda: function(*args, **kwargs), ttl, timeout=timeout)

        made: Any = functools.wraps(function)(wrapper)
        made.key_for = key_for
        made.invalidate = lambda *args, **kwargs: tier.delete(key_for(*args, **kwargs))
        return made  # type: ignore[no-any-return]

    return decorate
