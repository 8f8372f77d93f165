"""Index the standard library with many processes into one shared map, and kill one of them.

    python examples/01_index_stdlib.py [--files N] [--workers N] [--no-kill] [--seed N]

First run: all workers finish. Second run: one is killed with SIGKILL at a random moment. Each
run's counts must agree exactly with those of one process that counts alone.

What is in the map:

    "word"          count over all files, and for each lane the last file added (see below)
    ("file", path)  its size in bytes
    ("lane", n)     how many files of lane n are in
    ("lease", n)    the worker that is busy with lane n; expires unless it is renewed
    ("holder", n)   the last worker that took lane n
    ("worker", n)   what worker n has put in: (files, words)

How the counts stay exact, whoever dies when. The files are dealt out to lanes, in a fixed
order, and numbered from 1 in each. A worker takes a lane and adds its files one after another,
each word by word. A word's entry holds its count and, for each lane, the number of the last
file added; adding file k is one `cas` of that entry: if it says k or more for this lane, leave
it; otherwise add to the count and write k, in one step. From this follows:

1. A step may be repeated: the second time changes nothing.
2. Nobody begins file k+1 of a lane before it has seen every word of file k to be in. So "k or
   more" always means that file k is in, and one number a lane is all that must be remembered.
3. A worker may die between any two operations on the map. Its lease expires; another worker
   takes the lane, adds the unfinished file again from its first word, and only what was missing
   is added.
4. A worker that was merely slow, and finds itself working beside its successor, does no harm:
   both take the same steps, and each step counts once. The lease saves work; the counts do not
   depend on it.

(`incr` alone could not do this: who finds a dead worker's half-added file cannot tell which
words are in. Producers that number their messages, as in Kafka, rest on the same idea.)
"""

from __future__ import annotations

import argparse
import functools
import math
import multiprocessing
import multiprocessing.connection
import os
import random
import re
import struct
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import shmmap

COUNT = struct.Struct("<q")
LAST = struct.Struct("<H")
LANES_PER_WORKER = 2
LEASE_S = 1.0
STEPS_PER_RENEWAL = 64  # far fewer than fit into a lease, even interpreted on a busy machine
KILL_TRIES = 20
PATIENCE_S = 600.0
say = functools.partial(print, flush=True)
WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class Plan(NamedTuple):
    """The files of a job, dealt out to lanes; the same in every process."""

    root: Path
    lanes: tuple[tuple[str, ...], ...]

    @property
    def total(self) -> int:
        """How many files there are."""
        return sum(map(len, self.lanes))

    @property
    def empty(self) -> bytes:
        """The entry of a word that no file has been added to."""
        return bytes(COUNT.size + LAST.size * len(self.lanes))

    def read(self, path: str) -> tuple[int, Counter[str]]:
        """Return a file's size and the counts of its words."""
        data = (self.root / path).read_bytes()
        return len(data), Counter(WORD.findall(data.decode("latin-1")))


# -- the workers ----------------------------------------------------------------------


def add_once(m: Any, plan: Plan, word: str, times: int, lane: int, number: int) -> None:
    """Add a word's occurrences in file `number` of a lane, unless that was done."""
    at = COUNT.size + LAST.size * lane
    while True:
        entry, version = m.get_versioned(word, plan.empty)
        if LAST.unpack_from(entry, at)[0] >= number:
            return
        changed = bytearray(entry)
        COUNT.pack_into(changed, 0, COUNT.unpack_from(entry)[0] + times)
        LAST.pack_into(changed, at, number)
        if m.cas(word, bytes(changed), version):
            return


def raise_to(m: Any, key: tuple[str, int], number: int) -> None:
    """Raise a number; one that is higher already stays (a late worker must not turn it back)."""
    while True:
        reached, version = m.get_versioned(key, 0)
        if reached >= number or m.cas(key, number, version):
            return


def hold(m: Any, lane: int, worker: int) -> bool:
    """Take a lane that nobody holds, or renew the lease; False: another worker has it."""
    holder, version = m.get_versioned(("lease", lane))
    return holder in (None, worker) and m.cas(("lease", lane), worker, version, ttl=LEASE_S)


