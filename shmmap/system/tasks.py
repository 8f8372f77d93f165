"""Who is running: a thread, a greenlet or an asyncio task of one; and how it waits.

Under gevent and eventlet, which may patch `time` and `threading` long after this package was
imported and maps were opened, many greenlets share one thread, and take turns wherever one of
them sleeps. So nothing is fixed at import: who runs, and how to sleep, is asked each time. Only
their sleeps count: what a test puts in the place of `time.sleep` (unittest.mock) is not called.

Where `time.sleep` is Python's own, a wait holds up every greenlet of its thread (SQLAlchemy's
asyncio, gevent without its patches). What one of them holds no other of them could wait for: they
count as one, so that such a wait is refused instead of lasting for ever.

A task of asyncio is told from the others by `current_holder`, for what may be held across an
`await`. All else is over before another task of the loop can run.
"""

from __future__ import annotations

import _thread
import ctypes
import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Any, TypeVar

Greenlet = Any  # of a library that may not be there
Made = TypeVar("Made")
_libc = ctypes.CDLL(None)
_own_sleep = time.sleep
# For each library: where its sleep is, and who knows whether `time` is patched with it.
_LIBRARIES = (
    ("gevent.hub", "gevent.monkey", "is_module_patched"),
    ("eventlet.greenthread", "eventlet.patcher", "is_monkey_patched"),
)


class _Life:
    """Goes with its thread, unless that keeps it."""

    __slots__ = ("__weakref__",)


class _Marks(threading.local):
    """What tells a thread from all others, also from one that got its ident after its end."""

    def __init__(self) -> None:
        self.mine = object()
        self.life = _Life()


_marks = _Marks()
_at_exit: dict[int, object] = {}  # what stands for that, by thread


def _own_mark() -> object:
    """Identify this thread."""
    try:
        return _marks.mine
    except RuntimeError:  # gevent's, at exit: see `_current_greenlet`
        return _at_exit.setdefault(_thread.get_native_id(), object())


def others_run() -> bool:
    """Tell whether other threads of this process can still run. Once the interpreter goes down they
    stand still for good: to wait for what they hold or do is in vain."""
    return not sys.is_finalizing()


def is_cooperative() -> bool:
    """Tell whether a sleep lets the other greenlets of this thread go on."""
    return _cooperative_sleep() is not None


def _cooperative_sleep() -> Callable[[float], object] | None:
    """Return the sleep of gevent or eventlet, if that is what sleeps here, though a test may have
    replaced it meanwhile; else None."""
    if isinstance(time.sleep, BuiltinFunctionType):
        return None
    for library, patcher, question in _LIBRARIES:
        found: Callable[[float], object] | None = getattr(
            sys.modules.get(library), "sleep", None
        )
        is_patched = getattr(sys.modules.get(patcher), question, None)
        if found is not None and (
            time.sleep is found or (is_patched is not None and is_patched("time"))
        ):
            return found
    return None


def _current_greenlet() -> Greenlet:
    """Return the running greenlet; None: the program has none."""
    getcurrent = getattr(sys.modules.get("greenlet"), "getcurrent", None)
    try:
        return None if getcurrent is None else getcurrent()
    except RuntimeError:  # at exit, once there are none any more
        return None


def current_task() -> object:
    """Identify what is running: equal only to itself, hashable, keeps no greenlet alive.

    The main greenlet of a thread is that thread, patched or not.
    """
    if is_cooperative():
        current = _current_greenlet()
        if current is not None and current.parent is not None:
            task = weakref.ref(current)
            hash(task)  # now: when the greenlet is gone it no longer can be
            return task
    return _own_mark()


def running_loop() -> Any:
    """Return the event loop of asyncio that runs this code; None: there is none. A program that has
    not imported asyncio has none."""
    running = getattr(sys.modules.get("asyncio.events"), "_get_running_loop", None)
    loop = None if running is None else running()
    if loop is not None and is_cooperative():
        ident = threading.get_ident()  # that of the greenlet, where it is patched
        return loop if getattr(loop, "_thread_id", ident) == ident else None
    return loop


def _current_asyncio_task() -> Any:
    loop = running_loop()
    current = getattr(sys.modules.get("asyncio.tasks"), "current_task", None)
    return None if loop is None or current is None else current(loop)


def current_holder() -> object:
    """Identify what is running as `current_task` does, and tell the tasks of an event loop from
    each other, and from the callbacks of that loop."""
    running = _current_asyncio_task()
    if running is None:
        return current_task()
    task = weakref.ref(running)
    hash(task)  # now: see `current_task`
    return task


def sign_of_life() -> Callable[[], object]:
    """Return what `lives` tells from: whether the thread, greenlet or task that runs now has
    ended."""
    task = current_holder()
    if isinstance(task, weakref.ref):
        return task
    try:
        return weakref.ref(_marks.life)
    except RuntimeError:  # at exit: see `_own_mark`
        return object


def lives(sign: Callable[[], object]) -> bool:
    """Tell whether what gave a sign of life has not ended."""
    runner = sign()
    if runner is None:
        return False
    is_done = getattr(runner, "done", None)  # a task has it, a greenlet has `dead`
    return not (is_done() if callable(is_done) else getattr(runner, "dead", False))


def current_thread() -> object:
    """Identify the thread that is running, whichever of its greenlets does."""
    current = _current_greenlet()
    if current is None or not is_cooperative():
        return _own_mark()
    while current.parent is not None:
        current = current.parent
    main = weakref.ref(current)
    hash(main)
    return main


def new_lock(make: Callable[[], Made]) -> Made:
    """Make a lock. Where there is no memory for one, Python says so by a RuntimeError."""
    try:
        return make()
    except RuntimeError:
        raise MemoryError from None


def can_wait_for(lock: object) -> bool:
    """Tell whether a wait for a lock lets those go on who are to free it: not where greenlets
    take turns and the lock is of before that, nor in the hub."""
    if not is_cooperative():
        return True
    current = _current_greenlet()
    return type(lock).__module__ != "_thread" and not (
        current is not None and _runs_the_others(current)
    )


def _runs_the_others(current: Greenlet) -> bool:
    """Tell whether a greenlet is the hub of its thread, which cannot switch to itself."""
    gevent, eventlet = sys.modules.get("gevent._hub_local"), sys.modules.get("eventlet.hubs")
    if gevent is not None and gevent.get_hub_if_exists() is current:
        return True
    hub = getattr(getattr(eventlet, "_threadlocal", None), "hub", None)
    return getattr(hub, "greenlet", None) is current


def _has_hub() -> bool:
    """Tell whether this thread has a hub. Where it has none it has no other greenlets either; and
    to make one, as a sleep of gevent's does, imports modules: two threads that do so at once, soon
    after the patches, wait for each other for ever."""
    gevent, eventlet = sys.modules.get("gevent._hub_local"), sys.modules.get("eventlet.hubs")
    if gevent is not None and gevent.get_hub_if_exists() is not None:
        return True
    return getattr(getattr(eventlet, "_threadlocal", None), "hub", None) is not None


def sleep(seconds: float) -> None:
    """Sleep, and let the other greenlets of this thread go on where they can."""
    cooperative = _cooperative_sleep()
    current = _current_greenlet() if cooperative is not None else None
    if cooperative is not None and _has_hub() and not (
        current is not None and _runs_the_others(current)  # in a finalizer, say
    ):
        cooperative(seconds)
    elif cooperative is None and isinstance(_own_sleep, BuiltinFunctionType):
        _own_sleep(seconds)
    else:
        _libc.usleep(int(seconds * 1e6))
