"""What comes of an opener's wish for another shape: `on_mismatch="resize"`.

An opener must not be kept from its work, so that a deploy is no outage: what it asks for is begun,
and goes on in the background; or it is not begun, and the opener hears why.

**Two releases that ask for different shapes** run beside each other for a while. Their processes
are started again and again, and must not move the map back and forth. So an opener only asks when
it opens a map, never while that is on its way to another shape, and, for an hour after a change,
not for a shape that the map had before it. Who wants that back by then says so: `resize`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..errors import MapClosed, MapUnlinked, ShmMapError
from ..lifecycle.gates import is_on
from ..lifecycle.parameters import Options, Parameters, shape_said
from ..lifecycle.request import SHAPE, as_options, differences
from ..memory.table import checksum_of, read_table, row_of
from . import resizing
from .changing import Busy

if TYPE_CHECKING:
    from ..copies.hosts import OpenMap
    from ..lifecycle.attachment import Attachment

HOUR_NS = 3_600_000_000_000


def ask(m: OpenMap, attached: Attachment, wanted: Parameters) -> str:
    """Have a map that was just opened move to the shape that its opener says, in the background;
    return why not, "" where it moves, or has that shape. Looks at every entry; takes no lock of a
    shard.

    Raises:
        MapClosed, MapUnlinked: meanwhile.
    """
    control = attached.control
    said: Options = {one: value for one in SHAPE if (value := getattr(wanted, one)) is not None}
    if is_on(control.FEATURES, "auto-shards"):  # then that is decided by others
        said.pop("shards", None)
    wanted = Parameters(**said)
    if not said or _has(wanted, attached.parameters):
        return ""

    def refuse() -> None:
        if read_table(control).is_moving:
            raise Busy("it is on its way to another shape. Open it again once it is there")
        ago_ns = attached.clock.now_ns() - control.MOVER_BEAT_NS
        if ago_ns < HOUR_NS and _had(attached, wanted):
            raise Busy(
                f"{max(0, ago_ns) // 60_000_000_000} minutes ago it was moved away from the shape "
                "that is asked for here, and for an hour no opener takes that back: another "
                f"release may ask for it. To do so now: python -m shmmap resize {m.name} "
                f"{as_options(wanted, attached.parameters)}"
            )

    try:
        refuse()  # before all entries are looked at, and after that: others may have been quicker
        resizing.resize(m, attached, said, None, None, wait=False, refuse=refuse)
    except (MapUnlinked, MapClosed):
        raise
    except (ShmMapError, ValueError, MemoryError) as error:
        return str(error) or type(error).__name__
    shape = ", ".join([f"{one}={value!r}" for one, value in said.items()])
    logging.getLogger("shmmap").info(
        "map %r begins to move to the shape that this process asks for: %s", m.name, shape
    )
    return ""


def _has(wanted: Parameters, shape: Parameters) -> bool:
    return not differences(wanted, shape, frozenset(SHAPE))


def _had(attached: Attachment, wanted: Parameters) -> bool:
    """Tell whether a map had a shape before its last change, or was on its way to it."""
    control = attached.control
    current = read_table(control).rows
    former = [row_of(control, at) for at in range(3) if at not in current]
    return True in [
        _has(wanted, shape_said(row)) for row in former if row.CHECK == checksum_of(row)
    ]
