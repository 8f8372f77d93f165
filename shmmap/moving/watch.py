"""Moving in the background: for whoever does not wait, and where the mover has died or is stopped.

Each process that finds a map on its way looks after it until it is there: once a second whether
somebody is at it, and if not, it is. Then it unmaps the shards that were.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import ConfigMismatch, MapClosed, MapUnlinked
from ..lifecycle import routes
from ..memory.table import read_table
from ..system.background import Background
from .mover import Mover

if TYPE_CHECKING:
    from ..lifecycle.attachment import Attachment

_EVERY_S = 1.0


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
        with suppress(ConfigMismatch):  # another user's map: that user's processes move it
            Mover(attachment, is_stopping=lambda: background.stopping).run()
        if read_table(attachment.control).is_moving:
            return True
        return not routes.let_go(attachment)
    except (MapUnlinked, MapClosed):
        return False
    finally:
        background.busy = False
