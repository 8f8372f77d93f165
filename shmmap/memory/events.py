"""What can happen to a map, and how it is written down from Python: see `_figures_cy`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ._figures_cy import Figures
from .layout import constants

if TYPE_CHECKING:
    class Attached(Protocol):
        """What a map is to this process."""

        @property
        def control_memory(self) -> Any: ...
        @property
        def worker(self) -> Any: ...
        @property
        def clock(self) -> Any: ...

K = constants()
KINDS = {K[f"EVENT_{name.upper()}"]: name for name in (
    "takeover", "repair", "evicting", "full", "corrupt", "lock_timeout", "uncached", "mismatch",
    "resize",
)}
"""Each kind of event by its number."""
NUMBERS = {name: number for number, name in KINDS.items()}
REASONS = ("full", "too_large", "busy", "corrupted", "unlinked", "closed", "store", "refused",
           "no_memory", "not_picklable", "unreadable", "no_key", "no_map")
"""What "uncached" is for, by the number that its detail is: see `locks.keeping`."""
TIMED = {name: K[f"TIMED_{name.upper()}"] for name in (
    "read", "write", "lock_wait", "lock_hold", "compute", "snapshot")}
"""What is timed, and the number of its histogram."""
NO_SHARD = K["EVENT_SHARD_MASK"]


def note(attached: Attached, kind: str, detail: int = 0, shard: int = NO_SHARD) -> None:
    """Write an event down. The caller is in an operation of the map, or keeps it open."""
    worker = attached.worker
    Figures(attached.control_memory).happened(
        worker.row_offset(worker.row), attached.clock.now_ns(), NUMBERS[kind], shard, detail)


def took(attached: Attached, what: str, took_ns: int) -> None:
    """Count how long something took. The caller is as for `note`."""
    Figures(attached.control_memory).took(TIMED[what], took_ns)
