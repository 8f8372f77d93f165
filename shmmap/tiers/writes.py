"""Writes of a Tiered: the store first, and then the machine's copy is taken out of the map."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..checks import LONG_S, Key, Value, number, refuse_one_key, seconds, shown
from ..errors import EditConflict, StoreUnavailable
from ..memory._clock_cy import monotonic
from ..operations._reads_cy import MISSING
from .reads import TierReads
from .stamps import BYTES
from .stored import ABSENT

if TYPE_CHECKING:
    from ..checks import Seconds

DEFAULT: Any = type("Default", (), {"__repr__": lambda self: "<the tier's>"})()
_PATIENCE_S = 5.0


class TierWrites(TierReads):
    """The part of Tiered that writes."""

    ttl_s: float | None
    tombstone_s: float | None

    def set(self, key: Key, value: Value, ttl: Seconds | None = DEFAULT) -> None:
        """Write a key: the store has it when this returns, and the whole machine reads it. With
        write="behind" the machine has it.

        Raises:
            StoreUnavailable: whether the store has it is not known.
            StoreRefused: it has not.
            TypeError: what the codec does not take.
        """
        if self._puts_behind([(key, value)], ttl):
            return
        try:
            self._write(key, value, ttl, "")
        except StoreUnavailable as error:
            if self._behind is not None and hasattr(error, "add_note"):  # Python 3.11
                error.add_note(f"The journal {self._behind.journal.map.name!r} has no room for it: "
                               "so it was to go to the store itself, and this machine has not "
                               "kept it.")
            raise

    def _puts_behind(self, pairs: list[tuple[Key, Value]], ttl: Any) -> bool:
        """Write into the journal; False: there is none, or no room in it for all of them."""
        if self._behind is None:
            return False
        ttl_s = self._ttl(ttl)
        if ttl_s is not None and ttl_s <= 0:
            return self._removes_behind([key for key, _ in pairs]) is not None
        packed = [(key, *self._packed(key, value)) for key, value in pairs]
        return self._journal([(key, kind, data, ttl_s) for key, kind, data in packed])

    def _removes_behind(self, keys: list[Key]) -> int | None:
        """Remove keys by the journal; return how many were there, as far as this machine knows.
        None: there is no journal, or no room in it."""
        if self._behind is None:
            return None
        keys = list({self._names.name_of(key): key for key in keys}.values())
        known = [self._behind.pending(key) or self._asking.look(key)[0] for key in keys]
        if not self._journal([(key, None, b"", None) for key in keys]):
            return None
        return sum(copy is None or bool(copy.version) for copy in known)

    def _journal(self, records: list[tuple[Key, int | None, bytes, float | None]]) -> bool:
        behind = self._behind
        assert behind is not None
        self._check_open()
        keys = [key for key, *_ in records]
        try:
            is_done = all(behind.put(*record) for record in records)
        except BaseException:  # a signal handler's, perhaps
            self._asking.drop(*keys, must=False)
            raise
        self._asking.drop(*keys)
        return is_done

    def _write(self, key: Key, value: Value, ttl: Any, only: str) -> bool:
        ttl_s = self._ttl(ttl)
        if ttl_s is not None and ttl_s <= 0:  # expired at once
            if only == "absent":
                return not self._copy_of(key, "linearizable", -1).version
            return self.delete(key) or not only
        self._settle([key])  # and then take a stamp
        name, data = self._names.name_of(key), self._encode(key, value)
        return bool(self._change([key], lambda: self._put(name, data, ttl_s, only)))

    def _put(self, name: bytes, data: bytes, ttl_s: float | None, only: str) -> bool:
        if only and self._stamped:
            return self.store.set(name, data, ttl_s, only, True)
        return self.store.set(name, data, ttl_s, only)

    def _change(self, keys: list[Key], ask: Callable[[], Any]) -> Any:
        """Have the store change keys, and take the machine's copies out: also where it is not
        known whether they were changed."""
        try:
            answer = self._tell(ask)
        except StoreUnavailable as error:
            if error.was_sent:
                self._asking.drop(*keys, must=False)
            raise
        except BaseException:  # a signal handler's, perhaps
            self._asking.drop(*keys, must=False)
            raise
        self._asking.drop(*keys)
        return answer

    def _encode(self, key: Key, value: Value) -> bytes:
        return self._writing.stamped(*self._packed(key, value))

    def _packed(self, key: Key, value: Value) -> tuple[int, bytes]:
        try:
            return self._writing.pack(value)
        except Exception as error:
            if hasattr(error, "add_note"):  # Python 3.11
                error.add_note(f"store {self.store.where}, key {shown(key)}: the codec "
                               f"{self.map.codec!r} takes no such value; nothing was written")
            raise

    def _ttl(self, ttl: Any) -> float | None:
        return self.ttl_s if ttl is DEFAULT else read_ttl(ttl)

    def __setitem__(self, key: Key, value: Value) -> None:
        self.set(key, value)

    def set_many(
        self, mapping: Mapping[Key, Value] | Iterable[tuple[Key, Value]],
        ttl: Seconds | None = DEFAULT,
    ) -> None:
        """Write every item, at once, not in one step: an error leaves some written."""
        pairs = list(mapping.items() if isinstance(mapping, Mapping) else mapping)
        ttl_s = self._ttl(ttl)
        if ttl_s is not None and ttl_s <= 0:
            self.delete_many([key for key, _ in pairs])
            return
        if self._puts_behind(pairs, ttl):
            return
        self._settle([key for key, _ in pairs])
        data = [(self._names.name_of(key), self._encode(key, value)) for key, value in pairs]
        self._change([key for key, _ in pairs], lambda: self.store.set_many(data, ttl_s))

    update = set_many

    def add(self, key: Key, value: Value, ttl: Seconds | None = DEFAULT) -> bool:
        """Write a key that the store has not; tell whether it was written."""
        return self._write(key, value, ttl, "absent")

    def replace(self, key: Key, value: Value, ttl: Seconds | None = DEFAULT) -> bool:
        """Write a key that the store has; tell whether it was written."""
        return self._write(key, value, ttl, "present")

    def cas(self, key: Key, value: Value, version: int, ttl: Seconds | None = DEFAULT) -> bool:
        """Write a key that still has the version of `get_versioned` (0: is not there); tell
        whether it was written."""
        ttl_s, of = self._ttl(ttl), _bytes_of(version)
        if ttl_s is None or ttl_s > 0:
            return self._write_if(key, value, of, ttl_s)
        if of == ABSENT:  # expired at once: nothing is written
            return not self._copy_of(key, "linearizable", -1).version
        return self._write_if(key, None, of, None, removes=True)

    def _write_if(
        self, key: Key, value: Value, version: bytes, ttl_s: float | None, removes: bool = False
    ) -> bool:
        """Write, or remove, what still has a version. A ttl of 0: as before."""
        self._settle([key])
        name = self._names.name_of(key)
        data: bytes | None
        if not removes:
            data = self._encode(key, value)
        elif self.tombstone_s is None:
            data = None
        else:
            data, ttl_s = self._writing.tombstone(), self.tombstone_s

        def ask() -> bool:
            if data is not None and version == ABSENT:  # a tombstone is nothing, too
                return self._put(name, data, ttl_s, "absent")
            return self.store.set_if(name, data, ttl_s, version, self._stamped)

        return bool(self._change([key], ask))

    def apply(
        self, key: Key, function: Callable[[Value], Value], default: Value = MISSING,
        ttl: Seconds | None = DEFAULT,
    ) -> Value:
        """Write what a function makes of the value, in one step for all machines; return it. It is
        called again where others have written meanwhile. A key that is there keeps its ttl.

        Raises:
            KeyError: the store has none, and no `default` was given.
            EditConflict: others have written it all the time.
        """
        until, tries = monotonic() + _PATIENCE_S, 0
        while True:
            copy = self._copy_of(key, "linearizable", -1)
            if not copy.version and default is MISSING:
                raise KeyError(key)
            new = function(self._asking.value_in(key, copy, default))
            if self._write_if(key, new, copy.version, 0.0 if copy.version else self._ttl(ttl)):
                return new
            tries += 1
            if monotonic() > until:
                raise EditConflict(
                    f"store {self.store.where}, key {shown(key)}: others have written it each of "
                    f"the {tries:,} times that a change was about to be; nothing was changed"
                )
            time.sleep(min(0.01, 0.0002 * tries))

    def incr(
        self, key: Key, delta: float = 1, initial: float = 0, ttl: Seconds | None = DEFAULT,
    ) -> Value:
        """Add to a number, in one step for all machines; return the sum. One that is not there
        begins as `initial`; one that is keeps its ttl."""
        delta, initial = number(delta, "incr: delta"), number(initial, "incr: initial")

        def add(value: Value) -> Value:
            try:
                return number(value, "it") + delta
            except TypeError:
                raise TypeError(f"store {self.store.where}, key {shown(key)} holds a "
                                f"{type(value).__name__}, which is no number") from None

        return self.apply(key, add, initial, ttl)

    def touch(self, key: Key, ttl: Seconds | None = DEFAULT) -> bool:
        """Give a key another time to live; tell whether the store has it."""
        ttl_s = self._ttl(ttl)
        if ttl_s is not None and ttl_s <= 0:
            return self.delete(key)
        self._settle([key])
        name = self._names.name_of(key)
        return bool(self._change([key], lambda: self.store.touch(name, ttl_s, self._stamped)))

    def delete(self, key: Key) -> bool:
        """Remove a key from the store; tell whether it was there."""
        return self.delete_many([key]) > 0

    def __delitem__(self, key: Key) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def delete_many(self, keys: Iterable[Key]) -> int:
        """Remove several, in few steps; return how many were there."""
        refuse_one_key(keys)
        wanted = list(keys)
        if not wanted:
            return 0
        count = self._removes_behind(wanted)
        if count is not None:
            return count
        self._settle(wanted)
        names = [self._names.name_of(key) for key in wanted]
        tombstone_s = self.tombstone_s
        if tombstone_s is None:
            return int(self._change(wanted, lambda: self.store.delete(names)))
        data = self._writing.tombstone()
        return int(self._change(wanted, lambda: self.store.bury(names, data, tombstone_s)))

    def pop(self, key: Key, default: Value = MISSING) -> Value:
        """Remove a key and return its value: of several that try, one gets it."""
        while True:
            copy = self._copy_of(key, "linearizable", -1)
            if not copy.version:
                if default is MISSING:
                    raise KeyError(key)
                return default
            if self._write_if(key, None, copy.version, None, removes=True):
                return self._asking.value_in(key, copy, None)


def read_ttl(ttl: Any) -> float | None:
    """Return seconds, or None: for ever, as for more than a map knows. Raises ValueError."""
    if ttl is None:
        return None
    ttl_s = seconds(ttl, "ttl")
    if ttl_s != ttl_s:
        raise ValueError("ttl=nan must be seconds")
    return ttl_s if ttl_s < LONG_S else None


def _bytes_of(version: int) -> bytes:
    """Return what a version is in the store; one that nothing has for what is none."""
    if type(version) is not int or version < 0:
        raise TypeError(f"version={version!r} must be what get_versioned returned")
    if not version:
        return ABSENT
    return version.to_bytes(BYTES, "big") if version < 1 << 8 * BYTES else b"?"
