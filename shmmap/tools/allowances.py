"""Checks of `doctor`: what the kernel tells and allows this process, and who is in its way.

/proc, resource limits, mappings, the file under which a user's creations queue, and logind, which
removes what users leave in shared memory.
"""

from __future__ import annotations

import glob
import os
import pwd
import resource
import stat
from collections.abc import Iterator
from contextlib import suppress

from ..lifecycle import parameters
from ..memory import geometry
from ..system import process, segment
from .findings import Line, user_name
from .machine import mounts

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_MAX_MAP_COUNT = "/proc/sys/vm/max_map_count"
_FEW_DESCRIPTORS = 32  # of which a map keeps one, and opening it takes a few
_FIRST_USER = 1000  # SYS_UID_MAX + 1 of most distributions: below are users of the system
_LOGIND = tuple(
    f"{place}/systemd/{files}"
    for files in ("logind.conf", "logind.conf.d/*.conf")
    for place in ("/usr/lib", "/usr/local/lib", "/run", "/etc")
)


def _default_map() -> geometry.Geometry:
    return parameters.Parameters().plan()


def check_proc() -> list[Line]:
    """Whether /proc tells what opening a map, and judging its workers, rests on."""
    lines = [*_check_boot_id()]
    if process.pid_namespace() == 0:
        lines.append(Line(
            "WARN", "proc", "/proc is not mounted, or is that of another pid namespace: who lives "
            "is told by locks alone", "mount -t proc proc /proc",
        ))
    hidden = [options for mount, kind, options in mounts() if (mount, kind) == ("/proc", "proc")
              and "hidepid=" in options and "hidepid=0" not in options]
    if hidden and os.geteuid() != 0:
        lines.append(Line("OK", "proc", "hides other users' processes (hidepid): their names are "
                          "not shown, all else works"))
    return lines or [Line("OK", "proc", "boot id, processes and pid namespace can be read")]


def _check_boot_id() -> Iterator[Line]:
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            if len(file.read().strip()) == 36:
                return
        why = "does not hold a boot id"
    except (OSError, ValueError) as error:
        why = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    todo = ("have /proc/sys in /proc: no ProcSubset=pid in the systemd unit, no mount over it, "
            "mount -t proc proc /proc in a chroot")
    yield Line("WARN", "proc", f"the boot id is missing ({_BOOT_ID} {why}): maps that an earlier "
               "boot left on a disk are not told from this one's", todo)


def check_limits() -> list[Line]:
    """Whether resource limits leave room for a map of the default size."""
    found = [*_check_descriptors(), *_check_sizes(), *_check_mappings()]
    return found or [Line("OK", "limits", "room for descriptors, file sizes, addresses, mappings")]


def _soft(what: int) -> int | None:
    """Return a soft limit; None: there is none."""
    value = resource.getrlimit(what)[0]
    return None if value == resource.RLIM_INFINITY else value


def _check_descriptors() -> Iterator[Line]:
    limit = _soft(resource.RLIMIT_NOFILE)
    if limit is None:
        return
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:
        used = 0
    if limit - used < _FEW_DESCRIPTORS:
        yield Line("WARN", "limits", f"{limit:,} file descriptors, {used:,} in use: a map keeps "
                   "one open, and needs a few more while it is opened", "raise it: ulimit -n")


def _check_sizes() -> Iterator[Line]:
    shape = _default_map()
    largest, limit = max(shape.areas.end, geometry.control_bytes()), _soft(resource.RLIMIT_FSIZE)
    if limit is not None and limit < largest:
        yield Line("WARN", "limits", f"files of at most {limit:,} bytes: a map of default size has "
                   f"files of {largest:,}", "raise it (ulimit -f), or give a smaller size=")
    limit = _soft(resource.RLIMIT_AS)
    if limit is not None:
        with suppress(OSError, ValueError, IndexError), open("/proc/self/statm", "rb") as file:
            used = int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")
            if limit - used < 2 * shape.total_bytes:
                yield Line("WARN", "limits", f"{limit:,} bytes of addresses, {used:,} in use: a map"
                           f" of default size takes {shape.total_bytes:,}, a snapshot as much",
                           "raise it (ulimit -v), or give a smaller size=")


