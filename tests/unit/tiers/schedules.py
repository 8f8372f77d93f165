"""Every order in which the steps of several actors can come, or many of them drawn at random.

An actor is a function in a greenlet of its own; a step is what it does between two looks at the map
or the store, which call `Turns.turn` first. A schedule is the list of who is let go on, step by
step. `explore` makes the world anew for each.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from greenlet import greenlet

STEPS = ("add", "cas", "delete", "delete_many", "get", "get_versioned", "keys", "set")
World = tuple[dict[str, Callable[[], None]], Callable[[], None]]


class Turns:
    """Lets one actor go on at a time. `now`: counts the steps, as a clock that never stands."""

    def __init__(self) -> None:
        self.main = greenlet.getcurrent()
        self.now = 0

    def turn(self) -> None:
        """End a step of the actor that runs."""
        if greenlet.getcurrent() is not self.main:
            self.main.switch()
        self.now += 1

    def run(
        self, actors: dict[str, Callable[[], None]], choose: Callable[[list[str]], str]
    ) -> None:
        """Run all of them to their end."""
        going = {name: greenlet(act, self.main) for name, act in actors.items()}
        while going:
            name = choose(sorted(going))
            going[name].switch()
            if going[name].dead:
                del going[name]


class InTurns:
    """A map, each operation of which is a step."""

    def __init__(self, m: Any, turn: Callable[[], None]) -> None:
        self.m = m
        self._turn = turn

    def __iter__(self) -> Iterator[Any]:
        self._turn()
        return iter(self.m)

    def __len__(self) -> int:
        self._turn()
        return len(self.m)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.m, name)
        if name not in STEPS:
            return found

        def step(*args: Any, **kwargs: Any) -> Any:
            self._turn()
            return found(*args, **kwargs)

        return step


def every(make: Callable[[Turns], World]) -> int:
    """Run every schedule; return how many there are."""
    done = 0
    path: list[tuple[str, list[str]]] = []  # who went on, and who else could have
    while True:
        at = 0

        def choose(names: list[str]) -> str:
            nonlocal at
            if at == len(path):
                path.append((names[0], names[1:]))
            at += 1
            return path[at - 1][0]

        _one(make, choose, lambda: [name for name, _ in path])
        done += 1
        del path[at:]
        while path and not path[-1][1]:
            path.pop()
        if not path:
            return done
        _, others = path.pop()
        path.append((others[0], others[1:]))


def some(make: Callable[[Turns], World], seeds: Iterator[int] | range) -> int:
    """Run a schedule drawn from each seed; return how many."""
    for seed in seeds:
        draw = random.Random(seed)
        said: list[str] = []

        def choose(names: list[str], draw: Any = draw, said: list[str] = said) -> str:
            said.append(draw.choice(names))
            return said[-1]

        _one(make, choose, lambda seed=seed, said=said: (seed, said))
    return len(seeds)  # type: ignore[arg-type]


def _one(
    make: Callable[[Turns], World], choose: Callable[[list[str]], str], told: Callable[[], Any]
) -> None:
    turns = Turns()
    actors, judge = make(turns)
    try:
        turns.run(actors, choose)
        judge()
    except AssertionError as error:
        raise AssertionError(f"{error}\nschedule: {told()}") from error
