"""Explore: `python -m tests.explore random | every | crash | replay` (always the pure engine).

    random   random schedules, by priorities, and with deaths: --schedules, --seed
    every    every schedule within a preemption bound (each scenario has its own; --bound)
    crash    every operation broken off at every step: by a death, by two, by an exception
             (there at every line too); --share of the double deaths and of the lines. And
             movers that die, and writers beside one
    replay   one schedule of one scenario, step by step: SCENARIO SCHEDULE, as a failure gives them

The floors, each on those above it:

    judges      is there an order of the calls that explains what was seen?
    simulator   the machine, the kernel, the processes and their map
    scenarios   what the processes do, a question a file
    search      which schedules, deaths and exceptions
    mutants     faults planted in the engine, to see that all this would find one

Ends with what was run and the number of violations; the exit code is 1 if there were any.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice

os.environ["SHMMAP_ENGINE"] = "pure"

import shmmap

from .scenarios.cases import (
    CASES,
    NEAR_READS,
    READER,
    SECOND,
    SURVIVORS,
    WRITER,
    Case,
    beside_near,
    scenario_of,
)
from .scenarios.every import LIVES, MOVING, SCENARIOS
from .scenarios.lockers import LOCKERS
from .scenarios.moving_deaths import MOVERS_DIE, TWO_DIE, WRITERS_DIE
from .scenarios.scenario import Scenario
from .search.deaths import Deaths
from .search.exceptions import Exceptions
from .search.explorer import Explorer, Failure
from .search.moving_deaths import MovingDeaths
from .search.near_deaths import NearDeaths
from .search.processes import CreationExplorer, LockExplorer
from .simulator.creation_world import Processes
from .simulator.lock_world import Lockers

SHOWN = 3  # failures of one job
Job = tuple[Callable[..., tuple[str, int, list[str]]], tuple[object, ...]]


def main() -> int:
    """Read the options, run, report."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.explore", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("random", "every", "crash", "replay"))
    parser.add_argument("names", nargs="*", metavar="SCENARIO [SCHEDULE]")
    parser.add_argument("--schedules", type=int, default=100_000, help="in all (random)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bound", type=int, help="preemptions (every)")
    parser.add_argument("--share", type=float, default=1.0, help="see crash")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    assert shmmap.ENGINE == "pure", shmmap.ENGINE
    if options.what == "replay":
        name = options.names[0]
        made = [Explorer(s) for s in (*SCENARIOS, *MOVING) if s.name == name]
        made += [CreationExplorer(s) for s in LIVES if s.name == name]
        explorer = [*made, *(LockExplorer(s) for s in LOCKERS if s.name == name)][0]
        with explorer.world.installed():
            print(explorer.replay(options.names[1]))
        return 0
    jobs = list({"random": random_jobs, "every": every_jobs, "crash": crash_jobs}[options.what](
        options, [s for s in (*SCENARIOS, *MOVING)
                  if s.name in options.names or not options.names]))
    started = time.monotonic()
    total = bad = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for name, runs, failures in pool.map(call, jobs):
            total += runs
            bad += len(failures)
            print(f"{name:<60} {runs:>9,}  {len(failures) or ''}", flush=True)
            for failure in failures:
                print(failure, flush=True)
    print(f"{total:,} runs, {bad} violations, {time.monotonic() - started:.0f} s")
    return 1 if bad else 0


def call(job: Job) -> tuple[str, int, list[str]]:
    """Run a job in a process of the pool."""
    work, arguments = job
    return work(*arguments)


def shown(failures: Iterator[Failure]) -> list[str]:
    """Take the first failures of a job."""
    return [str(failure) for failure in islice(failures, SHOWN)]


