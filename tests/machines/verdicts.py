"""What is wrong with a history, and what it measures."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import NamedTuple

from . import judge
from .judge import NEVER, Read, Register, Write
from .scenarios import Scenario
from .workers import BOUND_S, READ_S, Answers, Deeds
from .world import History

SLICE_S, SLICES = 0.1, 5  # all is fast again once so many slices in a row are as before the fault
AS_FAST, ANYHOW_S = 2.0, 0.0005
STILL_S = 0.3  # before the end


class Verdict(NamedTuple):
    """What a history shows.

    Attributes:
        wrong: violations, a line each.
        lost: acknowledged writes that the store has not in the end.
        converged_s: after mending, until nobody was refused any more, or given what was too
            old, or had been replaced before it; inf: it was so until the end.
        reads: of each machine and consistency.
        writes: of each machine.
    """

    wrong: list[str]
    lost: list[str]
    converged_s: float
    reads: dict[tuple[str, str], Reading]
    writes: dict[str, Writing]


class Reading(NamedTuple):
    """What one reader met with.

    Attributes:
        per_s, refused: answers a second, and the share of attempts that raised, in the fault.
        oldest_s: how long ago the oldest answer of the fault, or after it, had been replaced.
        oldest_before_s: the same of before the fault.
        answers_s: after mending, until the last refusal.
        fast_s: after mending, until all is as fast as before; inf: never.
    """

    per_s: float
    refused: float
    oldest_s: float
    oldest_before_s: float
    answers_s: float
    fast_s: float


class Writing(NamedTuple):
    """What one writer met with in the fault: acknowledged writes a second, the share that was
    certainly not done, and the share of which nobody knows."""

    per_s: float
    refused: float
    unknown: float


def verdict(scenario: Scenario, history: History) -> Verdict:
    """Judge and measure."""
    lost = [key for deeds in history.deeds.values() for key in deeds.missing]
    registers = registers_of(scenario, history, set(lost))
    wrong = [] if scenario.may_lose else [f"lost: {key}, which was acknowledged" for key in lost]
    converged = max((_converged(registers, kind, answers, history)
                     for (_, kind), answers in history.answers.items()), default=0.0)
    wrong += violations(scenario, history, registers, history.healed + converged)
    return Verdict(
        wrong, lost, converged,
        {who: _reading(scenario, registers, history, who) for who in history.answers},
        {machine: _writing(history, machine) for machine in history.deeds},
    )


def registers_of(scenario: Scenario, history: History, lost: set[str]) -> dict[str, Register]:
    """Return all keys' writes. Where some may be lost, those of which the logs do not tell that
    the store has kept them are such of which nobody knows."""
    writes: dict[str, list[Write]] = {key: [] for key in history.keys}
    for machine, deeds in history.deeds.items():
        kept = None if not scenario.may_lose or history.wipes else _kept(machine, deeds, lost)
        for one in deeds.writes:
            if kept is not None and one.value not in kept:
                one = one._replace(ended=NEVER)
            writes[one.key].append(one)
    reads: dict[str, list[Read]] = defaultdict(list)
    for answers in history.answers.values():
        for read in answers.reads:
            reads[read.key].append(read)
    return {key: Register(ones, reads[key], history.wipes) for key, ones in writes.items()}


def _kept(machine: str, deeds: Deeds, lost: set[str]) -> set[int]:
    """Return the writes that a failover has certainly spared: the log after one is there, and the
    log before it. The log after it alone may be the first thing that the new master was sent."""
    kept, before = set(), True
    for log, _ in deeds.logged:
        there = log not in lost
        if there and before:
            kept.add(int(log.removeprefix(f"log:{machine}:")))
        before = there
    return kept


def violations(
    scenario: Scenario, history: History, registers: dict[str, Register], converged: float
) -> list[str]:
    """List them all, with who has seen them."""
    found = []
    judged: dict[tuple[str, str], list[Read]] = {}
    for (machine, kind), answers in history.answers.items():
        judged[machine, kind] = [
            read for read in answers.reads
            if (machine in scenario.judged or read.ended < history.faulted or
                read.began > converged) and not _is_excused(scenario, registers, read)
        ]
    for kind, bound_s in (("linearizable", 0.0), ("bounded", BOUND_S)):
        reads: dict[str, list[Read]] = defaultdict(list)
        for (_, of), ones in judged.items():
            for read in ones if of == kind else ():
                reads[read.key].append(read)
        for key, register in registers.items():
            found += [f"{kind}: {line}" for line in judge.atomic(register, reads[key], bound_s)]
    for (machine, kind), reads_of_one in judged.items():
        if kind != "bounded":
            found += [f"{kind}, {machine}: went back: {line}"
                      for line in judge.never_back(registers, reads_of_one)]
        own = {key: one for key, one in registers.items() if key.startswith(machine)}
        found += [f"{kind}, {machine}: own write: {line}"
                  for line in judge.own_writes(own, reads_of_one)]
    return found


def _is_excused(scenario: Scenario, registers: dict[str, Register], read: Read) -> bool:
    """Tell whether Redis says itself that this may be: a key was evicted; a write was read, and
    lost in a failover."""
    if scenario.may_vanish and read.value == judge.ABSENT:
        return True
    register = registers[read.key]
    one = register.of.get(register.value_of(read))
    return scenario.may_lose and one is not None and one.ended == NEVER


# -- measures -------------------------------------------------------------------------------------

def _converged(
    registers: dict[str, Register], kind: str, answers: Answers, history: History
) -> float:
    """Return the seconds after mending until the last refusal, or the last answer that is too old,
    or had been replaced before it; NEVER: it was so until the end."""
    limit_s = {"linearizable": 0.0, "bounded": BOUND_S}.get(kind, NEVER)
    late = [ended for _, ended, _ in answers.refused]
    for read in answers.reads:
        age = registers[read.key].age(read)
        if age > limit_s or (age and read.began - age < history.healed):
            late.append(read.ended)
    last = max(late, default=0.0)
    if last > history.ended - STILL_S:
        return NEVER
    return max(0.0, last - history.healed)


def _reading(
    scenario: Scenario, registers: dict[str, Register], history: History, who: tuple[str, str]
) -> Reading:
    answers = history.answers[who]
    inside = [read for read in answers.reads if history.faulted <= read.began < history.healed]
    refused = [one for one in answers.refused if history.faulted <= one[0] < history.healed]
    ages = [(read.began, registers[read.key].age(read)) for read in answers.reads
            if not _is_excused(scenario, registers, read)]
    late = [ended - history.healed for _, ended, _ in answers.refused if ended >= history.healed]
    return Reading(
        len(inside) / (history.healed - history.faulted),
        len(refused) / max(1, len(inside) + len(refused)),
        max((age for began, age in ages if began >= history.faulted), default=0.0),
        max((age for began, age in ages if began < history.faulted), default=0.0),
        max(late, default=0.0),
        _fast(answers, history),
    )


def _fast(answers: Answers, history: History) -> float:
    """Return the seconds after mending until answers come as quickly as before the fault."""
    usual = median(read.ended - read.began for read in answers.reads
                   if history.began <= read.began < history.faulted)
    slices: dict[int, list[float]] = defaultdict(list)
    for read in answers.reads:
        slices[int((read.began - history.healed) // SLICE_S)].append(read.ended - read.began)
    refused = {int((ended - history.healed) // SLICE_S) for _, ended, _ in answers.refused}
    good = 0
    for n in range(int((history.ended - history.healed) / SLICE_S)):
        took = slices.get(n, [])
        is_good = n not in refused and len(took) > SLICE_S / READ_S / 5 and (
            median(took) <= max(AS_FAST * usual, usual + ANYHOW_S))
        good = good + 1 if is_good else 0
        if good == SLICES:
            return (n + 1 - SLICES) * SLICE_S
    return NEVER


def _writing(history: History, machine: str) -> Writing:
    deeds = history.deeds[machine]
    inside = [one for one in deeds.writes if history.faulted <= one.began < history.healed]
    refused = [one for one in deeds.refused if history.faulted <= one[0] < history.healed]
    unknown = sum(one.ended == NEVER for one in inside)
    tried = max(1, len(inside) + len(refused))
    return Writing((len(inside) - unknown) / (history.healed - history.faulted),
                   len(refused) / tried, unknown / tried)
