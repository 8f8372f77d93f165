"""Key, item and value views that iterate shard by shard, so that nobody's delete breaks them.

`prefix`: only entries whose key is of its type (str, bytes or tuple) and starts so. They are picked
by the keys' bytes, before a value is copied or anything decoded: a tuple's are those of its items,
one after the other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from types import FrameType
from typing import TYPE_CHECKING

from ..checks import Key, Value, shown, whole
from ..errors import ValueUnreadable
from ..memory.geometry import SHARD_LIMIT
from ._listing_cy import list_entries
from ._reads_cy import MISSING
from ._writes_cy import pairs_of
from .copying import Copying, Place, place_of
from .order import in_order
from .unreadable import OnUnreadable, handler_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from .host import Readable

Prefix = str | bytes | tuple[Key, ...] | None
Handler = Callable[[ValueUnreadable], object] | None


def check_prefix(prefix: Prefix) -> Prefix:
    """Refuse what cannot be a prefix."""
    if not isinstance(prefix, (str, bytes, tuple, type(None))):
        raise TypeError(f"prefix must be a str, bytes or tuple, not {type(prefix).__name__}")
    return prefix


class _Picked:
    """What the views share: a map or a snapshot, and a prefix."""

    _mapping: Listings

    def __init__(self, mapping: Listings, prefix: Prefix = None) -> None:
        super().__init__(mapping)  # type: ignore[call-arg]
        self._prefix = check_prefix(prefix)

    def __len__(self) -> int:
        if self._prefix is None:
            return len(self._mapping)
        return len(list(self._mapping._keys(self._prefix)))

    def _picks(self, key: Key) -> bool:
        """Tell whether the prefix admits a key."""
        prefix = self._prefix
        if isinstance(prefix, tuple):
            return isinstance(key, tuple) and key[: len(prefix)] == prefix
        kind = str if isinstance(prefix, str) else bytes
        return prefix is None or (isinstance(key, kind) and key.startswith(prefix))  # type: ignore[arg-type]


class ShmKeysView(_Picked, KeysView[Key]):
    """The keys of a map."""

    def __init__(
        self, mapping: Listings, prefix: Prefix = None, place: Place | None = None
    ) -> None:
        super().__init__(mapping, prefix)
        self._place = place

    def __iter__(self) -> Iterator[Key]:
        if self._place is not None and self._place == place_of(sys._getframe(1)):
            return self._mapping._keys_to_copy(self._place)  # type: ignore[attr-defined, no-any-return]
        return self._mapping._keys(self._prefix)

    def __contains__(self, key: object) -> bool:
        return self._picks(key) and key in self._mapping

    def __repr__(self) -> str:
        return f"<keys of {self._mapping!r}>"


class _Read(_Picked):
    """What the views of values share: what is done about one that cannot be read."""

    def __init__(
        self, mapping: Listings, prefix: Prefix = None, on_unreadable: OnUnreadable = "raise"
    ) -> None:
        super().__init__(mapping, prefix)
        self._unreadable = handler_of(on_unreadable)


class ShmItemsView(_Read, ItemsView[Key, Value]):
    """The (key, value) pairs of a map; each pair was together in the map at one moment."""

    def __iter__(self) -> Iterator[tuple[Key, Value]]:
        return self._mapping._entries(self._prefix, self._unreadable)

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:  # as a dict's view takes it
            return False
        key, wanted = item
        if not self._picks(key):
            return False
        try:
            value = self._mapping.get(key, MISSING)
        except ValueUnreadable as error:
            if self._unreadable is None:
                raise
            self._unreadable(error)
            return False
        return value is not MISSING and bool(value is wanted or value == wanted)

    def __repr__(self) -> str:
        return f"<items of {self._mapping!r}>"


class ShmValuesView(_Read, ValuesView[Value]):
    """The values of a map."""

    def __iter__(self) -> Iterator[Value]:
        return (value for _, value in self._mapping._entries(self._prefix, self._unreadable))

    def __contains__(self, wanted: object) -> bool:
        return any(value is wanted or value == wanted for value in self)

    def __repr__(self) -> str:
        return f"<values of {self._mapping!r}>"


class Listings:
    """The views of a map or a snapshot, over what its `_keys` and `_entries` list."""

    if TYPE_CHECKING:
        def __len__(self) -> int: ...
        def __contains__(self, key: object) -> bool: ...
        def __getitem__(self, key: Key) -> Value: ...
        def get(self, key: Key, default: Value = None) -> Value: ...
        def _keys(self, prefix: Prefix = None) -> Iterator[Key]: ...
        def _entries(
            self, prefix: Prefix = None, unreadable: Handler = None
        ) -> Iterator[tuple[Key, Value]]: ...

    _on_unreadable: OnUnreadable = "raise"  # what a listing does that is not told

    def __iter__(self) -> Iterator[Key]:
        """Iterate over the keys: see `items`."""
        return self._keys()

    def keys(self, prefix: Prefix = None) -> ShmKeysView:
        """View the keys; with `prefix`, those of its type that start so: see `items`."""
        return ShmKeysView(self, prefix)

    def items(
        self, prefix: Prefix = None, *, on_unreadable: OnUnreadable | None = None
    ) -> ShmItemsView:
        """View the (key, value) pairs; with `prefix` (a str, bytes or tuple), those whose key is of
        that type and starts so: `("user", 7)` picks `("user", 7, "name")`. The others' values are
        neither copied nor decoded.

        A snapshot is of one instant. Iteration over a map is weakly consistent: an entry that is
        there throughout comes exactly once, one that comes or goes meanwhile may come or not.
        Nobody waits for it. O(size of the map), with a prefix too. For all entries of a map at one
        instant: `snapshot`.

        `on_unreadable`: what to do about a value that cannot be unpickled here. "raise" (default):
        raise its ValueUnreadable, which has the key. "skip": leave the entry out. A function:
        leave the entry out and call the function with that error; what it raises ends the listing.
        """
        return ShmItemsView(self, prefix, on_unreadable or self._on_unreadable)

    def values(
        self, prefix: Prefix = None, *, on_unreadable: OnUnreadable | None = None
    ) -> ShmValuesView:
        """View the values; as `items`."""
        return ShmValuesView(self, prefix, on_unreadable or self._on_unreadable)

    def copy(self) -> dict[Key, Value]:
        """Return a plain dict of the items; of a map that changes it is weakly consistent: see
        `items`. For another handle on a map: copy.copy."""
        return dict(self.items())

    def __or__(self, other: Value) -> dict[Key, Value]:
        """Return a plain dict of these items and the other's."""
        if not hasattr(other, "keys"):
            return NotImplemented
        return {**dict(self.items()), **dict(pairs_of(other))}

    def __ror__(self, other: Value) -> dict[Key, Value]:
        """Return a plain dict of the other's items and these."""
        if not hasattr(other, "keys"):
            return NotImplemented
        return {**dict(pairs_of(other)), **dict(self.items())}


