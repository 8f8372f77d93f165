"""A lock on a file that lasts as long as any process has the file mapped.

The kernel keeps an flock until nothing uses the open file any more by which it was taken, and a
mapping is a use. So a file that is opened, locked, mapped and closed stays locked in this process,
and in each child that it forks, until that one has unmapped it, has ended, or runs another program:
exec passes descriptors on, where somebody has made them inheritable, but no mapping.
"""

from __future__ import annotations

import fcntl

from ..memory._clock_cy import monotonic
from ..memory.layout import WORD
from . import segment
from .tasks import sleep

_PATIENCE_S = 0.2  # for those who ask whether anybody holds it: they have it for a moment


class Hold:
    """A shared lock on the file of an open descriptor, which may be closed then.

    Where another user keeps it from us, there is none: those who use the map have their rows.
    """

    def __init__(self, descriptor: int) -> None:
        deadline = monotonic() + _PATIENCE_S
        while not _try_flock(descriptor) and monotonic() < deadline:
            sleep(0.0005)
        self._mapping = segment.Mapping(descriptor, WORD)

    def end(self) -> None:
        """Give it back, in this process. Idempotent, and takes no memory."""
        self._mapping.close()


def _try_flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        raise segment.refused("locking a file in /dev/shm", error) from error
