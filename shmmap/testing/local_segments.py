"""The segments of a map of one process: private memory, found by the names that they would have.

A segment is there as long as it has a name or is mapped, as a file is; then its pages go back. Two
threads may do anything here at once, and nothing is held: who maps a segment looks once more
whether it has its name, after it has said that it uses it.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ..errors import MapNotFound, SharedMemoryFull
from ..lifecycle.store import Store
from ..memory.layout import PAGE
from ..system.segment import Mapping


class _Memory:
    """Memory of this process alone; the addresses go with the last one who knows it: nothing that
    comes late faults."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.users: set[int] = set()
        self.has_name = False
        try:
            self.place = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise SharedMemoryFull(
                f"this process gets no {size:,} bytes of memory: give a smaller size= or capacity="
            ) from error
        self.buffer = (ctypes.c_char * size).from_buffer(self.place)

    def settle(self) -> None:
        """Give the pages back, if nobody needs them."""
        if not self.has_name and not self.users:
            with contextlib.suppress(OSError, AttributeError):
                self.place.madvise(mmap.MADV_DONTNEED)


class PrivateMapping(Mapping):
    """Memory of this process alone, as a mapped segment."""

    is_cut = False

    def __init__(self, size: int, memory: _Memory | None = None) -> None:
        self.size = size
        self._memory = memory or _Memory(size)
        self._memory.users.add(id(self))
        self.buffer = self._memory.buffer

    def tell(self, flag_address: int) -> None:
        """Do nothing: nobody can cut it off."""

    def populate(self, start: int, end: int) -> int:
        """Do nothing: the memory is there."""
        return 0

    def give_up_pages(self, start: int = 0, end: int | None = None) -> None:
        """Give the whole pages between two bytes back: zeros are read there then."""
        first, last = -(-start // PAGE) * PAGE, (self.size if end is None else end) // PAGE * PAGE
        if last > first:
            with contextlib.suppress(OSError, AttributeError):
                self._memory.place.madvise(mmap.MADV_DONTNEED, first, last - first)

    def close(self) -> None:
        """Use it no more. Idempotent."""
        self._memory.users.discard(id(self))
        self._memory.settle()


class LocalStore(Store):
    """The segments of one map. `turn`: keeps the other tasks of this process from reshaping it."""

    def __init__(self, turn: Callable[[], AbstractContextManager[Any]]) -> None:
        self._turn = turn
        self._segments: dict[str, _Memory] = {}

    def turn(self, name: str) -> AbstractContextManager[Any]:
        """See Store."""
        return self._turn()

    def create(self, label: str, size: int, reserve: int, mode: int) -> Mapping:
        """Make a segment."""
        made = _Memory(size)
        made.has_name = True
        mapping = PrivateMapping(size, made)
        self._segments[label] = made
        return mapping

    def create_semaphore(self, label: str, mode: int) -> None:
        """Make none: who waits looks again by itself."""

    def refuse_taken(self, label: str) -> None:
        """No other user can have it."""

    def attach(self, label: str, size: int, mode: int | None, owner_uid: int | None) -> Mapping:
        """See Store."""
        found = self._segments.get(label)
        if found is not None:
            mapping = PrivateMapping(found.size, found)
            if self._segments.get(label) is found:
                return mapping
            mapping.close()
        raise MapNotFound(f"no memory {label}")

    def exists(self, label: str) -> bool:
        """See Store."""
        return label in self._segments

    def rename(self, label: str, final: str) -> None:
        """See Store."""
        found = self._segments.get(label)
        if found is not None:
            self._segments[final] = found
            self._segments.pop(label, None)

    def remove(self, file: str) -> None:
        """See Store."""
        found = self._segments.pop(file, None)
        if found is not None:
            found.has_name = False
            found.settle()

    def list(self) -> list[str]:
        """See Store."""
        return [label[1:] for label in self._segments.copy()]

    def clear(self) -> None:
        """Remove them all."""
        for label in self._segments.copy():
            self.remove(label)

    def reserve(self, label: str, mapping: Mapping, start: int, end: int) -> None:
        """Do nothing: the memory is there."""

    def check_room(self, what: str, size: int, name: str) -> None:
        """Refuse what this machine cannot hold, before a page of it is asked for."""
        try:
            room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (ValueError, OSError):  # nobody tells: then mapping it does
            return
        if size > room:
            raise SharedMemoryFull(
                f"{what}: {size:,} bytes asked, this machine has {room:,}. Give a smaller size= or "
                "capacity="
            )