def commit(
    m: Any, plan: Plan, lane: int, number: int, worker: int, size: int, counts: Mapping[str, int]
) -> bool:
    """Add one file to the map; False: the lane was lost on the way."""
    for done, (word, times) in enumerate(counts.items()):
        if done % STEPS_PER_RENEWAL == 0 and not hold(m, lane, worker):
            return False
        add_once(m, plan, word, times, lane, number)
    m["file", plan.lanes[lane][number - 1]] = size
    raise_to(m, ("lane", lane), number)  # last: it says that all the rest is in
    return True


def work_on(m: Any, plan: Plan, lane: int, worker: int, tally: list[int]) -> None:
    """Add the files of a lane that are not in yet."""
    m["holder", lane] = worker
    for number in range(m.get(("lane", lane), 0) + 1, len(plan.lanes[lane]) + 1):
        size, counts = plan.read(plan.lanes[lane][number - 1])
        if not commit(m, plan, lane, number, worker, size, counts):
            return
        tally[0] += 1
        tally[1] += sum(counts.values())
        m["worker", worker] = tuple(tally)
    m.delete(("lease", lane))


def work(m: Any, plan: Plan, worker: int) -> None:
    """Take one lane after another until all are done; the lanes of dead workers too."""
    tally = [0, 0]
    lanes = len(plan.lanes)
    order = [(LANES_PER_WORKER * worker + n) % lanes for n in range(lanes)]
    while True:
        left = [n for n in order if m.get(("lane", n), 0) < len(plan.lanes[n])]
        if not left:
            return
        taken = next((n for n in left if hold(m, n, worker)), None)
        if taken is None:
            time.sleep(0.02)  # all lanes are in hands; perhaps one of them dies
        else:
            work_on(m, plan, taken, worker, tally)


# -- the parent -----------------------------------------------------------------------


class Wound(NamedTuple):
    """What a killed worker left unfinished."""

    lane: int
    path: str
    steps_in: int
    steps: int


def find_wound(m: Any, plan: Plan, worker: int) -> Wound | None:
    """Look up how far a dead worker had come in its file; None: it was in none, or its lane has
    been taken before this could be seen."""
    for lane, paths in enumerate(plan.lanes):
        number = m.get(("lane", lane), 0) + 1
        if m.get(("lease", lane)) != worker or number > len(paths):
            continue
        path = paths[number - 1]
        words = plan.read(path)[1]
        at = COUNT.size + LAST.size * lane
        entries = (m.get(word, plan.empty) for word in words)
        steps_in = sum(LAST.unpack_from(entry, at)[0] >= number for entry in entries)
        if m.get(("lease", lane)) == worker:
            return Wound(lane, path, steps_in, len(words))
    return None


class Killer:
    """Kills one worker, when so many files are in and a little later: all three at random."""

    def __init__(self, chance: random.Random, plan: Plan) -> None:
        self._plan = plan
        self._chance = chance
        self._files = int(chance.random() * 0.7 * plan.total)
        self._delay_s = chance.random() * 0.01
        self.victim: int | None = None
        self.wound: Wound | None = None

    def consider(self, m: Any, processes: list[Any], files_in: int) -> None:
        """Kill if the moment has come."""
        alive = [n for n, process in enumerate(processes) if process.is_alive()]
        if self.victim is not None or files_in < self._files or not alive:
            return
        time.sleep(self._delay_s)
        self.victim = self._chance.choice(alive)
        processes[self.victim].kill()
        processes[self.victim].join()
        self.wound = find_wound(m, self._plan, self.victim)
        say(f"  SIGKILL to worker {self.victim} with {files_in:,} files in")

    def report(self, m: Any) -> bool:
        """Say whom it hit and who went on; tell whether that was in the middle of a file."""
        if self.wound is None:
            say("  the kill came between two files, or too late")
            return False
        lane, path, steps_in, steps = self.wound
        say(f"  it died in {path} (lane {lane}), with {steps_in:,} of {steps:,} words in; "
            f"worker {m['holder', lane]} went on from there")
        return steps_in > 0


class Result(NamedTuple):
    """What a run left in the map."""

    words: dict[str, int]
    sizes: dict[str, int]
    shares: dict[int, tuple[int, int]]
    seconds: float
    stats: shmmap.Stats


