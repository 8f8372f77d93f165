"""A hand on the lock and the header of a map's shard 0."""

from __future__ import annotations

from typing import Any

import shmmap
from shmmap.memory.layout import constants
from shmmap.shard import _status

K = constants()
PURE = shmmap.ENGINE == "pure"
GOT_IT = (_status.FREE, _status.WAITED)


def lock_of(m: Any) -> Any:
    """Return the lock of shard 0."""
    return m.attachment.shards[0].lock


def token(m: Any, thread: int = 0x3000) -> int:
    """Return a token of this process, in the name of a thread that does not exist."""
    m.get("become a worker")
    return int(m.attachment.worker.fork_page.word | thread)


def word(m: Any, field: str) -> int:
    """Read a header word of shard 0."""
    words = memoryview(m.attachment.mappings[0].buffer).cast("B").cast("Q")
    value: int = words[K[f"S_{field}"] >> 3]
    words.release()
    return value


def set_word(m: Any, field: str, value: int) -> None:
    """Write a header word of shard 0."""
    words = memoryview(m.attachment.mappings[0].buffer).cast("B").cast("Q")
    words[K[f"S_{field}"] >> 3] = value
    words.release()
