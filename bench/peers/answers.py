"""What each operation must answer: a peer that answers wrongly must not look fast."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any

from ..core.peer import Peer
from ..core.timing import gather_loop
from ..core.workloads import VALUE_BYTES, Workload, value_of

Gather = Callable[..., list[Any]]
MANY = 100  # entries of one call of get_many and set_many


class Check:
    """Verifies one operation of one peer over its batches.

    `before` and `after` verify every key, outside the clock; `batch` the last answer of each
    timed batch. The first thing found wrong is kept in `problem`.

    Attributes:
        operation: whose statement is timed.
        value_bytes: the longest value, for which the store must have room.
        most_keys: keys of a batch at most; None: no limit.
    """

    operation = ""
    value_bytes = VALUE_BYTES
    most_keys: int | None = None

    def __init__(self, peer: Peer, workload: Workload, batches: list[list[str]]) -> None:
        self.peer = peer
        self.workload = workload
        self.batches = batches
        self.problem = ""

    @staticmethod
    def entries(workload: Workload) -> dict[str, Any]:
        """Return what the store is filled with."""
        return dict(workload.values)

    @classmethod
    def keys_of(cls, limit: int | None) -> int | None:
        """Return the keys of a batch at most, for a peer with this limit to its operations."""
        limits = [each for each in (limit, cls.most_keys) if each is not None]
        return min(limits, default=None)

    def expect(self, what: str, got: Any, wanted: Any) -> None:
        """Note a wrong answer."""
        if not self.problem and (got != wanted or type(got) is not type(wanted)):
            self.problem = f"{what} gave {str(got)[:40]!r}, expected {str(wanted)[:40]!r}"

    def expect_all(self, keys: list[str], got: list[Any], wanted: list[Any]) -> None:
        """Note the first wrong answer."""
        if got != wanted or list(map(type, got)) != list(map(type, wanted)):
            for key, one, other in zip(keys, got, wanted, strict=True):
                self.expect(key, one, other)

    def statement(self) -> str:
        """Return what the loop over `key` runs."""
        return self.peer.statements[self.operation]

    def calls(self, keys: list[Any], number: int, index: int) -> list[Any]:
        """Turn a batch's native keys into what its loop runs over."""
        return keys

    def value(self, number: int, index: int) -> Any:
        """Return what a batch of a repetition writes."""
        return None

    def before(self, gather: Gather) -> None:
        """Verify the store as it was filled; this also warms it up."""

    def prepare(self, number: int) -> None:
        """Bring the store to what the repetition needs."""

    def batch(self, index: int, last: Any) -> None:
        """Verify the last answer of a timed batch."""

    def repetition(self, number: int) -> None:
        """Verify what a repetition left behind."""

    def after(self, gather: Gather) -> None:
        """Verify the store at the end."""


class Reading(Check):
    """get, contains, miss: the answer is a function of the key."""

    def answer(self, key: str) -> Any:
        raise NotImplementedError

    def opposite(self) -> list[str]:
        """Keys that must get the other answer, where the statement may be asked for them."""
        return []

    def before(self, gather: Gather) -> None:
        for keys in (*self.batches, self.opposite()):
            answers = gather(self.peer.native_keys(keys), None)
            self.expect_all(keys, answers, [self.answer(key) for key in keys])

    def batch(self, index: int, last: Any) -> None:
        key = self.batches[index][-1]
        self.expect(f"{key} (timed)", last, self.answer(key))

    def after(self, gather: Gather) -> None:
        self.before(gather)


class Getting(Reading):
    """A key's value; None for a key that is not there."""

    operation = "get"

    def answer(self, key: str) -> Any:
        return self.workload.values.get(key)


class Missing(Getting):
    """get of keys that are not there; it must still find those that are."""

    operation = "miss"

    def opposite(self) -> list[str]:
        return self.workload.hot


class Containing(Reading):
    """True for a key that is there, False for another."""

    operation = "contains"

    def answer(self, key: str) -> Any:
        return key in self.workload.values

    def opposite(self) -> list[str]:
        return self.workload.absent[: self.workload.scale.hot]


class Setting(Check):
    """Every batch of every repetition writes a value of its own."""

    operation = "set"
    number = -1

    def __init__(self, peer: Peer, workload: Workload, batches: list[list[str]]) -> None:
        super().__init__(peer, workload, batches)
        self.last_writer = {key: index for index, keys in enumerate(batches) for key in keys}

    def value(self, number: int, index: int) -> Any:
        return value_of(f"repetition {number} batch {index}, ")

    def before(self, gather: Gather) -> None:
        for index, keys in enumerate(self.batches):
            calls = self.calls(self.peer.native_keys(keys), -1, index)
            gather(calls, self.value(-1, index))
        self.after(gather)

    def repetition(self, number: int) -> None:
        self.number = number
        self.read_back([keys[-1] for keys in self.batches])

    def after(self, gather: Gather) -> None:
        self.read_back(list(self.last_writer))

    def read_back(self, keys: list[str]) -> None:
        values = [self.value(self.number, index) for index in range(len(self.batches))]
        self.expect_all(keys, self.read(keys), [values[self.last_writer[key]] for key in keys])

    def read(self, keys: list[str]) -> list[Any]:
        return self.peer.read_all(keys)


