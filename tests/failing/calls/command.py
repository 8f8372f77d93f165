"""`python -m tests.failing calls`: run scenarios with failing system calls.

Without options: the short part, as the tests run it. --all: every call of every scenario with
every errno that it can have, once, and where that makes sense from then on for ever. --table
writes docs/failing-calls.md from such a run of each engine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shmmap

from ...support.strangers import enter_own_shm
from .injector import refusal
from .judge import faults, outcome_of
from .kinds import Site, may_last
from .runs import Injection, Run, Runner
from .scenario import Scenario
from .scenarios import ALL, BY_NAME
from .table import write_table

TOP = Path(__file__).resolve().parents[3]
Sites = list[tuple[Site, tuple[str, ...]]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say which options there are."""
    parser.add_argument("--all", action="store_true", help="everything: some minutes an engine")
    parser.add_argument(
        "--table", nargs="*", type=Path, metavar="JSON",
        help="write the docs' table from these outcomes; without any run everything, both engines",
    )
    parser.add_argument("--scenario", choices=sorted(BY_NAME), action="append")
    parser.add_argument("--call", help="only calls of this name, say openat")
    parser.add_argument("--thing", help="only calls about this, say 'shard'")
    parser.add_argument("--errno", help="only this errno, say EMFILE")
    parser.add_argument("--at", type=int, help="only the AT-th of a call and thing")
    parser.add_argument("--lasting", action="store_true", help="only failures that stay")
    parser.add_argument("--seconds", type=float, help="of --all as much as goes, in any order")
    parser.add_argument("--seed", type=int, default=1, help="of the short part, and of that order")
    parser.add_argument("--patch", default="", help=argparse.SUPPRESS)  # a fault to be found
    parser.add_argument("--json", type=Path, help="write every outcome there")
    parser.add_argument("-v", "--verbose", action="store_true", help="show every outcome")


def run(options: argparse.Namespace) -> int:
    """Run what was asked for; the exit code is 1 if there was a fault."""
    if refusal():
        print(f"not run: {refusal()}")
        return 3
    if options.table is not None:
        return make_table(options.table)
    if not enter_own_shm("256m"):  # else what others make and remove there is seen too
        print("in the machine's own /dev/shm: no mounts of one's own are permitted")
    begun = time.monotonic()
    runner = Runner(options.patch)
    records: list[dict[str, Any]] = []
    seen_sites: set[tuple[str, Site]] = set()
    work: list[tuple[type[Scenario], Injection]] = []
    bad = 0
    try:
        for scenario in [BY_NAME[name] for name in options.scenario or BY_NAME]:
            clean = runner.run(scenario)
            bad += tell(clean, records, options.verbose)
            seen_sites.update((scenario.name, site) for site, _ in clean.sites)
            work += [(scenario, one) for one in chosen(scenario, list(clean.sites), options)]
        if options.seconds:
            random.Random(options.seed).shuffle(work)
        for scenario, injection in work:
            if options.seconds and time.monotonic() - begun > options.seconds:
                break
            seen = runner.run(scenario, injection)
            if took_long(faults(seen)):  # the machine may have been busy with something else
                seen = runner.run(scenario, injection)
            bad += tell(seen, records, options.verbose)
    finally:
        runner.close()
        if options.json:
            options.json.write_text(json.dumps(records, indent=1))
    fired = sum(1 for record in records if record["fired"])
    print(
        f"{shmmap.ENGINE} engine: {len(options.scenario or ALL)} scenarios, {len(seen_sites):,} "
        f"system calls in them, {fired:,} failures injected, {bad:,} with faults, "
        f"{time.monotonic() - begun:.0f} s"
    )
    return 1 if bad else 0


def chosen(
    scenario: type[Scenario], sites: Sites, options: argparse.Namespace
) -> Iterator[Injection]:
    """List what to let fail: everything, or of each call one, with its likeliest errno."""
    narrowed = any((options.call, options.thing, options.errno, options.at))
    wanted = [
        (site, errnos) for site, errnos in sites
        if options.call in (None, site.call) and options.thing in (None, site.thing)
        and options.at in (None, site.which) and site.which <= (scenario.most or site.which)
    ]
    if not options.all and not narrowed:
        yield from short(scenario, wanted, options.seed)
        return
    for site, errnos in wanted:
        for error in errnos:
            if options.errno not in (None, error):
                continue
            if not options.lasting:
                yield Injection(site, error)
            if may_last(site, error):
                yield Injection(site, error, True)


def short(scenario: type[Scenario], sites: Sites, seed: int) -> Iterator[Injection]:
    """Of each call's name one site, with its likeliest errno, or with another one."""
    choice = random.Random(f"{seed} {scenario.name}")
    by_call: dict[str, Sites] = {}
    for site, errnos in sites:
        by_call.setdefault(site.call, []).append((site, errnos))
    for _, of_call in sorted(by_call.items()):
        site, errnos = choice.choice(of_call)
        error = errnos[0] if choice.random() < 0.6 else choice.choice(errnos)
        yield Injection(site, error, may_last(site, error) and choice.random() < 0.3)


def took_long(found: list[str]) -> bool:
    """Tell whether faults are about time: such a run counts if the next one is like it."""
    return any(re.search("hangs|more than|LockTimeout|ShardBusy|swept", fault) for fault in found)


def tell(run: Run, records: list[dict[str, Any]], verbose: bool) -> int:
    """Note a run; print it where it has faults. 1 if it has."""
    found = faults(run)
    injection = run.injection
    if injection is None:
        if found:
            print(f"{run.scenario.name}, nothing failing: {'; '.join(found)}", flush=True)
        return int(bool(found))
    records.append({
        "engine": shmmap.ENGINE, "scenario": run.scenario.name, "call": injection.site.call,
        "thing": injection.site.thing, "which": injection.site.which, "errno": injection.error,
        "lasting": injection.lasting, "fired": run.fired, "outcome": outcome_of(run),
        "faults": found, "text": run.report.text if run.report else "",
    })
    if found or verbose:
        print(f"{run.scenario.name}: {injection}: {outcome_of(run)}", flush=True)
        for fault in found:
            print(f"    {fault}", flush=True)
    return int(bool(found))


def make_table(files: list[Path]) -> int:
    """Write the docs' table, from a run of everything with each engine if from nothing else."""
    with tempfile.TemporaryDirectory() as directory:
        files = files or [run_all(engine, Path(directory)) for engine in ("compiled", "pure")]
        records = [record for file in files for record in json.loads(file.read_text())]
    write_table(records)
    return int(any(record["faults"] for record in records))


def run_all(engine: str, directory: Path) -> Path:
    """Run everything with an engine, in a process of its own; give the file of its outcomes."""
    file = directory / f"{engine}.json"
    subprocess.run(
        [sys.executable, "-m", "tests.failing", "calls", "--all", "--json", file], cwd=TOP,
        env={**os.environ, "SHMMAP_ENGINE": engine}, check=False,
    )
    return file
