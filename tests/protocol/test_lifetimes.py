"""Creation, unlinking, ephemeral maps, the sweeper's lease, and a full worker table."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import control, making, opening
from shmmap.memory.layout import constants
from shmmap.system import creation, segment, worker_table

K = constants()


def objects(name: str) -> list[str]:
    """List a map's objects in /dev/shm."""
    return sorted(e for e in os.listdir("/dev/shm") if f"shmmap.{name}" in e.split("sem.")[-1])


def forget_everything() -> None:
    """In a child: open everything anew, as an unrelated process would."""
    opening._attachments.clear()


# -- unlink ----------------------------------------------------------------------------


def test_unlink_reaches_every_process(make, name, start):
    m = make(shards=2)
    m["a"] = 1

    def work(child: Any) -> list[str]:
        assert m["a"] == 1
        child.tell("ready")
        child.hear()
        found = []
        for operation in (
            lambda: m["a"], lambda: m.set("a", 1), lambda: len(m), lambda: list(m),
            m.check, m.sweep, m.clear, lambda: m.ttl("a"),
        ):
            try:
                operation()
                found.append("worked on")
            except shmmap.ShmMapError as error:
                found.append(type(error).__name__)
        m.close()
        return found

    child = start(work)
    child.hear()
    m.unlink()
    assert objects(name) == []
    child.tell("unlinked")
    assert child.result() == ["MapUnlinked"] * 8
    with pytest.raises(shmmap.MapUnlinked, match="open it again"):
        m["a"]
    m.unlink()  # again: nothing to do
    with shmmap.ShmMap.create(name, "1MB") as successor:
        assert "a" not in successor
        m.unlink()  # nor anything of a successor's
        successor["a"] = 2
        m.close()
        assert successor["a"] == 2
        successor.unlink()


def test_only_create_and_only_attach(make, name):
    with pytest.raises(shmmap.MapNotFound, match="create it first"):
        shmmap.ShmMap.attach(name)
    m = make()
    with pytest.raises(shmmap.MapExists, match="unlink it first"):
        shmmap.ShmMap.create(name, "1MB")
    with shmmap.ShmMap.attach(name) as other:
        other["a"] = 1
    assert m["a"] == 1


# -- ephemeral -------------------------------------------------------------------------


def test_the_last_to_leave_unlinks_an_ephemeral_map(name, start):
    m = shmmap.ShmMap.create(name, "1MB", ephemeral=True)
    m["a"] = 1

    def work(child: Any) -> Any:
        seen = m["a"]
        child.tell("attached")
        child.hear()
        m.close()
        return seen

    child = start(work)
    child.hear()
    m.close()
    assert objects(name) != []
    child.tell("leave")
    assert child.result() == 1
    assert objects(name) == []


def test_an_ephemeral_map_is_one_map_within_its_process(name):
    """Opening it again must find the process's own row alive."""
    with shmmap.ShmMap.create(name, "1MB", ephemeral=True) as m:
        m["a"] = 1
        with shmmap.ShmMap(name) as again:
            assert again.get("a") == 1 and again.attachment is m.attachment
        with shmmap.ShmMap.attach(name) as third:
            third["b"] = 2
        assert m["b"] == 2
    assert objects(name) == []


def test_the_map_of_a_killed_last_worker_is_replaced(name, start):
    def work(child: Any) -> None:
        m = shmmap.ShmMap.create(name, "1MB", ephemeral=True, shards=2)
        m["a"] = 1
        child.tell("made")
        signal.pause()

    child = start(work)
    child.hear()
    with shmmap.ShmMap(name) as m:
        assert m["a"] == 1  # its maker lives: attached
    child.kill()
    assert objects(name) != []
    with pytest.raises(shmmap.MapNotFound):
        shmmap.ShmMap.attach(name)
    with shmmap.ShmMap(name, "2MB", ephemeral=True) as fresh:
        assert "a" not in fresh and fresh.check() == []
    assert objects(name) == []


# -- creation --------------------------------------------------------------------------


