"""The global tier of cleanup: one elected worker sweeps every shard, a little at a time.

The lease is a word of the control segment: a token, taken by whoever finds it
free, its owner dead, or its heartbeat older than three intervals (a stopped
sweeper must not stop cleanup). Two sweepers at once are harmless.
"""

from __future__ import annotations

import _thread
import threading
import time
from contextlib import suppress
from typing import Any, NamedTuple

from ._clock_cy import monotonic
from .errors import LockTimeout, ShmMapError
from .layout import constants

K = constants()
LIMIT = 256  # entries removed under one hold of a lock
STOP_PATIENCE_S = 3.0
IDLE_LOOKS = 8192  # slots looked at under one hold for idle entries


class SweepReport(NamedTuple):
    """What a sweep did.

    Attributes:
        expired: entries removed because their deadline had passed.
        idle: entries removed because they were not written for `max_idle`.
        dead_workers: rows freed whose process had died.
        busy_shards: shards (that of the named locks, too) skipped since their lock was not free.
        longest_step: seconds of the longest step under a shard's lock, the wait included.
        seconds: duration of the whole sweep.
        dead_locks: named locks freed whose holder had died.
    """

    expired: int
    idle: int
    dead_workers: int
    busy_shards: int
    longest_step: float
    seconds: float
    dead_locks: int = 0


class Sweeper:
    """Sweeping for one process's attachment: on request, when due, or in a thread."""

    def __init__(self, attachment: Any) -> None:
        self._attachment = attachment
        # Locks that are held until it is time, or over. Not Events: a signal handler that raises
        # inside an Event's set() leaves its inner lock taken, and the next set() waits for ever.
        self._running = threading.Lock()
        self._running.acquire()
        self._alive = threading.Lock()
        self._mutex = threading.Lock()
        self._thread = 0  # the sweeping thread's ident

    def start(self) -> None:
        """Start the thread unless it runs, or the map has sweep_interval=None.

        Not through threading.Thread: if the handler of a signal raises while that starts, half
        a thread is left that can be neither started nor joined.
        """
        if self._attachment.parameters.sweep_ns and not self._thread:
            _thread.start_new_thread(self._run, ())

    def stop(self) -> bool:
        """End the thread; tell whether it ended (soon)."""
        with suppress(RuntimeError):  # stopped before
            self._running.release()
        with self._mutex:
            thread = self._thread
        if thread in (0, threading.get_ident()):
            return True
        deadline = monotonic() + STOP_PATIENCE_S
        while self._alive.locked():
            if monotonic() > deadline:
                return False
            time.sleep(0.0005)
        return True

    def _run(self) -> None:
        with self._mutex:
            if self._thread or not self._running.locked():
                return
            self._alive.acquire()
            self._thread = threading.get_ident()
        try:
            self._sweep_again_and_again()
        finally:
            self._alive.release()

    def _sweep_again_and_again(self) -> None:
        interval_s = self._attachment.parameters.sweep_ns / 1e9
        while not self._running.acquire(timeout=interval_s):
            # dropping the last handle below ends the memory
            handle = next(iter(list(self._attachment.handles.values())), None)
            if handle is None:
                return
            try:
                self.sweep_if_due(handle)
            except ShmMapError:
                if handle.closed:
                    continue
                return  # unlinked
            del handle

    def _take_lease(self, now_ns: int) -> bool:
        """Become the sweeper; False: another one is at it."""
        control = self._attachment.control
        worker = self._attachment.worker
        holder = control["LEASE"]
        interval = self._attachment.parameters.sweep_ns or int(30e9)
        mine = worker.fork_page.word
        fresh = abs(now_ns - control["LEASE_BEAT_NS"]) < 3 * interval
        if fresh and holder not in (0, mine) and not worker.is_dead(holder):
            return False
        with self._attachment.alone(0) as had:  # whoever has it may be waiting for this thread
            if not had or not worker.try_lease():
                return False
            try:
                if control["LEASE"] != holder:
                    return False
                control["LEASE_BEAT_NS"] = now_ns
                control["LEASE"] = mine
                return True
            finally:
                worker.end_lease()

    def sweep_if_due(self, handle: Any) -> SweepReport | None:
        """Sweep if an interval has passed since the last sweep and no other worker is at it."""
        control = self._attachment.control
        now_ns = self._attachment.clock.now_ns()
        interval = self._attachment.parameters.sweep_ns or int(30e9)
        if control["SWEPT_NS"] and abs(now_ns - control["SWEPT_NS"]) < interval * 9 // 10:
            return None
        if not self._take_lease(now_ns):
            return None
        return self.sweep(handle)

    def sweep(self, handle: Any) -> SweepReport:
        """Sweep every shard now, through `handle`."""
        attachment = self._attachment
        control = attachment.control
        started = monotonic()
        counts = {"EXPIRED": -self._sum("EXPIRED"), "IDLED": -self._sum("IDLED")}
        longest = 0.0
        busy = 0
        for number in range(attachment.geometry.shards):
            control["LEASE_BEAT_NS"] = attachment.clock.now_ns()
            try:
                longest = max(longest, self._sweep_shard(handle, number))
            except LockTimeout:
                busy += 1
        dead = dead_locks = 0
        try:
            dead_locks = handle._lock_table().sweep()
        except LockTimeout:
            busy += 1
        with attachment.alone(0) as had:
            if had:
                dead = attachment.worker.clear_dead_rows()
        for field in counts:
            counts[field] += self._sum(field)
        control["SWEPT_NS"] = attachment.clock.now_ns()
        control["SWEEP_EPOCH"] += 1
        if control["LEASE"] == attachment.worker.fork_page.word:  # not taken over meanwhile
            control["LEASE"] = 0
        return SweepReport(
            counts["EXPIRED"], counts["IDLED"], dead, busy, longest, monotonic() - started,
            dead_locks,
        )

    def _sweep_shard(self, handle: Any, number: int) -> float:
        """Sweep one shard; give the longest step under its lock in seconds."""
        longest = 0.0
        idle_ns = self._attachment.parameters.max_idle_ns
        before = self._attachment.clock.now_ns() - idle_ns if idle_ns else 0
        for idle_before, limit in ((0, LIMIT), (before, IDLE_LOOKS)):
            if limit == IDLE_LOOKS and idle_before <= 0:
                continue
            first = 1
            while first:
                began = monotonic()
                first = handle._sweep_part(number, first, idle_before, limit)
                longest = max(longest, monotonic() - began)
        return longest

    def _sum(self, field: str) -> int:
        offset = K[f"S_{field}"]
        total = 0
        for mapping in self._attachment.mappings:
            words = memoryview(mapping.buffer).cast("B").cast("Q")
            total += words[offset >> 3]
            words.release()
        return total

