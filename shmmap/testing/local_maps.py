"""The maps of this process alone: what `opening`, `making` and `Attachment` do for shared ones.

A map here is one attachment, as the process has it of a shared map: the same words in the control
segment, the same headers, shards, locks and table of workers, over anonymous memory. What differs
is what the kernel does for a shared map: there are no files, so nothing is found by name but in
`_maps`; and no other process, so whoever is not this process, as it is now, is dead. The child of a
fork has its own copy of everything: what threads of its parent held it takes over from the dead.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import MapNotFound
from ..lifecycle.attachment import Attachment
from ..lifecycle.control import Control
from ..lifecycle.headers import draft_header
from ..lifecycle.making import control_words, random_word
from ..lifecycle.opening import check
from ..lifecycle.parameters import Parameters
from ..lifecycle.places import Place, Places
from ..lifecycle.request import Request
from ..memory import geometry
from ..memory.layout import constants
from ..memory.words import ShardWords
from ..system import segment
from ..system.blocks import block
from ..system.mutex import Mark, Mutex
from ..system.process import own_pid, this_process
from ..system.worker_table import Worker
from .local_segments import LocalStore, PrivateMapping

if TYPE_CHECKING:
    from ..locks.hosts import MapHandle
    from ..shard._shard_cy import Shard

K = constants()
_NO_FILE = (0, 0)
_maps: dict[str, LocalAttachment] = {}
_mutex = Mutex()


class _NoFile:
    """Stands for the liveness file, whose bytes are locked against other processes: none is."""

    identity = _NO_FILE

    def try_lock(self, byte: int) -> bool:
        return True

    def unlock(self, byte: int) -> None:
        pass

    def holder(self, byte: int) -> None:
        return None

    def close(self) -> None:
        pass


class OnlyWorker(Worker):
    """This process, the only worker of a map."""

    def _take_hold(self) -> None:
        """Hold no file."""

    @property
    def is_holding(self) -> bool:
        """Whether nobody can take himself for the last: nobody else is there."""
        return True

    def open_file(self) -> None:
        """Lock nothing."""
        self.file = _NoFile()

    def is_dead(self, token: int) -> bool:
        """Tell whether a token is not of this process as it is now: it is of the parent, whose
        threads are not here, or of before the last handle was closed."""
        mine = self.row << K["TOKEN_ROW_SHIFT"] | self.incarnation << K["TOKEN_INCARNATION_SHIFT"]
        return token >> K["TOKEN_INCARNATION_SHIFT"] != mine >> K["TOKEN_INCARNATION_SHIFT"]

    def rows_in_use(self) -> list[tuple[int, int]]:
        """List (row, pid): of this process."""
        return [(self.row, own_pid())] if self.row >= 0 else []

    def clear_dead_rows(self) -> int:
        """Free the rows of the dead: none, `join` takes the parent's."""
        return 0

    def _process_lives(self, row: int) -> bool:
        return False


class _LocalPlaces(Places):
    """The shards of such a map."""

    def attach(
        self, label: str, public: str, shape: geometry.Geometry, generation: int, number: int,
        in_header: int,
    ) -> Place:
        """Map a shard; without a semaphore: who waits looks again by itself."""
        mapping = self._attachment.store.attach(label, shape.areas.end, None, None)
        return self.add(mapping, public, None, shape, generation, number)


