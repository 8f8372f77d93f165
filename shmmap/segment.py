"""One POSIX shared-memory segment: create, attach, verify, reserve, unlink.

posix_ipc makes, opens and unlinks the objects. The mapping is made through
libc: an `mmap.mmap` would keep a file descriptor for each of the shards.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat

import posix_ipc

from . import _guard_cy
from .errors import ConfigMismatch, MapCorrupted, MapNotFound, SharedMemoryFull
from .layout import PAGE

SHM_DIRECTORY = "/dev/shm"
_PROT_READ_WRITE = 3
_MAP_SHARED = 1
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def control_name(name: str) -> str:
    """Name the control segment: the only fixed name of a map."""
    return f"/shmmap.{name}"


def shard_name(name: str, nonce: int, generation: int, number: int) -> str:
    """Name a shard's segment, and its semaphore."""
    return f"/shmmap.{name}.{nonce:016x}.{generation}.{number}"


def locks_name(name: str, nonce: int) -> str:
    """Name the segment of the lock shard, and its semaphore."""
    return f"/shmmap.{name}.{nonce:016x}.locks"


def liveness_name(name: str, nonce: int) -> str:
    """Name the file whose byte locks tell which workers live."""
    return f"/shmmap.{name}.{nonce:016x}.live"


class Mapping:
    """A mapped segment: `buffer` is its memory, until `close`."""

    def __init__(self, descriptor: int, size: int) -> None:
        address = _libc.mmap(None, size, _PROT_READ_WRITE, _MAP_SHARED, descriptor, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            number = ctypes.get_errno()
            raise OSError(number, f"mmap of {size:,} bytes: {os.strerror(number)}")
        self.size = size
        self._address = address
        self._region = _guard_cy.watch(address, size)
        self.buffer = (ctypes.c_char * size).from_address(address)

    @property
    def is_cut(self) -> bool:
        """Whether the file was found shorter than the mapping: see `_guard_cy`."""
        return bool(_guard_cy.is_cut(self._region))

    def tell(self, flag_address: int) -> None:
        """Have a word set to CUT when that is found. It must outlive the mapping."""
        _guard_cy.tell(self._region, flag_address)

    def close(self) -> None:
        """Unmap. Nothing may touch the buffer any more."""
        if self._address:
            _guard_cy.unwatch(self._region)
            _libc.munmap(self._address, self.size)
            self._address = 0


def _no_room(what: str, size: int) -> SharedMemoryFull:
    room = free_bytes()
    return SharedMemoryFull(
        f"{SHM_DIRECTORY} has no room for {what}: {size:,} bytes asked, {room:,} free. "
        "Give a smaller size= or capacity=; remove leftovers (python -m shmmap doctor lists "
        "them); or enlarge it (docker run --shm-size=..., mount -o remount,size=... /dev/shm)"
    )


def _wrong_size(name: str, actual: int, size: int) -> MapCorrupted:
    return MapCorrupted(
        f"segment {name} has {actual:,} bytes where {size:,} belong: it was truncated or "
        "replaced. Unlink the map and make it again"
    )


def free_bytes() -> int:
    """Count the bytes that /dev/shm still has."""
    found = os.statvfs(SHM_DIRECTORY)
    return found.f_bavail * found.f_frsize


def create(name: str, size: int, reserve: int, mode: int) -> Mapping:
    """Make a segment of `size` zero bytes, its first `reserve` bytes backed by real pages.

    Raises:
        SharedMemoryFull: there is no room; nothing is left behind.
        FileExistsError: there is one of that name.
    """
    try:
        made = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=mode)
    except posix_ipc.ExistentialError as error:
        raise FileExistsError(f"shared memory {name} exists") from error
    try:
        os.fchmod(made.fd, mode)  # whatever the umask took away
        os.ftruncate(made.fd, size)
        os.posix_fallocate(made.fd, 0, reserve)
        return Mapping(made.fd, size)
    except OSError as error:
        unlink(name)
        raise _no_room(f"segment {name}", reserve) from error
    except BaseException:
        unlink(name)
        raise
    finally:
        made.close_fd()


def check_room(what: str, size: int) -> None:
    """Refuse early what cannot fit: reserving first would drive everyone else out of memory."""
    if size > free_bytes():
        raise _no_room(what, size)


