"""What do boxed objects cost a reader, against records of a fixed layout?

One field of each record is summed up.
"""

from __future__ import annotations

import pickle
import random
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from ...core.peer import unique_name
from ...core.perf_counters import counted, why_not
from ...core.progress import Progress
from ...core.results import OURS, Row
from ...core.scenario import Plot, Scenario, Setup, take_turns
from ...core.timing import collector_off
from ...core.workloads import SEED, key_of
from ...peers.own_map import affordable, remove
from ..families import THE_MAP_ITSELF

RECORD = struct.Struct("<qd8s")  # number, price, currency
ORDERS = ("sequential", "random")


class Boxed(NamedTuple):
    """Stores that hold the same records in different form.

    `objects`: a dict of tuples. `pickles`: a dict of pickled tuples. `packed`: a dict of bytes of
    fixed layout. Ours: a map of the same bytes. `integers`: as `objects`, and `shmmap integers` a
    map, but the value is the number alone. All have the same key objects.
    """

    name: str
    title: str
    plots: tuple[Plot, ...]
    family: str = THE_MAP_ITSELF
    quick: bool = False

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        lanes = len(ORDERS) * len(FORMS)
        return lanes + lanes * setup.scale.experiment_repetitions

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Fill every store; sum each up in the order written and at random."""
        scale = setup.scale
        keys = [key_of(n) for n in range(affordable(scale.boxed_entries))]
        shuffled = keys[:]
        random.Random(SEED).shuffle(shuffled)
        with ExitStack() as stack:
            lanes = []
            for form in FORMS:
                read = form.make(stack, keys)
                for order, asked in zip(ORDERS, (keys, shuffled), strict=True):
                    lanes.append(BoxedLane(self.name, form, order, read, asked))
                    progress.step()
            return take_turns(lanes, scale.experiment_repetitions, progress)


def record(number: int) -> tuple[int, float, bytes]:
    """Return record `number`; no two share an object."""
    return number + 10**6, number * 0.25, b"EUR%05d" % (number % 10**5)


class Form(NamedTuple):
    """A store of one form.

    Attributes:
        name: as in tables.
        make: fills it, and returns what reads it by key.
        total: sums up over keys; each form has bytecode of its own.
    """

    name: str
    make: Callable[[ExitStack, Sequence[str]], Callable[[str], Any]]
    total: Callable[[Callable[[str], Any], Sequence[str]], int]


def _dict_of(encode: Callable[[int], Any]) -> Callable[[ExitStack, Sequence[str]], Any]:
    def make(stack: ExitStack, keys: Sequence[str]) -> Callable[[str], Any]:
        return {key: encode(n) for n, key in enumerate(keys)}.__getitem__

    return make


def _map_of(encode: Callable[[int], Any]) -> Callable[[ExitStack, Sequence[str]], Any]:
    def make(stack: ExitStack, keys: Sequence[str]) -> Callable[[str], Any]:
        import shmmap

        m = shmmap.ShmMap.create(
            unique_name(), capacity=len(keys), value_size=RECORD.size, ephemeral=True
        )
        stack.callback(remove, m)
        m.set_many((key, encode(n)) for n, key in enumerate(keys))
        return m.get

    return make


def _packed(number: int) -> bytes:
    return RECORD.pack(*record(number))


def _pickled(number: int) -> bytes:
    return pickle.dumps(record(number), pickle.HIGHEST_PROTOCOL)


def _number(number: int) -> int:
    return record(number)[0]


def _sum(expression: str) -> Callable[[Callable[[str], Any], Sequence[str]], int]:
    source = (
        f"def total(read, keys, unpack=unpack, loads=loads):\n    found = 0\n"
        f"    for key in keys:\n        found += {expression}\n    return found\n"
    )
    space: dict[str, Any] = {"unpack": RECORD.unpack, "loads": pickle.loads}
    exec(compile(source, "<boxed>", "exec"), space)  # text of this module only
    total: Callable[[Callable[[str], Any], Sequence[str]], int] = space["total"]
    return total


FORMS = (
    Form("objects", _dict_of(record), _sum("read(key)[0]")),
    Form("pickles", _dict_of(_pickled), _sum("loads(read(key))[0]")),
    Form("packed", _dict_of(_packed), _sum("unpack(read(key))[0]")),
    Form(OURS, _map_of(_packed), _sum("unpack(read(key))[0]")),
    Form("integers", _dict_of(_number), _sum("read(key)")),
    Form("shmmap integers", _map_of(_number), _sum("read(key)")),
)


class BoxedLane:
    """One form, in one order."""

    def __init__(
        self, scenario: str, form: Form, order: str, read: Callable[[str], Any],
        keys: Sequence[str],
    ) -> None:
        self.scenario, self.form, self.order, self.read = scenario, form, order, read
        self.keys = keys
        self.wanted = sum(map(_number, range(len(keys))))
        self.samples: dict[str, list[float]] = {"ns": []}
        self.problem = "" if self.summed() == self.wanted else "a wrong sum"

    def summed(self) -> int:
        """Sum up."""
        return self.form.total(self.read, self.keys)

    def repeat(self, number: int) -> None:
        """Time a sum; where there are counters, have another one counted."""
        with collector_off():
            begin = time.perf_counter_ns()
            found = self.summed()
            took = time.perf_counter_ns() - begin
            self.samples["ns"].append(round(took / len(self.keys), 2))
            if found != self.wanted:
                self.problem = f"the sum is {found:,}, not {self.wanted:,}"
            if not why_not():
                for event, count in counted(self.summed).items():
                    figure = event.replace("-", "_")
                    self.samples.setdefault(figure, []).append(count / len(self.keys))

    def row(self) -> Row:
        """Return what was found."""
        return Row.of(
            self.scenario, self.form.name, self.samples, self.problem, {"order": self.order},
            {"entries": len(self.keys), "counters": why_not() or "perf stat"},
        )

    def close(self) -> None:
        """Leave the store to the scenario, whose it is."""


BOXED = Boxed(
    "boxed", "one field summed over records: objects, pickles, fixed layout",
    (
        Plot("", "Sum over all records, a record", "order", "ns"),
        Plot("misses", "Cache misses a record", "order", "cache_misses"),
    ),
)
SCENARIOS: tuple[Scenario, ...] = (BOXED,)
