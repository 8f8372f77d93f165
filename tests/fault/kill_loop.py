"""Kill a worker with SIGKILL at random moments, again and again, and look at what it left.

    python tests/fault/kill_loop.py --rounds 500 --engine compiled

Each round forks a victim that sets, deletes, touches and counts in a tight loop, kills it,
and compares the map with what the victim had acknowledged. The victim writes down every
operation before it starts (intent) and after it returned (done), in memory that the parent
shares: so for each key the map must hold what was done last, or what was under way.
Survivors use the same few shards all the time and measure how long each operation takes.

Ends with a report; the exit code is 1 if anything was lost, torn, leaked or too slow.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import signal
import statistics
import sys
import time
from typing import Any

import xxhash

KEYS = 12
LIMIT_MS = {"compiled": 200.0, "pure": 1000.0}
SURVIVORS = 2
ROUND_LIMIT_S = 20.0
LENGTHS = {  # of the victims' values: long ones keep it inside the lock for most of its time
    "compiled": (0, 40, 1000, 30_000, 60_000, 120_000), "pure": (0, 40, 1000, 8_000, 20_000),
}

# words of the memory that parent, victim and survivors share
INTENT, DONE = 0, KEYS  # a word a key: operation number * 2, + 1 for a delete
COUNT_INTENT, COUNT_DONE = 2 * KEYS, 2 * KEYS + 1
OPERATIONS, STOP = 2 * KEYS + 2, 2 * KEYS + 3
LONGEST = 2 * KEYS + 4  # then, a word a survivor: its longest operation of this round, ns
TOTALS = LONGEST + SURVIVORS  # then, a word a survivor: its increments of "total"
WORDS = TOTALS + SURVIVORS


def make_fillings(lengths: tuple[int, ...]) -> list[list[bytes]]:
    """Give ready-made fillings for values: [operation % 16][which length]."""
    return [[bytes([mark]) * length for length in lengths] for mark in range(16)]


def make_value(operation: int, filling: bytes) -> bytes:
    """Give a value that shows whether it is whole: checksum, operation, filling."""
    body = operation.to_bytes(8, "little") + filling
    return xxhash.xxh3_64_digest(body) + body


def read_value(value: bytes) -> int:
    """Give the operation that wrote a value. Raises AssertionError if the value is torn."""
    body = value[8:]
    assert xxhash.xxh3_64_digest(body) == value[:8], f"torn value of {len(value)} bytes"
    operation = int.from_bytes(body[:8], "little")
    assert set(body[8:]) <= {operation % 16}, f"mixed value of operation {operation}"
    return operation


def be_victim(m: Any, words: Any, seed: float, first: int, fillings: list[list[bytes]]) -> None:
    """Change keys until the end comes."""
    rng = random.Random(seed)
    lengths = len(fillings[0])
    operation = first
    while True:
        operation += 1
        key = int(rng.random() * KEYS)
        what = rng.random()
        if what < 0.15:
            words[COUNT_INTENT] += 1
            m.incr("count")
            words[COUNT_DONE] += 1
        else:
            deletes = what < 0.35
            value = make_value(operation, fillings[operation % 16][int(rng.random() * lengths)])
            words[INTENT + key] = operation * 2 + deletes
            if deletes:
                m.delete(f"victim-{key}")
            else:
                m.set(f"victim-{key}", value, ttl=1e6 if what > 0.9 else None)
            words[DONE + key] = operation * 2 + deletes
        words[OPERATIONS] += 1


def be_survivor(m: Any, words: Any, me: int, seed: int) -> None:
    """Use the same shards until told to stop, keep the time, and check what is read."""
    rng = random.Random(seed)
    latest = [0] * KEYS
    mine: dict[str, int] = {}
    operation = 0
    while not words[STOP]:
        operation += 1
        key = f"survivor-{me}-{rng.randrange(40)}"
        looked_at = rng.randrange(KEYS)
        value = make_value(operation, bytes([operation % 16]) * (operation * 7 % 300))
        started = time.perf_counter_ns()
        m[key] = value
        took = time.perf_counter_ns() - started
        started = time.perf_counter_ns()
        found = m.get(f"victim-{looked_at}")
        took = max(took, time.perf_counter_ns() - started)
        started = time.perf_counter_ns()
        m.incr("total")
        took = max(took, time.perf_counter_ns() - started)
        words[TOTALS + me] += 1
        words[LONGEST + me] = max(words[LONGEST + me], took)
        if found is not None:
            seen = read_value(found)
            assert seen >= latest[looked_at], f"victim-{looked_at}: {seen} after {latest}"
            latest[looked_at] = seen
        mine[key] = operation
        asked = rng.choice(sorted(mine))
        assert read_value(m[asked]) == mine[asked], f"{asked} lost write {mine[asked]}"


def fork(work: Any, *arguments: Any) -> int:
    """Run a function in a child that never returns; it ends at a time limit of its own."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(900)
        work(*arguments)
        code = 0
    except BaseException as error:
        print(f"process {os.getpid()}: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(code)


def read_state(m: Any, key: int) -> int:
    """Give the operation that the map shows for a key; 0: no entry."""
    found = m.get(f"victim-{key}")
    return 0 if found is None else read_value(found)


def shown(word: int) -> int:
    """Give the operation that a map should show after the one in an intent or done word."""
    return 0 if word & 1 else word >> 1


class Loop:
    """The rounds, and what they found."""

    def __init__(
        self, m: Any, arguments: argparse.Namespace, lengths: tuple[int, ...]
    ) -> None:
        self.m = m
        self.rng = random.Random(arguments.seed)
        self.fillings = make_fillings(lengths)
        self.buffer = mmap.mmap(-1, WORDS * 8)
        self.words = memoryview(self.buffer).cast("Q")
        self.problems: list[str] = []
        self.longest_ms: list[float] = []
        self.pending = 0
        self.survivors = [
            fork(be_survivor, m, self.words, i, arguments.seed + i) for i in range(SURVIVORS)
        ]

    def run_round(self, number: int) -> None:
        """Start a victim, kill it at a random moment, and check what it leaves."""
        words = self.words
        for i in range(SURVIVORS):
            words[LONGEST + i] = 0
        before = words[OPERATIONS]
        victim = fork(be_victim, self.m, words, self.rng.random(), number << 32,
                      self.fillings)
        try:
            self.wait(lambda: words[OPERATIONS] > before + 5, "the victim does not get on")
            delay = 10 ** self.rng.uniform(-5.5, -2.5)
            end = time.perf_counter() + delay
            while time.perf_counter() < end:
                pass
        finally:
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
        self.compare(number)  # lock-free: a death before the flip shows the old value
        self.m.sweep()  # takes each lock, so what the victim left is repaired by now
        self.compare(number)  # a repair may have brought in what was under way
        self.settle()
        self.longest_ms.append(self.slowest() / 1e6)

    def slowest(self) -> int:
        """Wait until each survivor finished an operation after the death; give the longest, ns."""
        words = self.words
        marks = [words[TOTALS + i] for i in range(SURVIVORS)]
        self.wait(
            lambda: all(words[TOTALS + i] > marks[i] + 1 for i in range(SURVIVORS)),
            "the survivors do not get on",
        )
        return max(words[LONGEST + i] for i in range(SURVIVORS))

    def wait(self, ready: Any, complaint: str) -> None:
        """Wait for a condition, but not for ever; a survivor that died ends the run."""
        deadline = time.monotonic() + ROUND_LIMIT_S
        while not ready():
            if time.monotonic() > deadline:
                raise AssertionError(f"{complaint} for {ROUND_LIMIT_S:.0f} s")
            for pid in self.survivors:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self.survivors.remove(pid)
                    raise AssertionError(f"survivor {pid} ended with status {status}")
            time.sleep(0.0002)

    def compare(self, number: int) -> None:
        """Compare the map with what the dead victim had acknowledged."""
        words = self.words
        for key in range(KEYS):
            intent, done = words[INTENT + key], words[DONE + key]
            actual = read_state(self.m, key)
            if actual not in (shown(intent), shown(done)):
                self.problems.append(
                    f"round {number}: victim-{key} shows {actual:#x}; acknowledged "
                    f"{shown(done):#x}, under way {shown(intent):#x}"
                )
        count = self.m.get("count", 0)
        if not words[COUNT_DONE] <= count <= words[COUNT_INTENT]:
            self.problems.append(
                f"round {number}: count is {count}; acknowledged {words[COUNT_DONE]}, "
                f"under way {words[COUNT_INTENT]}"
            )

    def settle(self) -> None:
        """Take what the map shows now as acknowledged."""
        words = self.words
        self.pending += words[COUNT_INTENT] != words[COUNT_DONE]
        words[COUNT_DONE] = words[COUNT_INTENT] = self.m.get("count", 0)
        for key in range(KEYS):
            self.pending += words[INTENT + key] != words[DONE + key]
            words[DONE + key] = words[INTENT + key] = read_state(self.m, key) << 1 or 1

    def finish(self) -> None:
        """Stop the survivors and check the whole map."""
        self.words[STOP] = 1
        deadline = time.monotonic() + ROUND_LIMIT_S
        for pid in self.survivors:
            ended, status = 0, 0
            while not ended and time.monotonic() < deadline:
                ended, status = os.waitpid(pid, os.WNOHANG)
                time.sleep(0.002)
            if not ended:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            if status or not ended:
                self.problems.append(f"survivor {pid} ended with status {status} ({ended=})")
        total = sum(self.words[TOTALS + i] for i in range(SURVIVORS))
        if self.m.get("total", 0) != total:
            self.problems.append(f"total is {self.m.get('total')}, acknowledged {total}")
        self.problems += self.m.check()


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all rounds; give the report."""
    import shmmap

    assert arguments.engine in (None, shmmap.ENGINE), shmmap.ENGINE
    name = f"{arguments.prefix}-kill-{os.getpid()}"
    m = shmmap.ShmMap.create(name, arguments.size, shards=arguments.shards, lock_timeout=10.0,
                             sweep_interval=None)
    for i in range(arguments.fill):
        m[f"fill-{i}"] = bytes(100)
    loop = Loop(m, arguments, LENGTHS[shmmap.ENGINE])
    started = time.monotonic()
    try:
        for number in range(1, arguments.rounds + 1):
            loop.run_round(number)
    except AssertionError as error:
        loop.problems.append(str(error))
    finally:
        loop.finish()
        stats = m.stats()
        m.unlink()
        m.close()
    left = [entry for entry in os.listdir("/dev/shm") if name in entry]
    loop.problems += [f"left in /dev/shm: {left}"] if left else []
    return {
        "engine": shmmap.ENGINE, "rounds": len(loop.longest_ms), "seed": arguments.seed,
        "size": arguments.size, "shards": arguments.shards, "fill": arguments.fill,
        "seconds": round(time.monotonic() - started, 1),
        "operations_by_victims": loop.words[OPERATIONS],
        "operations_by_survivors": sum(loop.words[TOTALS + i] for i in range(SURVIVORS)) * 4,
        "killed_in_an_operation": loop.pending,
        "takeovers": stats.takeovers, "repairs": stats.repairs,
        "median_of_longest_ms": round(statistics.median(loop.longest_ms or [0]), 3),
        "longest_ms": round(max(loop.longest_ms, default=0), 3),
        "limit_ms": LIMIT_MS[shmmap.ENGINE],
        "problems": loop.problems,
    }


def main() -> int:
    """Read the options, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--engine", choices=("compiled", "pure"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", default="8MB")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--fill", type=int, default=0, help="entries that lie there all along")
    parser.add_argument("--prefix", default=f"t{os.getpid()}", help="of the map's name")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.engine:
        os.environ["SHMMAP_ENGINE"] = arguments.engine
    report = run(arguments)
    if report["longest_ms"] > report["limit_ms"]:
        report["problems"].append(
            f"a survivor waited {report['longest_ms']} ms, more than {report['limit_ms']}"
        )
    if arguments.json:
        print(json.dumps(report))
    else:
        for field, value in report.items():
            print(f"{field:24} {value}")
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
