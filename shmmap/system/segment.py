"""One POSIX shared-memory segment: create, publish, attach, verify, unlink.

Objects are files in /dev/shm, as shm_open has them; they are opened by their paths, since posix_ipc
gives some errors without their number, and cannot say every name that a stranger may give a file.
The mapping is made through libc: an `mmap.mmap` would keep a file descriptor for each of the
shards. What is as it should be is opened the short way (`open_ours`), all else the long one, which
says what is wrong.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import stat

from ..errors import ConfigMismatch, MapCorrupted, MapNotFound, SharedMemoryFull
from ..memory.layout import PAGE
from . import _sigbus_cy
from .clibrary import EXCHANGE, NEW_SEMAPHORE, NOREPLACE, call, libc, rename
from .descriptors import Identity, close_own, identity_of
from .flavours import OWN, Flavour
from .process import this_process
from .refused_calls import SHM_DIRECTORY as SHM_DIRECTORY
from .refused_calls import is_missing as is_missing
from .refused_calls import refused as refused

_PROT_READ_WRITE = 3
_SHARED_THERE = 0x11  # MAP_SHARED | MAP_FIXED
_PLACE = 0x4022  # MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, since Linux 5.14
_REMOVE = 9  # MADV_REMOVE


def control_name(name: str, flavour: Flavour = OWN) -> str:
    """Name the control segment: the only fixed name of a map of that flavour."""
    return f"/shmmap.{name}{flavour.suffix}"


def shard_name(name: str, nonce: int, generation: int, number: int) -> str:
    """Name a shard's segment, and its semaphore."""
    return f"/shmmap.{name}.{nonce:016x}.{generation}.{number}"


def temporary_name(name: str, which: str) -> str:
    """Name a control segment that is being made, the `which`-th of its map's name and flavour."""
    return f"{control_name(name)}.new{which}"


def locks_name(name: str, nonce: int) -> str:
    """Name the segment of the lock shard, and its semaphore."""
    return f"/shmmap.{name}.{nonce:016x}.locks"


def liveness_name(name: str, nonce: int) -> str:
    """Name the file whose byte locks tell which workers live."""
    return f"/shmmap.{name}.{nonce:016x}.live"


@functools.lru_cache(maxsize=16)
def _array_of(size: int) -> type[ctypes.Array[ctypes.c_char]]:
    """Return the type of so many bytes: to make one takes as long as to map five segments."""
    return ctypes.c_char * size


