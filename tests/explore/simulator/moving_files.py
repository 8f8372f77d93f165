"""The segments of a map that moves, by name, in the simulated machine's memory.

What stands in for /dev/shm: files that are made, opened, renamed, listed and removed, each of it
one step. A file that is open somewhere stays after its name has gone, as files do. What was
unmapped must not be touched any more: an access to it raises.
"""

from __future__ import annotations

from typing import Any

from shmmap.errors import MapNotFound
from shmmap.memory.layout import constants
from shmmap.system import segment

from .machine import LIVENESS, WRITE, Machine, Semaphore, SharedMemory, View

K = constants()
HEADER = K["S_BYTES_TOTAL"]  # here it stands for the first page of a segment, which no hole takes

FIRST_BASE = 1 << 24


class Segment(bytearray):
    """A file's bytes; `base` tells its words from all others."""

    base = 0


class MappedView(View):
    """A view that knows whether it is still mapped."""

    __slots__ = ("kept",)

    def release(self) -> None:
        """Unmap it: from here on an access raises."""
        if self.items is not None:
            self.kept, self.items = self.items, None

    def revive(self) -> None:
        """Map it again, for the next run."""
        if self.items is None:
            self.items = self.kept


class MappedMemory(SharedMemory):
    """A segment as one process has it mapped."""

    __slots__ = ()
    view_kind = MappedView

    def revive(self) -> None:
        """Map it again, for the next run."""
        for name in ("words", "halves", "quarters", "octets"):
            getattr(self, name).revive()


class Mapping:
    """A mapped file."""

    is_cut = False

    def __init__(self, files: Files, buffer: Segment) -> None:
        self.files = files
        self.buffer = buffer
        self.size = len(buffer)

    def tell(self, flag_address: int) -> None:
        """Do nothing: here nobody cuts files off."""

    def close(self) -> None:
        """Do nothing: the memory of the shard is released by itself."""

    def give_up_pages(self, start: int = 0, end: int | None = None) -> None:
        """Make a hole. A page is a word here, but for the first one; zeros over zeros are no
        steps, since nobody can see them."""
        words = memoryview(self.buffer).cast("Q")
        first = HEADER if start else 0
        for at in range(max(first, -(-start // 8) * 8) >> 3,
                        (self.size if end is None else end) >> 3):
            if words[at]:
                self.files.machine.step(WRITE, self.buffer.base + at)
                words[at] = 0


class Files:
    """All that has a name; what is patched into the engine's modules."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.segments: dict[str, Segment] = {}
        self.semaphores: dict[str, Semaphore] = {}  # by the segment's name, also without a file
        self.semaphore_files: set[str] = set()
        self._bases: dict[tuple[str, int], int] = {}

    def save(self) -> tuple[Any, ...]:
        """Keep what there is."""
        contents = [(label, made, bytes(made)) for label, made in self.segments.items()]
        return contents, set(self.semaphore_files)

    def restore(self, saved: tuple[Any, ...]) -> None:
        """Go back to it."""
        contents, semaphore_files = saved
        self.segments.clear()
        for label, made, data in contents:
            made[:] = data
            self.segments[label] = made
        self.semaphore_files = set(semaphore_files)
        for semaphore in self.semaphores.values():
            semaphore.tokens = 0

    def step(self, what: str) -> None:
        """Come to a system call."""
        self.machine.step(LIVENESS, what)

    # -- as `segment`

    def create(self, label: str, size: int, reserve: int, mode: int) -> Mapping:
        """Make a file."""
        self.step("create")
        if label in self.segments:
            raise FileExistsError(label)
        made = self.segments[label] = Segment(size)
        turn = 0  # the same place in each run, so that schedules can be compared
        while True:
            base = self._bases.setdefault((label, turn), FIRST_BASE + (len(self._bases) << 16))
            if base not in {other.base for other in self.segments.values() if other is not made}:
                break
            turn += 1
        made.base = base
        return Mapping(self, made)

    def attach(
        self, label: str, size: int, mode: int | None, owner: int | None,
        start: bytearray | None = None,
    ) -> Mapping:
        """Open and map a file."""
        self.step("attach")
        found = self.segments.get(label)
        if found is None:
            raise MapNotFound(label)
        assert len(found) == size, (label, len(found), size)
        if start is not None:
            start[:] = found[: len(start)]
        return Mapping(self, found)

    def unlink(self, label: str) -> bool:
        """Remove a name."""
        self.step("unlink")
        if label in self.semaphore_files:
            self.semaphore_files.discard(label)
            return True
        return self.segments.pop(label, None) is not None

    def create_semaphore(self, label: str, mode: int) -> None:
        """Make a semaphore's file."""
        self.step("semaphore")
        name = segment.semaphore_file(label)
        if name in self.semaphore_files:
            raise FileExistsError(name)
        self.semaphore_files.add(name)

    def identity_at(self, label: str) -> int | None:
        """Tell which file has a name."""
        self.step("identity")
        found = self.segments.get(label)
        return None if found is None else found.base

    def status_at(self, label: str) -> None:
        """Tell who has taken a name before it is made: here there are no strangers."""
        self.step("status")

    def open_semaphore(self, name: bytes) -> Semaphore:
        """Open a semaphore: all that open one of a name have the same."""
        return self.semaphores.setdefault(name.decode(), Semaphore())

    # -- as `os`

    def rename(self, former: str, name: str) -> None:
        """Give a file another name; what had that goes."""
        self.step("rename")
        former, name = (path.removeprefix(segment.SHM_DIRECTORY) for path in (former, name))
        if former not in self.segments:
            raise FileNotFoundError(former)
        self.segments[name] = self.segments.pop(former)

    def listdir(self, path: str) -> list[str]:
        """List the names."""
        self.step("list")
        return [name[1:] for name in (*self.segments, *sorted(self.semaphore_files))]

    def lstat(self, path: str) -> Any:
        """Look at a semaphore's file: whose it is is not asked here."""
        raise FileNotFoundError(path)
