"""Maps as seen from outside: found by their files, read as bytes, never joined.

Claims no worker row, maps no memory and takes no lock, so it works on maps of
either engine, on half-made ones and on garbage. Everything is read with pread:
a file that is truncated meanwhile gives a short answer, where a mapping would
give SIGBUS. No number read is used as a count or an offset before it is checked.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from ..errors import SystemCallError
from ..lifecycle import lingering, names, opening, siblings
from ..lifecycle.parameters import Parameters
from ..memory.layout import LAYOUT_VERSION, constants
from ..memory.words import ControlWords, RowWords
from ..system import creation, liveness, process, record_lock, segment
from ..system.flavours import ENGINES, OWN, PATTERN, Flavour
from ..values import codecs
from . import findings
from .counting import move_in_words as move_in_words
from .counting import shards_of as shards_of
from .counting import sums_of as sums_of
from .judging import OPAQUE, Judgement, judge, open_file, read_control
from .seen import SeenMap as SeenMap
from .seen import SeenShard as SeenShard
from .seen import SeenWorker as SeenWorker

K = constants()
_OBJECT = re.compile(
    rf"(?:sem\.)?shmmap\.({names.PATTERN})"
    r"(?:\.[0-9a-f]{16}\.(?:live|locks|[0-9]+\.[0-9]+(?:\.[0-9a-f]{16})?)"
    rf"|(?:\.{PATTERN})?(\.new[A-Za-z0-9._-]{{0,100}})?)"
)
_LARGEST_PID = 1 << 22
LINGERS = "lingers"  # the state of an ephemeral map that waits for whoever opens it next
_AS_STATS = {"waits": "lock_waits", "retries": "read_retries"}
UNKNOWN = -1  # instead of a pid: it cannot be found out whether there is such a process


def find_maps(only: str | None = None) -> list[SeenMap]:
    """Find every map that has a file in /dev/shm, or only those of a name: one of each flavour,
    this process's first."""
    found: dict[str, list[str]] = {}
    for entry in _entries():
        match = _OBJECT.fullmatch(entry)
        if match and only in (None, match[1]):
            found.setdefault(match[1], []).append(entry)
    looked_at = (
        _look_at(name, flavour, sorted(entries))
        for name in sorted(found, key=names.in_order)
        for flavour, entries in sorted(siblings.by_flavour(name, found[name]).items(),
                                       key=lambda one: (one[0] != OWN, one[0]))
    )
    return [seen for seen in looked_at if seen]


def find_named(names: Iterable[str]) -> list[SeenMap]:
    """Find the maps of these names, each once; of no name: every map."""
    wanted = dict.fromkeys(names)
    return [one for name in wanted for one in find_maps(name)] if wanted else find_maps()


def find_map(name: str, flavour: Flavour = OWN) -> SeenMap | None:
    """Find the map of a name in one flavour."""
    return next((one for one in find_maps(name) if one.flavour == flavour), None)


def _entries() -> list[str]:
    """List /dev/shm; say what is wrong with it where that cannot be done."""
    path = segment.SHM_DIRECTORY
    try:
        return os.listdir(path)
    except FileNotFoundError as error:
        text = f"is not there, so there are no maps: {findings.mount_command(path)}"
        raise OSError(error.errno, f"{path} {text}") from None
    except NotADirectoryError as error:
        text = "is not a folder, so there are no maps: python -m shmmap doctor says what to do"
        raise OSError(error.errno, f"{path} {text}") from None
    except PermissionError as error:
        raise OSError(error.errno, f"{path} may not be listed by this user") from None


def parameters_of(control: ControlWords) -> Parameters:
    """Read a map's parameters."""
    return Parameters.load(control)


def attach_options(seen: SeenMap) -> dict[str, Any]:
    """Return what has to be said to attach to a live map as its owner, for copying bytes."""
    assert seen.control is not None
    codec = parameters_of(seen.control).codec
    said: dict[str, Any] = {"mode": seen.control.MODE, "owner_uid": seen.owner}
    return said if codec in codecs.BUILT_IN else {**said, "codec": codecs.Unavailable(codec or "")}


def counters_of(control: ControlWords) -> dict[str, int]:
    """Sum the operation counters of all workers, gone ones included."""
    rows = [row for row in _rows(control) if row.STATE]
    return {
        name: control[total] + sum(row[counter] for row in rows)
        for name, (counter, total) in liveness.COUNTERS.items()
    }


