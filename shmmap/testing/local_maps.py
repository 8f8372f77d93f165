"""The maps of this process alone: what `opening`, `making` and `Attachment` do for shared ones.

A map here is one attachment, as the process has it of a shared map: the same words in the control
segment, the same headers, shards, locks and table of workers, over anonymous memory. What differs
is what the kernel does for a shared map: there are no files, so nothing is found by name but in
`_maps`; and no other process, so whoever is not this process, as it is now, is dead. The child of a
fork has its own copy of everything: what threads of its parent held it takes over from the dead.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import MapNotFound, SharedMemoryFull
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
from ..system.blocks import block
from ..system.mutex import Mark, Mutex
from ..system.process import own_pid, this_process
from ..system.segment import Mapping
from ..system.worker_table import Worker

if TYPE_CHECKING:
    from ..locks.hosts import MapHandle
    from ..shard._shard_cy import Shard

K = constants()
_NO_FILE = (0, 0)
_maps: dict[str, LocalAttachment] = {}
_mutex = Mutex()


class PrivateMapping(Mapping):
    """Memory of this process alone, as a mapped segment; `close` gives its pages back, and the
    addresses go with the last one who knows it: nothing that comes late faults."""

    is_cut = False

    def __init__(self, size: int) -> None:
        self.size = size
        try:
            self._place = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise SharedMemoryFull(
                f"this process gets no {size:,} bytes of memory: give a smaller size= or capacity="
            ) from error
        self.buffer = (ctypes.c_char * size).from_buffer(self._place)

    def tell(self, flag_address: int) -> None:
        """Do nothing: nobody can cut it off."""

    def close(self) -> None:
        """Give the pages back. Idempotent."""
        with contextlib.suppress(OSError, AttributeError):
            self._place.madvise(mmap.MADV_DONTNEED)


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
    """The shards of such a map, which are made as they are asked for."""

    def attach(
        self, label: str, public: str, shape: geometry.Geometry, generation: int, number: int,
        in_header: int,
    ) -> Place:
        """Make a shard; without a semaphore: who waits looks again by itself."""
        attachment = self._attachment
        mapping = PrivateMapping(shape.areas.end)
        draft = draft_header(shape, attachment.nonce, in_header, generation)
        is_locks = in_header == geometry.LOCK_NUMBER
        draft.HAS_DEADLINES = int(bool(attachment.parameters.ttl_ns) or is_locks)
        with ShardWords(mapping.buffer) as header:
            header.words[: len(draft.words)] = draft.words
        return self.add(mapping, public, None, shape, generation, number)


class LocalAttachment(Attachment):
    """A map of this process; see the module."""

    is_private = True
    _worker_kind = OnlyWorker

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.places = _LocalPlaces(self)

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
            if self.sweeper is None or self.sweeper.stop():  # else see `sweeping_ended`
                self.sweeper = None
                self.worker.give_back()
                if self._is_left:
                    self.unmap()


@block
def _alone() -> Iterator[None]:
    """Keep the other tasks of this process from opening and leaving maps."""
    mark = Mark()
    try:
        _mutex.acquire(mark)
        yield
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
    _check_room(name, shape.total_bytes)
    control = Control(PrivateMapping(geometry.control_bytes()), _NO_FILE)
    draft = control_words(wanted, shape, random_word() or 1)
    control.words[: len(draft.words)] = draft.words
    made = LocalAttachment(name, control, None, lambda: None)
    made.map_parts()
    control.STATE = K["STATE_READY"]
    return made


def _check_room(name: str, size: int) -> None:
    """Refuse what this machine cannot hold, before a page of it is asked for."""
    try:
        room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # nobody tells: then mapping it does
        return
    if size > room:
        raise SharedMemoryFull(
            f"LocalMap {name!r}: {size:,} bytes asked, this machine has {room:,}. Give a smaller "
            "size= or capacity="
        )


def retire(attachment: LocalAttachment) -> None:
    """Mark a map as unlinked, and give its name up."""
    attachment.control.retire()
    attachment.remove_files()


def allocated_bytes(attachment: Attachment) -> int:
    """Count the bytes that a shared map of this kind would hold: all but the deadlines of shards
    that have none."""
    total = attachment.control.mapping.size
    for mapping, shape in (
        *((one, attachment.geometry) for one in attachment.mappings),
        *((one, attachment.locks.geometry) for one in attachment.lock_mappings),
    ):
        with ShardWords(mapping.buffer) as header:
            total += shape.areas.end if header.HAS_DEADLINES else shape.areas.deadlines
    return total
