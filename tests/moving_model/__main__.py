"""Check the protocol of moving: `python -m tests.moving_model [SCENARIO ...]`.

Every interleaving of every scenario, with deaths anywhere; then what looks like a fault and is
none; then every planted fault, which has to be found. No engine is needed, and no map is made.

    --quick      the scenarios that every run of the tests looks at
    --schedules  print the shortest schedule that finds each fault
    --jobs N     processes at once; the largest takes 6 GB

Ends with the number of states, and of violations; the exit code is 1 if there were any, or if a
fault was not found.
"""

from __future__ import annotations

import argparse
import sys
import time
from multiprocessing import Pool

from .machine import Machine
from .mutants import HARMLESS, MUTANTS, Mutant
from .scenarios import BY_NAME, QUICK, SCENARIOS
from .search import Found, Search


def main() -> int:
    """Read the options, search, report."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.moving_model", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="SCENARIO")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--schedules", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    unknown = set(options.names) - set(BY_NAME)
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    wanted = set(options.names) or (QUICK if options.quick else set(BY_NAME))
    names = [one.name for one in SCENARIOS if one.name in wanted]
    mutants = [] if options.names else list(MUTANTS)
    harmless = [] if options.names or options.quick else list(HARMLESS)
    began = time.monotonic()
    states = steps = bad = found = 0
    with Pool(options.jobs, maxtasksperchild=1) as pool:  # each search gives its memory back
        for name, came in zip(names, pool.imap(searched, names), strict=True):
            print(f"{name:<55} {came}", flush=True)
            states, steps, bad = states + came.states, steps + came.steps, bad + (not came.complete)
        for mutant, came in zip(harmless, pool.imap(mutated, harmless), strict=True):
            print(f"{mutant.name}, {mutant.scenario}: {came}", flush=True)
            states, steps, bad = states + came.states, steps + came.steps, bad + (not came.complete)
        for mutant, came in zip(mutants, pool.imap(mutated, mutants), strict=True):
            found += bool(came.violation)
            print(f"{mutant.name:<65} {told(came, options.schedules)}", flush=True)
    print(f"{states:,} states, {steps:,} steps, {bad} violations; "
          f"{found} of {len(mutants)} faults found; {time.monotonic() - began:.0f} s")
    return 1 if bad or found < len(mutants) else 0


def searched(name: str) -> Found:
    """Search a scenario."""
    return Search(Machine(BY_NAME[name])).run()


def mutated(mutant: Mutant) -> Found:
    """Search for a planted fault."""
    return Search(Machine(BY_NAME[mutant.scenario], (mutant.name,))).run()


def told(found: Found, schedules: bool) -> str:
    """Tell how a fault was found."""
    if not found.violation:
        return "NOT FOUND"
    text = f"found in {len(found.schedule)} steps, {found.states:,} states: {found.violation}"
    return text + "".join(f"\n    {line}" for line in found.schedule if schedules)


if __name__ == "__main__":
    sys.exit(main())
