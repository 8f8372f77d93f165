"""Plans of reads and writes, and the loop that works them off with a peer's own statements."""

from __future__ import annotations

import itertools
import random
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ..core.workloads import SEED
from .signed_values import Content

PLAN = 32_768  # operations of a plan; a worker goes around it
EVERY = 16  # one operation of so many is timed singly, unless all are
SKEW = 0.99

# The same statement stands there twice: the bytecode of each place adapts on its own. The clock
# is read for the single operation only, and its reading is good enough to know when to stop.
_MIXED = """
def mixed(groups, until_ns, note_span, note_answer{parameters}):
    done = 0
    for entry, key, value, rest in groups:
        if value is None:
            begun = clock_now()
{read}
            ended = clock_now()
            note_answer((entry, value))
        else:
            begun = clock_now()
{write}
            ended = clock_now()
        note_span(ended - begun)
        for key, value in rest:
            if value is None:
{read_of_rest}
            else:
{write_of_rest}
        done += 1
        if ended >= until_ns:
            break
    return done
"""


class Mix(NamedTuple):
    """What a worker does.

    Attributes:
        reads: their share; the others are writes.
        skew: keys are drawn with weights 1 / rank ** skew; 0: all are alike.
    """

    reads: float = 0.95
    skew: float = 0.0


class Plan(NamedTuple):
    """The operations of one worker, in groups of which the first operation is timed singly.

    Attributes:
        groups: (entry, key, value to write or None, ((key, value), ...)).
        wrote: for each group (entry, number) of its writes.
        every: operations of a group.
    """

    groups: list[tuple[int, Any, Any, tuple[tuple[Any, Any], ...]]]
    wrote: list[list[tuple[int, int]]]
    every: int

    @classmethod
    def of(
        cls, mix: Mix, keys: Sequence[Any], content: Content, writer: int,
        numbers: Iterator[int], every: int = EVERY, operations: int = PLAN,
    ) -> Plan:
        """Draw a worker's plan; the same one for every peer.

        Args:
            keys: of all entries, as the peer takes them.
            writer: this worker, from 1 on.
            numbers: of its writes; they go on from plan to plan.
            every: operations of a group: 1 or EVERY.
            operations: how many, rounded down to whole groups of EVERY.
        """
        operations = max(1, operations // EVERY) * EVERY
        chosen = draw(mix, len(keys), operations, random.Random(SEED + 1000 * writer))
        writes = spread_writes(mix, operations, random.Random(SEED + 1000 * writer + 1))
        wrote = [
            [(entry, next(numbers))] if write else []
            for entry, write in zip(chosen, writes, strict=True)
        ]
        steps = [
            (keys[entry], content.make(entry, writer, made[0][1]) if made else None)
            for entry, made in zip(chosen, wrote, strict=True)
        ]
        starts = range(0, operations, every)
        return cls(
            [(chosen[n], *steps[n], tuple(steps[n + 1 : n + every])) for n in starts],
            [list(itertools.chain(*wrote[n : n + every])) for n in starts],
            every,
        )


class Round:
    """Goes round a plan, and knows what was written on the way."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.groups = itertools.cycle(plan.groups)
        self.place = 0

    def passed(self, done: int) -> dict[int, int]:
        """Take down that so many more groups were done: the last number for each entry written."""
        wrote, end = self.plan.wrote, self.place + done
        # Beyond one whole round, only the last one is left to be seen.
        places = range(max(self.place, end - len(wrote)), end)
        self.place = end % len(wrote)
        return dict(itertools.chain.from_iterable(wrote[n % len(wrote)] for n in places))


def draw(mix: Mix, entries: int, count: int, source: random.Random) -> list[int]:
    """Draw entries. The most frequent ones are the same for every worker, and not neighbours."""
    if not mix.skew:
        return source.choices(range(entries), k=count)
    ranked = random.Random(SEED).sample(range(entries), entries)
    weights = itertools.accumulate(rank**-mix.skew for rank in range(1, entries + 1))
    return source.choices(ranked, cum_weights=list(weights), k=count)


def spread_writes(mix: Mix, count: int, source: random.Random) -> list[bool]:
    """Say which operations are writes: exactly their share, in random places.

    >>> sum(spread_writes(Mix(reads=0.75), 400, random.Random(1)))
    100
    """
    reads = round(count * mix.reads)
    places = [False] * reads + [True] * (count - reads)
    source.shuffle(places)
    return places


def mixed_loop(read: str, write: str, names: dict[str, Any]) -> Callable[..., int]:
    """Build mixed(groups, until_ns, note_span, note_answer) -> groups done.

    The names are default arguments: local variables, the fastest that Python has.
    """
    names = {**names, "clock_now": time.monotonic_ns}
    source = _MIXED.format(
        parameters="".join(f", {name}={name}" for name in names),
        read=textwrap.indent(read, " " * 12),
        write=textwrap.indent(write, " " * 12),
        read_of_rest=textwrap.indent(read, " " * 16),
        write_of_rest=textwrap.indent(write, " " * 16),
    )
    space = dict(names)
    exec(compile(source, "<mixed loop>", "exec"), space)  # text of this package only
    function: Callable[..., int] = space["mixed"]
    return function
