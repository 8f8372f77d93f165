"""What tests of the near cache share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...support.damage import Damage

BOUNDED = {"consistency": "bounded", "max_staleness": 1e6}


class Thing:
    """Something that can be changed, and be watched as it goes."""

    watcher: Any = None

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        if Thing.watcher:
            Thing.watcher(self)


class Name(str):
    """Equal to the str that it is made of, and not a str exactly."""


@contextmanager
def stuck(m: Any, key: str) -> Iterator[None]:
    """As if a writer had been stopped in the flip of a key."""
    damage = Damage(m)
    at = damage.slot_word(damage.head(key.encode()))
    version = damage.words[at]
    lock = m.attachment.shards[0].lock
    assert lock.lock(m.attachment.worker.fork_page.word | 0x1234, 10**9) in (0, 1, 2)
    damage.set_header("SEQUENCE", damage.header("SEQUENCE") + 1)
    damage.words[at] = 0
    try:
        yield
    finally:
        damage.words[at] = version
        damage.set_header("SEQUENCE", damage.header("SEQUENCE") + 1)
        lock.unlock()
