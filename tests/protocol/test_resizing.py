"""A map on its way to another shape, at every moment of it: what is there is found, once, by who
opened it before and by who comes now; the mover dies there, or is stopped and comes back.

The moments are those before and after each step of `moving.group`, in a process of its own.
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import shmmap
from shmmap.memory.table import read_table
from shmmap.moving import group, mover, segments, watch

SHM = "/dev/shm"
STEPS = (
    (segments.Segments, "make"), (group, "track_moved"), (group, "copy_moved"),
    (group, "carry_copied"), (group, "follow_shard"), (group, "cut_group"),
    (segments.Segments, "punch"), (segments.Segments, "publish"), (group, "exchange_word"),
    (segments.Segments, "remove"),
)
WAYS = {
    "split": ({"shards": 2}, {"shards": 4}),
    "join": ({"shards": 4}, {"shards": 1}),
    "other slots": ({"shards": 2}, {"value_size": 500, "size": "2MB"}),
    "shrink, evict": ({"shards": 4, "on_full": "evict"}, {"shards": 2, "size": "900KB"}),
}


@contextmanager
def paused(pause: Callable[[str], None]) -> Iterator[None]:
    """Have `pause` called before and after each step."""
    kept = [(owner, name, getattr(owner, name)) for owner, name in STEPS]
    kept.append((group, "PATIENT", group.PATIENT))
    group.CHUNK, chunk, group.PATIENT = 2000, group.CHUNK, 1 << 60

    def wrapped(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            pause(f"before {name}")
            result = step(*arguments)
            pause(f"after {name}")
            return result

        return call

    for owner, name in STEPS:
        setattr(owner, name, wrapped(name, getattr(owner, name)))
    try:
        yield
    finally:
        group.CHUNK = chunk
        for owner, name, step in kept:
            setattr(owner, name, step)


def key_of(number: int) -> Any:
    return (number, f"key-{number}", ("t", number), f"long-{number}-" + "x" * 300)[number % 4]


def fill(m: Any, count: int = 120) -> dict[Any, Any]:
    """Write entries: ints, and values over several slots; some with a ttl."""
    held = {}
    for number in range(count):
        value: Any = number if number % 3 else bytes([number % 251]) * (number * 7)
        m.set(key_of(number), value, ttl=None if number % 5 else 600)
        held[key_of(number)] = value
    return held


def verify(m: Any, held: dict[Any, Any], *, snapshot: bool = True) -> None:
    """Compare a map with what it has to have, in every way there is to look."""
    wrong = [key for key, value in held.items() if m.get(key, "gone") != value]
    assert not wrong, f"{len(wrong)} of {len(held)} wrong: {wrong[:3]}"
    assert "never" not in m and m.get("never") is None
    assert len(m) == len(held) and bool(m) == bool(held)
    listed = list(m)
    assert len(listed) == len(held) and set(listed) == set(held)
    cursor, scanned = 0, []
    while True:
        cursor, part = m.scan(cursor)
        scanned += part
        if not cursor:
            break
    assert len(scanned) == len(held) and dict(scanned) == held
    assert not snapshot or dict(m.snapshot()) == held
    assert dict(m) == held
    assert m.check() == []


def change(m: Any, held: dict[Any, Any], rng: random.Random) -> None:
    """Write in every way that there is, and note it."""
    for _ in range(3):
        key = key_of(rng.randrange(150))
        value = rng.randbytes(rng.choice((0, 5, 300)))
        match rng.randrange(8):
            case 0:
                assert m.delete(key) == (held.pop(key, None) is not None)
            case 1:
                assert m.add(key, value) == (key not in held)
                held.setdefault(key, value)
            case 2:
                assert m.pop(key, None) == held.pop(key, None)
            case 3:
                found, version = m.get_versioned(key)
                assert found == held.get(key)
                assert m.cas(key, value, version)
                assert not m.cas(key, b"late", version)
                held[key] = value
            case 4:
                assert m.touch(key, 500) == (key in held)
            case 5:
                held["count"] = held.get("count", 0) + 1
                assert m.incr("count") == held["count"]
            case 6 if held:
                key, value = m.popitem()
                assert held.pop(key) == value
            case _:
                m.set(key, value, ttl=rng.choice((None, 700)))
                held[key] = value


def files_of(m: Any) -> list[str]:
    return sorted(entry for entry in os.listdir(SHM)
                  if re.search(rf"shmmap\.{re.escape(m.name)}[.@]", entry))


def assert_nothing_is_left(m: Any) -> None:
    """Only the files of one generation are there."""
    nonce = f"{m.attachment.nonce:016x}"
    shards = m.attachment.geometry.shards
    parts = [entry for entry in files_of(m) if nonce in entry]
    generations = {entry.split(".")[-2] for entry in parts if entry.split(".")[-1].isdigit()}
    assert len(generations) == 1, parts
    assert len(parts) == 2 * shards + 3, parts  # segments, semaphores; locks with its one; live


def settled(m: Any) -> bool:
    return not read_table(m.attachment.control).is_moving


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, make: Callable[..., Any]) -> tuple[Any, dict[str, Any]]:
    """A map, and what to ask of it."""
    before, wished = WAYS[request.param]
    return make(**before), wished


def count_moments(name: str, wished: dict[str, Any], child: Any) -> int:
    moments = 0

    def note(label: str) -> None:
        nonlocal moments
        moments += 1

    with shmmap.ShmMap.attach(name, sweep_interval=None) as m, paused(note):
        m.resize(**wished)
    return moments


def at_moment(number: int, act: Callable[[], None]) -> Callable[[str], None]:
    """Return what does something at that moment, of all, the first of which is 0."""
    left = number

    def pause(label: str) -> None:
        nonlocal left
        if left == 0:
            act()
        left -= 1

    return pause


def start_mover(start: Any, name: str, wished: dict[str, Any], moment: int, sent: int) -> Any:
    """Start a process that resizes the map, and sends itself a signal at that moment."""
    def move(child: Any) -> str:
        pause = at_moment(moment, lambda: os.kill(os.getpid(), sent))
        with shmmap.ShmMap.attach(name) as own, paused(pause):
            own.resize(**wished)
        return "done"

    return start(move)


def test_every_moment(way, start):
    """Who opened the map before, and who comes at that moment, find and change what is there."""
    m, wished = way
    held, rng = fill(m), random.Random(7)
    near = shmmap.ShmMap.attach(m.name, near=200)

    def move(child: Any) -> list[str]:
        labels = []

        def pause(label: str) -> None:
            labels.append(label)
            child.tell(label)
            child.hear()

        with shmmap.ShmMap.attach(m.name) as own, paused(pause):
            child.hear()
            own.resize(**wished)
        child.tell("done")
        return labels

    def come(child: Any) -> None:
        with shmmap.ShmMap.attach(m.name) as newcomer:
            verify(newcomer, held, snapshot=False)

    moving, moments = start(move), 0
    moving.tell("go")
    with near:
        while moving.hear() != "done":
            moments += 1
            if moments % 4 == 0:  # a snapshot ends the mover's tracking: it begins again
                verify(m, held, snapshot=moments in (12, 20, 28))
            if moments % 9 == 0:
                start(come).end()
            change(m, held, rng)
            for key in rng.sample(list(held), min(20, len(held))):
                assert near.get(key) == held[key]
            moving.tell("go")
        labels = moving.result()
        assert {name for _, name in STEPS} == {label.split()[1] for label in labels}
        verify(m, held)
        verify(near, held)
        assert settled(m) and m.attachment.geometry.shards == wished.get("shards", 2)
        assert_nothing_is_left(m)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody moves in the background, here or in a child: the mover makes all of its steps."""
    monkeypatch.setattr(watch, "look_after", lambda _: None)