def operations_of(control: ControlWords) -> dict[str, int]:
    """Return the same under the names of `Stats`."""
    counters = counters_of(control)
    return {_AS_STATS.get(name, name): count for name, count in counters.items()}


def creating_pid(name: str, owner: int) -> int | None:
    """Return the pid that is creating or unlinking a map of that name; None: nobody is, UNKNOWN:
    that cannot be found out, as of another user's maps.

    Asks for the lock that `creation.creation_lock` takes, without taking it.
    """
    byte = creation.name_byte(name)
    answer: int | None = None
    for which in range(creation._NAMES):  # others may have taken the first ones
        label = creation.creators_name(owner, which)
        try:
            if os.lstat(segment.SHM_DIRECTORY + label).st_uid == owner:
                pid = _lock_holder(owner, label, byte)
                if pid is not None and pid != UNKNOWN:
                    return pid
                answer = answer if pid is None else pid
        except FileNotFoundError:
            continue
        except OSError:  # EACCES; or EMFILE, ENOLCK: who cannot ask does not know
            answer = UNKNOWN
    return answer


def _lock_holder(owner: int, label: str, byte: int) -> int | None:
    """Return the pid that holds a byte of a creators' file."""
    own = creation.opened_file(owner)
    status = os.lstat(segment.SHM_DIRECTORY + label)
    if own is not None and own.identity == (status.st_dev, status.st_ino):
        return own.holder(byte)  # closing another descriptor would drop its locks
    descriptor = open_file(label)
    try:
        return record_lock.lock_holder(descriptor, byte)
    finally:
        os.close(descriptor)


def _look_at(name: str, flavour: Flavour, objects: list[str]) -> SeenMap | None:
    """Judge what a map's files are; None: they went while they were looked at."""
    allocated, owner = 0, -1
    label = segment.control_name(name, flavour)
    for entry in objects:
        with suppress(FileNotFoundError):
            status = os.lstat(f"{segment.SHM_DIRECTORY}/{entry}")
            allocated += status.st_blocks * 512
            if owner < 0 or entry == label[1:]:
                owner = status.st_uid
    making = [entry for entry in objects if _is_of_a_making(entry)]
    control, (state, problem, leftover) = _settle(name, flavour, owner, making)
    seen_workers: tuple[SeenWorker, ...] | None = None
    unknown = "its control segment does not tell"
    if state in ("half-made", "parts"):
        seen_workers = ()
    elif control and state not in OPAQUE:
        seen_workers, unknown = _live_workers(name, control)
    deserted = state == "ready" and control and control.EPHEMERAL and seen_workers == ()
    if control and deserted and lingering.stays(control) and not _is_held(name, control):
        state, problem = LINGERS, lingering.describe(control)
    elif control and deserted:
        judged = _unless_busy(_OVER if control.LINGER_NS else _ABANDONED, creating_pid(name, owner))
        if judged[0] == "busy" or not _is_held(name, control):
            state, problem, leftover = judged
    if leftover and not any(os.path.lexists(f"{segment.SHM_DIRECTORY}/{e}") for e in objects):
        return None
    return SeenMap(
        name, tuple(objects), allocated, owner, state, problem, leftover, control, seen_workers,
        unknown if seen_workers is None else "", flavour,
    )


def _is_of_a_making(entry: str) -> bool:
    """Tell whether a file has a name that only parts of an unfinished map have."""
    match = _OBJECT.fullmatch(entry)
    return bool(match and match[2])


_BUSY = ("busy", "another process is creating or unlinking it now", False)
_ABANDONED = ("abandoned", "ephemeral, and its last worker died without closing it", True)
_OVER = ("abandoned", "ephemeral, and nobody came back while it lingered", True)


def _unless_busy(judgement: Judgement, pid: int | None) -> Judgement:
    """Judge a leftover again, given the pid of the process that is at it."""
    if pid is None:
        return judgement
    if pid == UNKNOWN:
        state, problem, _ = judgement
        return state, f"{problem}; or is being made: only its user, and root, can tell", False
    return _BUSY


