"""`python -m bench partitions`: play what can happen between machines, judge, and measure.

Two machines, each a network namespace with a /dev/shm of its own and five processes, share a redis:
three read all keys, each with another consistency, one writes keys of the machine's own, and one
only listens. Then a wire is cut, a process killed, and so on, and mended again. Every answer is
held to what its consistency promises, and every write that was acknowledged is looked for in the
end. Needs root, redis-server and iproute2.

Prints what each scenario came to; 1: something was answered wrongly, or lost that may not be.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench.core.machine import describe_engine, describe_machine, timestamp
from bench.core.results import FORMAT

from .network import why_not
from .scenarios import SCENARIOS, Scenario, play
from .verdicts import Verdict, verdict
from .workers import BOUND_S, READ_S, WRITE_S

SECONDS, FULL_S, MOST_S = 5.0, 90.0, 20.0  # of a fault; at most of one that cuts nothing
BEFORE_S, AFTER_S = 3.0, 5.0


def parser() -> argparse.ArgumentParser:
    """Say what a run takes."""
    made = argparse.ArgumentParser(prog="python -m bench partitions", description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--full", action="store_true", help=f"cuts of {FULL_S:g} s: 20 minutes")
    made.add_argument("--seconds", type=float, default=None, metavar="N",
                      help=f"how long a cut lasts (default {SECONDS:g}); what cuts nothing lasts "
                      f"{MOST_S:g} s at most")
    made.add_argument("--seed", type=int, default=1, metavar="N", help="of all that is drawn")
    made.add_argument("--only", default="", metavar="NAMES", help="comma-separated scenarios")
    made.add_argument("--list", action="store_true", help="list the scenarios and leave")
    made.add_argument("--json", type=Path, metavar="PATH", help="write all figures there")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    options = parser().parse_args(arguments)
    if options.list:
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:18}{scenario.title}")
        return 0
    names = [name for name in options.only.split(",") if name] or list(SCENARIOS)
    if unknown := set(names) - set(SCENARIOS):
        parser().error(f"no scenario {', '.join(sorted(unknown))}; see --list")
    if reason := why_not():
        print(f"machines as namespaces: {reason}", file=sys.stderr)
        return 2
    cut_s = options.seconds or (FULL_S if options.full else SECONDS)
    results: dict[str, Any] = {
        "kind": "partitions", "format": FORMAT, "started": timestamp(),
        "engine": describe_engine(), "machine": describe_machine(), "seed": options.seed,
        "bound_s": BOUND_S, "reads_per_s": 1 / READ_S, "writes_per_s": 1 / WRITE_S, "rows": [],
    }
    wrong = 0
    for name in names:
        scenario = SCENARIOS[name]
        during_s = cut_s if scenario.is_cut else min(cut_s, MOST_S)
        row, found = measure(scenario, options.seed, during_s)
        results["rows"].append(row)
        wrong += len(found.wrong)
        tell(row, found)
        if options.json is not None:  # at once: what follows may take long
            options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 1 if wrong else 0


def measure(scenario: Scenario, seed: int, during_s: float) -> tuple[dict[str, Any], Verdict]:
    """Play one; return what the table tells of it, and the verdict."""
    history, notes = play(scenario, seed, BEFORE_S, during_s, max(AFTER_S, scenario.after_s))
    found = verdict(scenario, history)
    promoted = notes.get("promoted")
    row = {
        "scenario": scenario.name, "title": scenario.title,
        "during_s": round(history.healed - history.faulted, 3),
        "failover_s": None if promoted is None else round(promoted - history.faulted, 3),
        "answers": sum(len(one.reads) for one in history.answers.values()),
        "acknowledged": sum(len(one.logged) for one in history.deeds.values()),
        "lost": len(found.lost), "wrong": len(found.wrong), "may_lose": scenario.may_lose,
        "judged": scenario.judged, "converged_s": _finite(found.converged_s),
        "reads": [{"machine": machine, "consistency": kind,
                   **{field: _finite(value) for field, value in one._asdict().items()}}
                  for (machine, kind), one in found.reads.items()],
        "writes": [{"machine": machine, **one._asdict()} for machine, one in found.writes.items()],
    }
    return row, found


def _finite(value: float) -> float | None:
    return round(value, 4) if value < float("inf") else None


def tell(row: dict[str, Any], found: Verdict) -> None:
    """Print what came of a scenario."""
    converged = row["converged_s"]
    print(f"{time.strftime('%H:%M:%S')} {row['scenario']}: {row['title']}; "
          f"{row['during_s']:.0f} s; {row['answers']:,} answers, {row['wrong']} wrong; "
          f"{row['acknowledged']:,} acknowledged writes, {row['lost']} lost; converged after "
          f"{'-' if converged is None else f'{converged:.2f} s'}", flush=True)
    for one in row["reads"]:
        print(f"    {one['machine']} {one['consistency']:13}{one['per_s']:6.0f}/s "
              f"{one['refused']:7.1%} refused   oldest {one['oldest_s'] * 1e3:6.0f} ms   "
              f"as fast after {'-' if one['fast_s'] is None else one['fast_s']} s", flush=True)
    for one in row["writes"]:
        print(f"    {one['machine']} {'writes':13}{one['per_s']:6.0f}/s {one['refused']:7.1%} "
              f"refused, {one['unknown']:.1%} unknown", flush=True)
    for line in found.wrong[:20]:
        print(f"    WRONG: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
