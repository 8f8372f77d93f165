"""A lock holder that is stopped (SIGSTOP), outside and inside the flip, or dead there.

The pure engine is stopped at an exact store of a real write. The compiled one has no such
seam: once the lock is held (and the sequence made odd) by hand, and once a real writer is
stopped at random until it is caught with the lock.
"""

from __future__ import annotations

import logging
import os
import pydoc
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import opening
from shmmap.system import creation

from ..support.clocks import now
from ..support.shard0 import PURE, K, set_word, word
from ..support.shard_modules import that_have

TAKEOVER_S = 1.0 if PURE else 0.2
KEPT = [f"kept-{i}" for i in range(20)]


def halt_at_store(child: Any, field: str, odd: bool, number: int) -> None:
    """In a child with the pure engine: send it `number` right after it stored such a word."""
    modules = that_have("store")
    original = modules[0].store
    offset = K[f"S_{field}"]

    def store_by(function: Any) -> None:
        for module in modules:
            module.store = function  # type: ignore[attr-defined]

    def store(mem: Any, at: int, value: int) -> None:
        original(mem, at, value)
        if at == offset and bool(value & 1) == odd:
            store_by(original)
            os.kill(os.getpid(), number)

    store_by(store)


def hold_and_halt(child: Any, m: Any, inside: bool, number: int) -> None:
    """Write to "held" and get signal `number` on the way: before the flip, or inside it."""
    m.get("nothing")  # become a worker of one's own
    if PURE:
        halt_at_store(child, "SEQUENCE" if inside else "DIRTY", True, number)
        child.tell("ready")
        m["held"] = b"new"
        return
    lock = m.attachment.shards[0].lock
    assert lock.lock(m.attachment.worker.fork_page.word | 0x1234, 10**9) in (0, 1, 2)
    set_word(m, "DIRTY", 1)
    set_word(m, "SEQUENCE", word(m, "SEQUENCE") + inside)
    child.tell("ready")
    os.kill(os.getpid(), number)
    set_word(m, "SEQUENCE", word(m, "SEQUENCE") + inside)
    set_word(m, "DIRTY", 0)
    lock.unlock()
    m["held"] = b"new"


@pytest.fixture
def filled(make: Callable[..., Any]) -> Callable[..., Any]:
    """A map of one shard with some entries, opened with a lock_timeout."""

    def open_filled(lock_timeout: float, **parameters: Any) -> Any:
        m = make(shards=1, lock_timeout=lock_timeout, **parameters)
        for key in KEPT:
            m[key] = key
        m["held"] = b"old"
        return m

    return open_filled


def timed(operation: Callable[[], Any]) -> float:
    """Return the seconds that an operation took."""
    started = now()
    operation()
    return now() - started


def refused(error: type[Exception], operation: Callable[[], Any]) -> tuple[str, float]:
    """Return the text of the error that an operation must raise, and the seconds it took."""
    started = time.monotonic()
    with pytest.raises(error) as caught:
        operation()
    assert type(caught.value) is error
    return str(caught.value), time.monotonic() - started


def assert_writers_wait(m: Any, pid: int, lock_timeout: float) -> None:
    """Every kind of write gets LockTimeout that names the stopped holder."""
    owner = word(m, "OWNER")
    for operation in (
        lambda: m.set("other", 1), lambda: m.delete(KEPT[0]), lambda: m.incr("n"),
        lambda: m.pop(KEPT[1]), lambda: m.touch(KEPT[2], 5), m.clear, m.popitem,
    ):
        text, took = refused(shmmap.LockTimeout, operation)
        assert lock_timeout * 0.9 <= took < lock_timeout + 1.5
        assert f"process {pid} " in text and "stopped" in text, text
        assert f"kill -CONT {pid}" in text and "shard 0" in text and repr(m.name) in text
    assert word(m, "OWNER") == owner, "the holder was robbed"


