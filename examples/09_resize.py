"""A map that is too small, while its workers go on: it grows, the process that moves it is killed,
another one goes on.

    python examples/09_resize.py

It needs nothing but shmmap, and ends by itself in seconds. Three workers read and write a map
without a pause. A process of its own begins to make it four times as large, and is killed with
SIGKILL in the middle. The workers go on with the move without being asked. At last every count is
compared with what the workers counted themselves, and every entry with what it was.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from typing import Any

import shmmap

NAME = f"resize-example-{os.getpid()}"  # a service would call it by its own name
WORKERS = 3
ENTRIES = 20_000
RATE = 20_000  # entries a second, so that there is time to be killed
PATIENCE_S = 60


def value_of(number: int) -> str:
    """Return what an entry is all the time."""
    return f"value {number}"


def work(name: str, number: int, pipe: Any) -> None:
    """Count and read until told to end; tell how often, and how many reads were wrong."""
    m = shmmap.ShmMap(name)
    counted = wrong = 0
    longest = 0.0
    while not pipe.poll():
        began = time.perf_counter()
        m.incr(("count", number))
        wrong += m.get(counted % ENTRIES) != value_of(counted % ENTRIES)
        longest = max(longest, time.perf_counter() - began)
        counted += 1
    pipe.send((counted, wrong, longest))


def move(name: str, pipe: Any) -> None:
    """Make the map larger; tell how far it is."""
    m = shmmap.ShmMap(name)
    m.resize(size="16MB", shards=32, rate=RATE, progress=lambda seen: pipe.send(seen.done))


def kill_who_moves(spawn: Any, name: str) -> float:
    """Have a process begin to move the map, and kill it in the middle; return how far it was."""
    ours, theirs = spawn.Pipe()
    mover = spawn.Process(target=move, args=(name, theirs), daemon=True)
    mover.start()
    try:
        done = 0.0
        while done < 0.3:
            assert ours.poll(PATIENCE_S), "it does not move"
            done = float(ours.recv())
    finally:
        mover.kill()
        mover.join()
    return done


def main() -> int:
    """Start the workers, have the map moved, compare."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0]).parse_args()
    spawn = multiprocessing.get_context("spawn")
    m = shmmap.ShmMap(NAME, size="4MB", shards=8)
    pairs = [spawn.Pipe() for _ in range(WORKERS)]
    workers = [spawn.Process(target=work, args=(NAME, number, theirs), daemon=True)
               for number, (_, theirs) in enumerate(pairs)]
    try:
        m.set_many({number: value_of(number) for number in range(ENTRIES)})
        for worker in workers:
            worker.start()
        print(f"{WORKERS} workers use a map of {m.size:,} bytes in {m.parameters['shards']} shards")
        done = kill_who_moves(spawn, NAME)
        print(f"the process that makes it larger was killed when {done:.0%} had moved")
        if not m.resize(rate=10 * RATE, wait=False).wait(PATIENCE_S):
            raise TimeoutError("nobody goes on")
        print(f"others went on: {m.size:,} bytes in {m.parameters['shards']} shards")
        for ours, _ in pairs:
            ours.send("enough")
        told = [ours.recv() for ours, _ in pairs]
        counts = [m[("count", number)] for number in range(WORKERS)]
        wrong = sum(bad for _, bad, _ in told)
        wrong += sum(m.get(number) != value_of(number) for number in range(ENTRIES))
        is_exact = counts == [counted for counted, _, _ in told]
        print(f"{sum(counts):,} counts, {'exact' if is_exact else 'WRONG'}; {wrong} wrong reads; "
              f"the longest pause of a worker: {max(each for _, _, each in told) * 1000:.1f} ms")
        return 0 if is_exact and not wrong and m.parameters["shards"] == 32 else 1
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.kill()
                worker.join()
        m.close()
        shmmap.unlink(NAME)


if __name__ == "__main__":
    sys.exit(main())
