"""Atomic words: the one seam through which shared memory is touched.

This is the pure life; `_atomics.pxd` is the compiled one. They are written by
hand, as only the two of `values/_octets` are beside them. `memory(buffer)` turns a writable
buffer into what the other functions take. Offsets are bytes, word offsets are
multiples of 8.

CPython stores and loads an aligned 8-byte item of a memoryview with one
machine instruction, so `load` and `store` do not tear. `compare_exchange`
holds the memory's `guard`: a kernel byte-range lock together with a thread
lock, since a record lock does not exclude threads of one process.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from contextlib import suppress
from io import FileIO
from typing import TYPE_CHECKING, Any, Protocol

try:
    import posix_ipc
except ModuleNotFoundError:  # elsewhere no map is shared, and nobody waits for a semaphore
    if sys.platform == "linux":
        raise

if TYPE_CHECKING:
    from ctypes import Array, c_char
    from mmap import mmap

    Writable = Array[c_char] | bytearray | memoryview | mmap
    Source = bytes | bytearray | memoryview
    Target = bytearray | memoryview
    Semaphore = Any  # of posix_ipc, which has no types; 0: there is none

    class Guard(Protocol):
        """What keeps all others out of a compare_exchange."""

        def acquire(self, offset: int, patience_s: float) -> bool: ...
        def release(self, offset: int) -> None: ...


u64 = i64 = int
mem_t = probe_t = key_t = value_t = Any  # pointers in the compiled life; here, the thing itself
_UPPER = 4 if sys.byteorder == "little" else 0  # where a word's upper half starts
CAS_PATIENCE_S = 0.02  # a stopped holder of the guard must not stop us for longer


class Probe:
    """What a lookup found: see the struct of that name in `_atomics.pxd`."""

    __slots__ = ("bucket", "deadline", "meta", "position", "slot", "version", "word")


class Key:
    """An encoded key: see the struct of that name in `_atomics.pxd`."""

    __slots__ = ("data", "hash", "length", "seed", "type")


class Value:
    """An encoded value: see the struct of that name in `_atomics.pxd`."""

    __slots__ = ("data", "length", "type")


new_probe, new_key, new_value = Probe, Key, Value


class ThreadGuard:
    """Exclude the other threads of this process; enough for private memory."""

    def __init__(self) -> None:
        try:
            self._lock: Any = threading.RLock()
        except RuntimeError:  # so Python says that there is no memory for it
            raise MemoryError from None

    def acquire(self, offset: int, patience_s: float) -> bool:
        """Try to enter for `patience_s` seconds at most. Call `release` whatever comes of it."""
        return bool(self._lock.acquire(timeout=patience_s))

    def release(self, offset: int) -> None:
        """Leave, if this thread is inside. Idempotent."""
        if self._lock._is_owned():
            self._lock._release_save()


class Memory:
    """A writable buffer seen as words of 64, 32, 16 and 8 bits."""

    __slots__ = ("guard", "halves", "left_behind", "octets", "quarters", "words")

    def __init__(self, buffer: Writable, guard: Guard | None = None) -> None:
        self.octets = memoryview(buffer).cast("B")
        self.words = self.octets.cast("Q")
        self.halves = self.octets.cast("I")
        self.quarters = self.octets.cast("H")
        self.guard: Guard = guard or ThreadGuard()
        self.left_behind = False

    def leave_behind(self) -> None:
        """Have whoever goes on with this memory fail, in a child that was forked in the middle of
        a change; others get a new one."""
        self.left_behind = True
        self.release()

    def release(self) -> None:
        """Let the buffer go: any later access raises ValueError instead of crashing."""
        for view in (self.words, self.halves, self.quarters, self.octets):
            view.release()


def memory(owner: Memory | Writable) -> Memory:
    """Return the memory of a writable buffer (or of a Memory: itself)."""
    return owner if isinstance(owner, Memory) else Memory(owner)


def was_left_behind(m: object) -> bool:
    """Tell whether a fork has left this memory behind: see `Memory.leave_behind`."""
    return getattr(m, "left_behind", False)


def load(m: Memory, offset: int) -> int:
    """Load a word; later accesses stay after it."""
    return m.words[offset >> 3]


def store(m: Memory, offset: int, value: int) -> None:
    """Store a word; earlier accesses stay before it. Wraps as C does: damaged counts must not
    raise in the middle of a change."""
    m.words[offset >> 3] = value & 0xFFFFFFFFFFFFFFFF


def load_behind(m: Memory, offset: int) -> int:
    """Load a word, after every access before this one."""
    fence()
    return m.words[offset >> 3]


def add_one(m: Memory, offset: int) -> int:
    """Add one to a word that only this process stores; return the sum."""
    sum_ = m.words[offset >> 3] = (m.words[offset >> 3] + 1) & 0xFFFFFFFFFFFFFFFF
    return sum_


def add_shared(m: Memory, offset: int, count: int) -> int:
    """Add to a word that others add to as well; return the sum. 0: it could not be, since somebody
    who does so has been stopped."""
    until_ns = clock_ns(1) + int(2e9 * CAS_PATIENCE_S)
    while True:
        former = load(m, offset)
        total = (former + count) & 0xFFFF_FFFF_FFFF_FFFF
        if compare_exchange(m, offset, former, total):
            return total
        if clock_ns(1) > until_ns:
            return 0


def bits_of(number: int) -> int:
    """Return how many bits a number takes."""
    return number.bit_length()


def load32(m: Memory, offset: int) -> int:
    """Load half a word."""
    return m.halves[offset >> 2]


def store32(m: Memory, offset: int, value: int) -> None:
    """Store half a word."""
    m.halves[offset >> 2] = value & 0xFFFFFFFF


def load16(m: Memory, offset: int) -> int:
    """Load a quarter of a word."""
    return m.quarters[offset >> 1]


def store16(m: Memory, offset: int, value: int) -> None:
    """Store a quarter of a word."""
    m.quarters[offset >> 1] = value & 0xFFFF


def load8(m: Memory, offset: int) -> int:
    """Load a byte."""
    return m.octets[offset]


def store8(m: Memory, offset: int, value: int) -> None:
    """Store a byte."""
    m.octets[offset] = value & 0xFF


def compare_exchange(m: Memory, offset: int, expected: int, value: int) -> bool:
    """Store `value` if the word is `expected`, in one step; tell whether it was."""
    guard = m.guard
    try:
        if not guard.acquire(offset, CAS_PATIENCE_S):
            return False  # its holder is stopped just here: the caller waits and tries again
        words = m.words
        if words[offset >> 3] != expected:
            return False
        words[offset >> 3] = value
        return True
    finally:
        try:
            guard.release(offset)
        except BaseException:  # a signal handler raised in it: finish all the same
            guard.release(offset)
            raise


def publish(m: Memory, offset: int, value: int) -> None:
    """Store a word with a full barrier behind it."""
    m.words[offset >> 3] = value
    fence()


_barrier = threading.Lock()


def _lock_fence() -> None:
    """Order memory accesses on machines that reorder stores: a lock's own barriers."""
    if _barrier.acquire(False):
        _barrier.release()