def test_stopped_outside_the_flip(filled, start):
    m = filled(0.25)
    child = start(lambda child: hold_and_halt(child, m, False, signal.SIGSTOP))
    child.hear()
    child.wait_stopped()
    assert word(m, "OWNER") != 0 and word(m, "DIRTY") == 1 and word(m, "SEQUENCE") & 1 == 0
    for key in KEPT:
        assert timed(lambda key=key: m[key]) < 0.2
    assert m["held"] == b"old"
    assert timed(lambda: m.get("missing")) < 0.2
    assert timed(lambda: list(m.items())) < 0.2 and len(m) == len(KEPT) + 1
    assert_writers_wait(m, child.pid, 0.25)
    child.go_on()
    assert child.result() is None
    assert m["held"] == b"new" and sorted(m) == sorted([*KEPT, "held"])
    assert m.stats().takeovers == 0 and m.stats().repairs == 0
    assert m.check() == []


def test_stopped_inside_the_flip(filled, start):
    m = filled(0.25)
    child = start(lambda child: hold_and_halt(child, m, True, signal.SIGSTOP))
    child.hear()
    child.wait_stopped()
    assert word(m, "SEQUENCE") & 1 == 1
    for key in KEPT:
        assert timed(lambda key=key: m[key]) < 0.2
    for operation in (lambda: m.get("missing"), lambda: "missing" in m, lambda: m["missing"]):
        text, took = refused(shmmap.ShardBusy, operation)
        assert f"process {child.pid} " in text and f"kill -CONT {child.pid}" in text
        assert 0.2 <= took < 1.5
    assert_writers_wait(m, child.pid, 0.25)
    child.go_on()
    assert child.result() is None
    assert m["held"] == b"new" and m.get("missing") is None
    assert m.stats().takeovers == 0 and m.check() == []


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_a_prompt_waits_for_no_stopped_process(filled, start, caplog, inside):
    m = filled(5.0)
    child = start(lambda child: hold_and_halt(child, m, inside, signal.SIGSTOP))
    child.hear()
    child.wait_stopped()
    for look in (
        lambda: repr(m), lambda: f"{m:>50} {m!s}", m._repr_html_, lambda: dir(m), m.stats,
        m._ipython_key_completions_, lambda: logging.getLogger("test").warning("look: %s", m),
        lambda: pydoc.render_doc(m), lambda: m.parameters, shmmap.maps,
        lambda: (m.keys().__repr__(), m.items().__repr__(), m.values().__repr__()),
        lambda: [getattr(m, name) for name in dir(m)],
    ):
        assert timed(look) < 2
    assert f"{len(KEPT) + 1} entries" in repr(m) and repr(m) in caplog.text
    child.go_on()
    assert child.result() is None and m.check() == []


def test_stopped_for_five_seconds_with_a_timeout_of_one(filled, start):
    m = filled(1.0)
    writer = start(lambda child: hold_and_halt(child, m, False, signal.SIGSTOP))
    writer.hear()
    writer.wait_stopped()

    def read_on(child: Any) -> int:
        reads, end = 0, time.monotonic() + 5
        while time.monotonic() < end:
            assert m[KEPT[reads % len(KEPT)]] == KEPT[reads % len(KEPT)]
            assert m.get("missing") is None
            reads += 1
        return reads

    reader = start(read_on)
    end = time.monotonic() + 5
    timeouts = 0
    while time.monotonic() < end:
        text, took = refused(shmmap.LockTimeout, lambda: m.set("other", 1))
        assert 0.9 <= took < 3 and f"{writer.pid} " in text
        timeouts += 1
    assert reader.result() > 1000 and timeouts >= 2
    writer.go_on()
    assert writer.result() is None
    m["other"] = 2
    assert m["held"] == b"new" and m["other"] == 2 and m.check() == []


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_dead_instead_of_stopped(filled, start, inside):
    m = filled(10.0)
    child = start(lambda child: hold_and_halt(child, m, inside, signal.SIGKILL))
    child.hear()
    assert os.WTERMSIG(child.reap()) == signal.SIGKILL
    assert word(m, "OWNER") != 0 and word(m, "DIRTY") == 1
    assert timed(lambda: m.set("other", 1)) < TAKEOVER_S
    assert word(m, "OWNER") == 0 and word(m, "DIRTY") == 0 and word(m, "SEQUENCE") & 1 == 0
    stats = m.stats()
    assert (stats.takeovers, stats.repairs) == (1, 1)
    assert m["held"] in (b"old", b"new") and len(m) == len(KEPT) + 2
    assert m.check() == []


