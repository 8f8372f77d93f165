"""Keys and values on the page of `shmmap ui`: what is shown, how, and how much of it."""

from __future__ import annotations

import json
import pickle
import random
import threading
from typing import Any

import pytest

import shmmap
from shmmap.tools.ui import searching

from ...support.engines import once
from .serving import serve as serve

pytestmark = once


class Boom:
    """What must not be unpickled."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("somebody has unpickled it",)


@pytest.fixture
def shown(serve, make):
    """Write an entry; return what the page is told of its value."""
    m = make(size="16MB", shards=2)
    serving = serve(m.name)

    def show(value: Any, key: Any = "k") -> dict[str, Any]:
        m[key] = value
        return look(serving, m.name, "" if not isinstance(key, str) else key)

    show.m, show.serving = m, serving  # type: ignore[attr-defined]
    return show


def look(serving, name: str, prefix: str) -> dict[str, Any]:
    """Find a key by its beginning, and look at its value."""
    key = serving.ask("/keys", map=name, prefix=prefix).json()["keys"][0]["id"]
    found: dict[str, Any] = serving.ask("/value", map=name, key=key).json()
    return found


def forms(told: dict[str, Any]) -> dict[str, str]:
    """Return how a value reads, by the names of the forms."""
    return {one["name"]: one["text"] for one in told["forms"]}


class TestKeys:
    def test_by_their_beginning(self, serve, make):
        m = make()
        m.update({f"user:{number}": number for number in range(30)})
        m.update({"other": 1, 7: 2, b"user:": 3, ("user:", 1): 4, None: 5})
        serving = serve(m.name)
        told = serving.ask("/keys", map=m.name, prefix="user:1").json()
        assert [key["text"] for key in told["keys"]] == sorted(
            key for key in m if isinstance(key, str) and key.startswith("user:1"))
        assert told["keys"][0]["text"] == "user:1" and told["keys"][0]["type"] == "str"
        assert not told["is_cut"] and not told["is_late"] and told["problems"] == []
        assert serving.ask("/keys", map=m.name, prefix="none").json()["keys"] == []
        assert len(serving.ask("/keys", map=m.name).json()["keys"]) == len(m)

    @pytest.mark.parametrize("key", ["ä\u202e\n", 7, -1, 2**80, 1.5, b"\x00\xff", None, ("a", (1,)),
                                     "", frozenset({1}), "\ud800"])
    def test_of_every_type(self, serve, make, key):
        m = make()
        m[key] = "found"
        told = look(serve(m.name), m.name, "")
        assert told["found"] and forms(told) == {"text": "found"}
        assert told["key"]["text"].isprintable()

    def test_more_than_are_shown(self, serve, make):
        m = make()
        m.update({f"key:{number:04}": number for number in range(500)})
        told = serve(m.name).ask("/keys", map=m.name, prefix="key:").json()
        assert len(told["keys"]) == searching.KEYS_AT_MOST and told["is_cut"]

    def test_time_that_is_up(self, serve, make, monkeypatch):
        """The key that was written out is found all the same."""
        m = make()
        m.update({f"key:{number}": number for number in range(500)})
        monkeypatch.setattr(searching, "SECONDS_AT_MOST", -1.0)
        told = serve(m.name).ask("/keys", map=m.name, prefix="key:7").json()
        assert told["is_late"] and [key["text"] for key in told["keys"]] == ["key:7"]

    @pytest.mark.parametrize("key", ["", "x", "1", "1-x", "-61", "99-61", "1000-61", "1-6", "²-61"])
    def test_a_key_that_nobody_named(self, serve, make, key):
        answer = serve(make().name).ask("/value", map="", key=key)
        assert answer.status == 404
        m = make()
        answer = serve(m.name).ask("/value", map=m.name, key=key)
        assert answer.status == 400 and answer.json()["problem"]

    def test_beside_a_damaged_shard(self, serve, make):
        """Also where the key that is written out would be in that shard."""
        m = make(shards=2)
        m.update({f"key:{number}": number for number in range(40)})
        serving, shard = serve(m.name), m.attachment.mappings[0]
        before = bytes(shard.buffer[:8])
        shard.buffer[:8] = b"\0" * 8
        try:
            for prefix in ("key:1", "key:2", "key:3", "key:4", "key:5"):
                told = serving.ask("/keys", map=m.name, prefix=prefix).json()
                assert told["problems"] and "damaged" in told["problems"][0]
            told = serving.ask("/keys", map=m.name, prefix="key:").json()
            assert 0 < len(told["keys"]) < 40
        finally:
            shard.buffer[:8] = before

    def test_keys_that_are_garbage(self, serve, make):
        """Of every type, of every length: an answer, never a broken connection."""
        m, rng = make(), random.Random(7)
        m["a"] = 1
        serving = serve(m.name)
        for _ in range(300):
            digits = rng.randbytes(rng.choice((0, 1, 4, 8, 9, 12, 16, 30))).hex()
            answer = serving.ask("/value", map=m.name, key=f"{rng.randrange(20)}-{digits}")
            assert answer.status in (200, 400) and not answer.json().get("found"), digits

    def test_many_search_at_once(self, serve, make):
        m = make()
        m.update({f"key:{number}": number for number in range(100)})
        serving = serve(m.name)
        counts: list[int] = []

        def search() -> None:
            counts.append(len(serving.ask("/keys", map=m.name, prefix="key:").json()["keys"]))

        threads = [threading.Thread(target=search) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counts == [100] * 12


class TestValues:
    def test_str(self, shown):
        assert forms(shown("two\nlines\x1b[31m\u202e")) == {"text": "two\nlines\\x1b[31m\\u202e"}

    def test_markup_is_text(self, shown):
        text = "<script>alert(1)</script><img src=x onerror=alert(1)>"
        assert forms(shown(text)) == {"text": text}

    def test_a_str_that_is_json(self, shown):
        assert forms(shown('{"a":[1,{"ä":null}]}')) == {
            "JSON": json.dumps({"a": [1, {"ä": None}]}, indent=2, ensure_ascii=False),
            "text": '{"a":[1,{"ä":null}]}'}
        for none in ("{no json", "[" * 50_000, "{" + '"a":' * 9):
            assert set(forms(shown(none))) == {"text"}

    def test_containers(self, shown):
        assert forms(shown({"a": [1, None]})) == {
            "JSON": '{\n  "a": [\n    1,\n    null\n  ]\n}', "Python": "{'a': [1, None]}"}
        assert forms(shown((1, {2}))) == {"Python": "(1, {2})"}
        assert forms(shown([2**70])) == {"JSON": f"[\n  {2**70}\n]", "Python": f"[{2**70}]"}

    def test_bytes(self, shown):
        assert forms(shown(b"caf\xc3\xa9\n\x00")) == {
            "hex": "00000  63 61 66 c3 a9 0a 00                             caf...."}
        assert forms(shown("café\n".encode()))["UTF-8"] == "café\n"
        told = shown(bytes(100_000))
        assert told["forms"][0]["is_cut"] and told["bytes"] == 100_000
        assert forms(told)["hex"].count("\n") == searching.HEX_BYTES_AT_MOST // 16 - 1

    def test_a_pickle_is_not_loaded(self, shown, monkeypatch):
        monkeypatch.setattr(pickle, "loads", lambda *of, **more: pytest.fail("it was loaded"))
        told = shown(Boom())
        assert told["type"] == "pickle" and set(forms(told)) == {"hex"}

    def test_a_codec_of_somebody_s_own(self, serve, make):
        class Own:
            name = "own"

            def dumps(self, value: Any) -> bytes:
                return repr(value).encode()

            def loads(self, data: bytes) -> Any:
                raise AssertionError("nobody asked for that")

        m = make(codec=Own())
        m["k"] = [1]
        told = look(serve(m.name), m.name, "k")
        assert told["type"] == "coded" and forms(told)["hex"].endswith("[1]")

    def test_what_is_too_long_is_cut(self, shown):
        told = shown("x" * 200_000)
        assert told["forms"] == [{"name": "text", "text": "x" * searching.TEXT_AT_MOST,
                                  "is_cut": True}]

    def test_what_is_too_large_is_not_read(self, shown):
        told = shown("x" * (searching.VALUE_BYTES_AT_MOST + 1))
        assert told["found"] and told["forms"] == [] and "shmmap get" in told["problem"]
        assert told["bytes"] == searching.VALUE_BYTES_AT_MOST + 1

    def test_few_bytes_that_stand_for_very_much(self, shown):
        laughs: Any = ["ha"]
        for _ in range(64):
            laughs = [laughs, laughs]
        assert "more than 1,000,000 items" in forms(shown(laughs))["Python"]
        wide = [[[["x"] * 50] * 50] * 20] * 5
        assert all(len(one["text"]) <= searching.TEXT_AT_MOST for one in shown(wide)["forms"])

    def test_the_rest(self, shown, freeze):
        told = shown(5)
        assert (told["ttl"], told["type"], told["bytes"], told["problem"]) == (None, "int", 8, None)
        shown.m.set("t", 1, ttl=60)
        assert 59 < look(shown.serving, shown.m.name, "t")["ttl"] <= 61
        key = shown.serving.ask("/keys", map=shown.m.name, prefix="t").json()["keys"][0]["id"]
        del shown.m["t"]
        assert shown.serving.ask("/value", map=shown.m.name, key=key).json()["found"] is False

    def test_a_damaged_value(self, serve, make):
        m = make(shards=1)
        m["k"] = {"a": "needle in it"}
        buffer = m.attachment.mappings[0].buffer
        place = bytes(buffer).index(b"needle")
        buffer[place - 1:place] = b"\xff"
        told = look(serve(m.name), m.name, "k")
        assert told["forms"] == [] and told["problem"]

    def test_looking_counts_nowhere(self, shown):
        before = shown.m.stats().hits
        shown(1)
        assert shown.m.stats().hits == before
        assert shmmap.openmetrics(shown.m.name)
