"""A map at a prompt: what is shown of it, whatever state it is in."""

from __future__ import annotations

import copy
import datetime
import logging
import os
import pickle
import pydoc
import rlcompleter
import threading
from collections import ChainMap, OrderedDict, UserDict
from typing import Any

import pytest

import shmmap
from shmmap import prompt
from shmmap.errors import MapClosed, MapExists, MapNotFound, MapUnlinked, SharedMemoryFull
from shmmap.system import segment

from ..support.leftovers import SHM, control_file, objects_of

PARAMETERS = ("size", "capacity", "value_size", "key_size", "on_full", "codec", "mode", "ephemeral",
              "default_ttl", "max_age", "sweep_interval", "lock_timeout", "consistency",
              "max_staleness", "parameters")


def never_opened() -> Any:
    return shmmap.ShmMap.__new__(shmmap.ShmMap)


def closed(m: Any) -> Any:
    m.close()
    return m


def unlinked(m: Any) -> Any:
    m.unlink()
    return m


@pytest.mark.parametrize("state", [lambda m: m, closed, unlinked, lambda m: never_opened()],
                         ids=["open", "closed", "unlinked", "never opened"])
def test_looking_at_a_map_raises_nothing(make, state, caplog):
    m = make(ttl=60)
    keep = shmmap.ShmMap.attach(m.name)
    m["a"] = 1
    try:
        shown = state(m)
        text = repr(shown)
        assert str(shown) == f"{shown}" == text and f"{shown:>80}" == text.rjust(80)
        logging.getLogger("test").warning("it is %s", shown)
        logging.getLogger("test").warning("%s and %s", shown, 1)
        assert f"it is {text}" in caplog.text and f"{text} and 1" in caplog.text
        assert "incr" in dir(shown) and shown._repr_html_().startswith("<table>")
        assert shown._ipython_key_completions_() == (["a"] if shown is m and "entr" in text else [])
        assert "popitem" in pydoc.render_doc(shown, renderer=pydoc.plaintext)
        completer = rlcompleter.Completer({"m": shown})
        assert "m.inc" in str(completer.complete("m.inc", 0))
        assert prompt.AtPrompt.__doc__
    finally:
        if not keep.closed:
            keep.unlink()
            keep.close()


def test_a_closed_map_is_still_refused_elsewhere(make):
    m = closed(make())
    with pytest.raises(MapClosed):
        bool(m)
    shmmap.unlink(m.name)


def test_a_forked_child_does_not_join_to_show_a_map(make, start):
    m = make()
    m["a"] = 1

    def look(child: Any) -> Any:
        seen = repr(m), m._ipython_key_completions_(), m._repr_html_()
        return seen[0], seen[1], m.attachment.worker.fork_page.word, m["a"]

    shown, keys, word, value = start(look).result()
    assert "1 entries" in shown and keys == [] and word == 0 and value == 1


def test_it_is_shown_while_another_thread_closes_it(make, name):
    keep = make()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            assert repr(m).startswith("<ShmMap") and isinstance(m._ipython_key_completions_(), list)

    m = shmmap.ShmMap(name)
    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        opened = shmmap.ShmMap(name)
        m, previous = opened, m
        previous.close()
    over.set()
    for thread in threads:
        thread.join()
    m.close()
    assert not keep.closed


def test_only_the_interface_is_listed(make):
    m = make()
    public = {name for name in dir(m) if not name.startswith("_")}
    assert {*PARAMETERS, "get", "name", "closed", "lock", "update", "fromkeys"} <= public
    assert not public & {"attachment", "clock", "hold", "enter", "inflight", "near", "mask"}
    assert not [name for name in dir(m) if name.startswith("_") and not name.endswith("__")]
    assert "__getitem__" in dir(m)
    assert {name for name in dir(shmmap) if not name.startswith("__")} == {
        name for name in shmmap.__all__ if not name.startswith("__")}


class Own(shmmap.ShmMap):
    def __init__(self, name: str, size: str) -> None:
        self.size = size
        self.clock = 5
        super().__init__(name, size=size)

    def mine(self) -> None:
        pass


