"""All programs of a scenario together: which steps can be done in a state, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from .engine import STARTS, Violation
from .judge import Call, Judge
from .memory import (
    DEAD,
    DEATHS,
    DONE,
    HISTORY,
    INDEX,
    NAME,
    NAMELESS,
    NEAR,
    PC,
    PRIVATE,
    PROCESS,
    PUBLIC,
    ROUTES,
    SECOND_KEY,
    STAMP,
    TABLE,
    Layout,
    State,
    V,
    X,
)
from .mover import Mover

Step = Callable[[State, int], str | None]
LONGEST_END = 2000  # steps that the judge takes at most, to finish what is left
LAST = 90  # what it writes last of all


class Process(NamedTuple):
    """A process: its name, its calls; whether it holds the first key's entry in a near cache, may
    be killed, has the map open from the beginning."""

    name: str
    calls: tuple[Call, ...]
    near: bool = False
    mortal: bool = False
    attached: bool = True


class Scenario(NamedTuple):
    """A scenario. `shards`: how many each generation has; `slots`: of a shard; `deaths`: how many
    processes may be killed; `rounds`: see `Mover`; `waits`: the name of a reader that has to end by
    itself wherever all others are stopped."""

    name: str
    shards: tuple[int, ...]
    processes: tuple[Process, ...]
    keys: int = 2
    slots: int = 3
    deaths: int = 0
    rounds: int = 0
    waits: str = ""


class Machine(Mover):
    """A scenario, with faults in it or not."""

    def __init__(self, scenario: Scenario, mutants: Collection[str] = ()) -> None:
        self.scenario = scenario
        self.rounds = scenario.rounds
        movers = [i for i, one in enumerate(scenario.processes) if one.calls[0][0] == "move"]
        layout = Layout(scenario.shards, scenario.keys, scenario.slots, len(scenario.processes),
                        tuple(movers), "the names of segments have no token" in mutants)
        values = tuple(10 if key == 0 else SECOND_KEY + 10 for key in range(scenario.keys))
        last: list[Call] = [("move", 0, 0)]
        for key in range(scenario.keys):
            new = LAST + key * SECOND_KEY
            last += [("get", key, 0), ("set", key, new), ("get", key, 0), ("delete", key, 0)]
        calls = [one.calls for one in scenario.processes] + [tuple(last)]
        super().__init__(layout, calls, Judge(values), frozenset(mutants))
        self.start_values = values
        self.names = ["done", "dead"]
        self.choices: list[tuple[Step, ...]] = [(), ()]
        for name, choices in self.programs().items():
            self.names.append(name)
            self.choices.append(choices)
        self.numbers = {name: number for number, name in enumerate(self.names)}
        assert len(self.names) < 256
        self.at_of = layout.processes[:-1]
        self.mortal = [one.mortal for one in scenario.processes]

    def programs(self) -> dict[str, tuple[Step, ...]]:
        """Name every step; where there are two, either can come."""
        steps: dict[str, tuple[Step, ...]] = {
            "look at the joined": (self.look_at_the_joined,),
            "finish the joining": (self.finish_the_joining,),
            "again": (self.sequence, self.queue),
            "moved?": (self.moved,),
            "moved beside a miss?": (self.moved_beside_a_miss,),
            "moved beside a failure?": (self.moved_beside_a_failure,),
            "near moved?": (self.near_moved,),
            "near version after MOVED": (self.near_version_after_moved,),
            "hole": (self.hole_in_the_index, self.hole_in_the_values, self.hole_in_the_versions),
            "mark": (self.mark_new,),
            "moved first": (self.moved_first,),
            "was it published?": (self.was_it_published,),
            "moved beside a copy?": (self.moved_beside_a_copy,),
            "has it moved?": (self.has_it_moved,),
            "table on": (self.cursor,),
            "is it mine?": (self.is_it_mine,),
        }
        for name in (
            "sequence", "index", "version", "value", "version again", "index again",
            "sequence again", "read with the lock", "near version", "acquire", "dirty", "fill",
            "stamp", "new version", "odd", "mark old", "end old", "point", "even", "clean",
            "release", "in place: stamp", "in place: mark", "in place: odd", "in place: word",
            "in place: even", "wait for the joining", "is joined", "track", "tracked",
            "copy version", "copy value", "cut a copy", "copied", "forget", "open the private name",
            "open the public name", "look it up", "open what is current", "table", "open old",
            "list names", "judged too late", "judged late", "remove name", "start", "make",
            "take to track", "track old", "tracked old", "load version", "load value",
            "load version again", "take to catch up", "catch up", "take to cut", "cut",
            "last entries too late", "hole too early", "moved too late", "second moved",
            "let go of one", "free old", "rename",
            "unlink", "drop", "take to help", "helped", "repair: odd", "repair: clear",
            "repair: stamp", "repair: version", "repair: end the older", "repair: index",
            "repair: even", "repair: clean",
        ):
            steps[name] = (getattr(self, name.replace(": ", "_").replace(" ", "_")),)
        return steps

    def first(self) -> bytes:
        """Return the state before anything happens."""
        m = [0] * self.layout.size
        m[DEATHS] = self.scenario.deaths
        homes = []
        for key, value in enumerate(self.start_values):
            segment = self.layout.segment(0, self.layout.shard_of(0, key), 0)
            slot = 1 + key if self.layout.shards[0] == 1 else 1
            at, version = self.at[segment], 2 + 2 * key
            m[at + NAME], m[at + STAMP], m[at + INDEX + key] = PUBLIC, version, slot
            m[self.layout.slot(segment, slot) + V] = version
            m[self.layout.slot(segment, slot) + X] = value
            homes.append((segment, slot, version, value))
        for p, one in zip(self.at_of, self.scenario.processes, strict=True):
            m[p + PC] = self.numbers[STARTS[one.calls[0][0]] if one.attached else "look it up"]
            if one.attached and one.calls[0][0] != "move":
                for key, home in enumerate(homes):
                    m[p + ROUTES + key] = home[0]
            if one.near:
                m[p + NEAR:p + NEAR + 4] = homes[0]
        return bytes(m)

    def steps(self, state: bytes, who: int = -1) -> Iterator[tuple[int, Step | None, bytes]]:
        """List what can happen next: who goes on, by which step (None: it dies), to what.

        Raises Violation: who is noted in `self.last`."""
        for number, p in enumerate(self.at_of):
            pc = state[p]
            if pc <= DEAD or (who >= 0 and who != number):
                continue
            for step in self.choices[pc]:
                m = list(state)
                self.last = number, step
                following = step(m, p)
                if following is not None:
                    m[p] = self.numbers[following]
                    yield number, step, bytes(m)
            if self.mortal[number] and state[DEATHS] and who < 0:
                m = list(state)
                m[p:p + PROCESS] = [DEAD] + [0] * (PROCESS - 1)
                m[DEATHS] -= 1
                yield number, None, bytes(m)

    def is_over(self, state: bytes) -> bool:
        """Tell whether every process has ended."""
        return all(state[p] <= DEAD for p in self.at_of)

    # -- how a run ended --------------------------------------------------------------------------

    def finish(self, state: bytes) -> None:
        """Have a process that comes afterwards take the lease, finish what is left, and read and
        write each key. Raises Violation where anything is lost, or stays."""
        m = [*state, *[0] * (self.layout.whole - self.layout.size)]
        p = self.layout.processes[-1]
        self.layout.judging(True)
        try:
            m[p + PC] = self.numbers["table"]
            for _ in range(LONGEST_END):
                for step in reversed(self.choices[m[p + PC]]):
                    self.last = len(self.at_of), step
                    after = list(m)
                    following = step(after, p)
                    if following is not None:
                        after[p] = self.numbers[following]
                        break
                else:
                    raise Violation(f"who comes afterwards waits at {self.names[m[p + PC]]!r}")
                m = after
                if m[p + PC] == DONE:
                    break
            else:
                raise Violation("who comes afterwards does not end")
            self.inspect(m)
        finally:
            self.layout.judging(False)

    def inspect(self, m: State) -> None:
        """Refuse names that should have gone, and a table that is not at its end."""
        if m[TABLE] != len(self.layout.turns) - 1:
            raise Violation(f"the table says {self.layout.turns[m[TABLE]]}")
        last = len(self.layout.shards) - 1
        found = []
        for i, segment in enumerate(self.layout.segments[:self.layout.count]):
            name = m[self.at[i] + NAME] if i else NAMELESS
            if name == PRIVATE or (name == PUBLIC and segment.generation != last):
                raise Violation(f"a name stays: {self.layout.word(self.at[i])}")
            if name == PUBLIC:
                found.append(segment.number)
        if sorted(found) != list(range(self.layout.shards[last])):
            raise Violation(f"shards {found} have their names at the end")

    def knowledge(self, state: bytes) -> int:
        """Return the number of what the judge knows."""
        return state[HISTORY] << 8 | state[HISTORY + 1]