def random_jobs(options: argparse.Namespace, scenarios: list[Scenario]) -> Iterator[Job]:
    """Share the schedules among the scenarios."""
    each = -(-options.schedules // len(scenarios))
    for scenario in scenarios:
        yield run_random, (scenario, options.seed * 10_000_000, each)


def run_random(scenario: Scenario, first: int, count: int) -> tuple[str, int, list[str]]:
    explorer = Explorer(scenario)
    with explorer.world.installed():
        failures = shown(explorer.try_random(first, count))
    return scenario.name, explorer.schedules, failures


def every_jobs(options: argparse.Namespace, scenarios: list[Scenario]) -> Iterator[Job]:
    """Explore each scenario within its bound."""
    for scenario in scenarios:
        bound = scenario.bound if options.bound is None else options.bound
        if bound:
            yield run_every, (scenario, bound)
    for processes in LIVES:
        if processes.name in options.names or not options.names:
            yield run_creation, (processes, options.bound or processes.bound)
    for lockers in LOCKERS:
        if lockers.name in options.names or not options.names:
            yield run_lockers, (lockers, options.bound or lockers.bound)


def run_lockers(scenario: Lockers, bound: int) -> tuple[str, int, list[str]]:
    explorer = LockExplorer(scenario)
    with explorer.world.installed():
        failures = shown(explorer.try_every(bound))
        failures += shown(explorer.try_deaths(scenario.deaths))
    return f"{scenario.name}, {bound} preemptions; deaths", explorer.schedules, failures


def run_creation(scenario: Processes, bound: int) -> tuple[str, int, list[str]]:
    explorer = CreationExplorer(scenario)
    with explorer.world.installed():
        failures = shown(explorer.try_every(bound))
        if scenario.deaths >= 0:
            failures += shown(explorer.try_deaths(scenario.deaths))
    name = f"{scenario.name}, {bound} preemptions; deaths, {scenario.deaths}"
    return name, explorer.schedules, failures


def run_every(scenario: Scenario, bound: int) -> tuple[str, int, list[str]]:
    explorer = Explorer(scenario)
    with explorer.world.installed():
        failures = shown(explorer.try_every(bound))
    return f"{scenario.name}, {bound} preemptions", explorer.schedules, failures


def crash_jobs(options: argparse.Namespace, scenarios: list[Scenario]) -> Iterator[Job]:
    """Break off each case, each way."""
    for case in CASES:
        if not options.names or case.name in options.names:
            for survivor in SURVIVORS:
                yield run_crash, (case, survivor, options.share, options.seed)
            yield run_beside_near, (case,)
    for how, dying in (("one", MOVERS_DIE), ("two", TWO_DIE), ("beside", WRITERS_DIE)):
        for scenario in dying:
            if not options.names or scenario.name in options.names:
                yield run_moving_deaths, (scenario, how, options.share, options.seed)


def run_crash(case: Case, survivor: str, share: float, seed: int) -> tuple[str, int, list[str]]:
    other = SURVIVORS[survivor]
    once = Deaths(scenario_of(case, other))
    twice = Deaths(scenario_of(case, SECOND[survivor], (*READER, *WRITER)))
    steps, lines = Exceptions(scenario_of(case, other)), Exceptions(scenario_of(case, other))
    failures = []
    for subject, work in (
        (once, once.every_one()), (twice, twice.every_two(random.Random(seed), share)),
        (steps, steps.every_step()), (lines, lines.every_line(max(1, round(1 / share)))),
    ):
        with subject.world.installed():
            failures += shown(work)
    name = (f"{case.name:<35} then {survivor}: {once.runs:,} deaths, {twice.runs:,} double, "
            f"exceptions {steps.runs:,} steps, {lines.runs:,} lines")
    return name, once.runs + twice.runs + steps.runs + lines.runs, failures


def run_moving_deaths(
    scenario: Scenario, how: str, share: float, seed: int
) -> tuple[str, int, list[str]]:
    deaths = MovingDeaths(scenario)
    with deaths.world.installed():
        failures = shown(
            deaths.every_one() if how == "one"
            else deaths.every_two(random.Random(seed), share) if how == "two"
            else deaths.beside(max(1, round(share ** -0.5)))
        )
    return scenario.name, deaths.runs, failures


def run_beside_near(case: Case) -> tuple[str, int, list[str]]:
    failures, runs = [], 0
    for read in NEAR_READS.values():
        deaths = NearDeaths(beside_near(scenario_of(case), read))
        with deaths.world.installed():
            failures += shown(deaths.every_one())
        runs += deaths.runs
    return f"{case.name:<35} beside near caches", runs, failures


if __name__ == "__main__":
    sys.exit(main())