def test_a_subclass_may_have_attributes_of_these_names(name):
    m = Own(name, "1MB")
    assert m.size == "1MB" and {"mine", "size", "clock"} <= set(dir(m))
    same = pickle.loads(pickle.dumps(m))
    assert same.size == "1MB" and repr(same).startswith("<Own ")
    del m.size
    assert m.size == 1_000_000
    with pytest.raises(AttributeError):
        del m.size
    same.close()
    m.unlink()
    m.close()


def test_parameters_are_attributes(make, name):
    m = make(ttl=datetime.timedelta(minutes=1), on_full="evict", value_size=50, lock_timeout=2,
             near=5, consistency="bounded", max_staleness=datetime.timedelta(seconds=3))
    assert (m.size, m.capacity, m.value_size, m.key_size) == (1_000_000, None, 50, None)
    assert (m.on_full, m.codec, m.mode, m.ephemeral) == ("evict", "auto", 0o600, False)
    assert (m.default_ttl, m.max_age, m.sweep_interval) == (60.0, None, None)
    assert (m.lock_timeout, m.consistency) == (2.0, "bounded")
    with pytest.raises(AttributeError, match="size"):
        m.size = 5
    with shmmap.ShmMap(name + "b", **{**m.parameters, "ephemeral": True}) as other:
        assert other.parameters == {**m.parameters, "ephemeral": True}
    with shmmap.ShmMap(name + "b", capacity=1000, ephemeral=True) as other:
        assert other.capacity == 1000 and other.size == other.stats().size_bytes
        with shmmap.ShmMap(name + "c", **other.parameters) as like:
            assert like.parameters == other.parameters
    m.close()
    assert m.size == 1_000_000 and copy.copy(m.parameters) == m.parameters


def test_stats_print_short(make):
    m = make()
    m["a"] = 1
    m["a"], m.get("b")
    text = str(m.stats())
    assert text.startswith("<Stats: 1 entries in 1 of ") and text.endswith(", 1 worker>")
    assert "1 hits (50% of reads)" in text
    assert len(text) < 200 and "\n" not in text
    assert f"{m.stats()._asdict()}".count("shard_entries") == 1


def test_completions_end(make, monkeypatch):
    monkeypatch.setattr(prompt, "COMPLETIONS", 10)
    m = make()
    m.update(dict.fromkeys(range(100)))
    keys = m._ipython_key_completions_()
    assert len(keys) == 10 == len(set(keys)) and set(keys) <= set(m)


# -- maps by name ---------------------------------------------------------------------------


def test_unlink_by_name(make, name):
    m = make(on_unlinked="raise")
    m["a"] = 1
    shmmap.unlink(name)
    with pytest.raises(MapUnlinked):
        m["a"]
    with pytest.raises(MapNotFound, match="missing_ok=True"):
        shmmap.unlink(name)
    assert shmmap.unlink(name, missing_ok=True) is False
    with pytest.raises(ValueError, match="cannot be a map's name"):
        shmmap.unlink("a/b", missing_ok=True)
    with pytest.raises(TypeError, match="missing_ok"):
        shmmap.unlink(name, missing_ok=1)
    assert not [entry for entry in os.listdir("/dev/shm") if name in entry]
    m.close()


