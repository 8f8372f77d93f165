"""What each consistency answers in each situation: each cell of docs/design/near-cache.md.

The situations are real: others are other processes, and a stopped one has got SIGSTOP inside the
flip of the key that is read, after the old version ended. The pure engine is stopped at that
store; the compiled one has no such seam, so there the writer does that step by hand.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

import shmmap
from shmmap.shard import _slots_cy

from ..support.clocks import now
from ..support.damage import Damage

PURE = shmmap.ENGINE == "pure"
BUSY = shmmap.ShardBusy
LOCK_TIMEOUT_S = 0.25
LONG_S = 1e6  # a bound that no test comes near to
READS: dict[str, dict[str, Any]] = {
    "linearizable": {"consistency": "linearizable"},
    "session": {"consistency": "session"},
    "bounded, within": {"consistency": "bounded", "max_staleness": LONG_S},
    "bounded, too old": {"consistency": "bounded", "max_staleness": 1e-9},
}


class Scene:
    """A map with an entry, the handle that reads it, and what others do."""

    def __init__(self, m: Any, start: Any, read: dict[str, Any]) -> None:
        self.m, self.start, self.read = m, start, read
        self.stopped: Any = None
        m["key"] = "old"

    def get(self, key: str = "key") -> Any:
        """Read as the consistency says; BUSY: it could not be told in time."""
        started, unhindered = time.monotonic(), now()
        try:
            value = self.m.get(key, **self.read)
        except BUSY as error:
            assert time.monotonic() - started >= LOCK_TIMEOUT_S * 0.8
            assert f"process {self.stopped.pid} " in str(error)
            return BUSY
        assert now() - unhindered < LOCK_TIMEOUT_S * 0.8
        return value

    def hold(self, key: str = "key", value: Any = "old") -> None:
        """Read it, so that the near cache holds it."""
        assert self.m[key] == value

    def other(self, work: Callable[[Any], Any]) -> None:
        """Let another process do something."""
        self.start(lambda child: work(self.m) and None).result()

    def stop(self, key: str = "key") -> None:
        """Let another process begin to overwrite the key, and stop in the flip."""
        self.stopped = self.start(lambda child: write_and_stop(child, self.m, key))
        self.stopped.hear()
        self.stopped.wait_stopped()

    def pass_time(self) -> None:
        """Let an hour go by."""
        clock = self.m.attachment.clock
        clock.frozen_ns = clock.now_ns() + 3600 * 10**9


def write_and_stop(child: Any, m: Any, key: str) -> None:
    """Write "new" to a key, stopping once the old version has ended."""
    m.get("nothing")  # become a worker of one's own
    damage = Damage(m)
    at = damage.slot_word(damage.head(key.encode())) * 8
    if PURE:
        original = _slots_cy.store

        def store(mem: Any, offset: int, value: int) -> None:
            original(mem, offset, value)
            if offset == at and value == 0:
                _slots_cy.store = original
                os.kill(os.getpid(), signal.SIGSTOP)

        _slots_cy.store = store
        child.tell("ready")
        m[key] = "new"
        return
    lock = m.attachment.shards[0].lock
    assert lock.lock(m.attachment.worker.fork_page.word | 0x1234, 10**9) in (0, 1, 2)
    damage.set_header("DIRTY", 1)
    damage.set_header("SEQUENCE", damage.header("SEQUENCE") + 1)
    damage.words[at >> 3] = 0
    child.tell("ready")
    os.kill(os.getpid(), signal.SIGSTOP)
    lock.unlock()  # dirty, as it is: the next write repairs it
    m[key] = "new"


def fresh(scene: Scene) -> None:
    scene.hold()


def overwritten(scene: Scene) -> None:
    scene.hold()
    scene.other(lambda m: m.set("key", "new"))


def deleted(scene: Scene) -> None:
    scene.hold()
    scene.other(lambda m: m.delete("key"))


def expired(scene: Scene) -> None:
    scene.m.set("key", "old", ttl=60)
    scene.hold()
    scene.pass_time()


def own_write(scene: Scene) -> None:
    scene.hold()
    scene.m["key"] = "own"


def own_delete(scene: Scene) -> None:
    scene.hold()
    del scene.m["key"]


def stopped(scene: Scene) -> None:
    scene.hold()
    scene.stop()


def stopped_nothing_held(scene: Scene) -> None:
    scene.stop()


def stopped_after_an_own_write(scene: Scene) -> None:
    scene.hold()
    scene.m["key"] = "own"
    scene.stop()


def stopped_after_an_own_write_was_read(scene: Scene) -> None:
    scene.hold()
    scene.m["key"] = "own"
    scene.hold(value="own")
    scene.stop()


def stopped_after_another_write_that_nobody_read(scene: Scene) -> None:
    scene.hold()
    scene.other(lambda m: m.set("key", "between"))
    scene.stop()


def stopped_and_expired(scene: Scene) -> None:
    scene.m.set("key", "old", ttl=60)
    scene.hold()
    scene.stop()
    scene.pass_time()


def stopped_at_another_key(scene: Scene) -> None:
    scene.m["another"] = "old"
    scene.hold()
    scene.stop("another")


TABLE: dict[Callable[[Scene], None], tuple[Any, Any, Any, Any]] = {
    fresh: ("old", "old", "old", "old"),
    overwritten: ("new", "new", "old", "new"),
    deleted: (None, None, "old", None),
    expired: (None, None, None, None),
    own_write: ("own", "own", "own", "own"),
    own_delete: (None, None, None, None),
    stopped: (BUSY, "old", "old", BUSY),
    stopped_nothing_held: (BUSY, BUSY, BUSY, BUSY),
    stopped_after_an_own_write: (BUSY, BUSY, BUSY, BUSY),
    stopped_after_an_own_write_was_read: (BUSY, "own", "own", BUSY),
    stopped_after_another_write_that_nobody_read: (BUSY, "old", "old", BUSY),
    stopped_and_expired: (BUSY, BUSY, BUSY, BUSY),
    stopped_at_another_key: ("old", "old", "old", "old"),
}
CELLS = [
    pytest.param(situation, read, answers[column], id=f"{situation.__name__}-{read}")
    for situation, answers in TABLE.items() for column, read in enumerate(READS)
]


@pytest.mark.parametrize(("situation", "read", "answer"), CELLS)
def test_a_cell_of_the_table(make, start, situation, read, answer):
    m = make(shards=1, lock_timeout=LOCK_TIMEOUT_S, near=100)
    scene = Scene(m, start, READS[read])
    situation(scene)
    assert scene.get() == answer
    assert scene.get() == answer, "the second time"
    if scene.stopped is not None:
        scene.stopped.go_on()
        assert scene.stopped.result() is None
        last = "old" if situation is stopped_at_another_key else "new"
        assert m["key"] == last and scene.get() == last
    assert m.check() == []


def test_a_stopped_writer_stops_no_session_for_long(make, start):
    """Many keys of a session's shard can be read; a miss has to wait."""
    m = make(shards=1, lock_timeout=LOCK_TIMEOUT_S, near=100, consistency="session")
    scene = Scene(m, start, {})
    m.set_many({i: i for i in range(50)})
    m.get_many([*range(50), "key"])
    scene.stop()
    started = now()
    assert m.get_many([*range(50), "key"]) == {**{i: i for i in range(50)}, "key": "old"}
    assert m["key"] == "old" and m.get_versioned("key")[0] == "old"
    assert now() - started < LOCK_TIMEOUT_S
    assert scene.get("missing") == BUSY
    scene.stopped.go_on()
    assert scene.stopped.result() is None and m["key"] == "new"