def die_in_creation(name: str, step: str) -> None:
    """In a child: make a map and die at a step of it."""
    def die(*arguments: Any, **named: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    real_create, real_set, real_copy = segment.create, control.Control.__setitem__, making._copy
    created = 0

    def create(*arguments: Any) -> Any:
        nonlocal created
        created += 1
        if step == f"before segment {created}":
            die()
        made = real_create(*arguments)
        if step == f"after segment {created}":
            die()
        return made

    def set_word(control: Any, word: Any, value: int) -> None:
        if step == f"before {word.name}":
            die()
        real_set(control, word, value)
        if step == f"after {word.name}":
            die()

    def copy(words: memoryview, draft: memoryview, turn: Any) -> None:
        """Die with the control segment's words up to one of them, or without that one."""
        when, _, field = step.partition(" ")
        is_control = len(draft) == K["C_BYTES_TOTAL"] >> 3
        if is_control and f"C_{field}" in K and field != "STATE":
            at = K[f"C_{field}"] >> 3
            words[: at + 1] = draft[: at + 1]
            if when == "before":
                words[:] = memoryview(draft.tobytes().ljust(words.nbytes, b"\0")).cast("Q")
                words[at] = 0
            die()
        real_copy(words, draft, turn)

    segment.create = create
    making._copy = copy
    control.Control.__setitem__ = set_word  # type: ignore[method-assign]
    if step == "before its size":
        os.ftruncate = die  # type: ignore[assignment]
    if step == "before its pages":
        os.posix_fallocate = die  # type: ignore[assignment]
    if step == "after the publication":
        publish = segment.publish
        segment.publish = lambda *names: publish(*names) and die()
    if step == "before a semaphore":
        segment.create_semaphore = die
    shmmap.ShmMap.create(name, "1MB", shards=4)


@pytest.mark.parametrize("step", [
    "before segment 1", "before its size", "before its pages", "after segment 1",
    "after NONCE", "after LAYOUT", "after BOOT_LOW", "after GEN0_BYTES", "before MAGIC",
    "after MAGIC", "after segment 2", "after segment 3", "before a semaphore",
    "after segment 5", "after segment 6", "before STATE", "after STATE",
])
def test_a_half_made_map_is_replaced(name, start, step):
    child = start(lambda child: die_in_creation(name, step))
    assert os.WIFSIGNALED(child.reap()), "it did not die there"
    try:
        with pytest.raises(shmmap.MapNotFound):
            shmmap.ShmMap.attach(name)
        with shmmap.ShmMap(name, "1MB", shards=2) as m:
            m["a"] = 1
            assert m.check() == []
            assert len(objects(name)) == 1 + 1 + 2 * (2 + 1), objects(name)
            m.unlink()
        assert objects(name) == []
    finally:
        for left in objects(name):
            os.unlink(f"/dev/shm/{left}")


def test_death_after_the_publication_leaves_a_map(name, start):
    child = start(lambda child: die_in_creation(name, "after the publication"))
    assert os.WIFSIGNALED(child.reap())
    with shmmap.ShmMap.attach(name) as m:
        m["a"] = 1
        assert m.check() == []
        m.unlink()


def test_many_creators_of_one_name(name, start):
    for _ in range(4):
        def work(child: Any) -> tuple[int, int]:
            child.tell("ready")
            child.hear()
            m = shmmap.ShmMap(name, "1MB", shards=2, sweep_interval=None)
            m.incr("openers")
            child.tell("open")
            child.hear()
            return m.attachment.nonce, m["openers"]

        children = [start(work) for _ in range(8)]
        for order in ("make", "end"):
            for child in children:
                child.hear()
            for child in children:
                child.tell(order)
        results = [child.result() for child in children]
        for child in children:
            child.reap()
        assert len({nonce for nonce, _ in results}) == 1, results
        assert {openers for _, openers in results} == {8}
        assert len(objects(name)) == 1 + 1 + 2 * (2 + 1)
        with shmmap.ShmMap.attach(name) as m:
            m.unlink()


def test_exactly_one_create_succeeds(name, start):
    def work(child: Any) -> str:
        child.tell("ready")
        child.hear()
        try:
            shmmap.ShmMap.create(name, "1MB", shards=2)
            return "made"
        except shmmap.MapExists:
            return "exists"

    children = [start(work) for _ in range(6)]
    for child in children:
        child.hear()
    for child in children:
        child.tell("go")
    assert sorted(child.result() for child in children) == ["exists"] * 5 + ["made"]


def test_opening_and_unlinking_in_a_crowd(name, start):
    """Whoever opens while others unlink gets a whole map or a documented error."""
    def work(child: Any) -> list[str]:
        strange = []
        for i in range(25):
            try:
                with shmmap.ShmMap(name, "256KB", shards=1, sweep_interval=None) as m:
                    m["a"] = i
                    if i % 3 == 0:
                        m.unlink()
            except shmmap.MapUnlinked:
                pass
            except Exception as error:
                strange.append(f"{type(error).__name__}: {error}")
        return strange

    children = [start(work) for _ in range(4)]
    assert [child.result() for child in children] == [[]] * 4


# -- the worker table --------------------------------------------------------------------


def test_a_full_worker_table(make, name, start):
    m = make(shards=2)

    def take_all_rows(child: Any) -> None:
        path = segment.SHM_DIRECTORY + segment.liveness_name(name, m.attachment.nonce)
        descriptor = os.open(path, os.O_RDWR)
        fcntl.lockf(descriptor, fcntl.LOCK_EX, m.attachment.control.ROWS - 1,
                    worker_table.row_byte(1))
        child.tell("taken")
        child.hear()

    def attach_anew(child: Any) -> str:
        forget_everything()
        try:
            shmmap.ShmMap.attach(name)
        except shmmap.WorkersFull as error:
            fds = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                   if os.path.exists(f"/proc/self/fd/{fd}")]
            inherited = 1  # the parent's, through the fork
            assert sum(name in fd for fd in fds) == inherited, fds
            return str(error)
        return "attached"

    def use_inherited(child: Any) -> str:
        for _ in range(2):
            with pytest.raises(shmmap.WorkersFull):
                m["a"] = 1
        child.tell("full")
        child.hear()
        m["a"] = 1
        return "wrote"

    holder = start(take_all_rows)
    holder.hear()
    text = start(attach_anew).result()
    assert repr(name) in text and str(m.attachment.control.ROWS) in text and "close()" in text
    late = start(use_inherited)
    assert late.hear() == "full"
    m["b"] = 1  # those that have a row go on
    holder.tell("enough")
    holder.result()
    holder.reap()
    late.tell("room")
    assert late.result() == "wrote" and m["a"] == 1


