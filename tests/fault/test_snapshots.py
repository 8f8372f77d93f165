"""Snapshots beside real writers, some of them killed: never torn, and nothing is left over."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any

import pytest

import shmmap
from shmmap.copies import snapshots
from shmmap.memory import _hash_cy
from shmmap.memory.layout import constants

K = constants()
PURE = shmmap.ENGINE == "pure"
SECONDS = 3.0


def in_shard(m: Any, number: int, stem: str) -> str:
    """Find a key that lives in a shard."""
    for i in range(100_000):
        key = f"{stem}{i}"
        twin = _hash_cy.hash_of(key.encode(), K["KEY_STR"], m.attachment.seed)
        if twin >> (64 - (m.attachment.geometry.shards.bit_length() - 1)) == number:
            return key
    raise AssertionError("no such key")


def words_of(m: Any, field: str) -> list[int]:
    """Read a header word of every shard."""
    found = []
    for mapping in m.attachment.mappings:
        words = memoryview(mapping.buffer).cast("B").cast("Q")
        found.append(words[K[f"S_{field}"] >> 3])
        words.release()
    return found


@pytest.mark.parametrize("size", [8, 3000], ids=["short", "chained"])
def test_no_snapshot_is_torn(make, start, size):
    """A writer sets A, then B, in different shards: B <= A <= B + 1 in each snapshot."""
    m = make(size="4MB", shards=4)
    a, b = in_shard(m, 3, "a"), in_shard(m, 0, "b")
    pad = bytes(size)
    for key in (a, b):
        m[key] = (0).to_bytes(8, "little") + pad
    for i in range(500):
        m[f"other{i}"] = i

    def write(child: Any) -> int:
        i = 0
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            i += 1
            for key in (a, b):
                m[key] = i.to_bytes(8, "little") + pad
        return i

    writer = start(write)
    taken, seen = 0, set()
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        snapshot = m.snapshot()
        first, second = (int.from_bytes(snapshot[key][:8], "little") for key in (a, b))
        assert second <= first <= second + 1, (first, second)
        assert len(snapshot) == 502
        seen.add(first)
        taken += 1
    assert writer.result() > 10 and taken > 5 and len(seen) > 2
    assert m.check() == [] and words_of(m, "TRACKING") == [0] * 4


ACCOUNTS, MONEY = 12, 100


def transfer_for_ever(m: Any, number: int) -> None:
    """Move money between this worker's accounts; a journal entry says what is under way."""
    rng = random.Random(os.getpid())
    names = [f"{number}:{i}" for i in range(ACCOUNTS)]
    journal = f"journal:{number}"
    settle(m, number)
    while True:
        payer, payee = rng.sample(names, 2)
        had, has = m[payer], m[payee]
        amount = rng.randint(0, 9)
        m[journal] = f"{payer} {had - amount} {payee} {has + amount}"
        m[payer] = had - amount
        m[payee] = has + amount
        del m[journal]


def settle(m: Any, number: int) -> None:
    """Finish what a dead predecessor had begun."""
    begun = m.get(f"journal:{number}")
    if begun is not None:
        payer, had, payee, has = begun.split()
        m[payer], m[payee] = int(had), int(has)
        del m[f"journal:{number}"]


def total(entries: Any, workers: int) -> int:
    """Sum all accounts; transfers under way are resolved by their journal entry."""
    balances = {key: value for key, value in entries.items() if not key.startswith("journal")}
    for number in range(workers):
        begun = entries.get(f"journal:{number}")
        if begun is not None:
            payer, had, payee, has = begun.split()
            balances[payer], balances[payee] = int(had), int(has)
    return sum(balances.values())