@pytest.mark.parametrize("content", [b"", b"not a map", bytes(1 << 16)])
def test_unlink_what_is_no_map(name, content):
    path = SHM / control_file(name)
    with open(path, "wb", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        file.write(content)
    assert shmmap.unlink(name) is True
    assert not path.exists()


def test_maps_are_listed(make, name):
    m = make()
    m.update(a=1, b=2)
    (seen,) = [one for one in shmmap.maps() if one.name == name]
    assert (seen.state, seen.entries, seen.size) == ("ready", 2, m.stats().size_bytes)
    assert seen.workers == (os.getpid(),) and seen.engine == shmmap.ENGINE
    text = repr(shmmap.maps())
    assert text.splitlines()[0].split()[:3] == ["NAME", "STATE", "ENGINE"] and name in text
    assert type(seen) is shmmap.MapInfo and repr(type(shmmap.maps())()) == "no maps"
    assert m["a"] == 1  # to look at the maps did not end this process's own locks
    assert [one.workers for one in shmmap.maps() if one.name == name] == [(os.getpid(),)]


def test_fresh(make, name):
    old = make(size="1MB", ttl=60, on_unlinked="raise")
    old["a"] = 1
    m = shmmap.ShmMap(name, size="2MB", fresh=True)
    assert len(m) == 0 and m.size == 2_000_000 and m.default_ttl is None
    with pytest.raises(MapUnlinked):
        old["a"]
    m["b"] = 2
    created = shmmap.ShmMap.create(name, size="1MB", fresh=True)
    assert dict(created) == {}
    with pytest.raises(MapExists):
        shmmap.ShmMap.create(name)
    with pytest.raises(TypeError, match="attach never makes"):
        shmmap.ShmMap.attach(name, fresh=True)
    with pytest.raises(TypeError, match="fresh must be a bool"):
        shmmap.ShmMap(name, fresh=1)
    with pytest.raises(ValueError, match="too small"):
        shmmap.ShmMap(name, size=1, fresh=True)
    created["c"] = 3  # what cannot be laid out removes nothing
    created.unlink()
    for opened in (old, m, created):
        opened.close()


@pytest.mark.parametrize("is_used", [True, False])
def test_fresh_where_there_is_no_room_keeps_what_there_is(make, name, monkeypatch, is_used):
    """What the old map has comes back only where nobody has it open."""
    def free_bytes() -> int:
        files = [SHM / entry for entry in objects_of(name)]
        return 3_000_000 - (2_000_000 if is_used else sum(f.stat().st_blocks for f in files) * 512)

    old = make(size="2MB")
    old["a"] = 1
    if not is_used:
        old.close()
    monkeypatch.setattr(segment, "free_bytes", free_bytes)
    if is_used:
        with pytest.raises(SharedMemoryFull, match=r"no room for map .*stays as it is"):
            shmmap.ShmMap(name, size="2MB", fresh=True)
        assert old["a"] == 1 and shmmap.ShmMap(name)["a"] == 1
    else:
        with pytest.raises(SharedMemoryFull):
            shmmap.ShmMap(name, size="4MB", fresh=True)
        assert shmmap.ShmMap(name)["a"] == 1
        shmmap.unlink(name)
        shmmap.ShmMap(name, size="2MB").close()
        with shmmap.ShmMap(name, size="2MB", fresh=True) as m:
            assert len(m) == 0
    assert not [entry for entry in objects_of(name) if entry.endswith(".new")]


@pytest.mark.parametrize("ephemeral", [False, True])
def test_fresh_where_there_was_none_or_another_mode(name, ephemeral):
    with (
        shmmap.ShmMap(name, size="1MB", mode=0o666, ephemeral=ephemeral, fresh=True) as m,
        shmmap.ShmMap(name, size="1MB", fresh=True, ephemeral=True) as other,
    ):
        assert other.mode == 0o600 and repr(m).endswith("MapUnlinked>")


def test_fresh_in_many_processes_at_once(name, start):
    def begin(child: Any) -> int:
        for _ in range(10):
            m = shmmap.ShmMap(name, size="300KB", sweep_interval=None, fresh=True)
            try:
                assert len(m) <= 1  # never an older map's entries
                m["a"] = os.getpid()
            except MapUnlinked:
                pass
            m.close()
        return 1

    children = [start(begin) for _ in range(4)]
    assert [child.result() for child in children] == [1] * 4
    assert shmmap.unlink(name)
    assert not [entry for entry in os.listdir("/dev/shm") if name in entry]


# -- as a dict -------------------------------------------------------------------------------


def test_unknown_arguments_are_told_ours(name):
    for theirs, ours in (("maxsize", "capacity="), ("timeout", "ttl="), ("ex", "ttl="),
                         ("expire", "ttl="), ("max_size", "size="), ("serializer", "codec=")):
        for use in (shmmap.ShmMap, shmmap.ShmMap.create, shmmap.ShmMap.attach):
            with pytest.raises(TypeError, match=rf"unexpected keyword argument '{theirs}'.*{ours}"):
                use(name, **{theirs: 5})
    with pytest.raises(TypeError, match=r"unexpected keyword arguments 'foo', 'ex' \(here"):
        shmmap.ShmMap(name, foo=1, ex=2)


def test_fromkeys(name):
    m = shmmap.ShmMap.fromkeys(["a", "b"], 5, name=name, size="1MB")
    assert m.copy() == {"a": 5, "b": 5}
    assert dict(shmmap.ShmMap.fromkeys("c", name=name)) == {"a": 5, "b": 5, "c": None}
    with pytest.raises(TypeError, match="name="):
        m.fromkeys(["a"])
    m.unlink()
    m.close()


class OnlyKeys:
    def __init__(self, m: Any) -> None:
        self.m = m

    def keys(self) -> Any:
        return self.m.keys()

    def __getitem__(self, key: Any) -> Any:
        return self.m[key]

    def __contains__(self, key: Any) -> bool:
        return key in self.m


@pytest.mark.parametrize("wrap", [lambda m: m, UserDict, OnlyKeys, lambda m: ChainMap({}, m)],
                         ids=["map", "UserDict", "keys", "ChainMap"])
def test_update_from_a_map_that_changes(make, other, wrap):
    m, target = make(), other()
    m.update(dict.fromkeys(range(200)))
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            for key in range(0, 200, 2):
                m.pop(key, None)
                m[key] = key

    thread = threading.Thread(target=change)
    if wrap is not UserDict:  # its own constructor looks them up
        thread.start()
    try:
        for _ in range(30):
            target.update(wrap(m))
    finally:
        over.set()
        if thread.ident:
            thread.join()
    assert set(range(1, 200, 2)) <= set(target)
    assert OrderedDict(m.copy()).keys() >= set(range(1, 200, 2))


def test_a_key_that_goes_and_comes_back_is_no_error(make):
    class Flickers(OnlyKeys):
        looks = 0

        def __getitem__(self, key: Any) -> Any:
            self.looks += 1
            if self.looks % 2:
                raise KeyError(key)
            return super().__getitem__(key)

    m = make()
    m.update(Flickers({"a": 1, "b": 2}))
    assert m.copy() == {"a": 1, "b": 2}


def test_a_source_s_own_key_error_is_raised(make):
    class Wrong(OnlyKeys):
        def __getitem__(self, key: Any) -> Any:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        make().update(Wrong({"a": 1}))


def test_a_prefix_of_a_tuple(make):
    m = make()
    wanted = {("user", 7), ("user", 7, "name"), ("user", 7.0, "age"), ("user", 7, ("x",))}
    m.update(dict.fromkeys([*wanted, ("user", 70), ("user", "7"), ("user",), "user", b"user"]))
    for source in (m, m.snapshot()):
        assert set(source.keys(prefix=("user", 7))) == wanted == {
            key for key, _ in source.items(prefix=("user", 7))}
        assert set(source.keys(prefix=("user",))) == wanted | {
            ("user", 70), ("user", "7"), ("user",)}
        assert set(source.keys(prefix=())) == set(source.keys(prefix=("user",)))
        view = source.keys(prefix=("user", 7))
        assert len(view) == 4 and ("user", 7, "name") in view and ("user", 70) not in view
        assert set(source.keys(prefix=("user", 7, ("x",)))) == {("user", 7, ("x",))}
    found: list[Any] = []
    cursor = None
    while cursor != 0:
        cursor, part = m.scan(cursor or 0, prefix=("user", 7))
        found += part
    assert {key for key, _ in found} == wanted
    with pytest.raises(TypeError, match="unhashable"):
        list(m.keys(prefix=("user", [])))
    with pytest.raises(TypeError, match="str, bytes or tuple"):
        m.keys(prefix=7)


def test_a_timedelta_is_a_number_of_seconds_everywhere(make, start):
    m = make()
    minute = datetime.timedelta(minutes=1)
    double = shmmap.cached(m, ttl=minute, stale=minute, timeout=minute)(twice)
    assert double(3) == double(3) == 6 and 100 < m.ttl(double.key_for(3)) <= 120
    with m.lock("l", timeout=minute, lease=minute) as lock:
        lock.extend(minute)

        def wait(child: Any) -> str:
            try:
                with m.lock("l", timeout=datetime.timedelta(milliseconds=20)):
                    pass
            except shmmap.LockTimeout as error:
                return str(error)
            return ""

        assert "not free within 0.02 s" in start(wait).result()
    for write in (m.set, m.add, m.setdefault):
        write(write.__name__, 1, minute)
        assert 59 < m.ttl(write.__name__) <= 60


def twice(n: int) -> int:
    return 2 * n
