"""Reading and judging a control segment from outside: see `inspection`."""

from __future__ import annotations

import os
import stat

from ..lifecycle.control import LIVE, checksum, is_sound
from ..memory import geometry
from ..memory.layout import LAYOUT_VERSION, constants
from ..memory.words import ControlWords
from ..system import process, segment
from ..system.flavours import ENGINES, Flavour

K = constants()
_FIRST_WORDS = 32  # bytes: MAGIC, LAYOUT, ENGINE and NONCE, which each layout has there
Judgement = tuple[str, str, bool]  # state, problem, whether it is a leftover
OPAQUE = ("unreadable", "foreign", "garbage", "parts")


def open_file(label: str) -> int:
    """Open an object of a map for reading, if it is a regular file."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not stop us
    descriptor = os.open(segment.SHM_DIRECTORY + label, flags)
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    if not is_file:
        os.close(descriptor)
        raise OSError(f"{label} is not a regular file")
    return descriptor


def read_control(label: str) -> tuple[ControlWords | None, str]:
    """Read a control segment; else say why not ("absent": there is none)."""
    try:
        descriptor = open_file(label)
    except FileNotFoundError:
        return None, "absent"
    except OSError as error:
        return None, f"may not be read ({error.strerror or error})"
    try:
        size = os.fstat(descriptor).st_size
        data = os.pread(descriptor, min(size, geometry.control_bytes()), 0)
    finally:
        os.close(descriptor)
    if not data:
        return None, "empty"
    if len(data) >= _FIRST_WORDS:
        words = ControlWords(data[:_FIRST_WORDS].ljust(K["C_BYTES_TOTAL"], b"\0"))
        if words.MAGIC == K["CONTROL_MAGIC"] and words.LAYOUT != LAYOUT_VERSION:
            return words, ""
    if len(data) < K["C_BYTES_TOTAL"] or size != geometry.control_bytes():
        return None, f"{size:,} bytes are not the size of a control segment"
    return ControlWords(data[: len(data) & ~7]), ""


def judge(control: ControlWords | None, problem: str, flavour: Flavour) -> Judgement:
    """Judge one reading of a control segment."""
    if flavour.layout != LAYOUT_VERSION:
        return _judge_foreign(control, problem, flavour)
    if control is None:
        if problem == "absent":
            return "parts", "parts of a map without its control segment", True
        if problem == "empty":
            return "half-made", "its maker died before writing anything", True
        return ("unreadable" if problem.startswith("may not") else "garbage"), problem, False
    if control.MAGIC == 0 and control.STATE == K["STATE_MAKING"]:
        return "half-made", "its maker died while making it", True
    if control.MAGIC != K["CONTROL_MAGIC"]:
        return "garbage", "it has no magic number: not a map", False
    if (control.LAYOUT, ENGINES.get(control.ENGINE)) != flavour:
        return "garbage", "its control segment contradicts its name", False
    if not _is_of_this_boot(control.BOOT_HIGH, control.BOOT_LOW):
        return "old boot", "made before this machine's last boot", True
    if control.STATE == K["STATE_RETIRED"]:
        return "retired", "its unlinker died before the end", True
    if control.STATE == K["STATE_MAKING"]:
        return "half-made", "its maker died while making it", True
    if control.STATE not in LIVE or not _is_whole(control):
        return "garbage", "its control segment contradicts itself", False
    return "ready", "", False


def _judge_foreign(
    control: ControlWords | None, problem: str, flavour: Flavour
) -> Judgement:
    """Judge what another version made: never a leftover, since only that version could tell."""
    if control is not None and control.MAGIC == K["CONTROL_MAGIC"]:
        layout = control.LAYOUT
    elif flavour.layout and problem in ("absent", "empty"):
        layout = flavour.layout  # it may be being made
    elif problem.startswith("may not"):
        return "unreadable", problem, False
    else:
        return "garbage", "it is not a map that any version made", False
    return "foreign", f"made by another version of shmmap, with layout {layout}", False


def _is_of_this_boot(high: int, low: int) -> bool:
    """Tell whether a map was made since the last boot, as far as the kernel names its boots."""
    try:
        boot = process.boot_id()
    except OSError:
        return True
    return (high, low) == boot or (0, 0) in (boot, (high, low))


def _is_whole(control: ControlWords) -> bool:
    """Tell whether what its creator wrote into a control segment is there: see `_verify`."""
    return (
        is_sound(control)
        and control.CHECK == checksum(control.words)
    )