def test_the_sum_of_all_accounts_stays(make, start):
    """Transfers between accounts in many shards, by workers that are killed at any moment."""
    workers = 3
    m = make(size="2MB", shards=8)
    for number in range(workers):
        for i in range(ACCOUNTS):
            m[f"{number}:{i}"] = MONEY
    rng = random.Random(1)

    def begin(number: int) -> Any:
        return start(lambda child: transfer_for_ever(m, number))

    running = [begin(number) for number in range(workers)]
    resolved = kills = taken = 0
    until = time.monotonic() + 2 * SECONDS
    while time.monotonic() < until:
        snapshot = m.snapshot()
        assert total(snapshot, workers) == workers * ACCOUNTS * MONEY
        resolved += any(key.startswith("journal") for key in snapshot)
        taken += 1
        if rng.random() < (0.3 if PURE else 0.1):
            number = rng.randrange(workers)
            os.kill(running[number].pid, signal.SIGKILL)
            running[number].reap()
            running[number] = begin(number)
            kills += 1
    for child in running:
        os.kill(child.pid, signal.SIGKILL)
        child.reap()
    assert kills > 3 and taken > 20 and resolved > 3, (kills, taken, resolved)
    assert total(m.snapshot(), workers) == workers * ACCOUNTS * MONEY
    assert m.check() == []


def test_a_dead_snapshotter_is_in_nobodys_way(make, start):
    """Killed while it takes snapshots: the next one, and writers, go on at once."""
    m = make(size="4MB", shards=4, lock_timeout=5.0)
    for i in range(3000):
        m[f"key{i}"] = i

    def take_for_ever(child: Any, number: int) -> None:
        if number % 3 == 0:  # at a certain place: the others, where they happen to be
            snapshots._catch_up = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        child.tell("ready")
        while True:
            m.snapshot()

    rng = random.Random(2)
    left = 0
    for number in range(15):
        child = start(lambda child, number=number: take_for_ever(child, number))
        assert child.hear() == "ready"
        time.sleep(rng.uniform(0.001, 0.03) if number % 3 else 0.2)
        os.kill(child.pid, signal.SIGKILL)
        child.reap()
        left += any(words_of(m, "TRACKING"))
        began = time.monotonic()
        m["key0"] = m["key0"] + 1
        if rng.random() < 0.5:
            assert len(m.snapshot()) == 3000
        else:
            m.sweep()
        assert time.monotonic() - began < 3
        assert words_of(m, "TRACKING") == [0] * 4
    assert left >= 5
    assert m["key0"] == 15 and m.check() == []


def test_a_stopped_writer_makes_it_time_out_and_blocks_nobody(make, start):
    """A lock that a stopped process holds is waited for alone, while other shards are free."""
    m = make(size="1MB", shards=2, lock_timeout=0.4)
    held, free = in_shard(m, 1, "h"), in_shard(m, 0, "f")
    m[held] = m[free] = 0

    def hold(child: Any) -> None:
        assert m[free] == 0  # joins
        shard = m.attachment.shards[1]
        shard.lock.lock(m.attachment.worker.fork_page.word | 1, 10**9)
        child.tell("held")
        child.hear()

    child = start(hold)
    assert child.hear() == "held"
    writer = start(lambda child: write_for(m, free, 0.5))
    with pytest.raises(shmmap.LockTimeout, match=f"process {child.pid}"):
        m.snapshot()
    assert writer.result() < 0.3
    os.kill(child.pid, signal.SIGKILL)
    child.reap()
    assert m.snapshot()[held] == 0
    assert words_of(m, "TRACKING") == [0, 0]


def write_for(m: Any, key: str, seconds: float) -> float:
    """Write a key again and again; return the longest time of one."""
    longest = 0.0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        m[key] = 1
        longest = max(longest, time.monotonic() - began)
    return longest


def test_threads_and_processes_take_turns(make, start):
    m = make(size="1MB", shards=4)
    for i in range(200):
        m[i] = i

    def take_some(child: Any) -> int:
        return sum(len(m.snapshot()) for _ in range(10))

    children = [start(take_some) for _ in range(3)]
    assert take_some(None) == 2000
    assert [child.result() for child in children] == [2000] * 3
    assert words_of(m, "TRACKING") == [0] * 4
