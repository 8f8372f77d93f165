"""What the processes do: a change of the number of shards, or two in a row, beside the users of the
map. Keys are 0 and 1 ("a" and "b"); where a generation has two shards, each has one of them."""

from __future__ import annotations

from .judge import Call
from .machine import Process, Scenario

MOVE: Call = ("move", 0, 0)


def get(*keys: int) -> tuple[Call, ...]:
    """Read keys, one after the other."""
    return tuple(("get", key, 0) for key in keys)


def put(key: int, value: int) -> Call:
    """Write; values are different everywhere, so that each names its write."""
    return "set", key, value + 100 * key


def delete(key: int) -> Call:
    """Delete."""
    return "delete", key, 0


def incr(key: int, first: int) -> Call:
    """Add 1 in place; a missing key begins with `first`."""
    return "incr", key, first + 100 * key


def mover(name: str = "mover", mortal: bool = True) -> Process:
    """Make a process that moves everything to the last generation."""
    return Process(name, (MOVE,), mortal=mortal)


def reader(*keys: int, name: str = "reader") -> Process:
    """Make a process that reads."""
    return Process(name, get(*keys))


def writer(*calls: Call, name: str = "writer", mortal: bool = True) -> Process:
    """Make a process that writes."""
    return Process(name, calls, mortal=mortal)


def near(*keys: int) -> Process:
    """Make a process that holds the first key's entry, and reads through its near cache."""
    return Process("near reader", tuple(("near", key, 0) for key in keys), near=True)


def newcomer(*calls: Call) -> Process:
    """Make a process that has nothing of the map open."""
    return Process("newcomer", calls, attached=False)


SECOND = mover("second mover")
BOTH = (put(0, 20), put(1, 20))
SNAPSHOT = Process("snapshot", (("copy", 0, 0),))

SPLIT, JOIN, SAME = (1, 2), (2, 1), (1, 1)

