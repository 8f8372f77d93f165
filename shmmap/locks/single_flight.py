"""Single flight: of all who miss a key at once, one worker on the machine computes its value.

    1  look: a value that is fresh ends it
    2  take the lock of the computing of that key, or wait: until there is a value, or the lock
    3  look again: it may have been computed since 1
    4  compute, with no shard locked; store; free the lock. What cannot be stored reaches its
       caller, and the lock stands open for a while: whoever needs that key computes at once, not
       one after the other

Where the map cannot be read in 1 to 3, whoever asks computes for itself and stores nothing: the
map would have it wait once more. See `keeping`.

A dead computer's lock is taken over, so the next waiter computes. Where no more locks can be
held, who would have to wait computes for itself: better twice than not at all. With `stale`, an
entry lives that much longer than its ttl; whoever finds it past its time tries 2 once, and if
another one is at it returns what it found.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ..checks import refuse_coroutine, seconds, shown
from ..errors import (
    LockTimeout,
    MapClosed,
    MapUnlinked,
    Reentered,
    ShmMapError,
    ValueUnreadable,
)
from ..memory import events
from ..memory._clock_cy import monotonic_ns
from ..operations._reads_cy import MISSING
from ..operations._writes_cy import DEFAULT
from ..system.futex import ALL
from . import refusals
from .holdings import Hold, describe_holder, leave_open, let_go, try_hold
from .keeping import (
    Errors,
    Notes,
    Unreachable,
    keep,
    note_unread,
    note_unreadable,
    notes_of,
    read,
)
from .lock_table import FLIGHT, LeftOpen, name_of
from .waiting import deadline_of, left_until, pauses, place_of, wait_for

if TYPE_CHECKING:
    from ..checks import Key, Value
    from .hosts import MapHandle


def life_of(m: MapHandle, ttl: float | None, stale: float) -> float | None:
    """Return the ttl to store with: what was asked, and `stale` on top."""
    stale = seconds(stale, "stale")
    if not 0 <= stale < 3e9:
        raise ValueError(f"stale={stale} must be 0 seconds or more, and less than 3e9 (95 years)")
    check_ttl(ttl)
    if not stale:
        return ttl
    if ttl is DEFAULT:
        ttl = m._live.ttl_ns / 1e9 or None
    if ttl is None:
        raise ValueError(
            f"stale={stale} needs a ttl: an entry that does not expire is never past its time. "
            "Give ttl=, or leave stale= out"
        )
    return max(0, seconds(ttl, "ttl", " or None")) + stale


def check_ttl(ttl: float | None) -> None:
    """Refuse what is no ttl, before anything is computed for it."""
    if ttl is DEFAULT or ttl is None:
        return
    ttl = seconds(ttl, "ttl", " or None")
    if ttl != ttl:
        raise ValueError("ttl is NaN: give seconds, or None for no expiry")


def look_up(
    m: MapHandle, key: Key, stale: float, unread: list[ValueUnreadable]
) -> tuple[Value, bool]:
    """Return the value of `key`, or MISSING, and whether it is fresh. See `read`."""
    value = read(m, key, unread)
    if value is MISSING or not stale:
        return value, value is not MISSING
    try:
        left = m.ttl(key)
    except KeyError:
        return value, False
    except MapClosed:
        raise
    except ShmMapError:  # it cannot be told just now; what was read stands
        return value, True
    return value, left is None or left > stale


def land(m: MapHandle, mine: list[Hold], is_kept: bool = True) -> None:
    """Free a computing's lock, if it was taken, and wake who waits for it in this process. Where
    the result could not be kept, those who wait compute at once, each for itself."""
    for hold in mine:
        try:
            _free(m, hold, is_kept)
        except BaseException:  # a signal handler's, or no memory: finish all the same
            hold.is_over = hold.part.is_owing = True
            _free(m, hold, is_kept)
            raise
        turn = m.attachment.locks.turns.get(place_of(hold.name))
        if turn is not None:
            turn.ring()


def _free(m: MapHandle, hold: Hold, is_kept: bool) -> None:
    with suppress(ShmMapError):  # what was computed is stored, or its error is under way
        if is_kept or not leave_open(m, hold):
            let_go(m, hold, ALL)  # who waits wants the value, not the lock


def get_or_set(
    m: MapHandle, key: Key, factory: Callable[[], Value], ttl: float | None, stale: float,
    timeout: float | None, notes: Notes | None = None, raises: Errors = (),
    condition: Callable[[Value], object] | None = None, strict: bool = False,
) -> Value:
    """See ShmMap.get_or_set, and `cached` for `condition`. `raises`: what of the map's errors is
    raised, and not noted only."""
    if not callable(factory):
        raise TypeError(f"factory must be callable, not {type(factory).__name__}")
    if notes is None:
        notes = notes_of(m)
    if strict:
        raises = (Exception,)
    stale = seconds(stale, "stale")
    try:
        if not stale:  # the fast way
            value = read(m, key, [])
            if value is not MISSING:
                return value
        deadline = deadline_of(timeout)
        life = life_of(m, ttl, stale)
        return _fly(m, key, factory, life, stale, timeout, deadline, notes, raises, condition)
    except Unreachable as failed:
        refuse_or_note(m, notes, key, failed, raises)
        return factory()


def refuse_or_note(
    m: MapHandle, notes: Notes, key: Key, failed: Unreachable, raises: Errors
) -> None:
    """Note that the map could not be read, or raise why."""
    if isinstance(failed.__cause__, raises):
        raise failed.__cause__
    note_unread(m, notes, key, failed)


def _fly(
    m: MapHandle, key: Key, factory: Callable[[], Value], life: float | None, stale: float,
    timeout: float | None, deadline: float | None, notes: Notes, raises: Errors,
    condition: Callable[[Value], object] | None,
) -> Value:
    """Do the steps of the module's head. Raises Unreachable before `factory` was called only."""
    unread: list[ValueUnreadable] = []
    value, fresh = look_up(m, key, stale, unread)
    if fresh:
        return value
    is_kept = True
    name = name_of(FLIGHT, key)
    mine: list[Hold] = []
    try:
        if take_off(m, name, mine, partial(refuse, m, key, False)) is None:
            if value is not MISSING:
                return value  # past its time, and another one is at it

            def look() -> tuple[Value] | bool | None:
                found = read(m, key, unread)
                if found is not MISSING:
                    return (found,)
                return take_off(m, name, mine)

            found = wait_for(m, name, look, deadline)
            if found is None:
                raise too_late(m, key, timeout)
            if isinstance(found, tuple):
                return found[0]
        elif not mine and value is not MISSING:
            return value  # past its time, and none can have a lock
        value, fresh = look_up(m, key, stale, unread)
        if not fresh:
            if unread:
                note_unreadable(m, notes, unread[0])
            began = monotonic_ns()
            value = factory()
            events.took_in(m, "compute", monotonic_ns() - began)
            refuse_coroutine(value, "get_or_set", "await m.aget_or_set(...)")
            is_kept = (condition is None or bool(condition(value))) and (
                keep(m, key, value, life, notes, raises)
            )
        return value
    finally:
        try:
            land(m, mine, is_kept)
        except BaseException:  # a signal handler's, perhaps before `land` had begun
            if mine:
                mine[0].is_over = mine[0].part.is_owing = True
            land(m, mine, is_kept)
            raise


