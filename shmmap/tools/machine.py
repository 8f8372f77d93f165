"""Checks of `doctor`: is this machine, and what it lets a process do, fit for shmmap?

Each tries the thing itself where that can be done.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
import tempfile

from ..lifecycle import parameters
from ..memory import geometry
from ..printable import printable
from ..system import record_lock, segment
from .findings import Line, human, mount_command

PATIENCE_S = 30.0


def file_system(path: str) -> str:
    """Name the type of file system that a path is on; "": unknown."""
    real = os.path.realpath(path)
    best, kind = "", ""
    for mount, its_kind, _ in mounts():
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, its_kind
    return printable(kind, most=40)


def mounts() -> list[tuple[str, str, str]]:
    """List what is mounted: where, of what type, with which options; [] without /proc."""
    found: list[tuple[str, str, str]] = []
    try:
        file = open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
    except OSError:
        return found
    with file:
        for line in file:
            _, mount, kind, options, *_ = line.split(" ")
            mount = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), mount)
            found.append((mount, kind, options))
    return found


def check_shm() -> list[Line]:
    """Whether /dev/shm is memory, and has room for a map of the default size."""
    path = segment.SHM_DIRECTORY
    obstacle = _shm_obstacle(path)
    if obstacle:
        return [Line("FAIL", path, *obstacle)]
    found = os.statvfs(path)
    total, free = found.f_blocks * found.f_frsize, segment.free_bytes()
    kind = file_system(path)
    text = f"{human(free)} free of {human(total)}, {kind or 'file system unknown'}"
    if kind not in ("tmpfs", "ramfs", ""):  # "": there is no /proc to ask
        return [Line("WARN", path, text, "not memory. While no process uses a map (a mount hides "
                     f"what is there): mount -t tmpfs -o mode=1777 tmpfs {path}")]
    need = geometry.parse_size(parameters.DEFAULT_SIZE)
    if free < need:
        return [Line("WARN", path, f"{text}: less than the {human(need)} of a map of default size",
                     "give a smaller size= or capacity=; remove leftovers (below); or enlarge it: "
                     f"docker run --shm-size=1g ..., or mount -o remount,size=1G {path}")]
    inodes = _inodes_of_a_map()
    if found.f_files and found.f_favail < inodes:  # 0 in all: it has no limit
        return [Line("WARN", path, f"{text}, but {found.f_favail:,} free inodes: a map of default "
                     f"size makes {inodes:,} files", _more_inodes(path, found))]
    return [Line("OK", path, text)]


def _inodes_of_a_map() -> int:
    return 2 * parameters.Parameters().plan().shards + 8  # a segment and a semaphore each


def _more_inodes(path: str, found: os.statvfs_result) -> str:
    """Say what to do where there are too few."""
    enough = max(2 * found.f_files, found.f_files + _inodes_of_a_map())
    return ("remove leftovers (below), or allow more: "
            f"mount -o remount,nr_inodes={enough} {path}")


def _shm_obstacle(path: str) -> tuple[str, str] | None:
    """Say why no map can be made there, and what to do; None: nothing is in the way."""
    mount = mount_command(path)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return "is not there", mount
    except OSError as error:
        return f"cannot be looked at ({error.strerror})", ""
    if not stat.S_ISDIR(status.st_mode):
        return "is not a folder", (f"find out what put it there, then: mv {path} {path}.was && "
                                   f"{mount}")
    found = os.statvfs(path)
    if found.f_flag & os.ST_RDONLY:
        return "is mounted read-only: maps can be neither made nor opened", \
               f"mount -o remount,rw {path}"
    try:
        os.close(os.open(path, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if error.errno == errno.EACCES:
            mode = stat.S_IMODE(status.st_mode)
            return (f"may not be written by this user ({error.strerror}; its mode is {mode:o})",
                    f"chmod 1777 {path}")
        if error.errno == errno.ENOSPC and found.f_files and not found.f_favail:
            return ("has no free inodes: no file can be made, however much memory is free",
                    _more_inodes(path, found))
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # no nameless files there
            return f"lets no file be made ({error.strerror})", ""
    return None


_HOLD_A_LOCK = (
    "import fcntl,sys;fcntl.lockf(int(sys.argv[1]),fcntl.LOCK_EX,1,7);"
    "print('held',flush=True);sys.stdin.read()"
)


def check_record_locks() -> list[Line]:
    """Whether another process's lock is seen, and is gone once that process is killed: tried."""
    obstacle = _shm_obstacle(segment.SHM_DIRECTORY)
    if obstacle:
        return [Line("FAIL", "record locks", f"not tried: {segment.SHM_DIRECTORY} {obstacle[0]}")]
    with tempfile.TemporaryFile(dir=segment.SHM_DIRECTORY) as file:
        descriptor = file.fileno()
        holder = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _HOLD_A_LOCK, str(descriptor)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[descriptor],
        )
        try:
            assert holder.stdout is not None
            if holder.stdout.readline() != b"held\n":
                return [Line("FAIL", "record locks", "a process could not lock a byte of a file "
                             f"in {segment.SHM_DIRECTORY}", "see what it said on stderr; a "
                             "file system without record locks, or a sandbox, may be why")]
            excluded = not record_lock.try_lock_byte(descriptor, 7)
            seen = record_lock.lock_holder(descriptor, 7)
            holder.kill()
            holder.wait(PATIENCE_S)
            freed = record_lock.try_lock_byte(descriptor, 7)
        finally:
            holder.kill()
            holder.communicate()
    if excluded and seen == holder.pid and freed:
        return [Line("OK", "record locks", "another process is kept out, named, and forgotten when "
                     "killed")]
    return [Line(
        "FAIL", "record locks",
        f"kept out: {excluded}, named: {seen == holder.pid}, freed by its death: {freed}",
        "shmmap cannot tell the living from the dead here; a sandbox that emulates the kernel "
        "(gVisor and the like) may be why",
    )]


_FORK_AND_LOOK = (
    "import mmap,os\n"
    "page=mmap.mmap(-1,mmap.PAGESIZE,mmap.MAP_PRIVATE|mmap.MAP_ANONYMOUS)\n"
    "page[0]=1\n"
    "page.madvise(18)\n"
    "child=os.fork()\n"
    "if not child: os._exit(page[0])\n"
    "print(os.waitstatus_to_exitcode(os.waitpid(child,0)[1]),page[0])\n"
)


def check_wipe_on_fork() -> list[Line]:
    """Whether MADV_WIPEONFORK wipes a page in a forked child: tried, in a process of its own."""
    made = subprocess.run([sys.executable, "-I", "-S", "-c", _FORK_AND_LOOK], capture_output=True,
                          timeout=PATIENCE_S, check=False)
    if made.stdout.split() == [b"0", b"1"]:
        return [Line("OK", "wipe on fork", "a forked child is noticed, whoever forked it")]
    return [Line("WARN", "wipe on fork", "MADV_WIPEONFORK does not work (Linux 4.14 has it): only "
                 "forks made by Python are noticed", "do not fork from C code while maps are open")]