SCENARIOS = (
    # one mover
    Scenario("split, a reader waits for nobody", SPLIT,
             (mover(mortal=False), writer(put(0, 20), mortal=False), reader(1, 0)),
             waits="reader"),
    Scenario("join, a reader waits for nobody", JOIN,
             (mover(mortal=False), writer(put(0, 20), mortal=False), reader(1, 0)),
             waits="reader"),
    Scenario("split", SPLIT, (mover(), writer(*BOTH), reader(1, 0)), deaths=1),
    Scenario("join", JOIN, (mover(), writer(*BOTH), reader(1, 0)), deaths=1),
    Scenario("other size, one key", SAME,
             (mover(), writer(put(0, 20), delete(0)), reader(0, 0)), deaths=2, keys=1, slots=2),
    Scenario("other size, a miss beside it", SAME,
             (mover(), writer(delete(0), put(0, 20)), reader(0, 0)), deaths=1, keys=1, slots=2),
    Scenario("other size, in place", SAME,
             (mover(), writer(incr(0, 50), incr(0, 60)), reader(0, 0)), deaths=2, keys=1, slots=2),
    Scenario("other size, two add in place", SAME,
             (mover(), writer(incr(0, 50)), writer(incr(0, 60), name="second writer"), reader(0)),
             deaths=1, keys=1, slots=2),
    Scenario("other size, a near cache", SAME,
             (mover(), writer(delete(0), put(0, 20)), near(0, 0)), deaths=1, keys=1, slots=2),
    Scenario("other size, a slot is used again", SAME,
             (mover(), writer(delete(1), put(0, 20)), reader(1)), deaths=2),
    Scenario("other size, caught up once before", SAME,
             (mover(), writer(put(0, 20), put(0, 30)), reader(0)), deaths=1, rounds=1,
             keys=1, slots=2),
    Scenario("split, in place", SPLIT, (mover(), writer(incr(0, 50), incr(1, 50)), reader(0, 1)),
             deaths=1),
    Scenario("join, one is read, then the other written", JOIN,
             (mover(), writer(*get(0), put(1, 20), mortal=False), reader(1)), deaths=1),
    Scenario("join, in place", JOIN, (mover(), writer(incr(0, 50), incr(1, 50)), reader(1)),
             deaths=1),
    Scenario("join, a near cache", JOIN, (mover(), writer(put(1, 20), put(0, 20)), near(0, 0)),
             deaths=1),
    Scenario("join, somebody takes whatever is there", JOIN,
             (mover(), writer(("pop", 0, 0), ("pop", 0, 0)), reader(1)), deaths=1),
    Scenario("join, somebody writes, then takes whatever is there", JOIN,
             (mover(), writer(put(0, 20), ("pop", 0, 0), ("pop", 0, 0)), reader(1)), deaths=1),
    Scenario("split, caught up once before", SPLIT, (mover(), writer(*BOTH), reader(0)),
             deaths=1, rounds=1),
    Scenario("two groups", (2, 2), (mover(), writer(*BOTH), reader(1, 0)), deaths=1),
    # who comes in the middle
    Scenario("split, a newcomer", SPLIT,
             (mover(), writer(put(0, 20)), newcomer(*get(0, 1))), deaths=1),
    Scenario("join, a newcomer", JOIN,
             (mover(), writer(put(1, 20)), newcomer(*get(0, 1))), deaths=1),
    Scenario("two groups, a newcomer writes", (2, 2),
             (mover(), newcomer(put(1, 20), *get(1)), reader(1)), deaths=1),
    # two movers
    Scenario("other size, two movers", SAME, (mover(), SECOND, writer(put(0, 20)), reader(0)),
             deaths=1, keys=1, slots=2),
    Scenario("other size, two movers, two deaths", SAME,
             (mover(), SECOND, writer(put(0, 20), delete(0))), deaths=2, keys=1, slots=2),
    Scenario("split, two movers", SPLIT, (mover(), SECOND, writer(put(1, 20))), deaths=1),
    Scenario("join, two movers", JOIN, (mover(), SECOND, writer(put(1, 20))), deaths=1),
    Scenario("join, two movers and a newcomer", JOIN, (mover(), SECOND, newcomer(*get(1, 0))),
             deaths=1),
    Scenario("other size, two movers alone", SAME, (mover(), SECOND), deaths=2, keys=1, slots=2),
    Scenario("join, two movers alone", JOIN, (mover(), SECOND), deaths=2),
    Scenario("two groups, two movers alone", (2, 2), (mover(), SECOND), deaths=1),
    # two changes in a row
    Scenario("there and back, a reader", (1, 2, 1), (mover(), writer(put(0, 20)), reader(0, 1))),
    Scenario("there and back, a near cache", (1, 2, 1),
             (mover(), writer(delete(0), put(0, 20)), near(0, 0))),
    Scenario("on and on, a reader", (1, 1, 1), (mover(), writer(put(0, 20), delete(0)),
                                                reader(0, 0)), keys=1, slots=2),
    Scenario("on and on, a near cache", (1, 1, 1),
             (mover(), writer(put(0, 20), put(0, 30)), near(0, 0)), deaths=1, keys=1, slots=2),
    Scenario("on and on, two movers", (1, 1, 1), (mover(), SECOND, writer(put(0, 20))),
             keys=1, slots=2),
    Scenario("on and on, two movers and a newcomer", (1, 1, 1),
             (mover(), SECOND, newcomer(*get(0))), keys=1, slots=2),
    Scenario("on and on, two movers alone", (1, 1, 1), (mover(), SECOND), deaths=1,
             keys=1, slots=2),
    # another tracks changes too
    Scenario("other size, a snapshot", SAME, (mover(), writer(put(0, 20)), SNAPSHOT),
             deaths=1, keys=1, slots=2),
    Scenario("other size, a snapshot beside a deletion", SAME,
             (mover(), writer(delete(0)), SNAPSHOT), keys=1, slots=2),
    Scenario("other size, somebody gives a snapshot up", SAME,
             (mover(), writer(put(0, 20)), Process("who gives up", (("quit", 0, 0),)), reader(0)),
             deaths=1, keys=1, slots=2),
    Scenario("other size, a snapshot, two writes", SAME,
             (mover(), writer(put(0, 20), incr(0, 50)), SNAPSHOT), deaths=1, keys=1, slots=2),
    # -- the largest --
    Scenario("split, two deaths", SPLIT, (mover(), writer(*BOTH), reader(1, 0)), deaths=2),
    Scenario("join, two deaths", JOIN, (mover(), writer(*BOTH), reader(1, 0)), deaths=2),
    Scenario("split, two writers", SPLIT,
             (mover(), writer(*BOTH), writer(delete(0), incr(1, 50), name="second writer")),
             deaths=1),
    Scenario("join, two writers", JOIN,
             (mover(), writer(*BOTH), writer(delete(0), incr(1, 50), name="second writer")),
             deaths=1),
    Scenario("other size, two movers, two deaths, a reader", SAME,
             (mover(), SECOND, writer(put(0, 20)), reader(0)), deaths=2, keys=1, slots=2),
    Scenario("other size, three movers", SAME,
             (mover(), SECOND, mover("third mover"), writer(put(0, 20))), keys=1, slots=2),
    Scenario("split, two movers and a reader", SPLIT,
             (mover(), SECOND, writer(put(1, 20)), reader(1)), deaths=1),
    Scenario("join, two movers and a reader", JOIN,
             (mover(), SECOND, writer(put(1, 20)), reader(1)), deaths=1),
    Scenario("join, two movers, somebody takes whatever is there", JOIN,
             (mover(), SECOND, writer(put(0, 20), ("pop", 0, 0))), deaths=2),
    Scenario("two groups, two movers", (2, 2), (mover(), SECOND, writer(put(1, 20))),
             deaths=1),
    Scenario("there and back, a reader, a death", (1, 2, 1),
             (mover(), writer(put(0, 20), incr(1, 50)), reader(0, 1)), deaths=1),
    Scenario("there and back, a near cache, a death", (1, 2, 1),
             (mover(), writer(delete(0), put(0, 20)), near(0, 0)), deaths=1),
    Scenario("joined and split again", (2, 1, 2),
             (mover(), writer(put(0, 20), incr(1, 50)), reader(1, 0)), deaths=1),
    Scenario("split, then other size, two movers", (1, 2, 2), (mover(), SECOND, reader(0, 1))),
    Scenario("on and on, two movers, a death", (1, 1, 1),
             (mover(), SECOND, writer(put(0, 20))), deaths=1, keys=1, slots=2),
    Scenario("on and on, two movers, a newcomer, a death", (1, 1, 1),
             (mover(), SECOND, newcomer(put(0, 20), *get(0))), deaths=1, keys=1, slots=2),
    Scenario("other size, a snapshot, two movers", SAME,
             (mover(), SECOND, writer(put(0, 20)), SNAPSHOT), keys=1, slots=2),
)

QUICK = {  # for every run of the tests
    "split, a reader waits for nobody",
    "join, a reader waits for nobody",
    "other size, a slot is used again",
    "split, a newcomer",
    "two groups, a newcomer writes",
    "other size, two movers alone",
    "join, two movers alone",
    "two groups, two movers alone",
    "on and on, two movers alone",
    "other size, a snapshot",
    "other size, a snapshot beside a deletion",
    "join, somebody takes whatever is there",
    "other size, a near cache",
    "there and back, a reader",
}
BY_NAME = {one.name: one for one in SCENARIOS}