def test_a_miss_repairs_what_a_dead_writer_left_in_the_flip(filled, start):
    m = filled(10.0)
    child = start(lambda child: hold_and_halt(child, m, True, signal.SIGKILL))
    child.hear()
    child.reap()
    assert m[KEPT[3]] == KEPT[3] and word(m, "DIRTY") == 1  # a hit repairs nothing
    assert timed(lambda: m.get("missing")) < TAKEOVER_S
    assert word(m, "OWNER") == 0 and m.stats().repairs == 1 and m.check() == []


def test_a_clean_shard_of_a_dead_holder_needs_no_repair(filled, start):
    m = filled(10.0)

    def hold(child: Any) -> None:
        m.get("nothing")
        me = m.attachment.worker.fork_page.word | 0x1234
        assert m.attachment.shards[0].lock.lock(me, 10**9) in (0, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    start(hold).reap()
    assert timed(lambda: m.set("other", 1)) < TAKEOVER_S
    assert m.stats().takeovers == 1 and m.stats().repairs == 0 and m.check() == []


def catch_with_the_lock(m: Any, child: Any) -> None:
    """Stop a busy writer again and again, until it holds the lock."""
    for _ in range(2000):
        child.stop()
        if word(m, "OWNER"):
            return
        child.go_on()
        time.sleep(0.0005)
    raise AssertionError("2000 stops and never with the lock")


@pytest.mark.parametrize("ending", [signal.SIGCONT, signal.SIGKILL], ids=["goes-on", "dies"])
def test_a_real_writer_caught_with_the_lock(filled, start, ending):
    m = filled(0.25, size="4MB")
    values = [bytes([i]) * 200_000 for i in range(3)]
    m["held"] = values[0]

    def write_on(child: Any) -> int:
        child.tell("ready")
        written = 0
        while True:
            m["held"] = values[written % 3]
            written += 1
            if child._pipe.poll(0):
                return written

    child = start(write_on)
    child.hear()
    catch_with_the_lock(m, child)
    for key in KEPT:
        assert timed(lambda key=key: m[key]) < 0.2
    text, _ = refused(shmmap.LockTimeout, lambda: m.set(KEPT[0], 1))
    assert f"process {child.pid} " in text and "stopped" in text
    if ending == signal.SIGKILL:
        child.kill()
        assert timed(lambda: m.set("other", 1)) < TAKEOVER_S
        assert m.stats().takeovers == 1
    else:
        child.tell("enough")
        child.go_on()
        assert child.result() > 0
        m["other"] = 1
        assert m.stats().takeovers == 0
    assert m["held"] in values and m.check() == []


def test_who_is_stopped_as_he_opens_an_ephemeral_map_holds_up_nobody(name, start):
    """Neither a forked child that uses it for the first time, nor the last to close it."""
    m = shmmap.ShmMap(name, "300KB", shards=1, ephemeral=True, lock_timeout=0.05)
    m["a"] = 1

    def open_and_halt(child: Any) -> None:
        with creation.creation_lock(name):
            child.tell("opening")
            os.kill(os.getpid(), signal.SIGSTOP)

    opener = start(open_and_halt)
    assert opener.hear() == "opening"
    opener.wait_stopped()
    assert start(lambda child: timed(lambda: m.get("a"))).result() < 5
    assert timed(m.close) < 5
    opener.go_on()
    assert opener.result() is None
    opening.finish_leaving()
    assert not [entry for entry in os.listdir("/dev/shm") if name in entry]
