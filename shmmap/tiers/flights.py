"""Computing a missing value once for all machines: one process a machine tries for the store's
lock of the key, the one that has it computes, and all others read what it has written.

Neither the store nor the map fails the call: where they cannot be used, the value is computed, and
its caller gets it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..checks import Key, Value, refuse_coroutine, seconds, shown
from ..errors import EntryTooLarge, LockTimeout, MapClosed, ShmMapError
from ..locks.keeping import note, notes_of, reason_for
from ..memory._clock_cy import monotonic
from ..operations._reads_cy import MISSING
from .store_lock import TierLock, pauses

if TYPE_CHECKING:
    from ..checks import Seconds
    from .writes import TierWrites

LEASE_S = 3.0  # so long a value is missing where the machine that computes it dies


def get_or_set(
    tier: TierWrites, key: Key, factory: Callable[[], Value], ttl: Any, timeout: Seconds | None
) -> Value:
    """See Tiered.get_or_set."""
    if not callable(factory):
        raise TypeError(f"factory must be callable, not {type(factory).__name__}")
    timeout = None if timeout is None else seconds(timeout, "timeout")
    until = None if timeout is None else monotonic() + timeout
    try:
        value = tier.get(key, MISSING)
        if value is not MISSING:
            return value
        lock = TierLock(tier.map, tier.store, tier._names, "flight", key, None, LEASE_S)
        if not lock.take_here(timeout):
            raise _too_late(tier, key, timeout)
    except (LockTimeout, MapClosed):
        raise
    except ShmMapError as error:
        _note(tier, key, error)
        return _compute(factory)
    try:
        value = _wait(tier, key, lock, until, timeout)
        if value is not MISSING:
            return value
        value = _compute(factory)
        try:
            tier._write(key, value, ttl, "")  # the store has it when the lock goes
        except MapClosed:
            raise
        except Exception as error:  # what does not pickle, too
            _note(tier, key, error)
        return value
    finally:
        lock._give_up()


def _wait(
    tier: TierWrites, key: Key, lock: TierLock, until: float | None, timeout: float | None
) -> Value:
    """Return what another machine has written; MISSING: it is ours to compute."""
    pause = pauses()
    while True:
        try:
            value = tier.get(key, MISSING, consistency="linearizable")
            if value is not MISSING or lock.take():
                # what was written between the look and the taking
                return value if value is not MISSING else tier.get(
                    key, MISSING, consistency="linearizable")
        except (MapClosed, EntryTooLarge):
            raise
        except ShmMapError:
            return MISSING
        if until is not None and monotonic() > until:
            raise _too_late(tier, key, timeout)
        time.sleep(next(pause))


def _note(tier: TierWrites, key: Key, error: Exception) -> None:
    """Count, and tell once, that a value is computed and not stored."""
    note(tier.map, notes_of(tier.map), reason_for(error), f"{shown(key)} could not be stored for "
         f"all machines ({type(error).__name__}: {error}); its caller has it all the same")


def _compute(factory: Callable[[], Value]) -> Value:
    value = factory()
    refuse_coroutine(value, "get_or_set", "await the value, and tier.set(key, value)")
    return value


def _too_late(tier: TierWrites, key: Key, timeout: float | None) -> LockTimeout:
    return LockTimeout(f"store {tier.store.where}, key {shown(key)}: another process or machine "
                       f"has not computed the value within {timeout:g} s")
