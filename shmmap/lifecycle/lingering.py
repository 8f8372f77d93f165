"""How long an ephemeral map with `linger=` stays after its last worker: what its words say of it.

The last worker to leave stores when that was: LEFT_NS. Rows keep when their worker joined. So a map
was left by its last worker if nobody has joined after that; else somebody has it open, or its last
worker was killed. When that was nobody knows. Then whoever opens the map goes on with it, and a
process that finds it so without opening it stores the time of its own: see `reaping`.

**Crash**: a worker that dies before it has stored LEFT_NS is one that was killed. Nothing is ever
cleared: a process that joins makes the old LEFT_NS void by the time in its row.
**Locks**: the creation lock, but for a forked child that joins: it holds the liveness file.
"""

from __future__ import annotations

from ..memory._clock_cy import Clock
from ..memory.layout import constants
from ..memory.words import ControlWords, RowWords

K = constants()
_JOINED_AT = (K["C_BYTES_TOTAL"] >> 3) + RowWords.JOINED_NS.index
_ROW_WORDS = K["R_BYTES_TOTAL"] >> 3


def now_ns() -> int:
    """Read the clock of maps."""
    return int(Clock().now_ns())


def joined_ns(control: ControlWords) -> int:
    """Tell when a process last became a worker of a map; 0: none has."""
    return max(control.words[_JOINED_AT::_ROW_WORDS], default=0)


def left_ns(control: ControlWords) -> int:
    """Tell when the last worker of an ephemeral map left it; 0: that is not known."""
    left = control.LEFT_NS
    return left if left >= joined_ns(control) else 0


def stays(control: ControlWords) -> bool:
    """Tell whether an ephemeral map that nobody has open may still be opened as it is."""
    linger_ns = control.LINGER_NS
    if not linger_ns:
        return False
    left = left_ns(control)
    return not left or now_ns() < left + linger_ns


def describe(control: ControlWords) -> str:
    """Say of an ephemeral map that stays, though nobody has it open, until when it does."""
    linger_s, left = control.LINGER_NS / 1e9, left_ns(control)
    if not left:
        return ("ephemeral, and its last worker died without closing it: it stays for "
                f"{linger_s:,.0f} s from when another process finds that")
    past_s = max(0.0, (now_ns() - left) / 1e9)
    return (f"ephemeral, left {past_s:,.0f} s ago: it goes in {max(0.0, linger_s - past_s):,.0f} s "
            "unless a process opens it")
