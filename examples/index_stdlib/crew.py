"""The workers of example 1, and what can be seen of them: progress, memory, a death."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import gc
import multiprocessing
import multiprocessing.connection
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import psutil

from .caches import Cache
from .sources import Index, Library, Report, index_module

INDEX, REPORT = "<index>", "<report>"  # no names of Python's, so they can stand beside a module's
PATIENCE_S = 300.0
NOWHERE = -1
STEPS = 3  # of a computation, between which a worker can die


class Board:
    """What each worker has done, in memory that all see. A worker writes its own row only, so
    that there is no lock which a dead one could keep."""

    def __init__(self, workers: int, modules: int) -> None:
        self.begun = [RawArray(ctypes.c_ushort, modules) for _ in range(workers)]
        self.inside = RawArray(ctypes.c_int, [NOWHERE] * workers)
        self.reports = RawArray(ctypes.c_int, workers)
        self.fatal = RawArray(ctypes.c_int, 2)  # which computation of a worker's, which step of it
        self.fuse = multiprocessing.Semaphore()  # the worker that gets it is the one that dies

    def indexes(self) -> int:
        """Count how often an index was computed, or begun."""
        return sum(map(sum, self.begun))


# -- a worker --------------------------------------------------------------------------


class Worker:
    """Reports on modules, and indexes those that no index is there for."""

    def __init__(self, cache: Cache, modules: dict[str, Path], board: Board, number: int) -> None:
        self._cache, self._modules, self._board, self._number = cache, modules, board, number
        self._numbers = {module: number for number, module in enumerate(modules)}
        self._computations = 0
        self._library = Library(modules, self.index, cache.get)

    def index(self, module: str) -> Index:
        """Return a module's index; its names are in the cache then."""
        index: Index = self._cache.get_or_set((module, INDEX), lambda: self._compute(module))
        return index

    def _compute(self, module: str) -> Index:
        self._board.inside[self._number] = self._numbers[module]
        self._board.begun[self._number][self._numbers[module]] += 1
        self._computations += 1
        self._come_to(0)
        index, names = index_module(module, self._modules)
        self._come_to(1)
        self._cache.put({(module, name): entry for name, entry in names.items()})
        self._come_to(2)
        return index  # kept after its names, so that it says that they are all there

    def _come_to(self, step: int) -> None:
        """Stop here for good, if it is here that a worker is to be killed."""
        fatal = self._board.fatal
        if fatal[0] == self._computations and fatal[1] == step and self._board.fuse.acquire(False):
            os.kill(os.getpid(), signal.SIGSTOP)

    def report(self, module: str) -> None:
        """See to it that there is a report on a module."""
        self._cache.get_or_set((module, REPORT), lambda: self._library.report(module))

    def work(self) -> None:
        """Take one module after another until all are taken; then see that all are done."""
        modules = list(self._modules)
        while (number := self._cache.take()) < len(modules):
            self.report(modules[number])
            self._board.reports[self._number] += 1
        if self._cache.heals:
            for module in modules:
                self.report(module)


def run_worker(
    cache: Cache, modules: dict[str, Path], board: Board, number: int, pipe: Any
) -> None:
    """Be a worker: ready, work, done; each step when the parent says so."""
    cache.open()
    worker = Worker(cache, modules, board, number)
    index_module("ast", {"ast": Path(ast.__file__)})  # what a first use takes is not measured
    tidy()
    pipe.send("ready")
    pipe.recv()
    worker.work()
    tidy()
    pipe.send("done")
    while (keys := pipe.recv()) is not None:
        pipe.send(cache.reports(keys))


