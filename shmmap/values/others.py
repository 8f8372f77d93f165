"""Why a value has no bytes of its own: what an error says of it."""

from __future__ import annotations

from typing import Any

from ..memory.layout import constants
from ._packing_cy import pack_items

_DEEPEST = constants()["ITEMS_DEEPEST"]
_PLAIN = (str, int, float, bool, bytes, type(None))
_CONTAINERS = (dict, list, tuple, set, frozenset)
_TOO_MUCH = ("what is nested so deeply, contains itself, or has keys that contain so much, as this "
             "value")


def why_not(value: Any, what: str) -> str:
    """Name what in a value is the reason that it cannot be written as items; `what`: it is, where
    it contains nothing."""
    if type(value) not in _CONTAINERS:
        return _named(value) if what == type(value).__name__ else what
    seen = {id(value): value}
    level = [value]
    for _ in range(_DEEPEST):
        inside: list[Any] = []
        for container in level:
            for item in _items(container):
                if type(item) in _CONTAINERS:
                    if id(item) not in seen:
                        seen[id(item)] = item
                        inside.append(item)
                elif type(item) not in _PLAIN and pack_items(item) is None:
                    return f"{_named(item)} in a {type(value).__name__}"
        level = inside
    return _TOO_MUCH


def _named(item: Any) -> str:
    """Name what cannot be written; of a time, its zone is the reason."""
    name, zone = type(item).__name__, getattr(item, "tzinfo", None)
    if name not in ("datetime", "time") or zone is None:
        return name
    return f"{name} with a tzinfo of {type(zone).__name__}, not datetime.timezone,"


def _items(container: Any) -> list[Any]:
    if type(container) is dict:
        return [*container.keys(), *container.values()]
    return list(container)