def _no_fence() -> None:
    """Order nothing: x86 keeps the order of loads and of stores."""


fence = _no_fence
if os.uname().machine in ("x86_64", "i686", "AMD64"):
    load_behind = load
else:
    fence = _lock_fence


def copy_in(m: Memory, offset: int, source: Source, at: int, length: int) -> None:
    """Copy `length` bytes of `source` from `at` into the memory."""
    m.octets[offset : offset + length] = source[at : at + length]


def copy_out(m: Memory, offset: int, target: Target, at: int, length: int) -> None:
    """Copy `length` bytes of the memory into `target` at `at`."""
    target[at : at + length] = m.octets[offset : offset + length]


def copy_across(m: Memory, offset: int, target: Memory, at: int, length: int) -> None:
    """Copy `length` bytes of the memory into another memory at `at`."""
    target.octets[at : at + length] = m.octets[offset : offset + length]


def copy_bytes(m: Memory, offset: int, length: int) -> bytes:
    """Copy `length` bytes of the memory into a new bytes object."""
    return bytes(m.octets[offset : offset + length])


def equal(m: Memory, offset: int, source: Source, at: int, length: int) -> bool:
    """Compare `length` bytes of the memory with those of `source` from `at`."""
    return m.octets[offset : offset + length] == source[at : at + length]


def view(m: Memory, offset: int, length: int) -> bytes:
    """Return `length` bytes of the memory as a source for the other functions."""
    return bytes(m.octets[offset : offset + length])


def room_for_key(length: int) -> bytearray:
    """Return room for a key's bytes, until the next call (pure: for as long as it is wanted).

    The compiled engine has one such place, made with the module: under a shard's lock nothing may
    need memory. The GIL is kept from here to the last use.
    """
    return bytearray(length)


def new_room(length: int) -> bytearray:
    """Make room for `length` bytes, of which `exactly` gives some."""
    return bytearray(length)


def target_of(room: bytearray) -> bytearray:
    """Return where a room is filled."""
    return room


def exactly(room: bytearray, start: int, length: int) -> bytes:
    """Return `length` bytes of a room that was filled, from `start` on. Fill it no more then."""
    return bytes(room[start : start + length])


def room_of(buffer: bytearray) -> bytearray:
    """Return a private bytearray as a target (and a source) for the other functions."""
    return buffer


def zero(m: Memory, offset: int, length: int) -> None:
    """Fill with zero bytes."""
    m.octets[offset : offset + length] = bytes(length)


