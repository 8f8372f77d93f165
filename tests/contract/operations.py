"""Seeded operations on a map, and the dict that says what each of them must give."""

from __future__ import annotations

import random
from typing import Any

MISSING = object()
START_NS = 10**15
TICK_NS = 10**9 // 64  # deadlines are rounded up to these
KEYS: list[Any] = [
    *range(40), *(f"k{i}" for i in range(40)), *(("t", i) for i in range(10)), b"b", 0.5, None, "",
    "long " * 9, "longer " * 40, -(2**40), 2**70,
]  # fmt: skip


def rounded_up(time_ns: int) -> int:
    return -(-time_ns // TICK_NS) * TICK_NS


def rounded_down(left_ns: int) -> float:
    return (left_ns if left_ns < TICK_NS else left_ns - left_ns % TICK_NS) / 1e9


class Model:
    """What a map must hold: key -> [value, deadline or None], under a clock of its own."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self.entries: dict[Any, list[Any]] = {}

    def live(self, key: Any) -> list[Any] | None:
        entry = self.entries.get(key)
        if entry is not None and entry[1] is not None and entry[1] <= self.now_ns:
            del self.entries[key]
            return None
        return entry

    def write(self, key: Any, value: Any, ttl: float | None) -> None:
        if ttl is not None and ttl <= 0:
            self.entries.pop(key, None)
        else:
            deadline = None if ttl is None else rounded_up(self.now_ns + int(ttl * 1e9))
            self.entries[key] = [value, deadline]

    def items(self) -> dict[Any, Any]:
        return {key: self.entries[key][0] for key in list(self.entries) if self.live(key)}


class Operations:
    """One run of random operations. `full` are the errors that a write may raise: it then must
    have changed nothing. `evicts`: entries may be gone, but never be wrong."""

    def __init__(self, m: Any, seed: int, full: Any = (), evicts: bool = False,
                 default_ttl: float | None = None) -> None:
        self.m = m
        self.draw = random.Random(seed)
        self.clock = m.attachment.clock
        self.clock.frozen_ns = START_NS
        self.model = Model(START_NS)
        self.full = full
        self.evicts = evicts
        self.default_ttl = default_ttl
        self.refused = 0

    def value(self) -> Any:
        draw = self.draw
        kind = draw.randrange(9)
        if kind == 0:
            return draw.getrandbits(draw.choice((7, 40, 63, 90)))
        if kind == 1:
            return draw.choice((None, True, False, 0.25, -1.5))
        if kind == 2:
            return ["pickled", draw.random()]
        length = draw.choice((0, 1, 7, 8, 9, 30, 90, draw.randrange(301)))
        if kind < 6:
            return draw.randbytes(length)
        return "".join(draw.choice("abcé") for _ in range(length))

    def ttl(self) -> float | None:
        return self.draw.choice((None, None, None, 0.5, 3, 20, 1000, 0, -1))

    def step(self) -> None:
        """Do one random operation on both sides and compare."""
        name = self.draw.choices(_NAMES, _WEIGHTS)[0]
        key = self.draw.choice(KEYS)
        if self.evicts and self.model.live(key) and key not in self.m:
            del self.model.entries[key]
        getattr(self, f"do_{name}")(key)

    def attempt(self, action: Any, *arguments: Any, **options: Any) -> Any:
        """Call a writing operation; MISSING: it raised one of the errors that it may."""
        try:
            return action(*arguments, **options)
        except self.full:
            self.refused += 1
            return MISSING

    def do_set(self, key: Any) -> None:
        value, ttl = self.value(), self.ttl()
        if self.attempt(self.m.set, key, value, ttl=ttl) is not MISSING:
            self.model.write(key, value, ttl)

    def do_add(self, key: Any) -> None:
        value, ttl, there = self.value(), self.ttl(), self.model.live(key)
        did = self.attempt(self.m.add, key, value, ttl=ttl)
        if did is not MISSING:
            assert did is (there is None)
            if did:
                self.model.write(key, value, ttl)

    def do_replace(self, key: Any) -> None:
        value, ttl, there = self.value(), self.ttl(), self.model.live(key)
        did = self.attempt(self.m.replace, key, value, ttl=ttl)
        if did is not MISSING:
            assert did is (there is not None)
            if did:
                self.model.write(key, value, ttl)

    def do_setdefault(self, key: Any) -> None:
        value, there = self.value(), self.model.live(key)
        got = self.attempt(self.m.setdefault, key, value)
        if got is not MISSING:
            assert got == (there[0] if there else value)
            if not there:
                self.model.write(key, value, self.default_ttl)

    def do_cas(self, key: Any) -> None:
        value, version = self.m.get_versioned(key, MISSING)
        there = self.model.live(key)
        assert (version != 0) is (there is not None)
        assert value == there[0] if there else value is MISSING
        stale = self.draw.random() < 0.3
        new = self.value()
        did = self.attempt(self.m.cas, key, new, version + 2 if stale else version, ttl=9)
        if did is not MISSING:
            assert did is not stale
            if did:
                self.model.write(key, new, 9)

    def do_incr(self, key: Any) -> None:
        delta, there = self.draw.randrange(-1000, 1000), self.model.live(key)
        if there is not None and (type(there[0]) is not int or abs(there[0]) >> 62):
            return
        got = self.m.incr(key, delta, ttl=5) if there else self.attempt(
            self.m.incr, key, delta, ttl=5
        )
        if got is not MISSING:
            if there is None:
                self.model.write(key, delta, 5)
            else:
                there[0] += delta
            assert got == self.model.entries[key][0]

    def do_apply(self, key: Any) -> None:
        value, there = self.value(), self.model.live(key)
        default, seen = self.value(), []
        got = self.attempt(self.m.apply, key, lambda old: (seen.append(old), value)[1], default)
        if got is not MISSING:
            assert got == value and seen == [there[0] if there else default]
            if there is None:
                self.model.write(key, value, self.default_ttl)
            else:
                there[0] = value

    def do_edit(self, key: Any) -> None:
        value, there = self.value(), self.model.live(key)

        def edit() -> None:
            with self.m.edit(key, "default", timeout=0) as edited:
                assert edited == (there[0] if there else "default")
                edited.value = value

        if self.attempt(edit) is not MISSING:
            if there is None:
                self.model.write(key, value, self.default_ttl)
            else:
                there[0] = value

    def do_add_float(self, key: Any) -> None:
        there = self.model.live(key)
        if there is not None and type(there[0]) not in (int, float):
            return
        if there is not None and abs(there[0]) > 2**50:
            return
        got = self.attempt(self.m.incr, key, 0.5, ttl=5)
        if got is not MISSING:
            if there is None:
                self.model.write(key, 0.5, 5)
            else:
                there[0] += 0.5
            assert got == self.model.entries[key][0] and type(got) is float

    def do_get_and_touch(self, key: Any) -> None:
        ttl, there = self.ttl(), self.model.live(key)
        got = self.m.get_and_touch(key, ttl, MISSING)
        assert got is MISSING if there is None else got == there[0]
        if there is not None:
            self.model.write(key, there[0], ttl)

    def do_touch(self, key: Any) -> None:
        ttl, there = self.ttl(), self.model.live(key)
        assert self.m.touch(key, ttl) is (there is not None)
        if there is not None:
            self.model.write(key, there[0], ttl)

    def do_get(self, key: Any) -> None:
        there = self.model.live(key)
        got = self.m.get(key, MISSING)
        assert got is MISSING if there is None else got == there[0]
        assert there is None or type(got) is type(there[0])
        assert (key in self.m) is (there is not None)

    def do_ttl(self, key: Any) -> None:
        there = self.model.live(key)
        try:
            left = self.m.ttl(key)
        except KeyError:
            assert there is None
        else:
            assert there is not None
            rest = None if there[1] is None else rounded_down(there[1] - self.model.now_ns)
            assert left == rest

    def do_delete(self, key: Any) -> None:
        assert self.m.delete(key) is (self.model.live(key) is not None)
        self.model.entries.pop(key, None)

    def do_pop(self, key: Any) -> None:
        there = self.model.live(key)
        got = self.m.pop(key, MISSING)
        assert got is MISSING if there is None else got == there[0]
        self.model.entries.pop(key, None)

    def do_popitem(self, key: Any) -> None:
        try:
            key, value = self.m.popitem()
        except KeyError:
            assert self.evicts or not self.model.items()
        else:
            assert self.model.items()[key] == value
            del self.model.entries[key]

    def do_advance(self, key: Any) -> None:
        self.model.now_ns += self.draw.choice((1, 10**8, 10**9, 7 * 10**9))
        self.clock.frozen_ns = self.model.now_ns

    def do_sweep(self, key: Any) -> None:
        self.m.sweep()
        assert self.m.stats().entries == len(self.m)

    def do_clear(self, key: Any) -> None:
        self.m.clear()
        self.model.entries.clear()

    def do_compare(self, key: Any) -> None:
        there, wanted = dict(self.m.items()), self.model.items()
        assert len(self.m) == len(there) == len(list(self.m))
        assert there.items() <= wanted.items() if self.evicts else there == wanted


_FREQUENT = {"set": 30, "get": 20, "add": 6, "replace": 6, "incr": 10, "delete": 8, "pop": 4,
             "touch": 5, "ttl": 4, "cas": 5, "setdefault": 4, "popitem": 2, "advance": 6,
             "apply": 4, "edit": 2, "add_float": 3, "get_and_touch": 3,
             "compare": 1, "sweep": 1, "clear": 0.15}  # fmt: skip
_NAMES = list(_FREQUENT)
_WEIGHTS = list(_FREQUENT.values())
