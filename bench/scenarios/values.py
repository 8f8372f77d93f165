"""What do values cost that are no bytes: numbers, records, sessions, lists of records?

Our map, which writes and reads them itself, beside what people do otherwise: pickles in our map,
which is what it cost before it did so itself; pickle and msgspec over lmdb; pickle alone, with a
dict as the store. A thousand keys in one process, each with such a value; `get` and `set` in turn,
every answer compared afterwards, its types too. `bytes`: what one value is written as.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any, NamedTuple

import shmmap
from shmmap.values._codecs_cy import pack

from ..core.peer import unique_name
from ..core.progress import Progress
from ..core.results import OURS, Row
from ..core.scenario import Plot, Scenario, Setup, take_turns
from ..core.timing import collector_off
from .families import ONE_OPERATION

KEYS = [f"key:{number:06d}" for number in range(1000)]
ROUNDS = {"list of 50 records": 1}  # over all keys, a repetition; of the others, more
_RECORD = {"id": 12_345, "name": "Ada Lovelace", "email": "ada@example.org", "active": True,
           "score": 98.6}
_SESSION = {
    f"field_{n}": [n, "x" * n] if n % 3 == 0 else n * 1000 if n % 3 == 1 else f"value number {n}"
    for n in range(20)
}
VALUES: dict[str, Any] = {
    "8 bytes": b"12345678", "int": 123_456, "float": 1.5, "record": _RECORD,
    "session of 20 fields": _SESSION,
    "list of 50 records": [{**_RECORD, "id": n, "name": f"user {n}"} for n in range(50)],
}
Store = tuple[Callable[[str], Any], Callable[[str, Any], Any], Callable[[Any], int]]


def own_map(stack: ExitStack) -> Store:
    """Our map."""
    m = _map(stack)
    return m.get, m.set, lambda value: len(pack(value)[1])


def own_map_of_pickles(stack: ExitStack) -> Store:
    """Our map, of pickles."""
    m, loads, dumps = _map(stack), pickle.loads, pickle.dumps
    return (lambda key: loads(m[key]), lambda key, value: m.set(key, dumps(value, 5)),
            lambda value: len(dumps(value, 5)))


def _map(stack: ExitStack) -> shmmap.ShmMap:
    name = unique_name()
    m = shmmap.ShmMap(name, size="64MB", sweep_interval=None)
    stack.callback(shmmap.unlink, name)
    stack.enter_context(m)
    return m


def pickles_alone(stack: ExitStack) -> Store:
    """Pickle, and a dict of this process."""
    held: dict[str, bytes] = {}
    loads, dumps = pickle.loads, pickle.dumps

    def put(key: str, value: Any) -> None:
        held[key] = dumps(value, 5)

    return lambda key: loads(held[key]), put, lambda value: len(dumps(value, 5))


def lmdb_of_pickles(stack: ExitStack) -> Store:
    """Pickles in lmdb; read where they lie."""
    return _lmdb(stack, pickle.loads, lambda value: pickle.dumps(value, 5))


def lmdb_of_msgpack(stack: ExitStack) -> Store:
    """MessagePack in lmdb, by msgspec."""
    from msgspec import msgpack

    return _lmdb(stack, msgpack.Decoder().decode, msgpack.Encoder().encode)


def _lmdb(stack: ExitStack, loads: Callable[[Any], Any], dumps: Callable[[Any], bytes]) -> Store:
    import lmdb

    folder = tempfile.mkdtemp(prefix=unique_name(), dir="/dev/shm")
    stack.callback(shutil.rmtree, folder)
    env = lmdb.open(folder, map_size=1 << 30, sync=False, metasync=False, writemap=True,
                    map_async=True, readahead=False, meminit=False)
    stack.callback(env.close)
    begin = env.begin

    def get(key: str) -> Any:
        txn = begin(None, None, False, True)
        value = loads(txn.get(key.encode()))
        txn.abort()
        return value

    def put(key: str, value: Any) -> None:
        txn = begin(None, None, True)
        txn.put(key.encode(), dumps(value))
        txn.commit()

    return get, put, lambda value: len(dumps(value))


STORES: dict[str, tuple[Callable[[ExitStack], Store], str]] = {
    OURS: (own_map, ""), f"{OURS}, pickled": (own_map_of_pickles, ""),
    "lmdb, pickled": (lmdb_of_pickles, "lmdb"), "lmdb, msgspec": (lmdb_of_msgpack, "msgspec"),
    "dict, pickled": (pickles_alone, ""),
}


class Values(NamedTuple):
    """Stores of all kinds take turns, with one kind of value after the other."""

    name: str
    title: str
    plots: tuple[Plot, ...] = ()
    quick: bool = False
    family: str = ONE_OPERATION

    def able(self) -> list[str]:
        """List the stores that can be had."""
        return [store for store, (_, package) in STORES.items()
                if all(find_spec(each) for each in {package, "lmdb"} if package)]

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return len(VALUES) * len(self.able()) * setup.scale.repetitions

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Measure every store with every value."""
        rows: list[Row] = []
        for what in VALUES:
            lanes = (ValueLane(self.name, store, what) for store in self.able())
            rows += take_turns(lanes, setup.scale.repetitions, progress)
        return rows


class ValueLane:
    """One store, and one kind of value."""

    def __init__(self, scenario: str, store: str, what: str) -> None:
        self.scenario, self.store, self.what = scenario, store, what
        self.samples: dict[str, list[float]] = {"get_ns": [], "set_ns": []}
        self.stack = ExitStack()
        try:
            self.get, self.put, self.length = STORES[store][0](self.stack)
            for key in KEYS:
                self.put(key, VALUES[what])
        except BaseException:
            self.close()
            raise

    def repeat(self, number: int) -> None:
        """Read all keys, and write them, several times."""
        get, put, value = self.get, self.put, VALUES[self.what]
        rounds, now = ROUNDS.get(self.what, 5), time.perf_counter_ns
        with collector_off():
            begun = now()
            for _ in range(rounds):
                for key in KEYS:
                    get(key)
            between = now()
            for _ in range(rounds):
                for key in KEYS:
                    put(key, value)
            ended = now()
        each = rounds * len(KEYS)
        self.samples["get_ns"].append((between - begun) / each)
        self.samples["set_ns"].append((ended - between) / each)

    def row(self) -> Row:
        """Verify every key; return what was found."""
        wanted = VALUES[self.what]
        wrong = [key for key in KEYS if not _same(self.get(key), wanted)]
        problem = f"{len(wrong)} keys have another value" if wrong else ""
        facts = {"keys": len(KEYS), "value_bytes": self.length(wanted)}
        return Row.of(self.scenario, self.store, self.samples, problem, {"value": self.what}, facts)

    def close(self) -> None:
        """Remove the store."""
        self.stack.close()


def _same(got: Any, wanted: Any) -> bool:
    """Tell whether two values are equal, and of one type."""
    return type(got) is type(wanted) and bool(got == wanted)


SCENARIOS: tuple[Scenario, ...] = (
    Values("values", "one get and one set, by the kind of value", (
        Plot("get", "time of one get", "value", "get_ns", "y"),
        Plot("set", "time of one set", "value", "set_ns", "y"),
    )),
)
