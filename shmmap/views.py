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


class Listings:
    """The views of a map or a snapshot, over what its `_keys` and `_entries` list."""

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the keys: see `items`."""
        listed: Any = self
        return listed._keys()  # type: ignore[no-any-return]

    def keys(self, prefix: Prefix = None) -> ShmKeysView:
        """View the keys; with `prefix`, those of its type that start so: see `items`."""
        return ShmKeysView(self, prefix)

    def items(self, prefix: Prefix = None) -> ShmItemsView:
        """View the (key, value) pairs; with `prefix` (a str or bytes), those whose key is of that
        type and starts so: the others' values are neither copied nor decoded.

        Iteration over a map is weakly consistent: an entry that is there throughout comes exactly
        once, one that comes or goes meanwhile may come or not. Nobody waits for it. O(size of the
        map), with a prefix too. For all entries at one instant: `snapshot`.
        """
        return ShmItemsView(self, prefix)

    def values(self, prefix: Prefix = None) -> ShmValuesView:
        """View the values; as `items`."""
        return ShmValuesView(self, prefix)

    def __or__(self, other: Any) -> dict[Any, Any]:
        """Give a plain dict of these items and the other's."""
        if not hasattr(other, "keys"):
            return NotImplemented
        return {**dict(self.items()), **dict(other.items())}

    def __ror__(self, other: Any) -> dict[Any, Any]:
        """Give a plain dict of the other's items and these."""
        if not hasattr(other, "keys"):
            return NotImplemented
        return {**dict(other.items()), **dict(self.items())}
