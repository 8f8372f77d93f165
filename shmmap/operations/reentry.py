"""What the pure engine keeps to know which operations are under way, and who is inside which shard.

The compiled engine counts in C, where no signal handler can come in between. Here one may raise
between any two lines, so what is noted may outlive what it is noted of. Whether it does is seen by
the frames: one that has ended cannot be in the middle of anything.

**Rules**, which tests/house/test_reentry_rules.py compares with the sources
 E1  an operation calls `enter` or `come_in` itself, and `leave` in a `finally` of the same
     function: the gate of a handle holds its frame
 E2  a function that takes a shard's lock is in HOLDERS, and that shard is its local variable
     `shard`; one that holds every shard at once is in HOLDERS_OF_ALL too
 E3  it calls `hold`, `hold_each`, `try_hold` or `note` itself: what was noted of a shard that no
     such function further up the stack has, was left by a handler that raised
"""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..shard._shard_cy import Shard
    from ._holding_cy import Holding
    from .host import Readable

# The functions that take a shard's lock, and the modules that they are in.
HOLDERS = {
    name: f"shmmap.operations.{module}"
    for module, names in {
        "_reads_cy": ("fetch_locked",),
        "_writes_cy": ("commit", "incr", "touch"),
        "_takes_cy": ("clear_shard", "heal", "take", "take_copied", "take_version"),
        "_changes_cy": ("touch_copied",),
        "_restore_cy": ("merge_raw",),
        "_pop_any_cy": ("offer", "take_offered"),
        "_holding_cy": ("wait_for_move",),
        "_listing_cy": ("copy_next", "whole_index"),
        "_care_cy": ("copy_shard", "end_entries", "rebuild_shard", "sweep_part"),
        "_cut_cy": ("copy_changed_shard", "cut", "hold_all", "hold_one", "track_shard"),
        "_moves_cy": ("cut_group", "follow_shard", "track_moved", "unsay_moved"),
    }.items() for name in names
}  # fmt: skip
HOLDERS_OF_ALL = frozenset(("cut", "cut_group", "hold_all"))


# -- operations: called by `enter` and `leave` only, since the frame above those is the operation's


def begin(handle: Holding) -> None:
    """Note that the operation which calls `enter` is under way."""
    operation = sys._getframe(2)
    handle.gate.append(operation)
    if handle.closed:
        handle.gate.remove(operation)
        handle.end_of_all()  # a handler's `close` may have left the rest to this one
        handle.ready()


def end(handle: Holding) -> None:
    """Note that the operation which calls `leave` has ended, and free what no operation further
    up the stack has: a handler raised at the first line of its `drop`."""
    operation = sys._getframe(2)
    thread = threading.get_ident()
    for at, shard in handle.attachment.held.copy().items():
        if at[0] == thread and not _count_holders(operation.f_back, shard):
            handle.let_go(shard)
    if operation in handle.gate:  # not where a child began anew
        handle.gate.remove(operation)


def count_operations(handle: Holding) -> int:
    """Count the operations of a handle that are under way.

    A signal handler that raises between an operation's first line and its `try` leaves its frame
    in the gate for ever. A frame that has ended can be cleared, one that runs, in whatever thread,
    refuses; to walk another thread's stack, as it runs on, has crashed CPython 3.11.
    """
    count = 0
    for frame in list(handle.gate):
        try:
            frame.clear()
        except RuntimeError:
            count += 1
    return count


def own_operations(handle: Holding) -> list[FrameType]:
    """List those operations of a handle that are further up this thread's stack."""
    mine: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame in handle.gate:
            mine.append(frame)
        frame = frame.f_back
    return mine


# -- shards


def note(host: Readable, shard: Shard) -> None:
    """Note that this thread is about to hold a shard, as far as anyone can tell."""
    host.held[threading.get_ident(), id(shard)] = shard


def forget(host: Readable, shard: Shard) -> None:
    """Forget that this thread is inside a shard. Idempotent."""
    host.held.pop((threading.get_ident(), id(shard)), None)


def is_noted(host: Readable, shard: Shard) -> bool:
    """Tell whether it was noted that this thread holds a shard."""
    return (threading.get_ident(), id(shard)) in host.held


def is_inside(shard: Shard) -> bool:
    """Tell whether an operation further up this thread's stack than the one that asks holds the
    shard. If none does, a signal handler raised so awkwardly that its `drop` did not run to the
    end."""
    return _count_holders(sys._getframe(1), shard) > 1


def _count_holders(frame: FrameType | None, shard: Shard) -> int:
    """Count the operations from a frame upwards that hold a shard, or are about to."""
    operations = 0
    while frame is not None:
        name = frame.f_code.co_name
        if name in HOLDERS and HOLDERS[name] == frame.f_globals.get("__name__") and (
            name in HOLDERS_OF_ALL or frame.f_locals.get("shard") is shard
        ):
            operations += 1
        frame = frame.f_back
    return operations
