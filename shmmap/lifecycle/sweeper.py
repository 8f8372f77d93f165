"""The global tier of cleanup: one elected worker sweeps every shard, a little at a time.

The lease is a word of the control segment: a token, taken by whoever finds it free, its owner dead,
or its heartbeat older than three intervals (a stopped sweeper must not stop cleanup). It is taken
under a lock on a byte of the liveness file, or, where nobody has swept for as long, without that:
its holder was stopped. Two sweepers at once are harmless.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from .._public import public
from ..errors import LockTimeout, MapClosed, MapUnlinked, ShmMapError
from ..locks.deferred_release import see_to_it
from ..memory._clock_cy import monotonic
from ..memory.table import UNITS
from ..memory.words import ShardWords
from ..operations._care_cy import TOMBSTONES, sweep_part
from ..operations.host import NEVER
from ..operations.routing import at_unit
from ..system import unfinished
from ..system.background import Background, Trouble
from ..system.blocks import block
from ..system.presences import alive
from ..system.tasks import is_cooperative, sleep
from . import event_ring, gates
from .reaping import reap
from .stats import summed

if TYPE_CHECKING:
    from ..locks.hosts import MapHandle
    from ..shard._shard_cy import Shard
    from .attachment import Attachment

ON_REQUEST_NS = 30_000_000_000  # after which a sweep is due without sweep_interval=
LIMIT = 256  # entries removed under one hold of a lock
_GREENLET_PATIENCE_S = 0.05
AGED_LOOKS = 8192  # slots looked at under one hold for old entries


@public
class SweepReport(NamedTuple):
    """What a sweep did.

    Attributes:
        expired: entries removed because their deadline had passed.
        aged: entries removed because they were not written for `max_age`.
        dead_workers: rows freed whose process had died.
        busy_shards: shards (that of the named locks, too) skipped since their lock was not free.
        longest_step: seconds of the longest step under a shard's lock, the wait included.
        seconds: duration of the whole sweep.
        dead_locks: named locks freed whose holder had died.
    """

    expired: int
    aged: int
    dead_workers: int
    busy_shards: int
    longest_step: float
    seconds: float
    dead_locks: int = 0


class _Findings:
    """What a sweep has found so far."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.busy = self.dead = self.dead_locks = 0
        self.errors: list[Exception] = []

    @block
    def noted(self) -> Iterator[None]:
        """Go on after what fails in the block, unless there is no map to go on with."""
        try:
            yield
        except LockTimeout:
            self.busy += 1
        except (MapClosed, MapUnlinked):
            raise
        except Exception as error:
            self.errors.append(error)


