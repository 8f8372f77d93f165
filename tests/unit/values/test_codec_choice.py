"""codec=: what a map does with values that are not native, and what it remembers of that."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest

import shmmap
from shmmap.errors import ConfigMismatch, MapCorrupted
from shmmap.memory.layout import constants
from shmmap.tools import cli
from shmmap.values import _codecs_cy, codecs

K = constants()
VALUE = {"name": "Ada", "tags": ["a", "b", None, True, 1.5], "umläut": "ÿ\u20ac\ud800", "": {}}


class Reversed:
    """Writes JSON backwards."""

    name = "reversed-1"

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode()[::-1]

    def loads(self, data: bytes) -> Any:
        return json.loads(data[::-1])


class Other(Reversed):
    name = "other.2"


@pytest.mark.parametrize("near", [{}, {"near": 4}, {"near": 4, "near_copy": True}],
                         ids=["", "near", "copies"])
@pytest.mark.parametrize("codec", ["json", "msgpack", Reversed()], ids=lambda one: str(one)[:8])
def test_every_operation_goes_by_the_codec(make, codec, near, caplog):
    value = {key: part for key, part in VALUE.items() if codec != "msgpack" or key != "umläut"}
    m = make(codec=codec, **near)
    m["a"] = value
    m["list"] = [1, 2]
    assert m["a"] == m["a"] == m.get("a") == value == m.snapshot()["a"]
    assert m.codec == getattr(codec, "name", codec)
    assert m.incr("n") == 1 and m.get_or_set("g", lambda: [3]) == [3] == m["g"]
    assert m.add("b", [4]) and m.replace("b", [5]) and m.setdefault("b", []) == [5]
    assert m.cas("b", [6], m.get_versioned("b")[1]) and m.get_versioned("b")[0] == [6]
    assert m.get_many(["a", "b"]) == {"a": value, "b": [6]}
    assert m.pop("b") == [6] and dict(m) == {"a": value, "list": [1, 2], "n": 1, "g": [3]}
    assert m.check() == []
    m.repair()
    taken = dict(m.popitem() for _ in range(4))
    assert taken == {"a": value, "list": [1, 2], "n": 1, "g": [3]} and len(m) == 0
    m["tuple"] = (1, (2,))
    assert m["tuple"] == [1, [2]]
    for native in (b"x", "x", 5, 1 << 80, 2.5, None, True):
        m["v"] = native
        assert type(m["v"]) is type(native) and m["v"] == native
    with pytest.raises((TypeError, ValueError)):
        m["bad"] = {1, 2}
    assert "bad" not in m
    assert m.get_or_set("bad", lambda: {1}) == {1}
    assert "could not be stored" in caplog.text and m.stats().uncached == {"not_picklable": 1}


@pytest.mark.parametrize("codec", ["json", Reversed()], ids=["json", "object"])
def test_no_pickle_is_written_or_loaded(make, codec):
    m = make(codec=codec)
    assert m._live.safe
    with pytest.raises(TypeError, match="not JSON serializable"):
        m["a"] = object
    kind, data = _codecs_cy.pack([1j])
    with pytest.raises(TypeError, match="is a pickle"):
        _codecs_cy.unpack(kind, data, m._coder)
    with pytest.raises(MapCorrupted, match="in a map of codec"):
        _codecs_cy.unpack(*_codecs_cy.pack([1], Reversed()), False)


def test_the_names_are_compared(make, name):
    make(codec="json")
    assert shmmap.ShmMap(name).codec == "json" == shmmap.ShmMap(name, codec="json").codec
    for wrong in ("auto", "safe", "msgpack", Reversed()):
        for use in (shmmap.ShmMap, shmmap.ShmMap.attach):
            with pytest.raises(ConfigMismatch, match=r"codec: asked .*, it has json"):
                use(name, codec=wrong)


def test_an_object_of_that_name_has_to_be_given(make, name):
    m = make(codec=Reversed())
    m["a"] = [1]
    assert shmmap.ShmMap(name, codec=Reversed())["a"] == [1]
    with pytest.raises(ConfigMismatch, match=r"codec: it has reversed-1, and no object"):
        shmmap.ShmMap(name)
    with pytest.raises(ConfigMismatch, match=r"codec: asked other.2, it has reversed-1"):
        shmmap.ShmMap(name, codec=Other())


class Nameless:
    dumps = loads = staticmethod(bytes)


class Named(Nameless):
    def __init__(self, name: Any) -> None:
        self.name = name


@pytest.mark.parametrize(
    "codec", [5, Nameless(), Named(5), Reversed, json, object(), ["json"], True], ids=str
)
def test_what_is_no_codec_is_refused(name, codec):
    with pytest.raises(TypeError, match="with name, dumps and loads, not"):
        shmmap.ShmMap(name, codec=codec)


@pytest.mark.parametrize("codec", ["pickle", "", Named(""), Named("x" * 25), Named("a b"),
                                   Named("json"), Named("safe"), Named("ü")], ids=str)
def test_a_name_that_cannot_be_kept_is_refused(name, codec):
    with pytest.raises(ValueError, match="codec="):
        shmmap.ShmMap(name, codec=codec)


@pytest.mark.parametrize("codec_name", ["x", "x" * 8, "x" * 24, "Az09_.-"])
def test_a_name_is_kept_as_it_is(name, codec_name):
    with shmmap.ShmMap(name, size="300KB", ephemeral=True, codec=Named(codec_name)) as m:
        assert m.codec == codec_name == shmmap.ShmMap(name, codec=Named(codec_name)).codec


def test_the_words_of_a_name():
    for known in (*codecs.BUILT_IN, "x" * 24):
        assert codecs.name_of(*codecs.words_of(known)) == known
    for number, words in ((0, [1, 0, 0]), (3, [0, 0, 0]), (2, [0, 0, 0]), (2, [0x20, 0, 0]),
                          (2, [0xFF, 0, 0]), (2, codecs.words_of("json")[1][::-1]),
                          (2, [int.from_bytes(b"auto", "little"), 0, 0])):
        assert codecs.name_of(number, words) is None


def test_what_dumps_returns_must_be_bytes(make):
    class Wrong(Named):
        dumps = staticmethod(json.dumps)  # type: ignore[assignment]

    class Array(Named):
        dumps = staticmethod(lambda value: bytearray(b"[]"))  # type: ignore[assignment]
        loads = staticmethod(json.loads)  # type: ignore[assignment]

    m = make(codec=Wrong("wrong"))
    with pytest.raises(TypeError, match="codec 'wrong': dumps must return bytes, not str"):
        m["a"] = [1]
    assert len(m) == 0
    assert _codecs_cy.unpack(*_codecs_cy.pack([1], Array("a")), Array("a")) == []


def test_what_loads_raises_names_the_key(make):
    class Broken(Reversed):
        error: BaseException | None = None

        def loads(self, data: bytes) -> Any:
            if self.error is not None:
                raise self.error
            return super().loads(data)

    codec = Broken()
    m = make(codec=codec)
    m["k"] = [1]
    for error in (ValueError("mine"), KeyError("k"), shmmap.MapNotFound("other")):
        codec.error = error
        for read in (lambda: m["k"], lambda: m.pop("k"), m.popitem, lambda: dict(m.items())):
            with pytest.raises(Exception) as caught:
                read()
            assert not isinstance(caught.value, (KeyError, shmmap.MapNotFound))
            told = str(caught.value) + str(getattr(caught.value, "__notes__", ""))
            told += str(caught.value.__cause__ or "")
            assert "'k'" in told and m.name in told
    codec.error = None
    assert m.pop("k") == [1]


def test_damaged_bytes_are_not_given_to_it():
    kind, data = _codecs_cy.pack([1], Reversed())
    assert kind == K["VALUE_CODED"] and _codecs_cy.unpack(kind, data, Reversed()) == [1]
    _codecs_cy.verify(kind, data)
    for damaged in (data[:-1], data[:5], b"", data[:-1] + b"x"):
        with pytest.raises(MapCorrupted, match="checksum"):
            _codecs_cy.unpack(kind, damaged, Reversed())
        with pytest.raises(MapCorrupted, match="checksum"):
            _codecs_cy.verify(kind, damaged)


@pytest.mark.parametrize("codec", ["json", Reversed()], ids=["json", "object"])
def test_a_pickled_map_takes_its_codec_along(make, codec):
    m = make(codec=codec)
    m["a"] = [1]
    same = pickle.loads(pickle.dumps(m))
    assert same["a"] == [1] and same.codec == m.codec
    same.close()


SPAWNED = """
import json, multiprocessing, sys, shmmap