class MapListings(Listings):
    """The listings of a map that goes on changing, and what takes other mappings in."""

    if TYPE_CHECKING:
        set_many: Callable[[Value], None]

        @property
        def _live(self) -> Readable: ...
        def _copy_by(self, copying: Copying | None) -> None: ...

    def _keys(self, prefix: Prefix = None) -> Iterator[Key]:
        return in_order(lambda unit: list_entries(self, unit, False, prefix))

    def _entries(
        self, prefix: Prefix = None, unreadable: Handler = None
    ) -> Iterator[tuple[Key, Value]]:
        return in_order(lambda unit: list_entries(self, unit, True, prefix, unreadable))

    def keys(self, prefix: Prefix = None) -> ShmKeysView:
        """View the keys; with `prefix`, those of its type that start so: see `items`."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_name == "keys":  # a subclass's own, over this
            frame = frame.f_back
        place = None if frame is None or prefix is not None else place_of(frame)
        return ShmKeysView(self, prefix, place)

    def _keys_to_copy(self, place: Place) -> Iterator[Key]:
        """List the keys for C code that looks each of them up: see `copying`."""
        copying: Copying = self.__dict__.setdefault("_copies", Copying())
        return copying.list_keys(self, place)

    def scan(
        self, cursor: int = 0, prefix: Prefix = None, *, on_unreadable: OnUnreadable = "raise"
    ) -> tuple[int, list[tuple[Key, Value]]]:
        """List a part of the map: (the next cursor, [(key, value), ...]).

        Start with cursor 0 and go on with what comes back, until that is 0: the end. About a
        shard a call, so a list may be long, or empty before the end. The cursor is a place among
        the hashes and all the state there is: it may be kept, and used in another process.
        An entry that is there from the first call to the last is listed exactly once (more than
        once only if calls are repeated); one that comes or goes meanwhile may be listed or not.
        Takes no lock. `prefix`, `on_unreadable`: as for `items`.

        Raises: TypeError, ValueError for what is no cursor.
        """
        cursor = whole(cursor, "cursor")
        if not 0 <= cursor < SHARD_LIMIT:
            raise ValueError(f"cursor={shown(cursor)} is none that scan gave: start again with 0")
        following, listed = list_entries(
            self, cursor, True, check_prefix(prefix), handler_of(on_unreadable)
        )
        return following % SHARD_LIMIT, listed

    def update(self, other: Value = (), /, **named: Value) -> None:
        """Write every item of a mapping or of (key, value) pairs, and the named ones; each write
        is one step. An error stops it; the items before have been written."""
        self.set_many(other)
        self.set_many(named)

    def __ior__(self, other: Value) -> Self:  # type: ignore[override]
        """Write every item of the other; each write is one step."""
        self.set_many(other)
        return self
