"""A region of dogpile.cache that several processes share: one computes, all read, and one
invalidates for all.

    python examples/06_dogpile_region.py

It needs dogpile.cache (`pip install -e ".[examples]"`), and ends by itself in two seconds. Three
workers ask for the same report at once, and one draws it. Then they ask for another one; the worker
that is drawing it is killed with SIGKILL, and the next one takes over at once. At last the parent,
which has drawn nothing, invalidates the region, and a worker draws the first report anew.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.connection import wait
from typing import Any

from dogpile.cache import make_region

import shmmap
from shmmap.contrib.dogpile import ShmMapInvalidation

NAME = f"dogpile-example-{os.getpid()}"  # a service would call it by its own name
WORKERS = 3
DRAWING_S = 0.3
PATIENCE_S = 20


def open_region(name: str) -> Any:
    """Configure the region, as each process of a service does."""
    region = make_region("reports")
    return region.configure(
        "shmmap", expiration_time=60, arguments={"name": name, "size": "1MB"},
        region_invalidator=ShmMapInvalidation(region),
    )


def work(name: str, pipe: Any) -> None:
    """Answer each request with the report, telling when this worker itself is drawing it."""
    region = open_region(name)

    @region.cache_on_arguments()
    def report(day: str) -> str:
        pipe.send("drawing")
        time.sleep(DRAWING_S)
        return f"the report of {day}, by {os.getpid()}"

    while (day := pipe.recv()) is not None:
        pipe.send(report(day))


def ready(pipes: list[Any]) -> list[Any]:
    """Return the pipes of those that have said something; fail if nobody does."""
    found = wait(pipes, timeout=PATIENCE_S)
    assert found, "no worker answers"
    return found


def ask(pipes: list[Any], drawn: list[int]) -> list[str]:
    """Ask all workers at once; return the reports, and note who drew one."""
    for pipe in pipes:
        pipe.send("Monday")
    reports: list[str] = []
    while len(reports) < len(pipes):
        for pipe in ready(pipes):
            said = pipe.recv()
            drawn.append(pipes.index(pipe)) if said == "drawing" else reports.append(said)
    return reports


def kill_who_draws(pipes: list[Any], workers: list[Any]) -> tuple[int, str, float]:
    """Ask all, kill the first that draws; return who that was, the report of the others, and how
    long they had to wait for the next one to begin."""
    for pipe in pipes:
        pipe.send("Sunday")
    first = ready(pipes)[0]
    assert first.recv() == "drawing"
    victim = pipes.index(first)
    os.kill(workers[victim].pid, signal.SIGKILL)
    killed = time.monotonic()
    left = [pipe for pipe in pipes if pipe is not first]
    assert ready(left)[0].recv() == "drawing"
    took = time.monotonic() - killed
    reports = {pipe.recv() for pipe in left}
    assert len(reports) == 1
    return victim, reports.pop(), took


def main() -> int:
    """Start the workers, ask them, kill one, invalidate."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0]).parse_args()
    spawn = multiprocessing.get_context("spawn")
    pairs = [spawn.Pipe() for _ in range(WORKERS)]
    pipes = [ours for ours, _ in pairs]
    workers = [spawn.Process(target=work, args=(NAME, theirs), daemon=True) for _, theirs in pairs]
    region = open_region(NAME)
    try:
        for worker in workers:
            worker.start()
        drawn: list[int] = []
        reports = ask(pipes, drawn)
        print(f"{WORKERS} workers asked at once, {len(drawn)} drew it: {reports[0]}")
        victim, report, took = kill_who_draws(pipes, workers)
        print(f"killed {workers[victim].pid} while it was drawing; the next one began "
              f"{took * 1000:.1f} ms later: {report}")
        del pipes[victim]
        region.invalidate()
        again: list[int] = []
        new = ask(pipes, again)
        print(f"invalidated by {os.getpid()}; of the {len(new)} left {len(again)} drew it anew: "
              f"{new[0]}")
        for pipe in pipes:
            pipe.send(None)
        is_one = len(drawn) == len(again) == len(set(reports)) == len(set(new)) == 1
        return 0 if is_one else 1
    finally:
        for worker in workers:
            worker.join(5)
            worker.kill()
        region.backend.map.close()
        shmmap.unlink(NAME)


if __name__ == "__main__":
    sys.exit(main())