class Mine:
    name = "mine"
    def dumps(self, value): return json.dumps(value).encode()
    def loads(self, data): return json.loads(data)

def work(m):
    m["child"] = [*m["a"], m.codec]

if __name__ == "__main__":
    with shmmap.ShmMap(sys.argv[1], size="300KB", codec=Mine(), ephemeral=True) as m:
        m["a"] = [1]
        child = multiprocessing.get_context("spawn").Process(target=work, args=(m,))
        child.start()
        child.join(60)
        print(child.exitcode, m["child"])
"""


def test_a_spawned_process_has_the_codec(name, tmp_path):
    (tmp_path / "program.py").write_text(SPAWNED)
    done = subprocess.run([sys.executable, str(tmp_path / "program.py"), name], timeout=60,
                          capture_output=True, text=True, check=True)
    assert done.stdout == "0 [1, 'mine']\n"


def test_copies(make, other, name, tmp_path, capsys):
    m = make(codec=Reversed())
    m.update(a=[1], b=2)
    path = str(tmp_path / "d")
    m.dump(path)
    target = other(codec="json")
    for source in (m, path):
        with pytest.raises(TypeError, match=r"codec 'reversed-1', and map .* has 'json'"):
            target.merge(source)
    target.unlink()
    target.close()
    with pytest.raises(ConfigMismatch, match="of a map with the codec 'reversed-1': say codec="):
        shmmap.ShmMap.load(path, other.name)
    with shmmap.ShmMap.load(path, other.name, codec=Reversed()) as loaded:
        assert dict(loaded) == {"a": [1], "b": 2}
        assert cli.main(["dump", other.name, str(tmp_path / "e")]) == 0
        loaded.clear()
        assert cli.main(["load", str(tmp_path / "e"), other.name]) == 0
        assert dict(loaded) == {"a": [1], "b": 2}
        assert cli.main(["fsck", other.name]) == 0 and cli.main(["info", other.name]) == 0
        assert "reversed-1" in capsys.readouterr().out
        loaded.unlink()
    with shmmap.ShmMap(other.name, size="300KB", codec="json", ephemeral=True) as one:
        one["a"] = [1]
        one.dump(path)
    with shmmap.ShmMap.load(path, other.name) as two:
        assert two.codec == "json" and two["a"] == [1]
        two.unlink()


def test_without_msgpack_it_says_what_to_install(name):
    code = (
        "import sys; sys.modules['msgpack'] = None; import shmmap\n"
        f"try: shmmap.ShmMap('{name}', codec='msgpack')\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          check=True, env={**os.environ}, cwd="/")
    assert 'pip install "shmmap[msgpack]"' in done.stdout