def gather(m: Any, seconds: float) -> Result:
    """Read the map."""
    stats = m.stats()  # first: reading all of it would count as operations
    words, sizes, shares = {}, {}, {}
    for key, value in m.items():
        if isinstance(key, str):
            words[key] = COUNT.unpack_from(value)[0]
        elif key[0] == "file":
            sizes[key[1]] = value
        elif key[0] == "worker":
            shares[key[1]] = value
    return Result(words, sizes, shares, seconds, stats)


def run(plan: Plan, workers: int, killer: Killer | None) -> tuple[Result, bool]:
    """Do the whole job once, in a map of its own; tell too whether a kill hit home."""
    text = sum((plan.root / path).stat().st_size for paths in plan.lanes for path in paths)
    m = shmmap.ShmMap.create(
        f"index-{os.getpid()}",
        capacity=1000 + 2 * plan.total + 25 * math.isqrt(text),  # a vocabulary grows as the root
        value_size=len(plan.empty),
        ephemeral=True,  # should this process be killed, the last worker removes the map
    )
    processes = [
        multiprocessing.Process(target=work, args=(m, plan, n), daemon=True)
        for n in range(workers)
    ]
    try:
        began = time.perf_counter()
        for process in processes:
            process.start()
        watch(m, plan, processes, killer)
        result = gather(m, time.perf_counter() - began)
        for n, process in enumerate(processes):
            if process.exitcode and not (killer and killer.victim == n):
                raise SystemExit(f"worker {n} ended by itself, with exit code {process.exitcode}")
        return result, killer is not None and killer.report(m)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            if process.pid:
                process.join()
        m.unlink()
        m.close()


def watch(m: Any, plan: Plan, processes: list[Any], killer: Killer | None) -> None:
    """Show the progress until every worker has ended."""
    began = time.monotonic()
    show, finish = progress_bar(plan.total)
    try:
        while alive := [process.sentinel for process in processes if process.is_alive()]:
            files_in = count_files(m, plan)
            show(files_in)
            if killer:
                killer.consider(m, processes, files_in)
            if time.monotonic() - began > PATIENCE_S:
                raise SystemExit(f"gave up after {PATIENCE_S:.0f} s")
            multiprocessing.connection.wait(alive, timeout=0.02)
        show(count_files(m, plan))
    finally:
        finish()


def count_files(m: Any, plan: Plan) -> int:
    """Sum up the progress of all lanes."""
    return sum(m.get(("lane", n), 0) for n in range(len(plan.lanes)))