class LocalAttachment(Attachment):
    """A map of this process; see the module."""

    is_private = True
    _worker_kind = OnlyWorker

    def __init__(self, *arguments: Any) -> None:
        self.store: LocalStore = LocalStore(_alone)
        super().__init__(*arguments)
        self.places = _LocalPlaces(self)

    def make_parts(self) -> None:
        """Make the shards, and that of the named locks."""
        shape = self.geometry
        self._make_part(segment.locks_name(self.name, self.nonce), geometry.lock_geometry(),
                        geometry.LOCK_NUMBER, True)
        for number in range(shape.shards):
            self._make_part(segment.shard_name(self.name, self.nonce, 0, number), shape, number,
                            bool(self.parameters.ttl_ns or self.parameters.tombstones_ns))

    def _make_part(
        self, label: str, shape: geometry.Geometry, number: int, has_deadlines: bool
    ) -> None:
        mapping = self.store.create(label, shape.areas.end, 0, 0)
        draft = draft_header(shape, self.nonce, number, 0)
        draft.HAS_DEADLINES = int(has_deadlines)
        with ShardWords(mapping.buffer) as header:
            header.words[: len(draft.words)] = draft.words
        mapping.close()

    def unmap(self) -> None:
        """Give all memory back."""
        super().unmap()
        self.store.clear()

    def _begin_in_this_process(self) -> None:
        forked = self._process != this_process()
        super()._begin_in_this_process()
        if forked:
            warnings.warn(
                f"LocalMap {self.name!r}: this process was forked, and goes on with a copy of its "
                "own: what it writes, no other process sees. Processes share a ShmMap (on Linux)",
                RuntimeWarning, stacklevel=2,
            )

    def notice_removal(self) -> None:
        """Refuse one that was unlinked; no file can be removed."""
        self.refuse_lost()

    def has_its_name(self) -> bool:
        """Tell whether the map's name leads to it, and not to a successor."""
        return _maps.get(self.name) is self

    def reserve_deadlines(self, shard: Shard) -> None:
        """Say in a shard's header that it has deadlines; the memory is there."""
        with ShardWords(self.places.mapping_of(shard).buffer) as header:
            header.HAS_DEADLINES = 1

    restore_deadlines = reserve_deadlines

    def remove_files(self) -> None:
        """Give the name up."""
        if self.has_its_name():
            _maps.pop(self.name, None)

    def leave(self, may_remove: bool, is_open_again: Callable[[], bool]) -> None:
        """Let go after the last handle: of everything where the map is unlinked, or ephemeral; else
        of what runs, so that the next handle finds the entries as they are."""
        with _alone():
            if self.is_used() or self.is_down:
                return
            if self.parameters.ephemeral:
                retire(self)
            self._is_left = not self.has_its_name()
            is_stopped = self.sweeper is None or self.sweeper.stop()  # else see `sweeping_ended`
            if (self.mover is None or self.mover.stop()) and is_stopped:
                self.sweeper = self.mover = None
                self.worker.give_back()
                if self._is_left:
                    self.unmap()


class _Turn:
    """Stands for the creation lock that others could have taken over: nobody is there."""

    def check(self) -> None:
        """Find that it is ours."""


@block
def _alone() -> Iterator[_Turn]:
    """Keep the other tasks of this process from opening, leaving and reshaping maps."""
    mark = Mark()
    try:
        _mutex.acquire(mark)
        yield _Turn()
    finally:
        mark.clear()


def join_map(handle: MapHandle, number: int, request: Request) -> LocalAttachment:
    """Bind a handle to a map of this process, creating it if need be and allowed: see `opening`."""
    name = request.name
    with _alone():
        made, found = None, _maps.get(name)
        if found is not None and request.fresh:
            retire(found)
            found = None
        if found is None:
            if request.nonce is not None or not request.may_create or (
                request.owner_uid not in (None, os.geteuid())
            ):
                raise MapNotFound(
                    f"no LocalMap {name!r} in this process: create it first, or check the "
                    "spelling. No other process sees one, nor does a pickle of one lead there"
                )
            made = _make(name, request.wanted)
            found = _maps.setdefault(name, made)  # a finalizer may have been quicker
        if found is not made:
            check(request, found.parameters, found.nonce)
        try:
            found.handles[number] = handle
            found.reenter()
            handle._use(found, number)
        except BaseException:
            if found is made:
                retire(made)
            found.end_use(number)
            found.leave(False, lambda: False)
            raise
        return found


def give_way(attachment: LocalAttachment) -> None:
    """Retire a map, for one of another shape."""
    with _alone():
        retire(attachment)


def _make(name: str, wanted: Parameters) -> LocalAttachment:
    """Make a map in private memory."""
    shape = wanted.plan()
    control = Control(PrivateMapping(geometry.control_bytes()), _NO_FILE)
    draft = control_words(wanted, shape, random_word() or 1)
    control.words[: len(draft.words)] = draft.words
    made = LocalAttachment(name, control, None, lambda: None)
    made.store.check_room(f"LocalMap {name!r}", shape.total_bytes, name)
    made.make_parts()
    made.map_parts()
    control.STATE = K["STATE_READY"]
    return made


def retire(attachment: LocalAttachment) -> None:
    """Mark a map as unlinked, and give its name up."""
    attachment.control.retire()
    attachment.remove_files()


def allocated_bytes(attachment: Attachment) -> int:
    """Count the bytes that a shared map of this kind would hold: all but the deadlines of shards
    that have none."""
    total, places = attachment.control.mapping.size, attachment.places
    for mapping, shape in (
        *((places.mapping_of(one), places.shape_of(one)) for one in attachment.distinct()),
        *((one, attachment.locks.geometry) for one in attachment.lock_mappings),
    ):
        with ShardWords(mapping.buffer) as header:
            total += shape.areas.end if header.HAS_DEADLINES else shape.areas.deadlines
    return total
