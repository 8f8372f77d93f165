"""Damage a live map's memory in every way, use every operation on it, and see what comes of it.

    python -m tests.fuzz --states 100000 --seed 1
    python -m tests.fuzz --replay 4711

Each state has a seed, from which come the kind of map, the damage, and the operations; --replay
runs one of them alone and tells what it does. A child runs thousands of states; a crash or an
operation of more than two seconds costs it its life, is noted with the seed, and another child
goes on with the next state. What is demanded of a damaged map: see trial.py.

Ends with a report; the exit code is 1 if there was any problem.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from select import select
from typing import Any

if "--engine" in sys.argv[:-1]:
    os.environ["SHMMAP_ENGINE"] = sys.argv[sys.argv.index("--engine") + 1]

import shmmap

from . import child
from .damages import KINDS
from .operations import OPERATIONS
from .trial import Problem, Trial
from .watch import WATCH

HANG_S = 2.0
_PR_SET_CHILD_SUBREAPER = 36


class Report:
    """What came of all states."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.problems: dict[str, list[Problem]] = {}
        self.started = time.monotonic()

    def add(self, message: dict[str, Any]) -> None:
        """Take in what a child tells."""
        self.outcomes.update(message["outcomes"])
        self.kinds.update(message["kinds"])
        for problem in message["problems"]:
            self.blame(Problem(*problem))

    def blame(self, problem: Problem) -> None:
        """Note a problem; show the first of its sort at once."""
        found = self.problems.setdefault(problem.same_as, [])
        found.append(problem)
        if len(found) == 1:
            print(f"seed {problem.seed} ({problem.variant}, {problem.kinds}), "
                  f"{problem.operation}: {problem.text}", file=sys.stderr, flush=True)

    def as_dict(self, options: argparse.Namespace) -> dict[str, Any]:
        """Return all of it, for --json."""
        operations = Counter(dict.fromkeys(OPERATIONS, 0))  # with those that had no turn
        damages = Counter({**dict.fromkeys(KINDS, 0), **self.kinds})
        results: Counter[str] = Counter()
        for text, count in self.outcomes.items():
            name, _, outcome = text.rpartition(": ")
            if name:
                operations[name] += count
                results[outcome] += count
        seconds = time.monotonic() - self.started
        states = self.outcomes["states"]
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "engine": shmmap.ENGINE, "first_seed": options.seed, "states": states,
            "seconds": round(seconds, 1), "states_per_second": round(states / seconds),
            "states_per_cpu_second": round(states / (used.ru_utime + used.ru_stime)),
            "operations": dict(operations.most_common()), "outcomes": dict(results.most_common()),
            "damages": dict(damages.most_common()),
            "problems": {
                sort: {"count": len(found), "first": found[0]._asdict(),
                       "seeds": sorted({p.seed for p in found})[:8]}
                for sort, found in self.problems.items()
            },
        }  # fmt: skip


class Runner:
    """Children, one after the other, until every seed has had its turn."""

    def __init__(self, options: argparse.Namespace, report: Report) -> None:
        self._options = options
        self._report = report

    def run(self, seeds: range) -> None:
        """Run the states of these seeds."""
        while seeds:
            last = self._run_child(seeds)
            seeds = range(last + 1, seeds.stop)

    def _run_child(self, seeds: range) -> int:
        """Run a child until it ends; give the seed of the last state that it began."""
        WATCH.at(seeds[0])
        ours, theirs = os.pipe()
        with tempfile.TemporaryFile() as errors:
            pid = os.fork()
            if not pid:
                os.close(ours)
                _be_child(self._options.prefix, seeds, theirs, errors.fileno())
            os.close(theirs)
            try:
                hung = self._listen(ours, pid)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if sys.exc_info()[0] else 0)
                _, status = os.waitpid(pid, 0)
                _reap_neighbour()
                _remove_objects(self._options.prefix)
            code = os.waitstatus_to_exitcode(status)
            if code not in (0, child.AGAIN):
                errors.seek(0)
                tail = errors.read().decode(errors="replace")[-self._options.tail :]
                if not WATCH.operation:
                    sys.exit(f"the maps could not be made:\n{tail}")
                what = "hangs" if hung else f"ends the process ({code})"
                self._report.blame(Problem(
                    WATCH.seed, "?", [], WATCH.operation, f"{what}\n{tail}",
                    f"{WATCH.operation}: {what} {_place(tail)}",
                ))
        return seeds[-1] if code == 0 else WATCH.seed

    def _listen(self, pipe: int, pid: int) -> bool:
        """Take in what a child tells until it ends; kill it if an operation takes too long."""
        rest = b""
        hung = False
        with open(pipe, "rb", buffering=0) as file:
            while True:
                if select([file], [], [], 0.1)[0]:
                    data = file.read(1 << 16)
                    if not data:
                        return hung
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        self._report.add(json.loads(line))
                if not hung and WATCH.running_s() > self._options.hang:
                    hung = True
                    os.kill(pid, signal.SIGABRT)  # faulthandler says where