def test_a_death_at_every_moment(alone, way, start, name):
    """The mover dies there: whoever goes on finds everything, and leaves nothing."""
    m, wished = way
    held = fill(m)
    back = {"shards": len(m.attachment.distinct()), "size": "1MB",
            "value_size": m.attachment.parameters.value_size or 100}
    moments = start(lambda child: count_moments(name, wished, child)).end()
    for fatal in range(0, moments, 1 if shmmap.ENGINE == "compiled" else 3):
        m.resize(**back)
        verify(m, held)

        child = start_mover(start, name, wished, fatal, signal.SIGKILL)
        child.reap()
        assert os.WIFSIGNALED(child.status), fatal
        verify(m, held)
        m.set("late", fatal)
        held["late"] = fatal
        m.resize(**wished)
        verify(m, held)
        assert settled(m), fatal
        assert_nothing_is_left(m)


def test_a_stop_at_every_moment(alone, way, start, name, monkeypatch):
    """The mover is stopped there; another one goes on; then it comes back, and does no harm."""
    m, wished = way
    held = fill(m)
    back = {"shards": len(m.attachment.distinct()), "size": "1MB",
            "value_size": m.attachment.parameters.value_size or 100}
    moments = start(lambda child: count_moments(name, wished, child)).end()
    monkeypatch.setattr(mover, "STALE_NS", 1_000_000)
    monkeypatch.setattr(group, "YIELD_S", 0.01)
    for stop in range(0, moments, 1 if shmmap.ENGINE == "compiled" else 3):
        m.resize(**back)

        child = start_mover(start, name, wished, stop, signal.SIGSTOP)
        child.wait_stopped()
        verify(m, held)
        m.set("late", stop)
        held["late"] = stop
        m.resize(**wished)
        verify(m, held)
        child.go_on()
        assert child.end() == "done"
        verify(m, held)
        assert settled(m), stop
        m.resize()
        assert_nothing_is_left(m)


