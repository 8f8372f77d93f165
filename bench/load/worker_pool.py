"""Worker processes that do the same work at the same time, again and again on command."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from multiprocessing import resource_tracker
from typing import Any, Protocol

from ..core.machine import engine_file
from ..core.timing import collector_off

PATIENCE_S = 120.0  # no command takes a worker longer, on a busy machine either
LEAD_NS = 20_000_000  # from the command to the start; as much again for every 16 workers


class WorkerError(Exception):
    """A worker failed, or gave no answer: its message says which and what."""


class Work(Protocol):
    """What a worker does, once it is set up."""

    def run(self, until_ns: int) -> Any:
        """Work until time.monotonic_ns() is there; return what came of it."""

    def close(self) -> None:
        """Let go of everything."""


class Job(Protocol):
    """How a worker sets itself up. Pickled, so it is made of names and numbers."""

    def begin(self, index: int) -> Work:
        """Open, warm up and verify, as worker number `index`."""


class WorkerPool:
    """Workers that wait for commands, each a spawned process.

    All start at one instant of the clock that every process of the machine has, so that none
    waits for the last to wake up. With `cores`, worker n is pinned to cores[n % len(cores)].
    """

    def __init__(self, job: Job, workers: int, cores: Sequence[int] = ()) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Any] = []
        self.processes: list[Any] = []
        try:
            for index in range(workers):
                mine, theirs = context.Pipe()
                process = context.Process(target=_work, daemon=True, args=(
                    theirs, job, index, cores[index % len(cores)] if cores else None,
                ))
                _start_deaf(process)
                theirs.close()
                self.pipes.append(mine)
                self.processes.append(process)
            engines = {self._answer(index) for index in range(workers)}
            if engines != {engine_file()}:
                raise WorkerError(f"workers run {engines}, this process runs {engine_file()}")
        except BaseException:
            self.close()
            raise

    def run(self, seconds: float, who: Sequence[int] | None = None) -> list[Any]:
        """Have all workers, or just these, work for so long; return their answers in order."""
        chosen = range(len(self.pipes)) if who is None else who
        start = time.monotonic_ns() + LEAD_NS * (1 + len(chosen) // 16)
        for index in chosen:
            try:
                self.pipes[index].send((start, start + int(seconds * 1e9)))
            except OSError:
                raise WorkerError(f"worker {index} died; see stderr") from None
        return [self._answer(index) for index in chosen]

    def _answer(self, index: int) -> Any:
        if not self.pipes[index].poll(PATIENCE_S):
            raise WorkerError(f"worker {index}: no answer in {PATIENCE_S} s")
        try:
            return self.pipes[index].recv()
        except (EOFError, ConnectionError):
            raise WorkerError(f"worker {index} died; see stderr") from None

    def close(self) -> None:
        """End all workers."""
        for pipe in self.pipes:
            pipe.close()  # a worker that waits for a command reads the end and leaves
        for process in self.processes:
            process.join(5.0)
            if process.is_alive():
                process.kill()
                process.join()


def _start_deaf(process: Any) -> None:
    """Start a worker that Ctrl-C does not reach: its parent has the last word, and ends it."""
    resource_tracker.ensure_running()  # starting it, as a spawn does, unblocks SIGINT again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Any, job: Job, index: int, core: int | None) -> None:
    """Run in a worker: get ready, then work at each command until the pipe ends."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    work = job.begin(index)
    gc.collect()
    gc.freeze()  # plans of many objects: a collection before each start would come too late
    try:
        pipe.send(engine_file())
        while True:
            start_ns, until_ns = pipe.recv()
            with collector_off():
                while (left := start_ns - time.monotonic_ns()) > 0:
                    time.sleep(max(0, left - 200_000) / 1e9)  # the last moments awake
                answer = work.run(until_ns)
            pipe.send(answer)
    except (EOFError, BrokenPipeError):  # the run is over, or was broken off
        pass
    finally:
        work.close()
