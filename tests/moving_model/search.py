"""Every state that a scenario can come to, breadth first: so a schedule that leads to a violation
is a shortest one.

Judged are: each call as it ends; each end of all processes, by one that comes afterwards; that
some way leads from each state to an end; and, where the scenario asks for it, that a reader ends by
itself wherever all others are stopped.
"""

from __future__ import annotations

import time
from array import array
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .engine import Violation
from .machine import Machine, Step
from .memory import DEAD, DIRTY, OWNER

LONGEST_WAIT = 64  # steps that a reader takes alone, at most


class Found(NamedTuple):
    """What a search came to. `violation`: "" for none; `complete`: all states were looked at."""

    states: int
    steps: int
    ends: int
    deepest: int
    seconds: float
    complete: bool
    violation: str = ""
    schedule: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = (f"{self.states:>10,} states {self.steps:>11,} steps {self.ends:>8,} ends "
                f"{self.deepest:>4} deep {self.seconds:>6.1f} s"
                f"{'' if self.complete or self.violation else '  INCOMPLETE'}")
        if self.violation:
            text += f"\n  VIOLATION: {self.violation}\n" + "\n".join(
                f"    {line}" for line in self.schedule)
        return text


class Search:
    """One search of one machine, of at most `most` states."""

    def __init__(self, machine: Machine, most: int = 1 << 30) -> None:
        self.machine, self.most = machine, most
        self.numbers: dict[bytes, int] = {}
        self.states: list[bytes] = []
        self.parents = array("i")
        self.depths = array("H")
        self.sources, self.targets = array("I"), array("I")
        self.over = array("B")
        names = [one.name for one in machine.scenario.processes]
        waits = machine.scenario.waits
        self.waiting = names.index(waits) if waits else -1

    def add(self, state: bytes, parent: int) -> int:
        """Number a state."""
        number = self.numbers.setdefault(state, len(self.states))
        if number == len(self.states):
            self.states.append(state)
            self.parents.append(parent)
            self.depths.append(self.depths[parent] + 1 if parent >= 0 else 0)
            self.over.append(0)
        return number

    def run(self) -> Found:
        """Look at every state."""
        began = time.monotonic()
        violation, schedule = "", list[str]()
        self.add(self.machine.first(), -1)
        number = ends = 0
        try:
            while number < len(self.states) and len(self.states) < self.most:
                ends += self.expand(number)
                number += 1
            if number == len(self.states):
                number = self.without_end()
                if number >= 0:
                    raise Violation("from here no way leads to an end")
        except Violation as wrong:
            violation = str(wrong)
            schedule = self.schedule(number)
        complete = not violation and number < 0
        return Found(len(self.states), len(self.sources), ends, max(self.depths),
                     time.monotonic() - began, complete, violation, tuple(schedule))

    def expand(self, number: int) -> bool:
        """Do each step that can be done in a state; tell whether it is an end."""
        machine, state = self.machine, self.states[number]
        if self.waiting >= 0:
            self.wait_alone(state)
        before = len(self.sources)
        for _, _, following in machine.steps(state):
            self.sources.append(number)
            self.targets.append(self.add(following, number))
        if machine.is_over(state):
            self.over[number] = 1
            machine.finish(state)
            return True
        if before == len(self.sources):
            raise Violation("nobody can go on")
        return False

    def wait_alone(self, state: bytes) -> None:
        """See that a reader ends with all others stopped; but for a live process in the middle of a
        change of a shard, which may keep it waiting."""
        machine, who = self.machine, self.waiting
        for at in machine.at[1:machine.layout.count]:
            owner = state[at + OWNER]
            if state[at + DIRTY] and owner and not machine.is_dead(list(state), owner):
                return
        p = machine.at_of[who]
        calls = state[p + 1]
        states = {state}
        for _ in range(LONGEST_WAIT):
            following = set()
            for one in states:
                if one[p] <= DEAD or one[p + 1] != calls:
                    return
                following |= {after for _, _, after in machine.steps(one, who)}
            states = following
        raise Violation(f"{machine.scenario.waits} waits for a process that is stopped")

    def without_end(self) -> int:
        """Return the first state from which no way leads to an end; -1: there is none."""
        good = np.frombuffer(self.over, np.uint8).astype(bool)
        source = np.frombuffer(self.sources, np.uint32)
        target = np.frombuffer(self.targets, np.uint32)
        while True:
            before = int(good.sum())
            good[source[good[target]]] = True
            if int(good.sum()) == before:
                break
        bad = np.flatnonzero(~good)
        return int(bad[0]) if bad.size else -1

    # -- telling -------------------------------------------------------------------------------

    def schedule(self, number: int) -> list[str]:
        """Tell the steps to a state, and the one that was wrong."""
        wrong = self.name(*self.machine.last)  # before the steps are done again
        path = [number]
        while self.parents[path[-1]] >= 0:
            path.append(self.parents[path[-1]])
        path.reverse()
        lines = []
        for source, target in pairwise(path):
            before, after = self.states[source], self.states[target]
            for who, step, following in self.machine.steps(before):
                if following == after:
                    lines.append(self.told(who, step, before, after))
                    break
        return [*lines, f"then {wrong}"]

    def name(self, who: int, step: Step | None) -> str:
        """Name who does what."""
        names = [one.name for one in self.machine.scenario.processes]
        who_name = [*names, "who comes afterwards"][who]
        what = (step.__doc__ or "").split("\n\n")[0] if step else "dies."
        return f"{who_name}: {' '.join(what.split())}"

    def told(self, who: int, step: Step | None, before: bytes, after: bytes) -> str:
        """Tell a step, and the shared words that it changed."""
        layout = self.machine.layout
        changed = [f"{layout.word(at)} {before[at]} -> {after[at]}"
                   for at in range(len(before)) if before[at] != after[at] and layout.word(at)]
        return self.name(who, step) + (f"  [{'; '.join(changed)}]" if changed else "")