def _check_mappings() -> Iterator[Line]:
    need = 2 * (_default_map().shards + 1) + 1  # a segment and a semaphore each, and the control's
    with suppress(OSError, ValueError), open(_MAX_MAP_COUNT, encoding="ascii") as file:
        limit = int(file.read())
        with open("/proc/self/maps", "rb") as maps:
            used = sum(1 for _ in maps)
        if limit - used < 2 * need:
            yield Line("WARN", "limits", f"{limit:,} mappings, {used:,} in use: a map of default "
                       f"size takes {need:,}", f"sysctl vm.max_map_count={limit * 2}, or shards=")


def check_creators() -> list[Line]:
    """Whether the file under which this user's creations queue is this user's."""
    uid = os.geteuid()
    path = f"{segment.SHM_DIRECTORY}/shmmap.{uid}.creators"
    try:
        found = os.lstat(path)
    except OSError:
        return [Line("OK", "creators", f"nobody has taken {path}")]
    wrong = (
        f"belongs to {user_name(found.st_uid)}" if found.st_uid != uid else
        "is not a regular file" if not stat.S_ISREG(found.st_mode) else
        "has other names too (hard links)" if found.st_nlink > 1 else
        f"has mode {stat.S_IMODE(found.st_mode):o}" if found.st_mode & 0o077 else ""
    )
    if not wrong:
        return [Line("OK", "creators", f"{path} is this user's own")]
    return [Line(
        "WARN", "creators", f"{path}, the name under which this user's creations queue, was taken: "
        f"it {wrong}. Another name is used instead",
        "find out who put it there (ls -l); root can take it away once no process of this user "
        "opens a map",
    )]


def check_logind() -> list[Line]:
    """Whether systemd removes a user's shared memory when that user logs out."""
    uid = os.geteuid()
    if not os.path.isdir("/run/systemd/system") or uid < _FIRST_USER:
        return []
    if _removes_ipc() is False:
        return [Line("OK", "logout", "systemd leaves shared memory alone (RemoveIPC=no)")]
    name = str(uid)
    with suppress(KeyError):
        name = pwd.getpwuid(uid).pw_name
    if os.path.exists(f"/var/lib/systemd/linger/{name}"):
        return [Line("OK", "logout", "this user lingers, so systemd removes no shared memory")]
    shown = user_name(uid)
    return [Line(
        "WARN", "logout", f"systemd removes every map of {shown} when the last session of that user"
        " ends (RemoveIPC=yes), from under processes that go on",
        "RemoveIPC=no in /etc/systemd/logind.conf; or run the workers as a user of the system "
        f"(uid below {_FIRST_USER}); or loginctl enable-linger {shown}",
    )]


def _removes_ipc() -> bool:
    """Read logind's configuration, later files over earlier ones; it removes unless told not to."""
    found: dict[str, str] = {}
    for pattern in _LOGIND:
        for file in glob.glob(pattern):
            found[os.path.basename(file)] = file  # /etc hides a file of that name elsewhere
    main = found.pop("logind.conf", None)
    answer = True
    for path in (*([main] if main else []), *(found[name] for name in sorted(found))):
        with suppress(OSError), open(path, encoding="utf-8", errors="replace") as text:
            for line in text:
                key, _, value = line.partition("=")
                if key.strip() == "RemoveIPC":
                    answer = value.strip().lower() in ("1", "yes", "y", "true", "t", "on", "")
    return answer


def check_namespaces() -> list[Line]:
    """Which namespaces decide whom this process shares maps with."""
    names = []
    for kind in ("mnt", "pid", "user"):
        with suppress(OSError):
            names.append(os.readlink(f"/proc/self/ns/{kind}"))
    return [Line("OK", "namespaces", f"{' '.join(names) or 'not to be read'}: maps are shared by "
                 f"processes that see the same {segment.SHM_DIRECTORY}; those of other pid "
                 "namespaces are told alive by their locks")]
