"""Cross-reference the standard library with several processes; each result is computed once.

    python examples/01_index_stdlib.py [--only PACKAGE] [--workers N] [--seed N]

For each module: where is every imported name that it uses defined, and which modules does it need
to run? That takes the indexes of many other modules. An index is expensive, since a source is
parsed for it, and every worker needs those of os, re and their like. Which ones are needed turns up
on the way.

The work is done by one process with a dict (the truth that all others are compared with), with a
shared map, with a shared map while one worker is killed, with a cache in each process, with
`Manager().dict()`, and with redis where it is installed. The table at the end has the time, the
memory, and how many indexes were computed again, though they had been computed before.

What is in the map:

    (module, "<index>")   what other modules need first: lines, imports
    (module, name)        of each name that the module defines: line, signature, docstring
    (module, "<uses>")    the imported names that the module uses
    (module, "<report>")  the result
    "taken"               how many modules workers have taken

How the reports stay exact, whoever dies when:

1. `get_or_set` lets one worker compute a result, and the others that need it wait. If that worker
   is killed, the next one computes at once: it waits for no timeout.
2. A result is in the map whole or not at all. The names of a module are put in before its index,
   so an index says that all its names are there. A worker that repeats a dead one's steps writes
   the same again.
3. A worker takes a module by `incr`, so no two take the same. A module that a dead worker had taken
   is found at the end: each worker goes through all reports once more, and `get_or_set` computes
   what is missing.
4. A report may wait for an index, and an index waits for nothing. So no two workers ever wait for
   each other.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from index_stdlib.caches import Cache, Key, ManagerDict, Private, Redis, Unavailable
from index_stdlib.crew import Crew, Killer, Outcome, Progress
from index_stdlib.sources import Report, list_modules

import shmmap

say = functools.partial(print, flush=True)


class SharedMap(Cache):
    """A shmmap that all workers have open."""

    name = "shmmap"
    heals = True

    def __init__(self, modules: dict[str, Path]) -> None:
        text = sum(path.stat().st_size for path in modules.values())
        self.m = shmmap.ShmMap.create(
            f"index-stdlib-{os.getpid()}",
            size=2_000_000 + 5 * text // 4,
            value_size=150,
            ephemeral=True,  # should this process be killed, the last worker removes the map
        )

    def take(self) -> int:
        return self.m.incr("taken") - 1

    def get(self, key: Key) -> Any:
        return self.m.get(key)

    def get_or_set(self, key: Key, compute: Callable[[], Any]) -> Any:
        return self.m.get_or_set(key, compute)

    def put(self, results: dict[Key, Any]) -> None:
        self.m.set_many(results)

    def shared_bytes(self) -> int:
        return self.m.stats().allocated_bytes

    def remark(self) -> str:
        stats = self.m.stats()
        return (
            f"{stats.entries:,} entries in {len(stats.shard_entries)} shards; {stats.hits:,} reads "
            f"found one, {stats.writes:,} writes; {stats.lock_waits:,} waits for a shard; "
            f"{stats.allocated_bytes / 1e6:.1f} MB of pages for {stats.live_bytes / 1e6:.1f} MB of "
            f"keys and values; damage: {self.m.check() or 'none'}"
        )

    def end(self) -> None:
        self.m.unlink()
        self.m.close()


class Row(NamedTuple):
    """A line of the table; without an outcome: why there is none."""

    name: str
    outcome: Outcome | None
    remark: str
    is_exact: bool = True


def measure(
    name: str, make: Callable[[], Cache], modules: dict[str, Path], workers: int,
    truth: dict[str, Report] | None, killer: Killer | None = None,
) -> Row:
    """Do the whole work once, and compare its reports with the truth."""
    try:
        cache = make()
    except Unavailable as missing:
        return Row(name, None, f"not measured: {missing}")
    progress = Progress(name, len(modules))
    try:
        with Crew(cache, modules, workers) as crew:
            outcome = crew.run(progress, killer)
            remark = cache.remark()
    finally:
        progress.finish()
        cache.end()
    wrong = [] if truth is None else [
        module for module in modules if outcome.reports.get(module) != truth[module]
    ]
    for module in wrong[:10]:
        say(f"  DISAGREES: {name}: {module}: {outcome.reports.get(module)}")
    return Row(name, outcome, remark, not wrong)


def tell_of(killer: Killer, outcome: Outcome, modules: dict[str, Path]) -> str:
    """Say who died where, and who went on."""
    assert killer.victim is not None
    begun = outcome.board.begun
    heirs = [number for number, row in enumerate(begun)
             if row[killer.module] and number != killer.victim]
    return (
        f"SIGKILL to worker {killer.victim} inside the index of {list(modules)[killer.module]}, "
        f"with {killer.reports:,} of {len(modules):,} reports made; "
        f"worker {heirs[0]} computed it again"
    )


def table(rows: list[Row], total: int) -> str:
    """Lay out the rows."""
    lines = [
        f"{'':24}{'seconds':>9}{'CPU s':>8}{'indexes':>9}{'again':>7}"
        f"{'private MB':>12}{'shared MB':>11}  reports"
    ]
    for name, outcome, remark, is_exact in rows:
        if outcome is None:
            lines.append(f"{name:24}  {remark}")
            continue
        private = outcome.private_bytes
        lines.append(
            f"{name:24}{outcome.seconds:9.2f}{outcome.cpu_s:8.2f}{outcome.board.indexes():9,}"
            f"{outcome.again:7,}{'unknown' if private is None else f'{private / 1e6:.1f}':>12}"
            f"{outcome.shared_bytes / 1e6:11.1f}  "
            f"{f'all {total:,} exact' if is_exact else 'WRONG'}"
        )
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="PACKAGE",
                        help="only the modules of this package, as asyncio (default: all)")
    parser.add_argument("--workers", type=int, default=cores + 4,
                        help="worker processes, 2 or more (default: cores + 4 = %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6),
                        help="of the kill's moment and victim (default: a new one)")
    chosen = parser.parse_args()
    if chosen.workers < 2:
        parser.error("--workers must be 2 or more")
    chosen.modules = list_modules(chosen.only)
    if not chosen.modules:
        parser.error(f"--only {chosen.only}: the standard library has no such package")
    return chosen


def main() -> int:
    """Measure all, compare all; 0: all exact, 1: something is not."""
    chosen = arguments()
    modules = chosen.modules
    say(f"{len(modules):,} modules of Python {sys.version.split()[0]}, {chosen.workers} workers on "
        f"{len(os.sched_getaffinity(0))} cores, {shmmap.ENGINE} engine, seed {chosen.seed}")
    rows = [measure("one process, a dict", Private, modules, 1, None)]
    alone = rows[0].outcome
    assert alone is not None
    run = functools.partial(measure, modules=modules, workers=chosen.workers, truth=alone.reports)
    share = functools.partial(SharedMap, modules)
    rows.append(run("shmmap", share))
    say(f"  {rows[-1].remark}")
    killer = Killer(random.Random(chosen.seed))
    row = run("shmmap, one killed", share, killer=killer)
    assert row.outcome is not None
    say(f"  {tell_of(killer, row.outcome, modules)}\n  {row.remark}")
    rows.append(row)
    rows += [run(kind.name, kind) for kind in (Private, ManagerDict, Redis)]
    say(f"\n{table(rows, len(modules))}")
    return 0 if all(row.is_exact for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