def test_cancelled_at_every_moment(way):
    """Taken back there: the map has the shape that it had, and all that it held."""
    m, wished = way
    held = fill(m)
    before = m.attachment.geometry
    moments = 0

    class Enough(Exception):
        pass

    def stop() -> None:
        raise Enough

    at = 0
    while True:
        try:
            with paused(at_moment(at, stop)):
                m.resize(**wished)
        except Enough:
            moments += 1
        else:
            break
        verify(m, held)
        resize = m.resize(wait=False) if at % 2 else None
        (resize or shmmap.ShmMap.attach(m.name).resize()).cancel()
        verify(m, held)
        assert settled(m)
        if m.attachment.geometry != before:  # it was over
            m.resize(shards=before.shards, size="1MB", on_full=m.attachment.parameters.on_full,
                     value_size=m.attachment.parameters.value_size or 100)
            before = m.attachment.geometry
        at += 1 if shmmap.ENGINE == "compiled" else 4
    assert moments > 5
    assert_nothing_is_left(m)


def test_a_listing_over_a_whole_move(make):
    """A listing that is under way as its shards move has each key once."""
    m = make(size="4MB", shards=8)
    held = fill(m, 400)
    for wished in ({"shards": 64}, {"shards": 2}, {"shards": 16, "value_size": 400}):
        rows = iter(m.items())
        listed = [next(rows) for _ in range(30)]
        m.resize(**wished)
        listed += [next(rows) for _ in range(30)]
        m.resize(shards=8, value_size=100)
        listed += list(rows)
        assert len(listed) == len(held) and dict(listed) == held


def test_a_progress_that_raises_leaves_it_half_way(make):
    m = make(size="4MB", shards=4)
    held = fill(m, 400)
    seen = []

    def raise_late(progress: Any) -> None:
        seen.append(progress)
        if progress.done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        m.resize(shards=64, rate=3000, progress=raise_late)
    assert 0 < seen[-1].done < 1
    verify(m, held)
    m.resize(progress=seen.append)
    assert seen[-1].is_over and seen[-1].done == 1.0 and m.attachment.geometry.shards == 64
    verify(m, held)
    assert_nothing_is_left(m)


def test_in_the_background_and_after_the_process_that_asked(make, start, name):
    """With wait=False another process that uses the map goes on once the first one has ended: also
    where nothing had moved by then."""
    m = make(size="4MB", shards=4, sweep_interval=0.2)
    held = fill(m, 400)

    def ask(child: Any) -> float:
        with shmmap.ShmMap.attach(name) as own:
            return own.resize(shards=64, wait=False, rate=2000).progress().done

    assert start(ask).end() < 1
    verify(m, held)  # finds that it moves
    until = time.monotonic() + 30
    while not settled(m):
        assert time.monotonic() < until
        m.set(key_of(1), held[key_of(1)])
        time.sleep(0.05)
    verify(m, held)
    assert m.attachment.geometry.shards == 64


def test_two_shapes_at_once(make):
    """A second wish is taken while the first is under way."""
    m = make(size="4MB", shards=4)
    held = fill(m, 400)
    first = m.resize(shards=64, wait=False, rate=1000)
    second = m.resize(shards=2)
    assert second.progress().is_over and m.attachment.geometry.shards == 2
    assert first.wait(1)
    verify(m, held)
    assert_nothing_is_left(m)


def test_unlinked_on_its_way(make):
    m = make(size="4MB", shards=4)
    fill(m, 400)
    m.resize(shards=64, wait=False, rate=500)
    m.unlink()
    until = time.monotonic() + 20  # a mover that is just making segments removes them itself
    while files_of(m):
        assert time.monotonic() < until, files_of(m)
        time.sleep(0.01)
    with pytest.raises(shmmap.MapUnlinked):
        m.attachment.refuse_lost()
    m.close()
    time.sleep(0.3)
    assert files_of(m) == []


def test_old_memory_is_let_go(make):
    """However often a map is resized, a process maps one generation, or two."""
    m = make(size="1MB", shards=8)
    held = fill(m)
    for shards in (16, 8, 32, 4, 8) * 3:
        m.resize(shards=shards)
        verify(m, held)
        until = time.monotonic() + 20  # whoever looks after it may just be in the middle
        while (mapped := len(m.attachment.places.all())) > 1 + shards and time.monotonic() < until:
            time.sleep(0.01)
        assert mapped <= 1 + shards
    with open("/proc/self/maps") as maps:
        mine = [line for line in maps if f"{m.attachment.nonce:016x}" in line]
    assert len([line for line in mine if "sem." not in line]) <= 8 + 3