def test_rows_of_the_dead_are_used_again(make, start):
    m = make(shards=2)
    rows = set()
    for _ in range(6):
        child = start(lambda child: (m.incr("n"), m.attachment.worker.row)[1])
        rows.add(child.result())
        child.reap()
    assert len(rows) == 1 and m["n"] == 6
    assert m.stats().writes == 6, "the counters of the dead are lost"


# -- the sweeper ---------------------------------------------------------------------------


def lease(m: Any) -> int:
    """Read the token of the elected sweeper."""
    return int(m.attachment.control.LEASE)


def take_lease(m: Any) -> bool:
    """Become the sweeper and stay it."""
    m.get("become a worker")
    return bool(m.attachment.sweeper._take_lease(m.attachment.clock.now_ns()))


def wait_until(ready: Any, patience_s: float = 10.0) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + patience_s
    while not ready():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def test_the_sweeper_starts_after_a_fork(make, start):
    m = make(shards=2, sweep_interval=0.05)
    m["a"] = 1  # no ttl: the parent needs no sweeper

    def work(child: Any) -> int:
        now = m.attachment.clock.now_ns()
        m.attachment.clock.frozen_ns = now
        m.set("short", 1, ttl=10)
        m.attachment.clock.frozen_ns = now + int(20e9)
        words = memoryview(m.attachment.control.mapping.buffer).cast("B").cast("Q")

        def swept() -> bool:
            words[K["C_SWEPT_NS"] >> 3] = 0  # due, also after one that was under way just now
            return bool(m.stats().expired == 1)

        wait_until(swept)
        return m.stats().expired

    assert start(work).result() == 1
    assert m["a"] == 1 and m.check() == []


