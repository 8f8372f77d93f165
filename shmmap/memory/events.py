"""What can happen to a map, and how it is written down from Python: see `_figures_cy`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from ..checks import shown
from ..errors import ShmMapError
from ..printable import human
from ._figures_cy import Figures
from .layout import constants

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from .geometry import Geometry

    class Attached(Protocol):
        """What a map is to this process."""

        @property
        def control_memory(self) -> Any: ...
        @property
        def worker(self) -> Any: ...
        @property
        def clock(self) -> Any: ...

    class Opened(Protocol):
        """A handle on a map."""

        def _inside(self) -> AbstractContextManager[Any]: ...

K = constants()
KINDS = {K[f"EVENT_{name.upper()}"]: name for name in (
    "takeover", "repair", "evicting", "full", "corrupt", "lock_timeout", "uncached", "mismatch",
    "resize",
)}
"""Each kind of event by its number."""
NUMBERS = {name: number for number, name in KINDS.items()}
TIMED = {name: K[f"TIMED_{name.upper()}"] for name in (
    "read", "write", "lock_wait", "lock_hold", "compute", "snapshot")}
"""What is timed, and the number of its histogram."""
NO_SHARD = K["EVENT_SHARD_MASK"]
_SHARDS, _SHARD_BITS = 0xFFFF, 16
_KB = 1_000  # as JSON's readers have it, who take numbers for doubles: exact up to 69 TB


def resized_to(shape: Geometry, is_done: bool) -> int:
    """Return the detail of a resize to a shape, begun or done."""
    return (shape.total_bytes // _KB << _SHARD_BITS | shape.shards) << 1 | is_done


def resized_in_words(detail: int) -> str:
    """Say what the detail of a resize says."""
    shards, size = detail >> 1 & _SHARDS, _KB * (detail >> 1 + _SHARD_BITS)
    what = "done" if detail & 1 else "begun"
    return f"{what}: to {shards:,} shard{'s' * (shards != 1)}, {human(size)}"


def note(attached: Attached, kind: str, detail: int = 0, shard: int = NO_SHARD) -> None:
    """Write an event down. The caller is in an operation of the map, or keeps it open."""
    worker = attached.worker
    Figures(attached.control_memory).happened(
        worker.row_offset(worker.row), attached.clock.now_ns(), NUMBERS[kind], shard, detail)


def note_resize(attached: Attached, shape: Geometry, is_done: bool) -> None:
    """Write down that a resize to a shape has begun, or is done. The caller is as for `note`."""
    note(attached, "resize", resized_to(shape, is_done))


def note_in(m: Opened, kind: str, detail: int = 0) -> None:
    """Write down an event of a map, if it is open. Raises nothing of the map's, and no MemoryError:
    what was to be done when it was met is done all the same."""
    with suppress(ShmMapError, MemoryError), m._inside() as attached:
        note(attached, kind, detail)


def took_in(m: Opened, what: str, took_ns: int) -> None:
    """Count how long something took, as `note_in` does."""
    with suppress(ShmMapError, MemoryError), m._inside() as attached:
        took(attached, what, took_ns)


def check_kind(kind: object) -> None:
    """Refuse what is no kind of event, and not None. Raises ValueError."""
    if kind is not None and kind not in NUMBERS:
        raise ValueError(f"kind={shown(kind)} must be None, for all, or one of "
                         f"{', '.join(NUMBERS)}")


def took(attached: Attached, what: str, took_ns: int) -> None:
    """Count how long something took. The caller is as for `note`."""
    Figures(attached.control_memory).took(TIMED[what], took_ns)
