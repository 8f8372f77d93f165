"""Key, item and value views that iterate shard by shard, so that nobody's delete breaks them.

`prefix`: only entries whose key is of its type (str or bytes) and starts so. They are picked
by the keys' bytes, before a value is copied or anything decoded.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any

Prefix = str | bytes | None


def check_prefix(prefix: Prefix) -> Prefix:
    """Refuse what cannot be a prefix."""
    if not isinstance(prefix, (str, bytes, type(None))):
        raise TypeError(f"prefix must be a str or bytes, not {type(prefix).__name__}")
    return prefix


class _Picked:
    """What the views share: a map or a snapshot, and a prefix."""

    _mapping: Any

    def __init__(self, mapping: Any, prefix: Prefix = None) -> None:
        super().__init__(mapping)  # type: ignore[call-arg]
        self._prefix = check_prefix(prefix)

    def __len__(self) -> int:
        if self._prefix is None:
            return len(self._mapping)
        return sum(1 for _ in self._mapping._keys(self._prefix))

    def _picks(self, key: Any) -> bool:
        """Tell whether the prefix admits a key."""
        prefix: Any = self._prefix
        kind = str if isinstance(prefix, str) else bytes
        return prefix is None or (isinstance(key, kind) and key.startswith(prefix))


class ShmKeysView(_Picked, KeysView[Any]):
    """The keys of a map."""

    def __iter__(self) -> Iterator[Any]:
        return self._mapping._keys(self._prefix)  # type: ignore[no-any-return]

    def __contains__(self, key: object) -> bool:
        return self._picks(key) and key in self._mapping

    def __repr__(self) -> str:
        return f"<keys of {self._mapping!r}>"


class ShmItemsView(_Picked, ItemsView[Any, Any]):
    """The (key, value) pairs of a map; each pair was together in the map at one moment."""

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping._entries(self._prefix)  # type: ignore[no-any-return]

    def __contains__(self, item: object) -> bool:
        key: Any = item[0]  # type: ignore[index]
        return self._picks(key) and super().__contains__(item)  # type: ignore[operator]

    def __repr__(self) -> str:
        return f"<items of {self._mapping!r}>"


class ShmValuesView(_Picked, ValuesView[Any]):
    """The values of a map."""

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._entries(self._prefix))

    def __contains__(self, wanted: object) -> bool:
        return any(value is wanted or value == wanted for value in self)

    def __repr__(self) -> str:
        return f"<values of {self._mapping!r}>"