def match_tag(m: Memory, offset: int, tag: int) -> int:
    """Tell which of the eight words at `offset` carry `tag` in their upper half: a bit each."""
    bucket = bytes(m.octets[offset : offset + 64])
    wanted = tag.to_bytes(4, sys.byteorder)
    found = 0
    at = bucket.find(wanted)
    while at >= 0:
        if at & 7 == _UPPER:
            found |= 1 << (at >> 3)
        # on to the next upper half: zeros are found at every byte of an empty word
        at = bucket.find(wanted, at + 8 - (at - _UPPER & 7))
    return found


def first_due(m: Memory, offset: int, count: int, least: int, last: int) -> int:
    """Find the first of `count` half words from `least` to `last`; `count`: none is."""
    first = offset >> 2
    for start in range(0, count, 512):
        part = m.halves[first + start : first + min(start + 512, count)]
        for i, half in enumerate(part.tolist()):
            if least <= half <= last:
                return start + i
    return count


def least_set(m: Memory, offset: int, count: int, least: int) -> int:
    """Return the least of `count` half words from `least` on; 0: none is."""
    first = offset >> 2
    return min([half for half in m.halves[first : first + count].tolist() if half >= least],
               default=0)


def lowest_bit(mask: int) -> int:
    """Return the number of the lowest set bit of a non-zero mask."""
    return (mask & -mask).bit_length() - 1


def prefetch(m: Memory, offset: int) -> None:
    """Do nothing: only the compiled engine hints at the cache."""


_libc = ctypes.CDLL(None)


def nap(seconds: float) -> None:
    """Sleep in the middle of an operation: never by `time.sleep`, which gevent and eventlet have
    switch to another greenlet. That could enter the same shard, as the same thread."""
    _libc.usleep(int(seconds * 1e6))


def pause() -> None:
    """Let others run for a moment while spinning."""
    nap(0)


_CLOCKS = {0: time.CLOCK_REALTIME, 1: time.CLOCK_MONOTONIC, 7: time.CLOCK_MONOTONIC}


def _clock_elsewhere_ns(clock: int) -> int:
    """Read a clock by Linux's number where others have that, or nothing, under it. Of those that
    macOS has CLOCK_MONOTONIC runs on while the machine sleeps, as CLOCK_BOOTTIME does."""
    return time.clock_gettime_ns(_CLOCKS[clock])


clock_ns = time.clock_gettime_ns if sys.platform == "linux" else _clock_elsewhere_ns

_thread = threading.local()
_thread_count = iter(range(1 << 62))


def thread_number() -> int:
    """Return a small number for this thread, 1 .. 2**22 - 1, kept for its life."""
    try:
        return _thread.number  # type: ignore[no-any-return]
    except AttributeError:
        _thread.number = next(_thread_count) % 0x3FFFFE + 1
        return _thread.number  # type: ignore[no-any-return]


def sem_open(name: bytes) -> Semaphore:
    """Open a named semaphore; 0 where there is none."""
    try:
        return posix_ipc.Semaphore(name.decode())
    except (posix_ipc.Error, OSError):  # whoever waits then looks again by itself
        return 0


def sem_close(s: Semaphore) -> None:
    """Close it. Idempotent."""
    if s:
        with suppress(posix_ipc.ExistentialError):  # it is closed
            s.close()


def _constant_part() -> bytes:
    """Return the bytes of a shared semaphore that never change, as the C library makes them."""
    made = ctypes.create_string_buffer(32)
    _libc.sem_init(made, 1, 0)
    return made.raw[8:16]


_SOUND = _constant_part() if sys.platform == "linux" else b""


def _is_sound(s: Semaphore) -> bool:
    """Tell whether a semaphore may be used: glibc ends the process where a damaged one has the
    kernel refuse a call."""
    try:
        with FileIO(f"/dev/shm/sem.{s.name[1:]}") as file:  # not open(), which tests replace
            return file.read(16)[8:] == _SOUND
    except OSError:  # unlinked: nobody will wake us
        return False


def sem_wake(s: Semaphore) -> None:
    """Add a token if there is none."""
    if s and _is_sound(s) and s.value <= 0:
        s.release()


def sem_wait(s: Semaphore, ns: int) -> None:
    """Wait for a token, `ns` nanoseconds at most.

    posix_ipc's timed wait follows the wall clock, which may jump; so poll, in
    steps that grow to a millisecond.
    """
    deadline = clock_ns(1) + ns
    step = 20e-6
    sound = s and _is_sound(s)
    while True:
        if sound:
            try:
                s.acquire(0)
                return
            except posix_ipc.BusyError:
                pass
        left = deadline - clock_ns(1)
        if left <= 0:
            return
        nap(min(step, left / 1e9))
        step = min(step * 2, 1e-3)
