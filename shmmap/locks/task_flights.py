"""Single flight among the tasks of an event loop: one goes for a value, the others await it.

A flight is the computing of one key in one loop. Those that need its value wait for a future, which
is set when the flight has landed, however it did, and then look for themselves. So a leader that
is cancelled, or raises, is replaced. Between loops and processes it is `single_flight`.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from ..checks import seconds, shown
from ..errors import Reentered
from ..memory._clock_cy import monotonic
from ..operations._reads_cy import MISSING
from ..system.process import this_process
from ..values._keys_cy import pack
from . import single_flight
from .keeping import Errors, Notes, Unreachable, notes_of
from .waiting import deadline_of

if TYPE_CHECKING:
    from ..checks import Key, Value
    from .hosts import MapHandle

Packed = tuple[int, bytes]  # a key as it is stored
Flights = weakref.WeakKeyDictionary[object, dict[Packed, "Flight"]]  # by loop


class Flight:
    """The computing of a key in one event loop, and what those wait for who need it too."""

    def __init__(self, place: tuple[str, Packed]) -> None:
        from asyncio import get_running_loop  # not at the top: most programs have no loop

        self.place = place  # map and key
        self.landed = get_running_loop().create_future()
        self.process = this_process()
        self.is_kept = True  # False: the result could not be stored


class Wish(NamedTuple):
    """What is wanted of a value: see `single_flight.get_or_set`. `deadline` is what `timeout`
    gave."""

    ttl: float | None
    stale: float
    timeout: float | None
    deadline: float | None
    notes: Notes
    raises: Errors = ()
    condition: Callable[[Value], object] | None = None


# The computings that this code is a part of. A context variable, since tasks inherit it: most
# computings wait for the tasks that they start.
_within: ContextVar[tuple[Flight, ...]] = ContextVar("shmmap_within", default=())


def _refuse_own(m: MapHandle, key: Key, place: tuple[str, Packed]) -> None:
    """Refuse to wait for a computing that this code is a part of, unless that is over, or goes on
    in the process that forked this one."""
    for flight in _within.get():
        if flight.place == place and not flight.landed.done() and flight.process == this_process():
            raise Reentered(
                f"map {m.name!r}: the computing of {shown(key)} asks for that very key, in its own "
                "task or in one that it started: it would wait for itself. Compute it there "
                "without the map (of a cached function: __wrapped__); a task that the computing "
                "does not wait for may be started in a context of its own "
                "(contextvars.Context().run(...))"
            )


async def share(
    m: MapHandle, key: Key, flights: Flights, compute: Callable[[], Awaitable[Value]], wish: Wish
) -> Value:
    """Return the value of `key`; of the tasks of this loop that miss it, one goes for it.

    Raises:
        Unreachable: the map cannot be read just now; nothing was computed.
    """
    from asyncio import get_running_loop, wait

    identity = pack(key)
    place = m.name, identity
    here = flights.setdefault(get_running_loop(), {})
    is_kept = True
    while True:
        value, fresh = single_flight.look_up(m, key, wish.stale, [])
        flight = here.get(identity)
        if fresh or (value is not MISSING and flight is not None):
            return value
        if value is MISSING:
            _refuse_own(m, key, place)
        if flight is None or not is_kept:
            break  # what cannot be kept each computes for itself, not one after the other
        left = None if wish.deadline is None else wish.deadline - monotonic()
        if left is not None and left <= 0:
            raise single_flight.too_late(m, key, wish.timeout)
        await wait((flight.landed,), timeout=left)  # if we are cancelled, it is not
        is_kept = flight.is_kept
    flight = Flight(place)
    here.setdefault(identity, flight)
    before = _within.set((*_within.get(), flight))
    try:
        value, flight.is_kept = await single_flight.get_or_set_async(
            m, key, compute, wish.ttl, wish.stale, wish.timeout, wish.deadline, wish.notes,
            wish.raises, wish.condition,
        )
        return value
    finally:
        if here.get(identity) is flight:
            del here[identity]
        with suppress(RuntimeError):  # the loop is closed: nobody in it waits any more
            flight.landed.set_result(None)
        with suppress(ValueError):  # this is the end of a coroutine that was just dropped
            _within.reset(before)


async def get_or_set(
    m: MapHandle, key: Key, factory: Callable[[], Awaitable[Value] | Value], ttl: float | None,
    stale: float, timeout: float | None, strict: bool = False,
) -> Value:
    """See ShmMap.aget_or_set."""
    if not callable(factory):
        raise TypeError(f"factory must be callable, not {type(factory).__name__}")

    async def compute() -> Value:
        made = factory()
        return await made if isinstance(made, Awaitable) else made

    raises: Errors = (Exception,) if strict else ()
    wish = Wish(ttl, seconds(stale, "stale"), timeout, deadline_of(timeout), notes_of(m), raises)
    try:
        return await share(m, key, m._live.locks.flights, compute, wish)
    except Unreachable as failed:  # before anything was computed
        single_flight.refuse_or_note(m, wish.notes, key, failed, raises)
    return await compute()
