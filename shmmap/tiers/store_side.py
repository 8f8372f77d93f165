"""A store as one of the two sides of a reconcile: see `reconciling`. Its versions are stamps.

Values are carried as the bytes that they are; they are decoded only where a function decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..checks import Key, Value
from ..memory.layout import constants
from ..operations.changes import DELETE
from .reconciling import ABSENT, FOREIGN, Decide, Kept, Write
from .stamps import BYTES
from .store import PutIf, Store
from .store_keys import LOCKS, StoreKeys
from .stored import MAGIC, TOMBSTONE, Writing, is_tombstone

TOMBSTONE_S = 3600.0  # of a removal that a function has decided, where the tier has none
_END = len(MAGIC) + BYTES
_KINDS = range(1, constants()["VALUE_TYPE_MAX"] + 1)


def version_in(head: bytes | None) -> bytes:
    """Return the version that the first bytes say."""
    if head == b"":
        return ABSENT
    if head is None or len(head) <= _END or not head.startswith(MAGIC) or not (
        head[_END] in _KINDS or (head[_END] == TOMBSTONE and len(head) == _END + 1)
    ):
        return FOREIGN
    return head[len(MAGIC):_END]


class StoreSide:
    """What a store has under a prefix. `tell` asks the store, and `change` asks it to change
    keys: those of a tier, which then takes its machine's copies out."""

    def __init__(
        self, store: Store, names: StoreKeys, writing: Writing,
        tell: Callable[[Callable[[], Any]], Any] = lambda ask: ask(),
        change: Callable[[list[Key], Callable[[], Any]], Any] = lambda keys, ask: ask(),
    ) -> None:
        self._store = store
        self._names = names
        self._writing = writing
        self._tell = tell
        self._change = change

    def key_of(self, name: bytes) -> Key:
        """Return the key of a name; raises ValueError where it is none."""
        return self._names.key_of(self._names.prefix + name)

    def _whole(self, names: Sequence[bytes]) -> list[bytes]:
        return [self._names.prefix + name for name in names]

    def versions(self) -> Iterator[list[tuple[bytes, bytes]]]:
        """Yield all names with their versions; those of locks are none."""
        start = len(self._names.prefix)
        pieces = self._store.list_heads(self._names.prefix)
        while (piece := self._tell(lambda: next(pieces, None))) is not None:
            yield [
                (name[start:], version_in(head)) for name, head in piece
                if not name.startswith(LOCKS, start)
            ]

    def versions_of(self, names: Sequence[bytes]) -> list[bytes]:
        """Return the versions of names."""
        heads = self._tell(lambda: self._store.heads(self._whole(names)))
        return [
            version_in(head) if self._is_key(name) else FOREIGN
            for name, head in zip(names, heads, strict=True)
        ]

    def _is_key(self, name: bytes) -> bool:
        try:
            self.key_of(name)
        except ValueError:
            return False
        return True

    def get(self, names: Sequence[bytes]) -> list[Kept | None]:
        """Return what is under each of these. What is written here next is later than it."""
        kept: list[Kept | None] = []
        for found in self._tell(lambda: self._store.get_many(self._whole(names))):
            if found is None:
                kept.append(None)
                continue
            version = version_in(found.data[:_END + 2])
            if version != FOREIGN:
                self._writing.met(version)
            kept.append(Kept(version, found.data, found.ttl_s, is_tombstone(found.data)))
        return kept

    def moment(self) -> Any:
        """Return the store's time."""
        return self._tell(self._store.moment)

    def put_if(self, writes: Sequence[Write], began: Any, within_ms: int) -> list[bool]:
        """Write each of these that still has its version."""
        puts = []
        for name, kept, version in writes:
            self._writing.met(kept.version)
            puts.append(PutIf(self._names.prefix + name, kept.data, kept.ttl_s, version))
        keys = [self.key_of(write.name) for write in writes]
        done = self._change(keys, lambda: self._store.put_if(puts, began, within_ms))
        return [bool(one) for one in done]


class Policies:
    """How one of two values is chosen, or a new one made, for the values of a store."""

    def __init__(self, side: StoreSide, writing: Writing, tombstone_s: float | None) -> None:
        self._side = side
        self._writing = writing
        self._tombstone_s = tombstone_s or TOMBSTONE_S

    def called(self, policy: Any) -> Decide | None:
        """Return what decides by a policy; None: the later write wins."""
        if policy == "last":
            return None
        if policy == "max":
            return self._largest
        if callable(policy):
            return lambda name, mine, theirs: self._made(policy, name, mine, theirs)
        raise ValueError(f'policy={policy!r} must be "last", "max", or a function of a key and two '
                         "values")

    def _value(self, name: bytes, kept: Kept) -> Value:
        if kept.is_deleted:
            return DELETE
        where = f"key {self._side.key_of(name)!r}"
        return self._writing.decode(kept.data[_END], kept.data[_END + 1:], where)

    def _largest(self, name: bytes, mine: Kept, theirs: Kept) -> Kept:
        """Choose the larger value; of a value and a removal, the later."""
        later = max(mine, theirs, key=lambda kept: kept.version)
        if mine.is_deleted or theirs.is_deleted:
            return later
        ours, other = self._value(name, mine), self._value(name, theirs)
        try:
            larger = mine if ours > other else theirs if other > ours else later
        except (TypeError, ValueError) as error:
            raise TypeError(  # arrays, too, say no more than that
                f'key {self._side.key_of(name)!r}: policy="max" cannot compare a '
                f"{type(ours).__name__} and a {type(other).__name__} ({error}); give a function "
                "that decides. What was written before stays"
            ) from error
        if larger is later:
            return later
        return self._new(later, larger.data[_END], larger.data[_END + 1:], larger.ttl_s)

    def _made(self, function: Any, name: bytes, mine: Kept, theirs: Kept) -> Kept:
        """Have a function of the user's decide."""
        ours, other = self._value(name, mine), self._value(name, theirs)
        value = function(self._side.key_of(name), ours, other)
        if value is None and ours is not None and other is not None:
            raise TypeError(
                f"key {self._side.key_of(name)!r}: the policy returned None, which neither side "
                "has: is a `return` missing? To remove a key, return shmmap.DELETE. What was "
                "written before stays"
            )
        later = max(mine, theirs, key=lambda kept: kept.version)
        if value is DELETE:
            if later.is_deleted:
                return later
            return self._new(later, TOMBSTONE, b"", self._tombstone_s)
        kind, data = self._writing.pack(value)
        if later.data[_END:] == bytes((kind,)) + data:  # all sides that hear of it come to rest
            return later
        lives = [kept.ttl_s for kept in (mine, theirs) if not kept.is_deleted]
        ttl_s = None if None in lives or not lives else max(lives)  # type: ignore[type-var]
        return self._new(later, kind, data, ttl_s)

    def _new(self, later: Kept, kind: int, data: bytes, ttl_s: float | None) -> Kept:
        """Make what is later than the later one of the two, and not than what was written since:
        that may wait in a journal, and come into the store only after this."""
        made = self._writing.after(later.version, kind, data)
        return Kept(version_in(made[:_END + 2]), made, ttl_s, kind == TOMBSTONE)