def open_checked(name: str, mode: int | None, owner_uid: int | None) -> int:
    """Open an object of ours and give its descriptor; refuse what another user made.

    Raises:
        MapNotFound: there is none.
        ConfigMismatch: its owner is another user, or its mode is wider than asked.
    """
    try:
        found = posix_ipc.SharedMemory(name)
    except posix_ipc.ExistentialError as error:
        raise MapNotFound(f"no shared memory {name}") from error
    except (posix_ipc.PermissionsError, PermissionError) as error:
        raise ConfigMismatch(
            f"shared memory {name} belongs to another user and may not be opened: use another "
            "name, or have its owner open it with a wider mode="
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a directory
        raise ConfigMismatch(
            f"{name} is not shared memory of ours ({error}): remove it, or use another name"
        ) from error
    try:
        verify_owner(os.fstat(found.fd), name, mode, owner_uid)
    except BaseException:
        found.close_fd()
        raise
    descriptor: int = found.fd
    return descriptor


def verify_owner(
    status: os.stat_result, name: str, mode: int | None, owner_uid: int | None
) -> None:
    """Refuse an object that another user may have filled: see `open_checked`."""
    owner = os.geteuid() if owner_uid is None else owner_uid
    if status.st_uid != owner:
        raise ConfigMismatch(
            f"{name} belongs to uid {status.st_uid}, not to uid {owner}: someone else made it. "
            f"Use another name, or say owner_uid={status.st_uid} if you trust them"
        )
    if not stat.S_ISREG(status.st_mode):
        raise ConfigMismatch(f"{name} is not a shared-memory object: use another name")
    if status.st_nlink > 1:
        raise ConfigMismatch(
            f"{name} is a hard link to a file that has other names too: someone put it there. "
            "Use another name, or remove it"
        )
    wider = stat.S_IMODE(status.st_mode) & ~(0o600 if mode is None else mode)
    if wider and (mode is not None or wider & 0o022):
        raise ConfigMismatch(
            f"{name} has mode {stat.S_IMODE(status.st_mode):o}, wider than "
            f"{0o600 if mode is None else mode:o}: say mode=0o{stat.S_IMODE(status.st_mode):o} "
            "if that is meant"
        )


def attach(name: str, size: int, mode: int | None, owner_uid: int | None) -> Mapping:
    """Map an existing segment whose size must be `size`.

    Raises:
        MapNotFound, ConfigMismatch: see `open_checked`.
        MapCorrupted: it is shorter or longer.
    """
    descriptor = open_checked(name, mode, owner_uid)
    try:
        actual = os.fstat(descriptor).st_size
        if actual != size:
            raise _wrong_size(name, actual, size)
        return Mapping(descriptor, size)
    finally:
        os.close(descriptor)


def reserve(name: str, start: int, end: int) -> None:
    """Back the bytes from `start` to `end`, the last of a segment, by real pages.

    Raises:
        SharedMemoryFull: there is no room.
        MapCorrupted: it is shorter; reserving would stretch it again, and hide what was lost.
    """
    found = os.open(SHM_DIRECTORY + name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        actual = os.fstat(found).st_size
        if actual < end:
            raise _wrong_size(name, actual, end)
        os.posix_fallocate(found, start, end - start)
    except OSError as error:
        raise _no_room(f"the deadlines of {name}", end - start) from error
    finally:
        os.close(found)


def allocated_bytes(name: str) -> int:
    """Count the bytes of real pages that an object holds; 0: it is gone."""
    try:
        return os.stat(SHM_DIRECTORY + name).st_blocks * 512
    except FileNotFoundError:
        return 0


def semaphore_file(name: str) -> str:
    """Give the file behind a semaphore, as a name like a segment's."""
    return "/sem." + name[1:]


def semaphore_bytes(name: str) -> int:
    """Count the bytes of real pages behind a semaphore."""
    return max(PAGE, allocated_bytes(semaphore_file(name)))


def unlink(name: str) -> bool:
    """Remove an object's name; tell whether it was there.

    As shm_unlink does; but posix_ipc cannot say every name that a stranger may give a file.
    """
    try:
        os.unlink(SHM_DIRECTORY + name)
        return True
    except FileNotFoundError:
        return False


def refuse_to_unlink(name: str) -> None:
    """Raise PermissionError where a map's objects are another user's, before any is touched."""
    with contextlib.suppress(FileNotFoundError):
        owner = os.lstat(SHM_DIRECTORY + control_name(name)).st_uid
        if os.geteuid() not in (0, owner):
            raise PermissionError(
                f"map {name!r} belongs to uid {owner}: only that user, or root, can unlink it"
            )


def unlink_semaphore(name: str) -> bool:
    """Remove a semaphore's name; tell whether it was there."""
    return unlink(semaphore_file(name))


def create_semaphore(name: str, mode: int) -> None:
    """Make a semaphore without tokens."""
    try:
        made = posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=mode, initial_value=0)
    except posix_ipc.ExistentialError as error:
        raise FileExistsError(f"semaphore {name} exists") from error
    made.close()
    os.chmod(SHM_DIRECTORY + semaphore_file(name), mode)
