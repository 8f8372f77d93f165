"""Reading and writing many keys in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..checks import Key, Value, refuse_one_key
from ._batches_cy import read_many, write_many
from ._reads_cy import MISSING
from ._writes_cy import DEFAULT, pairs_of, write_mode
from .unreadable import OnUnreadable, handler_of


class Batches:
    """The operations of a map on many keys."""

    def get_many(
        self: Any, keys: Iterable[Key], default: Value = MISSING, *,
        on_unreadable: OnUnreadable = "raise",
    ) -> dict[Key, Value]:
        """Return {key: value} of those keys that have live entries; each read is one step.

        Several times faster than as many calls of `get` where there are more entries than the
        processor's caches hold, and the keys are in a container of Python's own. Takes no lock;
        O(keys).

        Args:
            keys: any iterable of keys; what an iterator yields is read before it goes on.
            default: the value of those that have no entry, one object for all; not given: they
                are left out.
            on_unreadable: see `items`.
        """
        refuse_one_key(keys)
        found: dict[Key, Value] = read_many(self, keys, default, handler_of(on_unreadable))
        return found

    def set_many(
        self: Any, mapping: Mapping[Key, Value] | Iterable[tuple[Key, Value]],
        ttl: float | None = DEFAULT, *, evict: bool = True,
    ) -> None:
        """Write every item of a mapping (or of pairs); each write is one step.

        An error stops it; the items before have been written. What an iterator yields is written
        before it goes on; a dict, a list or a tuple is written several times faster than by as
        many calls of `set` where there are more entries than the processor's caches hold. `ttl`,
        `evict`: see `set`.
        """
        write_many(self, pairs_of(mapping), write_mode(evict), ttl)
