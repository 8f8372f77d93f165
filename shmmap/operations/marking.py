"""Looking at a map's memory outside of an operation.

Shards that have moved are unmapped as soon as nothing of this process can be using them, by
whichever thread finds that first (see `lifecycle.routes.let_go`). So whoever looks into a shard
does it inside an operation, holds what keeps others from unmapping, or marks a handle meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Protocol

from ..system.blocks import block
from ..system.tasks import new_lock


class Marked(Protocol):
    """What has marks: a handle."""

    def _mark(self, mark: Any) -> bool: ...
    def _end(self, mark: Any) -> None: ...


@block
def marked(handle: Marked) -> Iterator[bool]:
    """Have a handle count as used: `close`, and who would unmap shards, wait meanwhile. Tell
    whether it is open. Does not join the map, nor look at it, nor raise."""
    mark = new_lock(threading.Lock)
    mark.acquire()
    try:
        yield handle._mark(mark)
    finally:
        mark.release()  # a call into C, before which no signal handler comes
        handle._end(mark)
