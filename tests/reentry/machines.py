"""The two machines: which trials there are, and what they come to."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import shmmap

from . import deeds, places
from .operations import MAKING, OPERATIONS, Operation
from .trials import Outcome, Runner, Trial
from .world import PURE

LIBRARY_DEEDS = ("open", "close")  # what changes what Python's own code goes through
WAYS = ("del", "weakref", "owner", "drop")
SHOWN = 2  # problems of a series


class Series(NamedTuple):
    """Trials that differ in their point only."""

    place: str
    deed: str
    how: str


class Found(NamedTuple):
    """What a series came to."""

    series: Series
    trials: int
    points: int  # that there are
    bad: list[Outcome]
    words: set[str]
    deed_words: set[str]
    child_words: set[str]


def of_collector(operation: Operation) -> Iterator[Series]:
    """List the series of one operation: each deed, and what owners of handles do."""
    making = operation in MAKING
    for number, deed in enumerate(deeds.DEEDS):
        if deed.handlers_only or deed.name == "daemon":
            continue
        yield Series(operation.name, deed.name, WAYS[number % 2])
        if PURE:
            yield Series(operation.name, deed.name, "line")
    for deed in LIBRARY_DEEDS:
        yield Series(operation.name, deed, "line in weakref.py")
    if not making:
        yield Series(operation.name, "nothing", "owner")
        yield Series(operation.name, "nothing", "drop")


def of_matrix(place: places.Place) -> Iterator[Series]:
    """List the series of one place."""
    for deed in deeds.DEEDS:
        for how in place.hows:
            if deed.handlers_only and how in WAYS:
                continue
            if deed.name == "import again" and how == "exit, global":
                continue  # nothing can be imported any more
            if not (place.other_thread and deed.goes_on):
                yield Series(place.name, deed.name, how)


def run_series(
    series: Series, most: int, seed: int, label: str = "", runner: Runner | None = None
) -> Found:
    """Run a series at `most` points, spread over it at random."""
    runner = runner or Runner(label)
    bad, words, deed_words, child_words = [], set(), set(), set()
    trials = 0
    points = len(chosen(series, 0, 6, 0)) or runner.count(series.place, series.how)
    for at, released in chosen(series, points, most, seed):
        outcome = runner.run(Trial(*series, at, released))
        trials += 1
        if outcome.problems:
            bad.append(outcome)
        elif outcome.fired:
            words.add(outcome.words.get("itself", "?"))
            deed_words |= set(outcome.deed_words.values())
            # at exit nobody waits for the child that executes a program: it may be ended with the
            # trial before it has said how it fares
            child_words |= {word for side, word in outcome.words.items() if side != "itself"
                            and (side, word) != ("exec", "did not end")}
    return Found(series, trials, points, bad, words, deed_words, child_words)


def chosen(series: Series, points: int, most: int, seed: int) -> list[tuple[float, str]]:
    """Choose points: all, or one at random of each of as many parts."""
    chance = random.Random(f"{seed} {series}")
    if series.how == "moment":
        moments = [(places.WAITED_S + 0.002 * n, ("before", "after")[n % 2]) for n in range(6)]
        return chance.sample(moments, min(most, 6))
    if series.how == "inline" or series.how.startswith("exit"):
        return [(0, "before"), (0, "after")][: most if series.place.startswith("another") else 1]
    if points <= most:
        return [(at, "after") for at in range(1, points + 1)]
    edges = [1 + points * n // most for n in range(most + 1)]
    return [(chance.randrange(a, b), "after") for a, b in pairwise(edges)]


def reproduction(outcome: Outcome) -> str:
    """Say how to see a failure again."""
    lines = "\n    ".join(line for problem in outcome.problems for line in problem.splitlines())
    at = f" ({outcome.where})" if outcome.where else ""
    return (f"WRONG{at}: SHMMAP_ENGINE={shmmap.ENGINE} python -m tests.reentry replay "
            f"'{outcome.trial}'\n    {lines}")


def main(options: argparse.Namespace) -> int:
    """Run what was asked for."""
    if options.what == "replay":
        place, deed, how, at, released = " ".join(options.names).split(" / ")
        outcome = Runner("r").run(Trial(place, deed, how, float(at), released))
        print(reproduction(outcome) if outcome.problems else outcome)
        return int(bool(outcome.problems))
    if options.what == "collector":
        listed = [s for operation in (*OPERATIONS, *MAKING)
                  if not options.names or operation.name in options.names
                  for s in of_collector(operation)]
    else:
        listed = [s for place in places.places()
                  if not options.names or place.name in options.names for s in of_matrix(place)]
    if options.deeds:
        listed = [s for s in listed if s.deed in options.deeds.split(",")]
    return report(listed, options)


def report(listed: list[Series], options: argparse.Namespace) -> int:
    """Run the series in several processes; print what was found."""
    most = options.most if options.all else 3
    began = time.monotonic()
    trials = bad = 0
    found = []
    with ProcessPoolExecutor(options.jobs) as pool:
        waiting = [pool.submit(run_series, series, most, options.seed, f"{number}-")
                   for number, series in enumerate(listed)]
        for future in waiting:
            one = future.result()
            found.append(one)
            trials += one.trials
            bad += len(one.bad)
            for outcome in one.bad[:SHOWN]:
                print(reproduction(outcome), flush=True)
            print(f"{' / '.join(one.series):<72} {one.trials:>5} of {one.points:>6}  "
                  f"{len(one.bad) or ''}", flush=True)
    if options.what == "matrix":
        from . import matrix

        matrix.show(found, options.write, bool(options.names or options.deeds))
    print(f"{shmmap.ENGINE} engine: {trials:,} trials in {len(listed):,} series, {bad} wrong, "
          f"{time.monotonic() - began:.0f} s")
    return int(bool(bad))
