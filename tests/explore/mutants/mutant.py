"""What a planted fault is, and what has to find it: the other files here have them, by subject.

A mutant is a function of the engine compiled anew from its own source with some text replaced.
Each text must be there exactly once, so a mutant never becomes the engine itself unnoticed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...support.source_text import with_changes
from ..scenarios.scenario import SHORT, Operation, Scenario


class Patch(NamedTuple):
    """A function of a class or module, and the texts to replace in it."""

    owner: Any
    name: str
    changes: tuple[tuple[str, str], ...]

    def mutated(self) -> Any:
        """Compile the function with its texts replaced."""
        return with_changes(self.owner, self.name, self.changes)


class Mutant(NamedTuple):
    """A fault, and what finds it: a scenario (or its name) and a way to run it.

    `finder`: "every N": all schedules with at most N preemptions; "random": random ones; "deaths":
    worker 0 dies at every step of its own ("deaths N": and the others are preempted N times;
    "deaths N STRIDE FIRST": at one in so many steps, from that one on);
    "dies WORD every N": it dies right after it has changed that word of the shard's header;
    "left WORD every N": it has died so before, and the lock is free;
    "beside WORD": it dies right after it has changed that word of the control segment, while
    worker 1 has come to any step of its own; "beside N": at one in N steps, and worker 1 likewise.
    `most`: schedules within which the fault has to be found.
    """

    name: str
    patches: tuple[Patch, ...]
    scenario: str | Scenario
    finder: str
    most: int = 3000


def change(owner: Any, name: str, *texts: str) -> Patch:
    """Replace the first text by the second, the third by the fourth..."""
    return Patch(owner, name, tuple(zip(texts[::2], texts[1::2], strict=True)))


def drop(owner: Any, name: str, text: str) -> Patch:
    """Leave a text out."""
    return change(owner, name, text, "")


A, B = ("set", "a", SHORT), ("set", "b", SHORT)
LOOKS: tuple[Operation, ...] = (("get", "a"), ("set", "b", SHORT), ("get", "a"))


def death_in(*operations: Operation, before: tuple[Operation, ...] = (A,),
             then: tuple[Operation, ...] = LOOKS) -> Scenario:
    """Make the scenario in which somebody looks at what a dead worker left."""
    return Scenario("a death and a survivor", (operations, then), before)