def _place(tail: str) -> str:
    """Find the line of ours in a traceback or in AddressSanitizer's report."""
    lines = [line.strip() for line in tail.splitlines()]
    of_us = [line for line in lines if "shmmap/" in line or "SUMMARY" in line]
    return of_us[-1 if "SUMMARY" in "".join(of_us) else 0] if of_us else ""


def _be_child(prefix: str, seeds: range, pipe: int, errors: int) -> None:
    code = 1
    try:
        os.dup2(errors, 2)

        def tell(outcomes: Counter[str], kinds: Counter[str], problems: list[Problem]) -> None:
            message = {"outcomes": outcomes, "kinds": kinds, "problems": problems}
            data = json.dumps(message).encode() + b"\n"
            while data:
                data = data[os.write(pipe, data) :]

        code = child.loop(prefix, seeds, tell)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _reap_neighbour() -> None:
    """Reap what a child that crashed could not: it is ours now, since we are a subreaper."""
    if WATCH.neighbour:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(WATCH.neighbour, 0)
        WATCH.set_neighbour(0)


def _remove_objects(prefix: str) -> None:
    """Remove what a child could not unlink."""
    for entry in os.listdir("/dev/shm"):
        if entry.removeprefix("sem.").startswith(f"shmmap.{prefix}-"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"/dev/shm/{entry}")


def replay(options: argparse.Namespace, report: Report) -> None:
    """Run one state alone, telling each step."""
    Trial.tells = True
    Runner(options, report).run(range(options.replay, options.replay + 1))


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=(__doc__ or "").split("\n\n")[0],
    )
    parser.add_argument("--states", type=int, default=20_000, help="damaged states to run")
    parser.add_argument("--seed", type=int, default=1, help="of the first state")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run this state alone")
    parser.add_argument("--engine", choices=("compiled", "pure"))
    parser.add_argument("--prefix", default=f"t{os.getpid()}-fuzz", help="of the maps' names")
    parser.add_argument("--hang", type=float, default=HANG_S, help="seconds an operation may take")
    parser.add_argument("--tail", type=int, default=3000, help="characters of a crash's report")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run; print the report; return the exit code."""
    options = parse(arguments)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    report = Report()
    if options.replay is not None:
        replay(options, report)
    else:
        Runner(options, report).run(range(options.seed, options.seed + options.states))
    found = report.as_dict(options)
    if options.json:
        print(json.dumps(found))
    else:
        show(found)
    return 1 if report.problems else 0


def show(found: dict[str, Any]) -> None:
    """Print the report for people."""
    print(f"{found['engine']} engine: {found['states']:,} damaged states from seed "
          f"{found['first_seed']} in {found['seconds']:,} s, {found['states_per_second']:,}/s, "
          f"{found['states_per_cpu_second']:,} a second of processor time")
    for title in ("damages", "operations", "outcomes"):
        print(f"{title}: " + ", ".join(f"{name} {n:,}" for name, n in found[title].items()))
    print(f"problems: {len(found['problems'])} sorts")
    for sort, problem in found["problems"].items():
        print(f"- {sort}: {problem['count']} times, seeds {problem['seeds']}\n"
              f"  {problem['first']['text']}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