def progress_bar(total: int) -> tuple[Callable[[int], None], Callable[[], None]]:
    """Return a function that shows how many files are in, and one that ends the bar."""
    try:
        from tqdm import tqdm
    except ImportError:  # not needed, only nicer

        shown = -1

        def show(files: int) -> None:
            nonlocal shown
            if files != shown:
                shown = files
                marks = "#" * (40 * files // total)
                sys.stderr.write(f"\r  [{marks:40}] {files:,}/{total:,} files")
                sys.stderr.flush()

        return show, lambda: print(file=sys.stderr)
    tqdm.monitor_interval = 0  # no thread: the second run forks again
    bar = tqdm(total=total, unit=" files")

    def move(files: int) -> None:
        bar.update(files - bar.n)

    return move, bar.close


# -- the report -----------------------------------------------------------------------


def agrees(result: Result, words: Mapping[str, int], sizes: Mapping[str, int]) -> bool:
    """Compare with the recount, say how they differ, and tell whether they agree."""
    found = 0
    for what, has, wanted in (("word", result.words, words), ("file", result.sizes, sizes)):
        for key in sorted(has.keys() | wanted.keys()):
            if has.get(key) != wanted.get(key):
                found += 1
                if found <= 10:
                    say(f"  DISAGREES: {what} {key!r}: the map has {has.get(key)}, "
                        f"the recount {wanted.get(key)}")
    say(f"  {found:,} disagreements" if found else
        f"  counts agree exactly with the recount: {len(words):,} words, "
        f"{sum(words.values()):,} occurrences, {len(sizes):,} files")
    return not found


def recount(plan: Plan) -> tuple[Counter[str], dict[str, int]]:
    """Do the job in this process alone, with dicts of its own."""
    began = time.perf_counter()
    words: Counter[str] = Counter()
    sizes = {}
    for path in (path for paths in plan.lanes for path in paths):
        sizes[path], counts = plan.read(path)
        words.update(counts)
    say(f"recount by one process, in its own dict: {time.perf_counter() - began:.2f} s")
    return words, sizes


def report(result: Result) -> None:
    """Print what the map holds and what it took."""
    stats, occurrences = result.stats, sum(result.words.values())
    operations = stats.hits + stats.misses + stats.writes + stats.deletes
    shards = stats.shard_entries
    top = sorted(result.words.items(), key=lambda item: (-item[1], item[0]))[:10]
    say("  top words:  " + ", ".join(f"{word} {count:,}" for word, count in top))
    say("  workers:    " + ", ".join(
        f"{worker}: {files:,} files" for worker, (files, _) in sorted(result.shares.items())))
    say(f"  throughput: {occurrences / result.seconds:,.0f} words/s, "
        f"{operations / result.seconds:,.0f} map operations/s, {result.seconds:.2f} s in all")
    say(f"  shards:     {len(shards)}, of {min(shards):,} to {max(shards):,} entries "
        f"(mean {sum(shards) / len(shards):,.0f}); {stats.lock_waits:,} waits for a lock, "
        f"{stats.takeovers} taken over from the dead")
    say(f"  memory:     {stats.allocated_bytes / 1e6:.1f} MB for {stats.live_bytes / 1e6:.1f} MB "
        f"of keys and values in {stats.entries:,} entries: {stats.amplification:.2f} times")


def make_plan(root: Path, most: int | None, lanes: int) -> Plan:
    """Deal the .py files below `root` out to lanes, the largest first."""
    skipped = {"site-packages", "dist-packages", "__pycache__"}
    sizes = {
        str(path.relative_to(root)): path.stat().st_size
        for path in root.rglob("*.py")
        if path.is_file() and not skipped.intersection(path.relative_to(root).parts)
    }
    if most is not None:  # some of every size, not only the first directory's
        chosen = random.Random(0).sample(sorted(sizes), min(most, len(sizes)))
        sizes = {path: sizes[path] for path in chosen}
    order = sorted(sizes, key=lambda path: (-sizes[path], path))
    return Plan(root, tuple(tuple(order[lane::lanes]) for lane in range(lanes)))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, help="index only so many files (default: all)")
    parser.add_argument("--workers", type=int, default=cores + 4,
                        help="worker processes, 2 or more (default: cores + 4 = %(default)s)")
    parser.add_argument("--no-kill", action="store_true", help="leave out the second run")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6),
                        help="of the kill's moment and victim (default: a new one)")
    chosen = parser.parse_args()
    if chosen.workers < 2 or (chosen.files is not None and chosen.files < 1):
        parser.error("--workers must be 2 or more, --files 1 or more")
    return chosen


def main() -> int:
    """Run, report, compare; 0: all agreed, 1: something did not, 2: no kill hit a worker."""
    chosen = arguments()
    plan = make_plan(Path(sysconfig.get_path("stdlib")), chosen.files,
                     LANES_PER_WORKER * chosen.workers)
    say(f"{plan.total:,} files of {plan.root}, {chosen.workers} workers on "
        f"{len(os.sched_getaffinity(0))} cores, {shmmap.ENGINE} engine, seed {chosen.seed}")
    words, sizes = recount(plan)
    say("run 1: nobody is killed")
    result, _ = run(plan, chosen.workers, None)
    report(result)
    if not agrees(result, words, sizes):
        return 1
    if chosen.no_kill:
        return 0
    chance = random.Random(chosen.seed)
    for attempt in range(KILL_TRIES):  # until the kill comes where it is hardest: inside a file
        say(f"run {2 + attempt}: one worker is killed")
        result, hit = run(plan, chosen.workers, Killer(chance, plan))
        if not agrees(result, words, sizes):
            return 1
        if hit:
            return 0
    say(f"no kill came in the middle of a file in {KILL_TRIES} runs: try more --files")
    return 2


if __name__ == "__main__":
    sys.exit(main())
