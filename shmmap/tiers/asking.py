"""From the store into the map: a copy is put there only if nothing has changed since it was asked.

    1  look at the entry of the key; where there is none, put a mark there. Either has a version
    2  ask the store
    3  put the copy in the entry's place if it still has that version

A change that the store makes after 2 has the entry taken out (`watching`), and so has a write of
this machine's (`Tiered`): then 3 finds another version, or nothing. Several that ask at once share
the mark. Only one of them can put its copy there; the others compare theirs with it, and where it
is another one it is taken out: nobody of them may read something older next.

What a server has given that is not listened to is not kept.

A mark is a plain number; what a copy is, `copies` says.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from ..checks import Key, Value, shown
from ..errors import MapClosed, ShmMapError
from ..map import ShmMap
from ..operations._writes_cy import DEFAULT
from . import copies
from .copies import Copy
from .freshness import Freshness
from .store import Found, Store
from .store_keys import StoreKeys
from .stored import Writing

MARK = 0
MARK_S = 30.0  # that a mark stays where whoever put it there has died
ABSENT_S = 60.0  # that the map remembers what the store has not
_ROUNDED_UP_S = 2 / 64  # deadlines of a map are whole 64ths of a second, or a bit more


class Asking:
    """Asks for one tier. `asked`, `kept`: how often, and how many copies it put into the map."""

    def __init__(
        self, m: ShmMap, store: Store, names: StoreKeys, writing: Writing, freshness: Freshness,
        tag: int, forget: Callable[[], object] = lambda: None,
    ) -> None:
        self._freshness = freshness
        self._tag = tag
        self._forget = forget  # called as `floor` rises
        self.pending: Callable[[Key], Copy | None] = lambda key: None
        """Return what this machine has written, and the store does not have yet."""
        self.map = m
        self.store = store
        self.names = names
        self.writing = writing
        self.now = freshness.now
        self.asked = self.kept = 0
        self.floor = 0
        """What was asked for earlier is old for this process, whatever the map says."""

    def look(self, key: Key) -> tuple[Copy | None, int]:
        """Return the copy of a key, and the version of its entry, also of a mark (0: none)."""
        try:
            found, version = self.map.get_versioned(key)
        except MapClosed:
            raise
        except ShmMapError:  # the map is in nobody's way
            return None, 0
        return copies.read(found, self._tag), version

    def waiting(self, key: Key) -> Copy | None:
        """Return what waits for the store, with any older copy taken out: who wrote it may have
        been killed, or stopped, before doing that, and what was read once is not unread."""
        copy = self.pending(key)
        if copy is not None and self.look(key)[1]:
            self.drop(key, must=False)
        return copy

    def ask(self, key: Key, version: int) -> Copy:
        """Ask for a key whose entry has that version; return the copy."""
        return self.ask_many([(key, version)])[0]

    def ask_many(self, keys: list[tuple[Key, int]]) -> list[Copy]:
        """Ask for several at once; return their copies."""
        names = [self.names.name_of(key) for key, _ in keys]
        versions = [version or self._mark(key) for key, version in keys]
        # After the marks: what comes later takes them out, so that no older copy can stay.
        made = [self.waiting(key) for key, _ in keys]
        asked = self.now()
        at = [index for index, copy in enumerate(made) if copy is None]
        if at:
            given = self.store.get_many([names[index] for index in at])
            found = [self.writing.there(one) for one in given]
            self.asked += 1
            new = [self._copy(keys[index][0], one, asked)
                   for index, one in zip(at, found, strict=True)]
            given_by = getattr(given, "given_by", None)
            # looked up after the answer
            is_heard = not given_by or given_by <= self._freshness.sources()
            if not is_heard:
                self.drop(*(keys[index][0] for index in at), must=False)
            for index, one, copy in zip(at, found, new, strict=True):
                made[index] = copy
                if is_heard:
                    self._keep(keys[index][0], versions[index], one, copy)
        return made  # type: ignore[return-value]

    def _copy(self, key: Key, found: Found | None, asked: int) -> Copy:
        if found is None:
            return Copy(asked)
        return Copy(asked, *self.writing.read(found.data, self._where(key)))

    def value_in(self, key: Key, copy: Copy, default: Value) -> Value:
        """Return a copy's value; of what the store has not, the default."""
        if not copy.version:
            return default
        return self.writing.decode(copy.kind, copy.data, self._where(key))

    def _where(self, key: Key) -> str:
        return f"store {self.store.where}, key {shown(key)}"

    def _mark(self, key: Key) -> int:
        """Put a mark where there is nothing; return its version, or that of what is there now."""
        try:
            self.map.add(key, MARK, MARK_S)
        except MapClosed:
            raise
        except ShmMapError:  # it is full, say
            return 0
        return self.look(key)[1]

    def _keep(self, key: Key, version: int, found: Found | None, copy: Copy) -> None:
        """Put a copy into the map, if it is as good as when it was asked for."""
        left_s = self._ttl(found, copy.asked)
        try:
            if version and left_s != 0.0 and (
                self.map.cas(key, copy.as_bytes(self._tag), version, left_s)
            ):
                self.kept += 1
                return
            there, _ = self.look(key)
            if there is None or there.version != copy.version:
                self.map.delete(key)
        except MapClosed:
            raise
        except ShmMapError:  # no room, say
            self.drop(key, must=False)

    def _ttl(self, found: Found | None, asked: int) -> float | None:
        usual = self.map.default_ttl
        if found is None:
            return min(ABSENT_S, usual or ABSENT_S)
        if found.ttl_s is None:
            return DEFAULT  # type: ignore[no-any-return]
        since_s = (self.now() - asked) / 1e9
        left_s = max(0.0, found.ttl_s - since_s - _ROUNDED_UP_S)  # the copy goes first
        return min(left_s, usual) if usual is not None else left_s

    def drop(self, *keys: Key, must: bool = True) -> None:
        """Take copies out of the map. Where that cannot be done all of them are old from now on,
        and, if it `must` be done, raise why."""
        try:
            if len(keys) == 1:
                self.map.delete(keys[0])
            else:
                self.map.delete_many(keys)
        except MapClosed:
            raise
        except ShmMapError as error:
            self.floor = self.now()
            self._forget()
            with suppress(ShmMapError):
                self._freshness.distrust(self.floor)
            if must:
                if hasattr(error, "add_note"):  # Python 3.11
                    error.add_note("The store has the write; this machine's copy could not be "
                                   "taken out of the map, and counts as old from now on.")
                raise
