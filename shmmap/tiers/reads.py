"""Reads of a Tiered: from the machine's copies as long as they are fresh enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from ..breaker import Breaker
from ..checks import Key, Value, refuse_one_key, seconds
from ..errors import MapClosed, ShmMapError, StoreUnavailable
from ..map import ShmMap
from ..operations._reads_cy import MISSING
from ..system.process import this_process
from ._copies_cy import Copies
from .asking import Asking
from .behind import Behind
from .copies import Copy
from .freshness import NEVER, Freshness, Known
from .parts import Parts
from .store import Store
from .store_keys import StoreKeys
from .stored import Writing
from .watching import Part

if TYPE_CHECKING:
    from ..checks import Seconds

CONSISTENCIES = ("linearizable", "session", "bounded")
LOOK_NS = 500_000_000  # how long a process goes by what it knows of the listener
_NO_FAILURES = 1 << 62  # are enough: a store of several servers leaves each alone by itself
SESSION_NS = 5_000_000_000  # how long the listener may say nothing, to a session


class TierReads(Copies):
    """The part of Tiered that reads."""

    map: ShmMap
    store: Store
    consistency: str
    _asking: Asking
    _freshness: Freshness
    _tag: int
    _names: StoreKeys
    _watch: Parts[Part]
    _writing: Writing
    _behind: Behind | None
    _breaker: Breaker
    _bound_ns: int
    _stale_ns: int
    _stamped: bool
    _is_closed = False

    def _begin_reading(self) -> None:
        is_session = self.consistency == "session"
        most_ns = SESSION_NS if is_session else self._bound_ns
        self._read_from(self.map, self._tag, most_ns, LOOK_NS, is_session)
        self._now = self._asking.now
        self._start()

    def _check_open(self) -> None:
        """Refuse a tier that is closed, and begin in a process that was forked."""
        if self._is_closed:
            raise MapClosed(f"map {self.map.name!r}: this tier is closed; make another one")
        if self._process != this_process():
            self._start()

    def _start(self) -> None:
        """Begin in this process: also in one that was forked."""
        self._last_error = ""
        failures = _NO_FAILURES if getattr(self.store, "has_breakers", False) else 1
        self._breaker = Breaker(failures, 0.1, 1.0)  # its lock may be held in the parent
        self._process = this_process()
        self._watch.start()
        if self._behind is not None:
            self._behind.start()

    def _get_slowly(
        self, key: Key, default: Value, consistency: str | None, max_staleness: Seconds | None
    ) -> Value:
        """See `get`: where no copy is fresh enough to be given at once."""
        kind, bound_ns = self.consistency, self._bound_ns
        if consistency is not None or max_staleness is not None:
            kind, bound_ns = self._consistency_of(consistency, max_staleness)
        return self._asking.value_in(key, self._copy_of(key, kind, bound_ns), default)

    def _decode(self, key: Key, kind: int, data: bytes) -> Value:
        """Return the value of a copy, which may run code."""
        return self._asking.value_in(key, Copy(0, b"?", kind, data), None)

    def _consistency_of(self, kind: str | None, bound: Seconds | None) -> tuple[str, int]:
        if kind is None:
            kind = self.consistency
        if kind == "bounded" and bound is None and self.consistency == "bounded":
            return kind, self._bound_ns
        return read_consistency(kind, bound)

    def _copy_of(self, key: Key, kind: str, bound_ns: int) -> Copy:
        """Return a copy that the consistency allows: that of the map, or a new one."""
        asking = self._asking
        known = self._refresh()
        if kind == "linearizable":
            self._settle([key])
        elif (pending := asking.waiting(key)) is not None:
            return pending
        copy, version = asking.look(key)
        if copy is not None and self._is_allowed(copy, known, kind, bound_ns):
            return copy
        try:
            return self._tell(lambda: asking.ask(key, version))  # type: ignore[no-any-return]
        except StoreUnavailable:
            if copy is not None and self._is_allowed_instead(copy, known, kind, bound_ns):
                return copy
            raise

    def _settle(self, keys: list[Key]) -> None:
        """Wait until the store has what this machine has written to these keys."""
        behind = self._behind
        if behind is not None and any(behind.pending(key) for key in keys):
            self._check_open()
            if self._breaker.is_open:
                self._may_ask()
            self._refuse_away(keys)
            try:
                behind.settle(keys)
            except StoreUnavailable:  # away, or is it one record that it refuses?
                with suppress(ShmMapError):
                    self._tell(lambda: self._look_at_store(keys))
                raise

    def _refuse_away(self, keys: list[Key]) -> None:
        """Refuse to wait for a server of several that is silent."""
        is_away = getattr(self.store, "is_away", None)
        if is_away is not None and is_away([self._names.name_of(key) for key in keys]):
            error = StoreUnavailable(f"store {self.store.where}: a node that has one of these keys "
                                     "does not answer; what this machine has written to them waits")
            error.was_sent = False
            raise error

    def _look_at_store(self, keys: list[Key]) -> None:
        """See whether the store answers; of several servers, those of these keys."""
        if hasattr(self.store, "is_away"):
            self.store.heads([self._names.name_of(key) for key in keys])
        else:
            self.store.moment()

    def _refresh(self) -> Known:
        """Look up how fresh the machine's copies are. What is returned, and not what this process
        knows a moment later, is for the copies that are looked up after it."""
        self._check_open()
        looked = self._now()
        known, floor = self._freshness.read(), -1
        if known.floor == NEVER:  # nothing is said, or no more
            with suppress(ShmMapError):
                self._freshness.distrust(looked)
        while floor != self._asking.floor:  # it may rise in another thread
            floor = self._asking.floor
            known = known._replace(floor=max(floor, known.floor), since=max(floor, known.since))
            self._know(*known, looked)
        self._watch.start()
        if self._behind is not None:
            self._behind.start()
        return known

    def _forget(self) -> None:
        """Know nothing, until the next look."""
        self._know(*Known(), 0)

    def _is_allowed(self, copy: Copy, known: Known, kind: str, bound_ns: int) -> bool:
        """Tell whether a copy may be given without asking."""
        if kind == "session":
            return copy.asked >= known.since and (
                self._now() - known.as_of(copy.asked) <= SESSION_NS
            )
        return kind == "bounded" and copy.asked >= known.floor and (
            self._now() - known.as_of(copy.asked) <= bound_ns
        )

    def _is_allowed_instead(self, copy: Copy, known: Known, kind: str, bound_ns: int) -> bool:
        """Tell whether a copy may be given where the store cannot be asked."""
        if copy.asked < known.floor or (kind != "session" and not self._stale_ns):
            return False
        bound_ns = max(0, bound_ns) + self._stale_ns
        return kind == "session" or self._now() - known.as_of(copy.asked) <= bound_ns

    def _may_ask(self) -> None:
        if not self._breaker.may_ask():
            error = StoreUnavailable(
                f"{self._last_error} (a moment ago; until it answers again it is asked once a "
                "second)"
            )
            error.was_sent = False
            raise error

    def _tell(self, ask: Callable[[], Value]) -> Value:
        """Ask the store for something that has no answer in the map."""
        self._check_open()
        self._may_ask()
        try:
            answer = ask()
        except StoreUnavailable as error:
            self._last_error = str(error)
            self._breaker.failed()
            raise
        except ShmMapError:  # the store has answered, whatever it said
            self._breaker.passed()
            raise
        self._breaker.passed()
        return answer

    def __getitem__(self, key: Key) -> Value:
        value = self.get(key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def __contains__(self, key: Key) -> bool:
        return self.get(key, MISSING) is not MISSING

    def get_many(self, keys: Iterable[Key], default: Value = MISSING) -> dict[Key, Value]:
        """Return {key: value} of those that the store has; all that have no fresh copy are asked
        for at once. Not one instant. `default`: the value of those it has not."""
        refuse_one_key(keys)
        wanted = list(keys)
        known, kind, bound_ns = self._refresh(), self.consistency, self._bound_ns
        found: dict[Key, Copy] = {}
        left: list[tuple[Key, int]] = []
        held: dict[Key, Copy] = {}
        if kind == "linearizable":
            self._settle(wanted)
        for key in wanted:
            copy = self._asking.waiting(key)
            if copy is not None and kind != "linearizable":
                found[key] = copy
                continue
            copy, version = self._asking.look(key)
            if copy is not None and self._is_allowed(copy, known, kind, bound_ns):
                found[key] = copy
            else:
                left.append((key, version))
                if copy is not None:
                    held[key] = copy
        if left:
            try:
                new = self._tell(lambda: self._asking.ask_many(left))
            except StoreUnavailable:
                instead = [held[key] for key, _ in left if key in held and
                           self._is_allowed_instead(held[key], known, kind, bound_ns)]
                if len(instead) < len(left):
                    raise
                new = instead
            found.update(zip((key for key, _ in left), new, strict=True))
        return {key: self._asking.value_in(key, found[key], default) for key in wanted
                if default is not MISSING or found[key].version}

    def get_versioned(self, key: Key, default: Value = None) -> tuple[Value, int]:
        """Return (value, version) as the store has it now; (default, 0): it has none. For `cas`."""
        copy = self._copy_of(key, "linearizable", -1)
        if not copy.version:
            return default, 0
        return self._asking.value_in(key, copy, None), int.from_bytes(copy.version, "big")

    def ttl(self, key: Key) -> float | None:
        """Return the seconds that the store keeps a key; None: for ever. Raises KeyError."""
        self._settle([key])
        name = self._names.name_of(key)
        found = self._tell(lambda: self._writing.there(self.store.get(name)))
        self._asking.drop(key, must=False)  # it may be older than what is told here
        if found is None:
            raise KeyError(key)
        left: float | None = found.ttl_s
        return left


def ns(number_s: float, what: str) -> int:
    """Return nanoseconds; raises ValueError for what is no span of time."""
    if not number_s >= 0:
        raise ValueError(f"{what}={number_s!r} must be 0 seconds or more")
    return int(min(number_s, 1e9) * 1e9)


def read_consistency(kind: str, bound: Seconds | None) -> tuple[str, int]:
    """Check them, and return the bound in nanoseconds; -1: none."""
    if kind not in CONSISTENCIES:
        raise ValueError(f"consistency={kind!r} must be one of {', '.join(CONSISTENCIES)}")
    if kind != "bounded":
        if bound is not None:
            raise ValueError(f"max_staleness= is for consistency=\"bounded\", not for {kind!r}")
        return kind, -1
    return kind, ns(1.0 if bound is None else seconds(bound, "max_staleness"), "max_staleness")
