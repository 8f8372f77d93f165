"""Who goes on: at random, by priorities, or every way there is within a bound.

Sources: PCT: Burckhardt et al., 'A randomized scheduler with probabilistic guarantees of
finding bugs', ASPLOS 2010. Preemption bounding: Musuvathi and Qadeer, 'Iterative context
bounding', PLDI 2007.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from ..simulator.machine import (
    CALL,
    CLOCK,
    EXCHANGE,
    LIVENESS,
    PAUSE,
    READ,
    SEMAPHORE,
    TIME,
    WRITE,
    Machine,
    Step,
    Worker,
    run_on,
)

Deviations = tuple[tuple[int, int], ...]  # (number of the decision, worker that goes on there)


def candidates(machine: Machine, forced: bool) -> list[Worker]:
    """List who may go on. A worker that only spins may not, if another one can."""
    can = machine.runnable()
    if forced:
        can = [worker for worker in can if worker is not machine.current] or can
    return can or machine.sleepers()


class AtRandom:
    """Switch with some chance at every step; sometimes let a sleep end early."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.chance = self.rng.choice((0.03, 0.1, 0.3, 0.6))

    def __call__(self, machine: Machine, step: Step, forced: bool) -> Worker:
        draw = self.rng.random()
        if not forced and draw > self.chance and machine.current is not None:
            return machine.current
        can = candidates(machine, forced)
        if draw < self.chance / 10:
            can = can + machine.sleepers()
        return self.rng.choice(can)


class ByPriority:
    """PCT: the worker of the highest priority goes on; it falls at `depth` - 1 random steps. Where
    all sleep, one whose sleep is over goes first: else one that polls would starve it."""

    def __init__(self, seed: int, depth: int, workers: int, length: int) -> None:
        rng = random.Random(seed)
        self.priorities = list(range(depth, depth + workers))
        rng.shuffle(self.priorities)
        falls = rng.sample(range(1, max(length, depth) + 1), depth - 1)
        self.falls = {step: depth - 1 - i for i, step in enumerate(sorted(falls))}

    def __call__(self, machine: Machine, step: Step, forced: bool) -> Worker:
        fallen = self.falls.pop(machine.steps, None)
        if fallen is not None and machine.current is not None:
            self.priorities[machine.current.number] = fallen
        return max(candidates(machine, forced), key=lambda w: (
            w.asleep and w.wakes_ns <= machine.now_ns, self.priorities[w.number]))


class Deviating:
    """Run on, but switch at chosen steps. Notes where it could have been left for others."""

    def __init__(self, deviations: Deviations, shared: set[object]) -> None:
        self.deviations = dict(deviations)
        self.last = deviations[-1][0] if deviations else -1
        self.shared = shared
        self.decisions = 0
        self.choices: list[tuple[int, bool, list[int]]] = []  # decision, is a preemption, to whom

    def __call__(self, machine: Machine, step: Step, forced: bool) -> Worker:
        chosen = run_on(machine, step, forced)
        self.decisions += 1
        at = self.decisions
        wanted = self.deviations.get(at)
        if wanted is not None:
            chosen = machine.workers[wanted]
        elif at > self.last and (
            step.kind == CALL or step.place in self.shared or step.kind in (SEMAPHORE, LIVENESS)
        ):
            others = [w.number for w in machine.runnable() if w is not chosen]
            others += [w.number for w in machine.sleepers() if w is not chosen and not forced]
            if others and step.kind != PAUSE:
                self.choices.append((at, not forced, others))
        return chosen


class Footprint:
    """Which places more than one worker touches, at least one of them writing.

    A switch matters only right before a step at such a place: before any other it could as
    well have happened later, with the same results.
    """

    def __init__(self) -> None:
        self.readers: dict[object, set[int]] = {}
        self.writers: dict[object, set[int]] = {}
        self.shared: set[object] = set()

    def add(self, trace: list[Step]) -> None:
        """Take in a run's steps."""
        for worker, kind, place in set(trace):
            if kind in (READ, WRITE, EXCHANGE, CLOCK, TIME):
                writes = kind in (WRITE, EXCHANGE, TIME)
                (self.writers if writes else self.readers).setdefault(place, set()).add(worker)
        for place, writers in self.writers.items():
            if len(writers | self.readers.get(place, set())) > 1:
                self.shared.add(place)


def every_way(
    run: Callable[[Deviating], list[Step]], bound: int, most: int | None = None, stride: int = 1
) -> Iterator[Deviations]:
    """Run every schedule with at most `bound` preemptions; give each after it has run.

    `run(schedule)` runs once and gives the steps. What is shared is found out on the way, with
    one preemption first; if more of it turns up late, everything starts again. `most`: stop
    after so many. `stride`: deviate at one in so many of the steps only.
    """
    footprint = Footprint()
    done = 0
    for allowed in (min(bound, 1), bound):
        known: set[object] | None = None
        while known is None or not footprint.shared <= known:
            known = set(footprint.shared)
            waiting: list[tuple[Deviations, int]] = [((), allowed)]
            while waiting:
                deviations, left = waiting.pop()
                schedule = Deviating(deviations, footprint.shared)  # which grows meanwhile
                footprint.add(run(schedule))
                yield deviations
                done += 1
                if most is not None and done >= most:
                    return
                for at, costs, others in schedule.choices[::stride]:
                    if left or not costs:
                        waiting += [((*deviations, (at, other)), left - costs)
                                    for other in others]
        if allowed == bound:
            return