def _settle(
    name: str, flavour: Flavour, owner: int, making: list[str]
) -> tuple[ControlWords | None, Judgement]:
    """Read and judge a control segment. What looks half-made may be in the making: it is a
    leftover only if nobody is at it, and a second reading after that still says so."""
    last: Judgement | None = None
    while True:
        control, problem = read_control(segment.control_name(name, flavour))
        found = judge(control, problem, flavour)
        if found[0] == "parts" and making:
            found = "half-made", "its maker died while making it", True
            if any(_is_flocked(f"/{entry}") for entry in making):
                return control, _BUSY
        if found[0] == "parts" and _is_published(name):
            return control, _BUSY
        if found == last or not found[2]:
            return control, found
        pid = creating_pid(name, owner)
        if pid is not None:
            return control, _unless_busy(found, pid)
        last = found


def _is_published(name: str) -> bool:
    """Tell whether the other engine has a map of that name, whose control segment had no name yet
    when /dev/shm was listed."""
    return any(
        segment.identity_at(segment.control_name(name, Flavour(LAYOUT_VERSION, engine))) is not None
        for engine in ENGINES.values() if engine != OWN.engine
    )


def _rows(control: ControlWords) -> Iterator[RowWords]:
    size = K["R_BYTES_TOTAL"] >> 3
    for first in range(K["C_BYTES_TOTAL"] >> 3, len(control.words) - size + 1, size):
        yield RowWords(control.words, first)


def row_at(control: ControlWords, number: int) -> RowWords:
    """Return a row of the worker table, one that there is."""
    return RowWords(control.words, (K["C_BYTES_TOTAL"] + number * K["R_BYTES_TOTAL"]) >> 3)


_HIDDEN = "its liveness file is gone, and a row is of another pid namespace"


def _live_workers(name: str, control: ControlWords) -> tuple[tuple[SeenWorker, ...] | None, str]:
    """List the rows whose process lives: it holds its byte lock, or /proc shows it.

    None where that cannot be found out, and why: the liveness file may not be opened, or there is
    none and a row is of another pid namespace.
    """
    label = segment.liveness_name(name, control.NONCE)
    descriptor = -1
    try:
        joined = opening.attached(name, control.NONCE)
        if joined is not None:  # closing another descriptor would drop this process's own lock
            return _judge_rows(name, control, joined.worker.file.number()), _HIDDEN
        descriptor = open_file(label)
        return _judge_rows(name, control, descriptor), _HIDDEN
    except FileNotFoundError:
        return _judge_rows(name, control, -1), _HIDDEN
    except SystemCallError as error:  # ENOLCK
        return None, str(error)
    except OSError as error:  # EACCES, EMFILE
        return None, f"its liveness file cannot be read: {error.strerror or error}"
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _holder(descriptor: int, row: int) -> int | None:
    return record_lock.lock_holder(descriptor, liveness.row_byte(row))


def _judge_rows(name: str, control: ControlWords, descriptor: int) -> tuple[SeenWorker, ...] | None:
    """List the rows of the living; descriptor -1: there is no liveness file. A process that runs
    another program now (exec), which may have inherited its lock, has not mapped the map."""
    flavour = Flavour(control.LAYOUT, ENGINES[control.ENGINE])
    _, inode = segment.identity_at(segment.control_name(name, flavour)) or (0, 0)
    ours = process.pid_namespace()
    found = []
    for number, row in enumerate(_rows(control)):
        if row.STATE:
            shared = ours == row.PID_NAMESPACE != 0
            if descriptor < 0 and not shared:
                return None
            lives = (descriptor >= 0 and _holder(descriptor, number) is not None) or (
                shared and _runs(row.PID, row.START_TICKS)
            )
            if lives and not (
                shared and inode and process.has_mapped(row.PID, inode) is False
            ):
                found.append(SeenWorker(number, row.PID, shared))
    return tuple(found)


def _runs(pid: int, ticks: int) -> bool:
    try:
        found = process.start_ticks(pid) if 0 < pid <= _LARGEST_PID else None
        return found is not None and process.is_same_start(found, ticks)
    except (OSError, ValueError, IndexError):  # hidden, or not to be read: it may live
        return True


def _is_held(name: str, control: ControlWords) -> bool:
    """Tell whether a process without a row has an ephemeral map open, as a forked child that has
    not used it yet: it holds a lock on the whole liveness file. Where that cannot be asked: yes."""
    if opening.attached(name, control.NONCE) is not None:
        return True
    return _is_flocked(segment.liveness_name(name, control.NONCE))


def _is_flocked(label: str) -> bool:
    """Tell whether a process has a whole file locked, or whether that cannot be asked."""
    try:
        descriptor = open_file(label)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:  # EWOULDBLOCK
        return True
    finally:
        os.close(descriptor)
