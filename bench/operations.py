"""What each operation must answer: a peer that answers wrongly must not look fast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from .peers import Peer
from .workloads import Workload, value_of

Gather = Callable[..., list[Any]]


class Check:
    """Verifies one operation of one peer over its batches.

    `before` and `after` verify every key, outside the clock; `batch` the last answer of each
    timed batch. The first thing found wrong is kept in `problem`.
    """

    def __init__(self, peer: Peer, workload: Workload, batches: list[list[str]]) -> None:
        self.peer = peer
        self.workload = workload
        self.batches = batches
        self.problem = ""

    @staticmethod
    def entries(workload: Workload) -> Mapping[str, bytes | int]:
        """Give what the store is filled with."""
        return workload.values

    def expect(self, what: str, got: Any, wanted: Any) -> None:
        """Note a wrong answer."""
        if not self.problem and (got != wanted or type(got) is not type(wanted)):
            self.problem = f"{what} gave {str(got)[:40]!r}, expected {str(wanted)[:40]!r}"

    def value(self, number: int, index: int) -> Any:
        """Give what a batch of a repetition writes."""
        return None

    def before(self, gather: Gather) -> None:
        """Verify the store as it was filled; this also warms it up."""

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
            for key, answer in zip(keys, answers, strict=True):
                self.expect(key, answer, self.answer(key))

    def batch(self, index: int, last: Any) -> None:
        key = self.batches[index][-1]
        self.expect(f"{key} (timed)", last, self.answer(key))

    after = before


class Getting(Reading):
    """A key's value; None for a key that is not there."""

    def answer(self, key: str) -> Any:
        return self.workload.values.get(key)


class Missing(Getting):
    """get of keys that are not there; it must still find those that are."""

    def opposite(self) -> list[str]:
        return self.workload.hot


class Containing(Reading):
    """True for a key that is there, False for another."""

    def answer(self, key: str) -> Any:
        return key in self.workload.values

    def opposite(self) -> list[str]:
        return self.workload.absent[: self.workload.scale.hot]


class Setting(Check):
    """Every batch of every repetition writes a value of its own."""

    number = -1

    def __init__(self, peer: Peer, workload: Workload, batches: list[list[str]]) -> None:
        super().__init__(peer, workload, batches)
        self.last_writer = {key: index for index, keys in enumerate(batches) for key in keys}

    def value(self, number: int, index: int) -> bytes:
        return value_of(f"repetition {number} batch {index}, ")

    def before(self, gather: Gather) -> None:
        for index, keys in enumerate(self.batches):
            gather(self.peer.native_keys(keys), self.value(-1, index))
        self.after(gather)

    def repetition(self, number: int) -> None:
        self.number = number
        for keys in self.batches:
            self.read_back(keys[-1])

    def after(self, gather: Gather) -> None:
        for key in self.last_writer:
            self.read_back(key)

    def read_back(self, key: str) -> None:
        self.expect(key, self.peer.read(key), self.value(self.number, self.last_writer[key]))


class Counting(Check):
    """Counters that only this process raises, so that every answer is known."""

    def __init__(self, peer: Peer, workload: Workload, batches: list[list[str]]) -> None:
        super().__init__(peer, workload, batches)
        self.raised = [Counter(keys) for keys in batches]
        self.counts: Counter[str] = Counter()

    @staticmethod
    def entries(workload: Workload) -> Mapping[str, bytes | int]:
        return {**workload.values, **dict.fromkeys(workload.hot, 0)}

    def before(self, gather: Gather) -> None:
        for index, keys in enumerate(self.batches):
            self.batch(index, gather(self.peer.native_keys(keys), None)[-1])

    def batch(self, index: int, last: Any) -> None:
        self.counts.update(self.raised[index])
        key = self.batches[index][-1]
        self.expect(f"{key} (incr)", last, self.counts[key])

    def after(self, gather: Gather) -> None:
        for key, count in self.counts.items():
            self.expect(key, self.peer.read(key), count)


OPERATIONS: dict[str, type[Check]] = {
    "get": Getting, "miss": Missing, "contains": Containing, "set": Setting, "incr": Counting,
}
