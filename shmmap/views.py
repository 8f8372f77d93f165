"""Key, item and value views that iterate shard by shard, so that nobody's delete breaks them."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any


class ShmKeysView(KeysView[Any]):
    """The keys of a map."""

    _mapping: Any

    def __repr__(self) -> str:
        return f"<keys of {self._mapping!r}>"


class ShmItemsView(ItemsView[Any, Any]):
    """The (key, value) pairs of a map; each pair was together in the map at one moment."""

    _mapping: Any

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping._entries()  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<items of {self._mapping!r}>"


class ShmValuesView(ValuesView[Any]):
    """The values of a map."""

    _mapping: Any

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._entries())

    def __contains__(self, wanted: object) -> bool:
        return any(value is wanted or value == wanted for value in self)

    def __repr__(self) -> str:
        return f"<values of {self._mapping!r}>"