class Counting(Check):
    """Counters that only this process raises, so that every answer is known."""

    operation = "incr"

    def __init__(self, peer: Peer, workload: Workload, batches: list[list[str]]) -> None:
        super().__init__(peer, workload, batches)
        self.raised = [Counter(keys) for keys in batches]
        self.counts: Counter[str] = Counter()

    @staticmethod
    def entries(workload: Workload) -> dict[str, Any]:
        return {**workload.values, **dict.fromkeys(workload.hot, 0)}

    def before(self, gather: Gather) -> None:
        for index, keys in enumerate(self.batches):
            self.batch(index, gather(self.peer.native_keys(keys), None)[-1])

    def batch(self, index: int, last: Any) -> None:
        self.counts.update(self.raised[index])
        key = self.batches[index][-1]
        self.expect(f"{key} (incr)", last, self.counts[key])

    def after(self, gather: Gather) -> None:
        keys = list(self.counts)
        self.expect_all(keys, self.peer.read_all(keys), list(self.counts.values()))


class Deleting(Check):
    """Every key is deleted once in a repetition, and written again before the next."""

    operation = "delete"
    most_keys = 250

    def prepare(self, number: int) -> None:
        values = self.workload.values
        self.peer.fill({key: values[key] for keys in self.batches for key in keys})
        last = [keys[-1] for keys in self.batches]
        self.expect_all(last, self.peer.read_all(last), [values[key] for key in last])

    def before(self, gather: Gather) -> None:
        *first, kept = self.batches
        for keys in first:
            gather(self.peer.native_keys(keys), None)
        values = [self.workload.values[key] for key in kept]
        self.expect_all(kept, self.peer.read_all(kept), values)  # nothing else is gone
        gather(self.peer.native_keys(kept), None)
        self.after(gather)

    def repetition(self, number: int) -> None:
        last = [keys[-1] for keys in self.batches]
        self.expect_all(last, self.peer.read_all(last), [None] * len(last))

    def after(self, gather: Gather) -> None:
        deleted = dict.fromkeys(key for keys in self.batches for key in keys)
        self.expect_all(list(deleted), self.peer.read_all(list(deleted)), list(deleted.values()))
        others = (key for key in self.workload.keys if key not in deleted)
        kept = list(islice(others, self.workload.scale.hot))
        self.expect_all(kept, self.peer.read_all(kept), list(map(self.workload.values.get, kept)))


def object_of(label: str) -> dict[str, Any]:
    """Return a record of ten fields that tells what it was made for."""
    return {
        "id": label, "name": f"name of {label}", "email": f"{label}@example.org", "age": 42,
        "balance": 1234.5, "active": True, "tags": ["a", "b", "c"], "parent": None,
        "address": {"street": "1 Long Street", "city": "Town"}, "visits": 1_000_000,
    }


_OBJECT_BYTES = len(pickle.dumps(object_of("repetition 99 batch 99, "), 5)) + 16


class GettingObject(Reading):
    """A record of ten fields under each hot key."""

    operation = "get_object"
    value_bytes = _OBJECT_BYTES

    @staticmethod
    def entries(workload: Workload) -> dict[str, Any]:
        return {**workload.values, **{key: object_of(key) for key in workload.hot}}

    def answer(self, key: str) -> Any:
        return object_of(key)


class SettingObject(Setting):
    """Every batch of every repetition writes a record of its own."""

    operation = "set_object"
    value_bytes = _OBJECT_BYTES

    def value(self, number: int, index: int) -> Any:
        return object_of(f"repetition {number} batch {index}, ")

    def read(self, keys: list[str]) -> list[Any]:
        gather = gather_loop(self.peer.statements["get_object"], self.peer.names())
        found: list[Any] = gather(self.peer.native_keys(keys), None)
        return found


class GettingMany(Reading):
    """The values of up to 100 keys by one call."""

    operation = "get_many"

    @classmethod
    def keys_of(cls, limit: int | None) -> int | None:
        return None if limit is None else MANY * max(1, limit // 10)

    def statement(self) -> str:
        return f"keys = key\n{super().statement()}"

    def calls(self, keys: list[Any], number: int, index: int) -> list[Any]:
        return [keys[start : start + MANY] for start in range(0, len(keys), MANY)]

    def before(self, gather: Gather) -> None:
        for index, keys in enumerate(self.batches):
            calls = self.calls(keys, -1, index)
            native = [self.peer.native_keys(call) for call in calls]
            for call, found in zip(calls, gather(native, None), strict=True):
                self.compare(call, found)

    def batch(self, index: int, last: Any) -> None:
        self.compare(self.calls(self.batches[index], -1, index)[-1], last)

    def compare(self, keys: list[str], found: Any) -> None:
        """Verify one call's answer, a dict of native keys or a list."""
        if isinstance(found, dict):
            found = [found.get(key) for key in self.peer.native_keys(keys)]
        wanted = [self.workload.values[key] for key in keys]
        self.expect(f"{keys[0]} ... (get_many)", found, wanted)


class SettingMany(Setting):
    """Up to 100 entries by one call."""

    operation = "set_many"
    keys_of = GettingMany.keys_of

    def statement(self) -> str:
        return f"mapping = key\n{super().statement()}"

    def calls(self, keys: list[Any], number: int, index: int) -> list[Any]:
        value = self.value(number, index)
        return [
            dict.fromkeys(keys[start : start + MANY], value) for start in range(0, len(keys), MANY)
        ]


OPERATIONS: dict[str, type[Check]] = {
    check.operation: check
    for check in (
        Getting, Missing, Containing, Setting, Counting, Deleting, GettingObject, SettingObject,
        GettingMany, SettingMany,
    )
}
