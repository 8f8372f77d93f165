"""Operations by chance while the new side fails in every way, threads cannot be begun, the old side
raises after it has written, and alarms ring: no read says what the old side does not, and when it
is over both sides are equal."""

from __future__ import annotations

import gc
import random
import signal
import threading
import time
from typing import Any

import pytest

from shmmap import Mirror, breaker
from shmmap.mirroring import missed, new_side
from shmmap.mirroring.operations import Place

KEYS = [f"k{number}" for number in range(6)]


class Failed(Exception):
    """Of a side."""


class Rang(Exception):
    """Of an alarm."""


class Stormy(dict[Any, Any]):
    """A side of which each call may fail before or after it is made, or take its time."""

    def __init__(self, chance: random.Random, share: float, longest_s: float) -> None:
        super().__init__()
        self.chance, self.share, self.longest_s = chance, share, longest_s
        self.is_calm = True

    def _storm(self) -> None:
        if self.is_calm:
            return
        if self.chance.random() < self.share:
            raise self.chance.choice([Failed, SystemExit, MemoryError])()
        if self.chance.random() < 0.05:
            time.sleep(self.chance.random() * self.longest_s)


def stormy(name: str) -> Any:
    """Return a method of dict's, in the storm."""
    plain = getattr(dict, name)

    def call(side: Stormy, *given: Any, **named: Any) -> Any:
        side._storm()
        try:
            return plain(side, *given, **named)
        finally:
            side._storm()

    return call


METHODS = ("__setitem__", "__getitem__", "get", "pop", "setdefault", "update", "clear",
           "__delitem__", "__contains__")
for method in METHODS:
    setattr(Stormy, method, stormy(method))


def one_step(mirror: Mirror, chance: random.Random, serial: int) -> None:
    key = chance.choice(KEYS)
    draw = chance.random()
    if draw < 0.5:
        mirror[key] = serial
    elif draw < 0.6:
        mirror.pop(key, None)
    elif draw < 0.7:
        mirror.update({key: serial, chance.choice(KEYS): serial})
    elif draw < 0.8:
        mirror.setdefault(key, serial)
    elif draw < 0.83:
        mirror.clear()
    else:
        mirror.get(key)


@pytest.mark.parametrize("seed", range(6))
def test_storm(other: Any, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(breaker, "PAUSE_S", 0.002)
    monkeypatch.setattr(breaker, "LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(new_side, "PAUSE_S", 0.0)
    monkeypatch.setattr(missed, "_LOST_S", 0.2)
    chance = random.Random(seed)
    old, new = Stormy(chance, 0.02, 0.0), Stormy(random.Random(seed + 1), 0.1, 0.01)
    mirror = Mirror(old, new, other(size="300KB"), sample=0.2, read_from="new", deadline=0.003)
    began = threading.Thread.start
    alarms = seed % 2

    def ring(*_: Any) -> None:
        raise Rang

    def start(thread: threading.Thread) -> None:
        if thread.name == "shmmap aside" and not new.is_calm and chance.random() < 0.3:
            raise RuntimeError("can't start new thread")
        began(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    before = signal.signal(signal.SIGALRM, ring)
    gc.disable()  # hypothesis has a callback there, in which an alarm would be lost
    try:
        answered = 0
        for serial in range(400):
            old.is_calm = new.is_calm = False
            try:
                if alarms:
                    signal.setitimer(signal.ITIMER_REAL, chance.random() * 0.004)
                one_step(mirror, chance, serial)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except (Failed, Rang, SystemExit, MemoryError, KeyError):
                pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            old.is_calm = True  # it is what is true; the new side goes on as it is
            key = chance.choice(KEYS)
            if chance.random() < 0.15:  # it answers again, and what was missed is brought over
                new.is_calm = True
                mirror.flush(0.5)
            answered += not mirror._mine().missed.has([Place(key)])
            assert mirror.get(key) == dict.get(old, key), (seed, serial, key)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
        old.is_calm = new.is_calm = True
    assert answered > 20  # by the new side
    assert mirror.flush(20)
    assert new.items() <= old.items()  # it is left without what could not be copied
    mirror.compare(KEYS)
    assert dict(new) == dict(old)
    assert [mirror.get(key) for key in KEYS] == [dict.get(old, key) for key in KEYS]


@pytest.mark.parametrize("seed", range(4))
def test_threads_that_write_the_same_keys(other: Any, seed: int) -> None:
    """Which of two is the later one is decided twice, once on each side. Put back and found: writes
    that do not notice each other."""
    class Slow(dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(key, value)
            if value % 3 == 0:
                time.sleep(0.0005)

    mirror = Mirror(Slow(), {}, other(size="300KB"), read_from="new", sample=0.0, deadline=5.0)

    def write(mine: int, chance: random.Random) -> None:
        for number in range(25):
            key = chance.choice(KEYS[:3])
            if chance.random() < 0.05:
                mirror.pop(key, None)
            else:
                mirror[key] = mine * 1_000 + number

    for again in range(12):
        crew = [threading.Thread(target=write, args=(mine, random.Random(f"{seed} {again} {mine}")))
                for mine in range(4)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        assert mirror.flush(20) and mirror.new == dict(mirror.old), again
    assert mirror.report().late == 0
