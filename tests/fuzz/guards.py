"""Memory around a subject's that nobody may touch.

A segment is mapped between two long stretches of inaccessible addresses, so that an access before
its start or behind its end is a SIGSEGV. Under AddressSanitizer the padding between the areas of
a segment is poisoned, too, so that an access there is a report.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Any

from shmmap.memory import layout
from shmmap.system import _sigbus_cy, segment
from shmmap.system.clibrary import libc

from ..support.damage import K

GUARD = 1 << 30  # bytes on either side of a segment that are mapped to nothing
_RESERVED = 0x4000 | 0x20 | 0x02  # MAP_NORESERVE, MAP_ANONYMOUS, MAP_PRIVATE
_FIXED_SHARED = 0x10 | 0x01


class GuardedMapping(segment.Mapping):
    """A segment's mapping between two stretches of inaccessible addresses."""

    def __init__(self, descriptor: int, size: int) -> None:
        mmap = libc.mmap
        pages = -(-size // layout.PAGE) * layout.PAGE
        self._length = pages + 2 * GUARD
        self._start = mmap(None, self._length, 0, _RESERVED, -1, 0)
        assert self._start != ctypes.c_void_p(-1).value, "no address space left"
        self._address = self._start + GUARD
        found = mmap(self._address, size, 3, _FIXED_SHARED, descriptor, 0)
        assert found == self._address, os.strerror(ctypes.get_errno())
        self.size = size
        self._region = _sigbus_cy.Region()
        self._region.watch(self._address, size)
        self.buffer = (ctypes.c_char * size).from_address(self._address)

    def close(self) -> None:
        """Unmap it and its guards."""
        if self._address:
            self._region.forget()
            libc.munmap(ctypes.c_void_p(self._start), ctypes.c_size_t(self._length))
            self._address = 0


class Gaps:
    """The padding of an attachment's segments."""

    def __init__(self, attachment: Any) -> None:
        self._gaps = [*_gaps_of_shards(attachment), *_gaps_of_control(attachment)]
        self._forbidden = False

    def forbid(self) -> None:
        """Have AddressSanitizer, if it runs, report who touches the padding."""
        self._forbidden = True
        if _poison:
            for start, length in self._gaps:
                _poison(start, length)

    def allow(self) -> None:
        """Let everybody touch the padding again."""
        self._forbidden = False
        if _unpoison:
            for start, length in self._gaps:
                _unpoison(start, length)

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Let the padding be touched meanwhile."""
        was_forbidden = self._forbidden
        self.allow()
        try:
            yield
        finally:
            if was_forbidden:
                self.forbid()


def _between(record: layout.Record, end: int) -> Iterator[tuple[int, int]]:
    """List the (start, end) of a record's words that are in no field."""
    used = sorted(layout.offsets(record).values())
    for at, after in zip(used, [*used[1:], end], strict=True):
        if at + layout.WORD < after:
            yield at + layout.WORD, after


def _gaps_of_shards(attachment: Any) -> Iterator[tuple[int, int]]:
    for shape, mappings in (
        (attachment.geometry, attachment.mappings),
        (attachment.locks.geometry, attachment.lock_mappings),
    ):
        areas = shape.areas
        gaps = [*_between(layout.SHARD, areas.index),
                (areas.slots + shape.slots * shape.slot_size, areas.deadlines),
                (areas.deadlines + 4 * shape.slots, areas.end)]  # fmt: skip
        for mapping in mappings:
            for start, end in gaps:
                yield ctypes.addressof(mapping.buffer) + start, end - start


def _gaps_of_control(attachment: Any) -> Iterator[tuple[int, int]]:
    first = ctypes.addressof(attachment.control.mapping.buffer)
    for start, end in _between(layout.CONTROL, K["C_BYTES_TOTAL"]):
        yield first + start, end - start


def _function(name: str) -> Any:
    with contextlib.suppress(AttributeError):
        found = getattr(ctypes.CDLL(None), name)
        found.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        found.restype = None
        return found
    return None


_poison = _function("__asan_poison_memory_region")
_unpoison = _function("__asan_unpoison_memory_region")

