"""What `get_or_set` and `@cached` store, and read again: as well as it can be done.

That a result is kept is a wish, and so is that it is found again. Where the map is in the way, the
caller has what was computed all the same. How often that was so is counted by reason, in
`stats().uncached`, and told once a reason, by the logger "shmmap": a warning would be an error
under `python -W error`. With `strict=True` it is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..checks import shown
from ..errors import (
    EntryTooLarge,
    LockTimeout,
    MapClosed,
    MapCorrupted,
    MapFull,
    MapUnlinked,
    Reentered,
    ShmMapError,
    StoreRefused,
    StoreUnavailable,
    ValueUnreadable,
)
from ..frames import level_of_user
from ..memory import events
from ..operations._reads_cy import MISSING
from ..values._codecs_cy import pack as encode

if TYPE_CHECKING:
    from ..checks import Key, Value
    from .hosts import MapHandle

_NAME = __name__.partition(".")[0]
Errors = tuple[type[Exception], ...]
# What stands in `stats().uncached`, and the errors that it is said for; the first that fits.
_REASONS: dict[str, Errors] = {
    "full": (MapFull,),
    "too_large": (EntryTooLarge,),
    "busy": (LockTimeout, Reentered),  # and ShardBusy
    "corrupted": (MapCorrupted,),
    "unlinked": (MapUnlinked,),
    "closed": (MapClosed,),
    "store": (StoreRefused, StoreUnavailable),  # behind a Tiered
    "refused": (ShmMapError,),  # by the kernel, or for want of a row or of shared memory
    "no_memory": (MemoryError,),  # in this process
    "not_picklable": (Exception,),
    "unreadable": (),
    "no_key": (),
    "no_map": (),  # the function that opens it failed
}
REASONS = tuple(_REASONS)
"""By the numbers that an "uncached" event has for them."""
_COMPUTED = "its caller has what was computed all the same"


class Unreachable(Exception):
    """The map cannot be read just now; its cause says why. Nothing was computed yet."""


class Notes:
    """What could not be kept, or read, of one function, or through one handle; by reason."""

    def __init__(self) -> None:
        self._times = dict.fromkeys(_REASONS, 0)
        self._told: set[str] = set()

    def count(self, reason: str) -> None:
        """Count once more."""
        self._times[reason] += 1  # no other thread comes in between

    def times(self) -> dict[str, int]:
        """Return how often each reason was met that was."""
        return {reason: times for reason, times in self._times.items() if times}

    def tell(self, reason: str, text: str) -> None:
        """Log it, the first time of each reason."""
        if reason in self._told:
            return
        self._told.add(reason)
        try:
            import logging  # not at the top: most programs never get here
        except (ImportError, OSError):  # after a chroot, say, or without a free descriptor
            return
        logging.getLogger(_NAME).warning("%s", text, stacklevel=level_of_user())


def added(notes: Iterable[Notes]) -> dict[str, int]:
    """Add up what was counted."""
    total: dict[str, int] = {}
    for one in notes:
        for reason, times in one.times().items():
            total[reason] = total.get(reason, 0) + times
    return total


def notes_of(m: MapHandle) -> Notes:
    """Return the notes of a handle."""
    notes: Notes | None = m.__dict__.get("_notes")
    return m.__dict__.setdefault("_notes", Notes()) if notes is None else notes


def note(m: MapHandle, notes: Notes, reason: str, text: str) -> None:
    """Count, and tell the first time, that something was not kept, or not read."""
    for counted in {id(one): one for one in (notes, notes_of(m))}.values():
        counted.count(reason)
    events.note_in(m, "uncached", REASONS.index(reason))
    notes.tell(
        reason, f"map {m.name!r}: {text}. Told once; stats().uncached[{reason!r}] counts how often"
    )


def note_unread(m: MapHandle, notes: Notes, key: Key, failed: Unreachable) -> None:
    """Note that the map could not be read."""
    error = failed.__cause__
    assert isinstance(error, ShmMapError)
    note(m, notes, reason_for(error), f"{shown(key)} cannot be looked up just now "
         f"({type(error).__name__}: {error}); it is computed, and not stored")


def note_unreadable(m: MapHandle, notes: Notes, error: ValueUnreadable) -> None:
    """Note that what was stored could not be unpickled, and is computed anew."""
    note(m, notes, "unreadable", f"what is stored for {shown(error.key)} cannot be unpickled here "
         f"({type(error.__cause__).__name__}: {error.__cause__}); it is computed anew, and written "
         "over. Was its class renamed or removed since?")


def read(m: MapHandle, key: Key, unread: list[ValueUnreadable]) -> Value:
    """Return the value of `key`, or MISSING: also where what is there cannot be unpickled, whose
    error comes to `unread`.

    Raises Unreachable where the map cannot be read just now. A handle that was closed raises: that
    is a mistake in the program. So does a lack of memory, which is this process's.
    """
    try:
        return m.get(key, MISSING)
    except ValueUnreadable as error:
        unread[:] = [error]
        return MISSING
    except EntryTooLarge:  # a key longer than any that is there
        return MISSING
    except MapClosed:
        raise
    except ShmMapError as error:
        raise Unreachable from error


def keep(
    m: MapHandle, key: Key, value: Value, ttl: float | None, notes: Notes, raises: Errors = ()
) -> bool:
    """Store a result; tell whether it could be. Raises what is in `raises`, and what a signal
    handler raises.

    `ttl` has been checked: what is raised here comes of the value, or of the map.
    """
    try:
        m.set(key, value, ttl)
        return True
    except Exception as error:
        reason = reason_for(error)
        if isinstance(error, ShmMapError):
            # a value that is a map itself raises its own
            if reason in ("corrupted", "unlinked", "closed", "busy", "refused") and _comes_again(
                error, encode, value, m._coder
            ):
                reason = "not_picklable"
        elif _is_from_outside(error) and not _comes_again(error, m.set, key, value, ttl):
            raise
        if isinstance(error, raises) and (reason != "not_picklable" or Exception in raises):
            raise
        note(m, notes, reason, f"the result for {shown(key)} could not be stored "
             f"({type(error).__name__}: {error}); {_COMPUTED}")
        return False


def reason_for(error: Exception) -> str:
    """Return by what word an error is counted."""
    return next(reason for reason, kinds in _REASONS.items() if isinstance(error, kinds))


def _comes_again(error: Exception, act: Callable[..., object], *given: Value) -> bool:
    """Tell whether an act raises such an error each time: what a signal handler raises comes
    once."""
    try:
        act(*given)
    except Exception as again:
        return type(again) is type(error)
    return False


def _is_from_outside(error: Exception) -> bool:
    """Tell whether code other than this package's raised an error: a value's, or a handler's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and not (
        str(trace.tb_frame.f_globals.get("__name__")).startswith(f"{_NAME}.")
    )
