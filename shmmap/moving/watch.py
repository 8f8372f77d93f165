"""Moving in the background: for whoever does not wait, and where the mover has died or is stopped.

Each process that finds a map on its way looks after it until it is there: once a second whether
somebody is at it, and if not, it is. Then it unmaps the shards that were.
"""

from __future__ import annotations

import sys
import weakref
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import ConfigMismatch, MapClosed, MapUnlinked
from ..lifecycle import routes
from ..memory.table import read_table
from ..system.background import Background
from ..system.tasks import sleep

if TYPE_CHECKING:
    from ..lifecycle.attachment import Attachment

_EVERY_S = 1.0
_PARTS = ("groups", "changing", "segments", "group", "mover")  # each imports those before it
_PAUSE_S = 0.001


def look_after(attachment: Attachment) -> None:
    """Have a map that is on its way come to its end, in the background. Never raises; where this
    process may not move it, have it unmap what was once others have."""
    if attachment.mover is None:
        me = weakref.ref(attachment)  # no circle: what goes with its last user goes at once
        attachment.mover = Background(
            lambda: (one := me()) is not None and _look(one), _EVERY_S, at_once=True,
            ended=lambda: one.sweeping_ended() if (one := me()) is not None else None,
        )
    attachment.mover.start()


def _look(attachment: Attachment) -> bool:
    background = attachment.mover
    background.busy = True
    try:
        if background.stopping or attachment.is_down:
            return False
        attachment.refuse_lost()
        with suppress(ConfigMismatch, ImportError):  # another user's map, or as after chroot:
            _move(attachment)  # others see to it
        if read_table(attachment.control).is_moving:
            return True
        return not routes.let_go(attachment)
    except (MapUnlinked, MapClosed):
        return False
    finally:
        background.busy = False


def _move(attachment: Attachment) -> None:
    """Have the map come to its end. What that takes is imported only here, a part at a time: all at
    once, and by the operation that found a shard moved, it would hold that up for 7 ms."""
    for part in _PARTS:
        if f"{__package__}.{part}" not in sys.modules:
            import_module(f".{part}", __package__)
            sleep(_PAUSE_S)
    from .mover import Mover

    background = attachment.mover
    Mover(attachment, is_stopping=lambda: background.stopping).run()
