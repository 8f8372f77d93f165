"""Subclasses: pickled and copied they are what they were, and may call their own as they like."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap import _engine, subclasses


class Cache(shmmap.ShmMap):
    def __init__(self, name: str, prefix: str) -> None:
        self.prefix = prefix
        super().__init__(name, size="1MB", near=5, lock_timeout=2.5)

    def lookup(self, key: str) -> Any:
        return self.get(self.prefix + key)


class Slotted(Cache):
    __slots__ = ("extra", "unset")


class Choosy(Cache):
    def __getstate__(self) -> Any:
        state = self.__dict__.copy()
        del state["prefix"]
        return state

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self.prefix = "set again"


@pytest.mark.parametrize("duplicate", [
    *(lambda m, p=p: pickle.loads(pickle.dumps(m, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
    copy.copy, copy.deepcopy,
])  # fmt: skip
def test_a_subclass_comes_back_as_itself(name, duplicate):
    m = Slotted(name, "user:")
    m.extra = [1]
    m.me = m
    m["user:7"] = "Ada"
    with m.lock("l"):
        dict(m)
    other = duplicate(m)
    assert type(other) is Slotted and other is not m
    assert (other.prefix, other.extra, other.lookup("7")) == ("user:", [1], "Ada")
    assert not hasattr(other, "unset") and other.near.size == 5 and other._lock_timeout == 2.5
    assert other.me is (m if duplicate is copy.copy else other)
    other["user:8"] = "Grace"
    assert m.lookup("8") == "Grace"
    other.close()
    m.unlink()


def test_its_own_ways_of_pickling_are_used(name):
    m = Choosy(name, "user:")
    m.more = 1
    other = pickle.loads(pickle.dumps(m))
    assert (type(other), other.prefix, other.more) == (Choosy, "set again", 1)
    other["a"] = 1
    assert m["a"] == 1
    other.close()
    m.unlink()


def test_a_plain_map_keeps_what_was_set_on_it(make):
    m = make()
    assert len(m.__reduce__()) == 2
    m.note = "mine"
    other = pickle.loads(pickle.dumps(m))
    assert type(other) is shmmap.ShmMap and other.note == "mine"
    other.close()


def test_the_list_of_a_handles_own_attributes_is_complete(make):
    m = make(near=5)
    m["a"] = 1
    m.set("b", 2, ttl=60)
    dict(m)
    with m.lock("l"):
        m.get_or_set("c", int)
    m.snapshot(), m.stats(), m.check(), m.repair(), m.sweep()
    assert vars(m).keys() <= subclasses.PRIVATE
    assert subclasses.state_of(m) == {}


def test_the_lists_of_names_are_those_of_the_engine():
    declared: set[str] = set()
    for kind in shmmap.ShmMap.__mro__:
        module = kind.__module__.partition(".")[2]
        if module in _engine.MODULES:
            text = Path(f"{_engine.path_of(module)}.pxd").read_text()
            text = text[text.index(f"cdef class {kind.__name__}") :]
            text = re.sub(r"\ncdef (?!class)[^\n]*", "", text)
            declared |= set(re.findall(r"^    cdef [^(\n]*?(\w+)(?:\(|$)", text, re.M))
    assert declared
    attributes = {name for name in declared if not name.startswith("_")}
    if shmmap.ENGINE == "pure":
        attributes -= {"mask", "shift"}  # by which compiled code picks a shard
        assert attributes <= subclasses.INTERNAL, attributes - subclasses.INTERNAL
        assert not subclasses.PUBLIC & attributes
    else:
        assert not subclasses.INTERNAL


METHODS = (
    "write", "read", "commit", "take", "fetch", "hold", "drop", "count", "note", "token", "enter",
    "leave", "ready", "mend", "decoded", "value_of", "key_of", "let_go", "look", "send",
)
VALUES = ("mask", "seed", "row", "gate", "shards", "safe", "clock", "control", "copying", "count")


def use(m: Any) -> None:
    """Go once through what a map can do."""
    m.clear()
    m["a"] = 1
    m.set("t", "x", ttl=60)
    assert m["a"] == m.get("a") == 1 and "a" in m and m.incr("a") == 2 and m.pop("a") == 2
    m.set_many({"b": [1], "c": 2})
    assert m.get_many(["b", "c"]) == {"b": [1], "c": 2} and dict(m)["b"] == [1]
    assert m.setdefault("d", 4) == 4 and m.touch("d", 5) and m.delete("d")
    assert m.popitem() and len(m) == 2 and m.snapshot() and sorted(map(str, m))
    with m.lock("l"):
        assert m.get_or_set("e", lambda: 5) == 5
    m.repair()
    assert m.check() == [] and m.stats().entries == 3
    m.sweep()
    m.clear()


def test_a_subclass_may_call_its_methods_as_it_likes(name):
    body = {method: lambda self, *args, what=method: (what, self.name, *args) for method in METHODS}
    mixin = type("Mixin", (), {"let_go": body.pop("let_go")})
    kind: Any = type("Named", (mixin, shmmap.ShmMap), body)
    child: Any = type("Child", (kind,), {"read": lambda self: ("child", kind.read(self))})
    for of in (kind, child, type("Grandchild", (child,), {})):
        m = of(name, size="1MB")
        for method in METHODS:
            if method != "read":
                assert getattr(m, method)(1) == (method, name, 1)
        assert m.read() == (("read", name) if of is kind else ("child", ("read", name)))
        use(m)
        m.unlink()
        m.close()


class Odd(shmmap.ShmMap):
    mask = "of the class"
    calls = 0

    @property
    def fetch(self) -> str:
        return f"fetched {self.calls}"

    @classmethod
    def hold(cls) -> str:
        return cls.__name__

    @staticmethod
    def drop() -> str:
        return "dropped"

    def write(self) -> None:
        self.calls += 1
        self["written"] = self.calls


def test_whatever_kind_of_thing_has_the_name(name):
    m = Odd(name, size="1MB")
    m.write()
    m.write()
    assert (m.mask, m.fetch, m.hold(), m.drop(), m["written"]) == (
        "of the class", "fetched 2", "Odd", "dropped", 2)
    assert Odd.mask == "of the class" and Odd.hold() == "Odd"
    m.mask = "of the object"
    use(m)
    assert m.mask == "of the object"
    del m.mask
    assert m.mask == "of the class"
    m.unlink()


class Valued(shmmap.ShmMap):
    def __init__(self, name: str) -> None:
        for value in VALUES[::2]:
            setattr(self, value, f"my {value}")
        super().__init__(name, size="1MB")
        for value in VALUES[1::2]:
            setattr(self, value, f"my {value}")


def test_a_subclass_may_call_its_attributes_as_it_likes(name):
    m = Valued(name)
    use(m)
    other = pickle.loads(pickle.dumps(m))
    use(other)
    plain = shmmap.ShmMap(name)
    use(plain)
    for one in (m, other):
        assert [getattr(one, value) for value in VALUES] == [f"my {value}" for value in VALUES]
    for one in (other, plain):
        one.close()
    m.unlink()


@pytest.mark.parametrize("reserved", subclasses.RESERVED)
def test_what_a_subclass_cannot_replace_is_refused_at_once(reserved):
    with pytest.raises(TypeError, match=rf"class Mine: '{reserved}'"):
        type("Mine", (shmmap.ShmMap,), {reserved: lambda self: 1})