class Sweeper:
    """Sweeping for one process's attachment: on request, when due, or in the background.

    A process sweeps in the background once it has set a ttl, or left a tombstone. One that only
    reads need not: what has expired is answered to nobody, and makes room for the next writer that
    needs it. But too old entries are seen until somebody sweeps: where a map has `max_age` every
    process does that uses it, from when it opens the map, or, if it was forked, from its first use.
    So it is where the number of shards follows the load, by the gate `auto-shards`: who sweeps
    looks at that.
    Whoever sweeps finds out that the map's files were removed; who does not looks now and then.
    """

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment
        me = weakref.ref(self)  # no circle: what goes with its last user goes at once
        self._background = Background(
            lambda: (one := me()) is not None and one._sweep_in_background(),
            self._setting("sweep_ns") / 1e9,
            ended=lambda: one._have_it_started_anew() if (one := me()) is not None else None,
        )
        self._interval_ns = self._setting("sweep_ns") or ON_REQUEST_NS
        self._since_ns = attachment.clock.now_ns()
        if self._is_needed():
            self.start()

    def _is_needed(self) -> bool:
        """Tell whether every process that uses the map is to sweep it."""
        attachment = self._attachment
        return bool(self._setting("max_age_ns")) or (not attachment.is_private and (
            gates.is_on(attachment.control.FEATURES, "auto-shards")
            or True in [handle._request.auto_shards is not None
                        for handle in alive(attachment.handles)]
        ))

    def _setting(self, field: str) -> int:
        """Return a setting, in nanoseconds; 0: none. Of the handles of this process that say one
        it is the shortest; where none does, the map's."""
        said = [value for handle in alive(self._attachment.handles)
                if (value := getattr(handle._request.wanted, field)) is not None]
        if not said:
            return int(getattr(self._attachment.parameters, field) or 0)
        return min([value for value in said if value], default=0)

    def heed(self) -> None:
        """Heed the settings of a handle that has come."""
        every_ns = self._setting("sweep_ns")
        self._interval_ns = every_ns or ON_REQUEST_NS
        if every_ns:
            self._background.set_interval(every_ns / 1e9)
        if self._is_needed():
            self.start()
        self._attachment.notice_move()

    @property
    def trouble(self) -> Trouble | None:
        """What went wrong in this process's sweeping, and how often; None: nothing."""
        return self._background.trouble

    def start(self) -> bool:
        """Sweep in the background, unless the map has sweep_interval=None. Never raises; False:
        no thread can be started now, ask again at a later write."""
        return not self._setting("sweep_ns") or self._background.start()

    def look_for_files(self, due: int, version: int) -> int:
        """Find out, in an operation, that the map's files were removed, where this process does not
        sweep; the next operation is told. Return the version from which on to ask again: one
        interval on."""
        if not self._setting("sweep_ns"):
            return NEVER
        if due and not self.is_running():
            with suppress(ShmMapError):  # this one is done, whatever is found
                self._attachment.notice_removal()
                self._attachment.notice_move()
                event_ring.look(self._attachment)
            if self._is_needed():
                self.start()
        return min(version + 2 * self._interval_ns, NEVER)  # a version is twice the time

    def is_running(self) -> bool:
        """Tell whether this process sweeps in the background."""
        return self._background.is_running()

    def is_busy(self) -> bool:
        """Tell whether another task of this process sweeps just now: it is in no operation all the
        while, so that `close` need not wait for all of a round."""
        return self._background.busy and not self.is_run_here()

    def is_run_here(self) -> bool:
        """Tell whether it is this very task that sweeps in the background."""
        return self._background.is_run_here()

    def stop(self) -> bool:
        """End sweeping in the background; tell whether nothing of it touches the map any more."""
        return self._background.stop()

    def _have_it_started_anew(self) -> None:
        for handle in alive(self._attachment.handles):
            handle._sweeping = False
        self._attachment.sweeping_ended()

    def _sweep_in_background(self) -> bool:
        # dropping the last handle at the end of this ends the memory
        handle = next(iter(alive(self._attachment.handles)), None)
        if handle is None:  # one is being opened, or the last one is being closed
            return True
        self._background.busy = True  # before the next look: see Background.stop
        try:
            if not self._background.stopping:
                see_to_it(self._attachment)
                self._attachment.notice_removal()
                self._attachment.notice_move()
                event_ring.look(self._attachment)
                self.sweep_if_due(handle, self._background)
        except MapUnlinked:
            return False
        except ShmMapError:
            if not handle.closed:
                raise
        finally:
            self._background.busy = False
        return True

    def _take_lease(self, now_ns: int) -> bool:
        """Become the sweeper; False: another one is at it."""
        control = self._attachment.control
        worker = self._attachment.worker
        holder = control.LEASE
        mine = worker.fork_page.word
        fresh = abs(now_ns - control.LEASE_BEAT_NS) < 3 * self._interval_ns
        if fresh and holder not in (0, mine) and not worker.is_dead(holder):
            return False
        with self._attachment.alone(0) as had:  # whoever has it may be waiting for this thread
            if not had:
                return False
            alone = worker.try_lease()
            if not alone and not self._is_overdue(now_ns):
                return False
            try:
                if control.LEASE != holder:
                    return False
                control.LEASE_BEAT_NS = now_ns
                control.LEASE = mine
                return True
            finally:
                if alone:
                    try:
                        worker.end_lease()
                    except BaseException:  # a signal handler raised in it: finish all the same
                        worker.end_lease()
                        raise

    def _is_overdue(self, now_ns: int) -> bool:
        """Tell whether nobody has swept for three intervals: then whoever is just deciding who
        sweeps, which takes microseconds, was stopped."""
        control = self._attachment.control
        last_ns = (control.SWEPT_NS, control.LEASE_BEAT_NS, self._since_ns)
        return bool(min([abs(now_ns - last) for last in last_ns]) > 3 * self._interval_ns)

    def sweep_if_due(
        self, handle: MapHandle, background: Background | None = None
    ) -> SweepReport | None:
        """Sweep if an interval has passed since the last sweep and no other worker is at it."""
        control = self._attachment.control
        now_ns = self._attachment.clock.now_ns()
        if control.SWEPT_NS and abs(now_ns - control.SWEPT_NS) < self._interval_ns * 9 // 10:
            return None
        if not self._take_lease(now_ns):
            return None
        report = self.sweep(handle, background)
        if background is None or not background.stopping:
            handle._after_round(self._attachment)
        return report

    def sweep(self, handle: MapHandle, background: Background | None = None) -> SweepReport:
        """Sweep every shard now, through `handle`. What fails in one of them does not keep the
        others from it; the first error is raised at the end. In the background: let others go on,
        and end when told to."""
        attachment = self._attachment
        control = attachment.control
        started = monotonic()
        counted = ShardWords.EXPIRED, ShardWords.AGED
        expired, aged = (summed(attachment.mappings, word) for word in counted)
        found = _Findings()
        try:
            unfinished.finish()
            unit = 0
            while unit < UNITS:
                control.LEASE_BEAT_NS = attachment.clock.now_ns()
                if background is not None and is_cooperative():
                    sleep(0)
                if background is not None and background.stopping:
                    break
                shard = at_unit(attachment.shards, unit)
                with found.noted():
                    if background is not None and not self._can_be_had(shard):
                        raise LockTimeout
                    found.longest = max(found.longest, self._sweep_shard(handle, unit))
                # else it has moved, in part it may be: what has come after it, from here on
                if at_unit(attachment.shards, unit) is shard:
                    unit = shard.unit_after()
            else:
                self._sweep_the_dead(handle, background, found)
                if not found.errors:
                    control.SWEPT_NS = attachment.clock.now_ns()
                    control.SWEEP_EPOCH += 1
        finally:
            if control.LEASE == attachment.worker.fork_page.word:  # not taken over meanwhile
                control.LEASE = 0
        if found.errors:
            raise found.errors[0]
        return SweepReport(
            max(0, summed(attachment.mappings, ShardWords.EXPIRED) - expired),
            max(0, summed(attachment.mappings, ShardWords.AGED) - aged),
            found.dead, found.busy, found.longest, monotonic() - started, found.dead_locks,
        )

    def reap(self, handle: MapHandle) -> int:
        """Free what the dead have, and nothing else; count them."""
        found = _Findings()
        self._sweep_the_dead(handle, None, found)
        if found.errors:
            raise found.errors[0]
        return found.dead

    def _sweep_the_dead(
        self, handle: MapHandle, background: Background | None, found: _Findings
    ) -> None:
        """Free the named locks and the rows of processes that have died, and remove ephemeral maps
        that nobody has come back to."""
        attachment = self._attachment
        with found.noted():
            if not attachment.is_private:
                reap(attachment.name)
        with found.noted():
            if background is not None and not self._can_be_had(attachment.locks.shards[0]):
                raise LockTimeout
            found.dead_locks = handle._lock_table().sweep()
        with attachment.alone(0) as had, found.noted():
            if had:
                found.dead = attachment.worker.clear_dead_rows()

    def _can_be_had(self, shard: Shard) -> bool:
        """Tell whether a shard's lock is likely to be free, where waiting for it would hold up
        all greenlets of the thread: give others some time to leave it first."""
        if not is_cooperative():
            return True
        deadline = monotonic() + _GREENLET_PATIENCE_S
        while (owner := shard.lock.owner()) and not self._attachment.worker.is_dead(owner):
            if monotonic() > deadline:
                return False
            sleep(0.001)
        return True

    def _sweep_shard(self, handle: MapHandle, unit: int) -> float:
        """Sweep the shard that has a unit of the hash; return the longest step under its lock in
        seconds."""
        longest = 0.0
        age_ns = self._setting("max_age_ns")
        before = self._attachment.clock.now_ns() - age_ns if age_ns else 0
        for written_before, limit in ((0, LIMIT), (TOMBSTONES, LIMIT), (before, AGED_LOOKS)):
            if limit == AGED_LOOKS and written_before <= 0:
                continue
            first, shard = 1, at_unit(self._attachment.shards, unit)
            while first:
                now = at_unit(self._attachment.shards, unit)
                if now is not shard:  # a slot of the former is no place in this one
                    first, shard = 1, now
                began = monotonic()
                first = sweep_part(handle, unit, first, written_before, limit)
                longest = max(longest, monotonic() - began)
        return longest