def too_late(m: MapHandle, key: Key, timeout: float | None) -> LockTimeout:
    """Make the error of who waited for too long: it says who computes."""
    name = name_of(FLIGHT, key)
    return LockTimeout(describe_holder(m, f"the computing of {shown(key)}", name, timeout, ""))


def refuse(m: MapHandle, key: Key, awaits: bool, former: Hold) -> None:
    """Refuse to wait for a computing of this thread that could not end meanwhile."""
    refusals.refuse(m, former, awaits, lambda: refusals.Words(
        f"is computing {shown(key)}", ": its factory asks for its own key",
        "write `await m.aget_or_set(...)`",
    ))


def take_off(
    m: MapHandle, name: bytes, mine: list[Hold], judge: Callable[[Hold], None] | None = None
) -> bool | None:
    """Try once to become the one who computes; None: another one is. True with nothing in `mine`:
    nobody can tell, since no more locks can be held or their shard is damaged, or nobody needs to,
    since the result is one that cannot be kept."""
    try:
        return True if try_hold(m, name, None, mine, judge) else None
    except LeftOpen:
        return True
    except MapUnlinked as error:
        raise Unreachable from error
    except (Reentered, MapClosed):
        raise
    except ShmMapError:  # it is computed, and may be stored
        return True


async def get_or_set_async(
    m: MapHandle, key: Key, factory: Callable[[], Awaitable[Value]], ttl: float | None,
    stale: float, timeout: float | None, deadline: float | None, notes: Notes,
    raises: Errors = (), condition: Callable[[Value], object] | None = None,
) -> tuple[Value, bool]:
    """Do the same in a coroutine: waiting lets the event loop go on.

    For one of the tasks of a loop that miss a key: see `task_flights`, which has the others wait
    for it. They wait for each other until the same `deadline`, which `timeout` seconds gave. Gives
    also whether the result could be kept. No look waits for the lock shard's own lock.
    """
    from asyncio import sleep  # not at the top: most programs never get here

    unread: list[ValueUnreadable] = []
    is_kept = True
    life = life_of(m, ttl, stale)
    name = name_of(FLIGHT, key)
    mine: list[Hold] = []
    try:
        for pause in pauses():
            value, fresh = look_up(m, key, stale, unread)
            if fresh:
                return value, True
            computes = (
                take_off(m, name, mine, partial(refuse, m, key, True))
                if m.attachment.locks.can_be_had() else None
            )
            if value is not MISSING and not mine:
                return value, True  # past its time, and another one is at it, or none can be
            if computes:
                break
            left = left_until(deadline)
            if left <= 0:
                raise too_late(m, key, timeout)
            await sleep(min(pause, left))
        value, fresh = look_up(m, key, stale, unread)
        if not fresh:
            if unread:
                note_unreadable(m, notes, unread[0])
            began = monotonic_ns()
            value = await factory()
            events.took_in(m, "compute", monotonic_ns() - began)
            is_kept = (condition is None or bool(condition(value))) and (
                keep(m, key, value, life, notes, raises)
            )
        return value, is_kept
    except Unreachable as failed:
        refuse_or_note(m, notes, key, failed, raises)
    finally:
        try:
            land(m, mine, is_kept)
        except BaseException:
            if mine:
                mine[0].is_over = mine[0].part.is_owing = True
            raise
    return await factory(), False