def tidy() -> None:
    """Return all memory that is not in use, so that only what is kept is measured."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


# -- a death ---------------------------------------------------------------------------


class Killer:
    """Kills one worker inside a computation. Which one, and when, is left to chance: it is the
    first that comes to its k-th computation, and there is a k that one of them always comes to."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.victim: int | None = None
        self.module = NOWHERE  # the index that it was computing
        self.reports = 0  # that were there by then
        self.cpu_s = 0.0  # that the victim had used

    def aim(self, board: Board) -> None:
        """Choose where the victim stops, so that it is killed there and nowhere else."""
        workers, modules = len(board.begun), len(board.begun[0])
        board.fatal[:] = [self._chance.randint(1, max(1, modules // workers)),
                          self._chance.randrange(STEPS)]

    def consider(self, board: Board, processes: list[Any]) -> None:
        """Kill the worker that has stopped, if one has."""
        if self.victim is not None:
            return
        for number, process in enumerate(processes):
            if psutil.Process(process.pid).status() == psutil.STATUS_STOPPED:
                self.cpu_s = cpu_seconds(process.pid)
                process.kill()
                process.join()
                self.victim, self.module = number, board.inside[number]
                self.reports = sum(board.reports)


# -- the run ---------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What a run computed, and what it took."""

    reports: dict[str, Report]
    seconds: float
    cpu_s: float  # of all processes, a server's too
    board: Board
    private_bytes: int | None  # by which all processes grew, a server too
    shared_bytes: int

    @property
    def again(self) -> int:
        """How many indexes were computed that had been computed before."""
        return self.board.indexes() - sum(map(any, zip(*self.board.begun, strict=True)))


class Progress:
    """A bar that a terminal shows in one line, and a log in a few."""

    def __init__(self, label: str, total: int, out: TextIO = sys.stderr) -> None:
        self._label, self._total, self._out = label, total, out
        self._is_terminal = out.isatty()
        self._began: float | None = None
        self._shown = -1

    def show(self, done: int) -> None:
        """Show how much is done, if that is worth a line."""
        if self._began is None:
            self._began = time.monotonic()
        steps = 40 if self._is_terminal else 4
        step = steps * done // self._total
        if step != self._shown:
            self._shown = step
            bar = "#" * (40 * done // self._total)
            self._out.write(
                f"{self._label:24} [{bar:40}] {done:,} of {self._total:,} reports, "
                f"{time.monotonic() - self._began:.1f} s" + ("\r" if self._is_terminal else "\n")
            )
            self._out.flush()

    def finish(self) -> None:
        """End the line."""
        if self._is_terminal:
            self._out.write("\n")


def private_bytes(pid: int) -> int | None:
    """Return the memory of a process, without what belongs to no process alone; a page that n
    processes share counts 1/n. None: this kernel does not say."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return None
    sizes = {line.split()[0]: 1024 * int(line.split()[1]) for line in lines}
    return sizes["Pss:"] - sizes.get("Pss_Shmem:", 0)


def grown(before: dict[int, Any], then: dict[int, Any]) -> Any:
    """Sum up by how much these processes' numbers grew."""
    return sum(value - before[pid] for pid, value in then.items())


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


class Crew:
    """The processes of one run. Leaving the block ends them, whatever happened."""

    def __init__(self, cache: Cache, modules: dict[str, Path], workers: int) -> None:
        self._cache, self._modules = cache, modules
        self._board = Board(workers, len(modules))
        self._pipes: list[Any] = []
        self._processes: list[Any] = []
        for number in range(workers):
            mine, its = multiprocessing.Pipe()
            arguments = (cache, modules, self._board, number, its)
            process = multiprocessing.Process(target=run_worker, args=arguments, daemon=True)
            process.start()
            its.close()  # so that this pipe ends when its worker does
            self._pipes.append(mine)
            self._processes.append(process)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            process.kill()  # those that said "done" have nothing left to do
            process.join()

    def run(self, progress: Progress, killer: Killer | None = None) -> Outcome:
        """Do the work."""
        for pipe in self._pipes:
            pipe.recv()
        cpu, memory = self._measure(cpu_seconds), self._measure(private_bytes)
        began = time.perf_counter()
        if killer is not None:
            killer.aim(self._board)
        for pipe in self._pipes:
            pipe.send("work")
        self._watch(progress, killer)
        seconds = time.perf_counter() - began
        cpu_then, memory_then = self._measure(cpu_seconds), self._measure(private_bytes)
        if killer is not None and killer.victim is not None:
            cpu_then[self._processes[killer.victim].pid] = killer.cpu_s
        is_known = None not in [*memory.values(), *memory_then.values()]
        return Outcome(
            self._gather(), seconds, grown(cpu, cpu_then), self._board,
            grown(memory, memory_then) if is_known else None, self._cache.shared_bytes(),
        )

    def _watch(self, progress: Progress, killer: Killer | None) -> None:
        """Wait until all have done their work, or died of what was meant to kill them."""
        total, left = len(self._modules), list(self._pipes)
        give_up = time.monotonic() + PATIENCE_S
        while left and time.monotonic() < give_up:
            for pipe in multiprocessing.connection.wait(left, 0.02):
                left.remove(pipe)
                number = self._pipes.index(pipe)
                try:
                    pipe.recv()
                except EOFError:
                    if killer is None or killer.victim != number:
                        raise SystemExit(f"{self._cache.name}: worker {number} failed") from None
            done = sum(self._board.reports)
            progress.show(done if left else total)
            if killer is not None and left:
                killer.consider(self._board, self._processes)
        if left:
            raise SystemExit(f"{self._cache.name}: gave up after {PATIENCE_S:.0f} s")

    def _living(self) -> list[int]:
        return [number for number, process in enumerate(self._processes) if process.is_alive()]

    def _measure(self, measure: Callable[[int], Any]) -> dict[int, Any]:
        """Measure each process that lives, the server of the cache too."""
        pids = [self._processes[number].pid for number in self._living()]
        return {pid: measure(pid) for pid in [*pids, self._cache.server] if pid}

    def _gather(self) -> dict[str, Report]:
        """Ask one worker after the other for the reports, until all are there."""
        found: dict[tuple[str, str], Report] = {}
        keys = [(module, REPORT) for module in self._modules]
        for number in self._living():
            self._pipes[number].send([key for key in keys if key not in found])
            found.update(self._pipes[number].recv())
        return {module: report for (module, _), report in found.items()}
