"""Maps as they are made: by many at once, and by a process that dies at any step of it."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import control, making
from shmmap.memory.layout import constants
from shmmap.system import creation, segment

from ..support.leftovers import objects_of

K = constants()


def test_only_create_and_only_attach(make, name):
    with pytest.raises(shmmap.MapNotFound, match="create it first"):
        shmmap.ShmMap.attach(name)
    m = make()
    with pytest.raises(shmmap.MapExists, match="unlink it first"):
        shmmap.ShmMap.create(name, "1MB")
    with shmmap.ShmMap.attach(name) as other:
        other["a"] = 1
    assert m["a"] == 1


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
    "after NONCE", "after LAYOUT", "after BOOT_LOW", "after CHECK", "after TABLE",
    "after GEN0_BYTES", "before MAGIC",
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
            assert len(objects_of(name)) == 1 + 1 + 2 * (2 + 1), objects_of(name)
            m.unlink()
        assert objects_of(name) == []
    finally:
        for left in objects_of(name):
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
        assert len(objects_of(name)) == 1 + 1 + 2 * (2 + 1)
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


def test_a_creators_file_that_is_removed_again_and_again(name, monkeypatch):
    """Each time costs a descriptor, since to close one would drop the locks on the file."""
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(creation, "_is_current", lambda *_: False)
    with pytest.raises(shmmap.LockTimeout, match="removes it again and again"):
        shmmap.ShmMap(name, "1MB")
    assert len(os.listdir("/proc/self/fd")) - before <= 8 and objects_of(name) == []