def test_a_lease_is_lost_at_death(make, start):
    m = make(shards=2, sweep_interval=1000)

    def work(child: Any) -> None:
        assert take_lease(m)
        child.tell("elected")
        signal.pause()

    child = start(work)
    child.hear()
    assert lease(m) != 0 and m.sweep_if_due() is None
    child.kill()
    report = m.sweep_if_due()
    assert report is not None and report.dead_workers == 1 and lease(m) == 0
    assert m.sweep_if_due() is None  # not due again


def test_a_stopped_sweeper_loses_its_lease_after_three_intervals(make, start):
    m = make(shards=2, sweep_interval=1000)

    def work(child: Any) -> Any:
        assert take_lease(m)
        child.tell("elected")
        os.kill(os.getpid(), signal.SIGSTOP)
        return m.attachment.sweeper.sweep(m).seconds  # goes on all the same: harmless

    child = start(work)
    child.hear()
    child.wait_stopped()
    now = m.attachment.clock.now_ns()
    try:
        for intervals, swept in ((0.5, False), (2.9, False), (3.1, True)):
            m.attachment.clock.frozen_ns = now + int(intervals * 1000e9)
            assert (m.sweep_if_due() is not None) is swept, intervals
    finally:
        m.attachment.clock.frozen_ns = -1
    child.go_on()
    assert child.result() >= 0
    assert m.check() == [] and lease(m) == 0


def test_a_process_that_is_stopped_as_it_chooses_the_sweeper_stops_no_sweeping(make, start):
    m = make(shards=2, sweep_interval=1000)

    def work(child: Any) -> Any:
        m.get("a")
        assert m.attachment.worker.try_lease()
        child.tell("choosing")
        os.kill(os.getpid(), signal.SIGSTOP)
        m.attachment.worker.end_lease()

    child = start(work)
    child.hear()
    child.wait_stopped()
    now = m.attachment.clock.now_ns()
    try:
        for intervals, swept in ((2.9, False), (3.1, True), (4.2, False), (6.3, True)):
            m.attachment.clock.frozen_ns = now + int(intervals * 1000e9)
            assert (m.sweep_if_due() is not None) is swept, intervals
    finally:
        m.attachment.clock.frozen_ns = -1
    child.go_on()
    assert child.result() is None
    assert m.check() == [] and lease(m) == 0


def test_two_sweepers_at_once_are_harmless(make, start):
    m = make(shards=2)
    now = m.attachment.clock.now_ns()
    m.attachment.clock.frozen_ns = now
    for i in range(500):
        m.set(i, i, ttl=5 if i % 2 else 5000)
    children = []

    def work(child: Any) -> int:
        m.attachment.clock.frozen_ns = now + int(10e9)
        child.tell("ready")
        child.hear()
        m.sweep()
        return len(m)

    children = [start(work) for _ in range(3)]
    for child in children:
        child.hear()
    for child in children:
        child.tell("go")
    assert [child.result() for child in children] == [250] * 3
    assert m.stats().expired == 250 and m.check() == []
    m.attachment.clock.frozen_ns = -1


def test_a_creators_file_that_is_removed_again_and_again(name, monkeypatch):
    """Each time costs a descriptor, since to close one would drop the locks on the file."""
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(creation, "_is_current", lambda *_: False)
    with pytest.raises(shmmap.LockTimeout, match="removes it again and again"):
        shmmap.ShmMap(name, "1MB")
    assert len(os.listdir("/proc/self/fd")) - before <= 8 and objects(name) == []