class Mapping:
    """A mapped segment: `buffer` is its memory, until `close`.

    It is mapped in place of anonymous memory that an object has which unmaps it as it goes: to
    tell the address of a new mapping takes memory, and where there is none nobody could unmap it.
    """

    _place: mmap.mmap | None = None  # None: the region has mapped it

    def __init__(self, descriptor: int, size: int) -> None:
        self._region = _sigbus_cy.Region()  # goes before its memory does
        self._address, self.size = 0, size
        try:
            self._place = mmap.mmap(-1, size, _PLACE)
        except OSError as error:
            raise refused(f"finding addresses for {size:,} bytes", error) from error
        try:
            address = ctypes.addressof(ctypes.c_char.from_buffer(self._place))
            found = call(libc.mmap, address, size, _PROT_READ_WRITE, _SHARED_THERE, descriptor, 0)
            if found != address:
                number = ctypes.get_errno()
                raise refused(f"mapping {size:,} bytes of {SHM_DIRECTORY}",
                              OSError(number, os.strerror(number)))
            self._address = address
            self._region.watch(address, size)
            self.buffer = _array_of(size).from_address(address)
        except BaseException:
            self.close()
            raise

    @classmethod
    def of(cls, region: _sigbus_cy.Region, size: int) -> Mapping:
        """Take over what a region has mapped: see `open_ours`."""
        made = cls.__new__(cls)
        made._region, made._address, made.size = region, region.address, size
        made.buffer = _array_of(size).from_address(region.address)
        return made

    @property
    def is_cut(self) -> bool:
        """Whether the file was found shorter than the mapping: see `_sigbus_cy`."""
        return bool(self._region.is_cut())

    def tell(self, flag_address: int) -> None:
        """Have a word set to CUT when that is found. It must outlive the mapping."""
        self._region.tell(flag_address)

    def populate(self, start: int, end: int) -> int:
        """Back the bytes from `start` to `end` by real pages, without opening the file, which
        this process may no longer be allowed; return 0 or the kernel's errno."""
        if call(libc.madvise, self._address + start, end - start, _POPULATE_WRITE) == 0:
            return 0
        return ctypes.get_errno()

    def give_up_pages(self, start: int = 0, end: int | None = None) -> None:
        """Give up the whole pages between two bytes, all of them by default: see `give_up`."""
        first, last = -(-start // PAGE) * PAGE, self.size if end is None else end // PAGE * PAGE
        give_up(self._address + first, max(0, last - first))

    def close(self) -> None:
        """Unmap. Nothing may touch the buffer any more. Idempotent, and takes no memory."""
        self._region.forget()
        self._address = 0
        if self._place is not None:
            self._place.close()


def give_up(address: int, size: int) -> None:
    """Give all mapped pages back to the system, for all processes: what is read then is zeros."""
    call(libc.madvise, address, size, _REMOVE)


def no_room(what: str, size: int) -> SharedMemoryFull:
    """Make the error of what does not fit into /dev/shm."""
    return SharedMemoryFull(
        f"{SHM_DIRECTORY} has no room for {what}: {size:,} bytes asked, {free_bytes():,} free. "
        "Give a smaller size= or capacity=; remove leftovers (python -m shmmap doctor lists "
        "them); or enlarge it (docker run --shm-size=..., mount -o remount,size=... /dev/shm)"
    )


def wrong_size(name: str, actual: int, size: int) -> MapCorrupted:
    """Make the error of an object that was cut off, or stretched."""
    return MapCorrupted(
        f"segment {name} has {actual:,} bytes where {size:,} belong: it was truncated or "
        "replaced. Unlink the map and make it again"
    )


def free_bytes() -> int:
    """Count the bytes that /dev/shm still has."""
    try:
        found = os.statvfs(SHM_DIRECTORY)
    except OSError as error:
        raise refused(f"asking how much room {SHM_DIRECTORY} has", error) from error
    return found.f_bavail * found.f_frsize


def make(name: str, mode: int) -> int:
    """Make an empty object of a new name, and return its descriptor.

    Raises:
        FileExistsError: there is one of that name.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(SHM_DIRECTORY + name, flags, mode)
    except FileExistsError:
        raise
    except OSError as error:
        raise refused(f"making {name} in {SHM_DIRECTORY}", error) from error


def fill(descriptor: int, name: str, size: int, reserve: int, mode: int) -> None:
    """Return a new object `size` zero bytes, its first `reserve` bytes backed by real pages.

    Raises:
        SharedMemoryFull: there is no room.
    """
    try:
        os.fchmod(descriptor, mode)  # whatever the umask took away
        os.ftruncate(descriptor, size)
        os.posix_fallocate(descriptor, 0, reserve)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_room(f"segment {name}", reserve) from error
        raise refused(f"making segment {name} of {size:,} bytes", error) from error


def create(name: str, size: int, reserve: int, mode: int) -> Mapping:
    """Make a segment of `size` zero bytes, its first `reserve` bytes backed by real pages.

    Raises:
        SharedMemoryFull: there is no room; nothing is left behind.
        FileExistsError: there is one of that name.
    """
    maker, descriptor = this_process(), make(name, mode)
    identity = None
    try:
        identity = identity_of(descriptor)
        fill(descriptor, name, size, reserve, mode)
        return Mapping(descriptor, size)
    except BaseException:  # else, for want of memory, its caller removes it
        if this_process() == maker:
            unlink(name)
        raise
    finally:
        close_own(descriptor, maker, identity)


def publish(name: str, final: str) -> bool:
    """Rename an object, in one step, to a name that nothing has; False: something has it, or
    somebody has removed the object."""
    number = rename(SHM_DIRECTORY + name, SHM_DIRECTORY + final, NOREPLACE)
    if number in (0, errno.EEXIST, errno.ENOENT):
        return number == 0
    if number != errno.ENOSYS:
        raise refused(f"giving {name} its name {final}", OSError(number, os.strerror(number)))
    if os.path.lexists(SHM_DIRECTORY + final):  # no such call here; the creation lock is held
        return False
    os.rename(SHM_DIRECTORY + name, SHM_DIRECTORY + final)
    return True


def exchange(name: str, final: str) -> bool:
    """Give each of two objects the other's name, in one step; where the kernel has no such step,
    the first takes the second's name, which then has none. False: one of them is gone."""
    number = rename(SHM_DIRECTORY + name, SHM_DIRECTORY + final, EXCHANGE)
    if number in (0, errno.ENOENT):
        return number == 0
    if number != errno.ENOSYS:
        raise refused(f"giving {name} the name {final}", OSError(number, os.strerror(number)))
    if not os.path.lexists(SHM_DIRECTORY + final):
        return False
    os.rename(SHM_DIRECTORY + name, SHM_DIRECTORY + final)
    return True


def check_room(what: str, size: int) -> None:
    """Refuse early what cannot fit: reserving first would drive everyone else out of memory."""
    if size > free_bytes():
        raise no_room(what, size)


def open_checked(
    name: str, mode: int | None, owner_uid: int | None
) -> tuple[int, os.stat_result]:
    """Open an object of ours and return its descriptor and what that is; refuse what another user
    made. In a child that is forked meanwhile the number may be another file's: see `close_own`.

    Raises:
        MapNotFound: there is none.
        ConfigMismatch: its owner is another user, or its mode is wider than asked.
        SystemCallError: the kernel refused, for a reason of this process or machine.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not stop us
    opener = this_process()
    try:
        descriptor = os.open(SHM_DIRECTORY + name, flags)
    except FileNotFoundError as error:
        if is_missing():
            raise refused(f"opening {name}", error) from error
        raise MapNotFound(f"no shared memory {name}") from error
    except PermissionError as error:
        if error.errno == errno.EPERM:
            raise refused(f"opening {name}", error) from error
        raise ConfigMismatch(
            f"shared memory {name} belongs to another user and may not be opened: use another "
            "name, or have its owner open it with a wider mode="
        ) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV):
            raise ConfigMismatch(
                f"{name} is not a shared-memory object but a link, a directory or the like: use "
                "another name, or look at what it is (ls -l) and who made it"
            ) from error
        raise refused(f"opening {name} in {SHM_DIRECTORY}", error) from error
    try:
        status = os.fstat(descriptor)
        if this_process() != opener:
            raise lost_in_fork(name)
        verify_owner(status, name, mode, owner_uid)
    except BaseException as error:
        close_own(descriptor, opener, None)
        if type(error) is OSError:
            raise refused(f"looking at {name}", error) from error
        raise
    return descriptor, status


def lost_in_fork(name: str) -> Exception:
    """Make the error of a child that was forked while an object was opened."""
    return refused(f"opening {name}", OSError(errno.EBADF, "this process was forked meanwhile"))


def status_at(name: str) -> os.stat_result | None:
    """Look at an object by its name; None: there is none. An error is no answer, and is raised."""
    try:
        return os.lstat(SHM_DIRECTORY + name)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refused(f"looking at {name}", error) from error


def identity_at(name: str) -> Identity | None:
    """Tell what an object's name leads to; None: nothing."""
    status = status_at(name)
    return None if status is None else (status.st_dev, status.st_ino)


def owner_at(name: str) -> int | None:
    """Tell which user an object belongs to; None: there is none of that name."""
    status = status_at(name)
    return None if status is None else status.st_uid


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
    if status.st_mode & unwanted_bits(mode):
        raise ConfigMismatch(
            f"{name} has mode {stat.S_IMODE(status.st_mode):o}, wider than "
            f"{0o600 if mode is None else mode:o}: say mode=0o{stat.S_IMODE(status.st_mode):o} "
            "if that is meant"
        )


def unwanted_bits(mode: int | None) -> int:
    """Return the bits that the mode of an object may not have; None: others may read it."""
    return 0o022 if mode is None else 0o7777 & ~mode


def open_ours(
    name: str, size: int, mode: int | None, owner_uid: int | None, start: bytearray
) -> _sigbus_cy.Region | None:
    """Map an object if all is well with it: see `open_region`, which looks at what `open_checked`,
    `verify_owner` and `attach` look at, in one step in C. A map of many shards is opened by many
    such steps. None: it is not, and those find out why; pure: always None."""
    owner = os.geteuid() if owner_uid is None else owner_uid
    path = (SHM_DIRECTORY + name).encode()
    found: _sigbus_cy.Region | None
    found = _sigbus_cy.open_region(path, owner, unwanted_bits(mode), size, start)
    return found


def attach(
    name: str, size: int, mode: int | None, owner_uid: int | None, start: bytearray | None = None
) -> Mapping:
    """Map an existing segment whose size must be `size`. `start`: is filled with its first bytes,
    which costs less than a first look at mapped memory.

    Raises:
        MapNotFound, ConfigMismatch: see `open_checked`.
        MapCorrupted: it is shorter or longer.
    """
    start = bytearray() if start is None else start
    region = open_ours(name, size, mode, owner_uid, start)
    if region is not None:
        return Mapping.of(region, size)
    opener = this_process()
    descriptor, status = open_checked(name, mode, owner_uid)
    try:
        if status.st_size != size:
            raise wrong_size(name, status.st_size, size)
        mapping = Mapping(descriptor, size)
        if this_process() != opener:
            mapping.close()
            raise lost_in_fork(name)
        start[:] = memoryview(mapping.buffer)[: len(start)]
        return mapping
    finally:
        close_own(descriptor, opener, (status.st_dev, status.st_ino))


def allocated_bytes(name: str) -> int:
    """Count the bytes of real pages that an object holds; 0: it is gone."""
    try:
        return os.stat(SHM_DIRECTORY + name).st_blocks * 512
    except FileNotFoundError:
        return 0


def semaphore_file(name: str) -> str:
    """Return the file behind a semaphore, as a name like a segment's."""
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
    except OSError as error:
        raise refused(f"removing {name}", error) from error


def create_semaphore(name: str, mode: int) -> None:
    """Make a semaphore without tokens: a file with the bytes that sem_open would write there. That
    maps it first, and where there is no memory to tell the address nobody could unmap it. Who made
    it in part removes it.

    Raises:
        FileExistsError: there is one of that name.
    """
    label = semaphore_file(name)
    maker, descriptor = this_process(), make(label, mode)
    identity = None
    try:
        identity = identity_of(descriptor)
        fill(descriptor, label, len(NEW_SEMAPHORE), len(NEW_SEMAPHORE), mode)
        os.write(descriptor, NEW_SEMAPHORE)
    except OSError as error:
        if type(error) is not OSError:  # it says already what was being done
            raise
        raise refused(f"making semaphore {name}", error) from error
    finally:
        close_own(descriptor, maker, identity)
