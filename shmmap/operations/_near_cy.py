# mypy: ignore-errors
"""The near cache: what this handle has read, as Python objects, each with the place and the
version that it came from.

A hit decodes nothing: it rests on one load, of the version word of the entry's slot.

**Why one load suffices.** Let an entry hold version v, read from slot s and confirmed.
 1  v was published: `confirm` saw the index word lead to s after everything was read.
 2  s has v for as long as that entry lives, and never again: versions are unique within a
    shard, the first word of a slot is always a version word, and `touch`, `incr` and repairs
    of what was broken off give new ones.
 3  v ends before any successor can be found: `flip` ends the old version, then points; a
    removal ends it, then clears the index word; `clear` ends all first; a repair ends the
    older twin before it points to the newer (it looks at the newest version last).
So where s has v at the load, no operation that anyone could have finished or seen has replaced
the value: it is the key's at that instant. A deadline belongs to v too; the clock is read before
the load, so the value is the key's at the reading of the clock as well.

**What may be held.** `session` and `bounded` may answer from an entry whose version they do not
compare, so nothing older than what the handle has seen may be held, whatever its threads do:
 N1  a read puts a `fresh` entry into the store *before* it looks at shared memory, and fills it
     after; an entry counts only once it is filled, and only while it is in the store
 N2  whoever sees more of a key (an own write, a miss, a read whose own fresh entry is no longer
     the one in the store) takes out what is there, filled or not, after that became true
 N3  what is taken out, and what a filled entry replaces, is `dead`: a read that took it over as
     `previous` (what to answer if it fails) a moment before cannot put it back
 N4  a listing sees many keys at once: it raises `seal`, and an entry from before may be used
     again only once its version was compared
Each step is one operation of a dict or one store to an attribute, so threads of the pure engine
may come in between; the compiled one keeps the GIL throughout.

**Crash**: nothing of this is shared. **Locks**: none; values are let go, and finalizers run,
while no shard is held.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import count
from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import i64, load

from shmmap.checks import flag, seconds, shown, whole
from shmmap.values._keys_cy import NESTED_AT_MOST, pack, unpack
from shmmap.values.more_keys import packed_key

COMPILED = cython.compiled

# A consistency is one number: nanoseconds that a bounded read may be late, or one of these.
if not cython.compiled:
    LINEARIZABLE = -1
    SESSION = -2
    AS_OPENED = -3  # a call says nothing: the handle's
NAMES = {"linearizable": -1, "session": -2, "bounded": 0}
LARGEST = 1 << 31
_seals = count(1)  # never twice the same, whichever threads take them


class NearEntry:
    """A value, where it came from, and when: `read_ns` is before it was read or validated.

    `raw` and `kind`: its bytes, where each hit gets an object of its own.
    """

    if not cython.compiled:
        value = raw = shard = previous = None
        kind = slot = at = version = deadline = read_ns = seal = 0
        hit = ready = dead = False

    def expired(self, now_ns):
        """Tell whether its deadline has passed."""
        return self.deadline != 0 and self.deadline <= now_ns


class NearStore:
    """At most `size` entries of one handle, by key; second chance decides which stay."""

    def __init__(self, size, copies, bound_ns):
        self.size = size
        self.copies = copies
        self.bound_ns = bound_ns
        self.entries = OrderedDict()  # a plain dict takes time to find its first after deletions
        self.seal = 0
        self.epoch = 0
        self.answered = 0

    def emptied(self) -> NearStore:
        """Return a new store like this one."""
        return NearStore(self.size, self.copies, self.bound_ns)

    def find(self, key):
        """Return the entry that is held for a plain key, or None."""
        if cython.compiled:
            found: Any = held_in(self.entries, key)
        else:
            found = self.entries.get(key)
        if found is None:
            return None
        entry: NearEntry = found
        if not entry.ready:
            entry = entry.previous
        return None if entry is None or entry.dead else entry

    def begin(self, key):
        """Put a fresh entry for a plain key into the store, to be filled by a read that starts
        now; what was held becomes its `previous`."""
        entries: Any = self.entries  # a reference of our own: see `clear`
        fresh: NearEntry = NearEntry()
        fresh.previous = self.find(key)
        fresh.seal = self.seal
        entries[key] = fresh
        if len(entries) > self.size:
            self.evict(fresh)
        return fresh

    def finish(self, key, fresh):
        """Let a filled entry count, if nobody has seen more of the key since `begin`."""
        entries: Any = self.entries  # a reference of our own: see `clear`
        held: NearEntry = fresh.previous
        if held is not None:
            held.dead = True
            fresh.previous = None
        fresh.ready = True
        if entries.get(key) is not fresh:
            self.drop(key)  # another read's: it may have seen less
        return 0

    def drop(self, key):
        """Take out whatever there is of a key: more of it was seen, or it was written."""
        entries: Any = self.entries  # a reference of our own: see `clear`
        if not is_plain(key, 0):
            key = plain_form(key)
        entry: NearEntry = entries.pop(key, None)
        if entry is not None:
            bury(entry)
        return 0

    def saw(self, key, version):
        """Note that a read that caches nothing saw a version (0: no entry)."""
        if not is_plain(key, 0):
            key = plain_form(key)
        entry: NearEntry = self.entries.get(key)
        if entry is not None and not (entry.ready and entry.version == version):
            self.drop(key)
        return 0

    def clear(self):
        """Take out everything. A collection may come here in the middle of what allocates, and
        the old dict may go: whoever does has a reference of its own."""
        gone = self.entries
        self.entries = OrderedDict()
        for key in list(gone):
            entry: NearEntry = gone.get(key)
            if entry is not None:
                bury(entry)

    def reseal(self):
        """Note that many keys were seen: what is held must be compared before it stands again."""
        self.seal = next(_seals)
        return 0

    def may_stand(self, held, now_ns):
        """Tell whether an entry is not older than what the handle has seen, and not expired."""
        return (held is not None and not held.dead and held.seal == self.seal
                and not held.expired(now_ns))

    def evict(self, fresh):
        """Make room for a fresh entry: the oldest go, but one that was hit since has a second
        chance."""
        entries: Any = self.entries  # a reference of our own: see `clear`
        turns: i64 = 2 * len(entries)
        while turns > 0 and len(entries) > self.size:
            turns -= 1
            try:
                key: Any = next(iter(entries))
                entry: NearEntry = entries[key]
                if entry.hit or entry is fresh:
                    entry.hit = False
                    entries.move_to_end(key)
                else:
                    self.drop(key)
            except (KeyError, RuntimeError, StopIteration):  # another thread was quicker
                continue
        return 0

    def prune(self, now_ns):
        """Take out what has expired or ended: after a sweep."""
        entries: Any = self.entries  # a reference of our own: see `clear`
        for key in list(entries):
            entry: NearEntry = entries.get(key)
            if entry is not None and entry.ready and (
                entry.expired(now_ns) or load(entry.shard.mem, entry.at) != entry.version
            ):
                self.drop(key)
        return 0

    def forget_moved(self) -> None:
        """Take out what came from shards that have moved: they are about to be unmapped."""
        entries: Any = self.entries  # a reference of our own: see `clear`
        for key in list(entries):
            entry: NearEntry = entries.get(key)
            held: NearEntry = entry
            while held is not None:  # one that is being read falls back on `previous`
                if held.shard is not None and held.shard.moved_to():
                    self.drop(key)
                    break
                held = held.previous

    def __len__(self) -> int:
        return len(self.entries)


def bury(entry: NearEntry) -> None:
    """Mark an entry that was taken out, and what its read would fall back on."""
    entry.dead = True
    held: NearEntry = entry.previous
    if held is not None:
        held.dead = True


def shared(value):
    """Make an array read-only, since all readers get this very object; return it. Of what else can
    be changed nothing can be made so."""
    for kind in type(value).__mro__:
        if kind.__name__ == "ndarray" and kind.__module__ == "numpy":
            kind.setflags(value, write=False)
    return value


def is_plain(key, depth):
    """Tell whether a key is of built-in types throughout: to compare it runs no other code."""
    kind: Any = type(key)
    if (kind is str or kind is int or kind is bytes or kind is float or kind is bool
            or key is None):
        return True
    if kind is not tuple or depth > NESTED_AT_MOST:
        return False
    plain = True
    for item in key:
        plain = plain and is_plain(item, depth + 1)
    return plain


def plain_form(key):
    """Return the key of built-in types that equals this one, or that stands for its bytes. Raises
    TypeError: it is no key."""
    kind, data = pack(key)
    plain: Any = unpack(kind, data)
    return plain if is_plain(plain, 0) else packed_key(kind, data)


def read_size(near: object, near_copy: object) -> tuple:
    """Check `near=` and `near_copy=`; return them as a plain int and a plain bool."""
    near = whole(near, "near", "a number of entries (int)")
    if not 0 <= near < LARGEST:
        raise ValueError(
            f"near={shown(near)} must be from 0 (no near cache) to {LARGEST - 1:,} entries"
        )
    near_copy = flag(near_copy, "near_copy")
    if near_copy and not near:
        raise ValueError(
            "near_copy=True says how a near cache gives its values, and this handle has none: say "
            "near=N, the number of entries to keep in this process, or leave near_copy= out"
        )
    return near, near_copy


def read_consistency(
    consistency: object, max_staleness: object, opened: object, near: object
) -> object:
    """Turn what is said into one number (see LINEARIZABLE).

    `opened`: the handle's, for what is not said; `near`: entries of its near cache.
    """
    bounded: Any = opened >= 0  # type: ignore[operator]
    if consistency is not None:
        if not isinstance(consistency, str):
            raise TypeError(f"consistency must be a str, not {type(consistency).__name__}")
        if consistency not in NAMES:
            choices = ", ".join(map(repr, NAMES))
            raise ValueError(f"consistency={consistency!r} must be one of {choices}")
        if NAMES[consistency] < 0:
            opened = NAMES[consistency]
        bounded = NAMES[consistency] == 0
    if not bounded:
        if max_staleness is not None:
            raise ValueError(
                f'max_staleness={shown(max_staleness)} goes with consistency="bounded" only: every '
                "other one reads what is in the map now"
            )
        return opened
    if not near:
        raise ValueError(
            'consistency="bounded" answers from the near cache, and this handle has none: open it '
            "with near=N, the number of entries to keep in this process"
        )
    if max_staleness is None:
        if opened >= 0:  # type: ignore[operator]
            return opened
        raise ValueError(
            'consistency="bounded" needs max_staleness=, the seconds that an answer may be old'
        )
    max_staleness = seconds(max_staleness, "max_staleness")
    if not 0 <= max_staleness < 3e9:
        raise ValueError(f"max_staleness={max_staleness} must be 0 seconds or more")
    return int(max_staleness * 1e9)
