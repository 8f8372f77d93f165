"""What `--json` prints, against docs/reference/json.md: both ways, field by field."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.memory.events import note
from shmmap.testing import LocalStore
from shmmap.tools import cli, repeating

from ...support.engines import once
from .maps import poke

pytestmark = once  # the same with either engine

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "json.md"
SHOWN = "key or value"
_TYPES = {"str": str, "int": int, "float": (int, float), "bool": bool, "null": type(None)}


def table_of(heading: str) -> dict[str, str]:
    """Read the fields under a heading, and their types."""
    page = PAGE.read_text()
    part = re.split(rf"^{heading}$", page, maxsplit=1, flags=re.M)[1]
    part = re.split(r"^## |^In the tables", part, maxsplit=1, flags=re.M)[0]
    found = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", part, re.M)
    assert found and len(found) == len(dict(found)), heading
    return {name: kind.strip() for name, kind in found}


ENVELOPE = table_of("Every document begins with")
OF_SHOWN = dict(re.findall(
    r"^\| `([^`]+)` \| ([^|]+) \|",
    PAGE.read_text().split("*key or value* is an object of")[1].split("\n## ")[0], re.M))
COMMANDS = re.findall(r"^## (\w+)$", PAGE.read_text(), re.M)


def fits(value: Any, kind: str) -> bool:
    """Tell whether a value is of a type as the page says it."""
    for one in re.split(r",? or ", kind.replace(SHOWN, "shown")):
        if one == "any":
            return True
        if one.startswith("list of "):
            if isinstance(value, list) and all(fits(item, one[8:]) for item in value):
                return True
        elif one == "shown":
            if isinstance(value, dict) and set(value) == set(OF_SHOWN):
                return all(fits(value[name], of) for name, of in OF_SHOWN.items())
        elif isinstance(value, _TYPES[one]) and (one == "bool" or not isinstance(value, bool)):
            return True
    return False


def flattened(value: Any, known: dict[str, str], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what a document has, by the paths of the page."""
    if path in known or not isinstance(value, (dict, list)):
        yield path, value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from flattened(one, known, f"{path}.{name}" if path else name)
    else:
        for one in value:
            yield from flattened(one, known, path + "[]")


def validate(document: dict[str, Any]) -> set[str]:
    """Hold a document against the page: nothing more, all of the right types; return its paths."""
    command = document["command"]
    known = {**ENVELOPE, **table_of(f"## {command}")}
    assert document["schema"] == 1
    met = set()
    for path, value in flattened(document, known):
        assert path in known, f"{command}: {path} is not documented"
        if known[path] == "stats":
            inner = dict(table_of("## stats"))
            del inner["name"], inner["unreadable_shards"]
            found = dict(flattened(value, inner))
            assert set(found) == set(inner)
            assert all(fits(found[name], kind) for name, kind in inner.items())
        else:
            assert fits(value, known[path]), f"{command}: {path} is {value!r}, not {known[path]}"
        met.add(path)
    return met


@pytest.fixture
def printed(capsys):
    """Run a command with --json; return the exit code and the document, held against the page."""

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = cli.main([*arguments, "--json"])
        text = capsys.readouterr().out
        assert text.isascii()
        document: dict[str, Any] = json.loads(text, parse_constant=lambda text: pytest.fail(text))
        validate(document)
        return code, document

    return run


def test_every_field_is_printed_and_every_printed_one_is_documented(make, printed, capsys,
                                                                    monkeypatch):
    m = make(ttl=60)
    m.update({"key": {"a": [1, None]}, b"\xff": b"\x00", ("t", 1): (1, 2), "p": object()})
    m.gates["mirror"] = False
    store = LocalStore()
    tier = shmmap.Tiered(m, store, prefix="shop:")
    tier["a"] = 1
    monkeypatch.setattr(repeating, "looks", lambda interval_s: range(2))
    until = time.monotonic() + 10
    note(m.attachment, "full", 100, 1)
    with m.lock("key", lease=9), m.semaphore("s", 2):
        met: dict[str, set[str]] = {}
        for command in COMMANDS:
            more = {"ls": [], "doctor": [], "get": [m.name, "key"], "ttl": [m.name, "key"],
                    "watch": [m.name, "key"]}.get(command, [m.name])
            if command == "tier":
                while tier.report().proven_s > 1 and time.monotonic() < until:
                    time.sleep(0.05)
            met[command] = validate(printed(command, *more)[1])
    tier.close()
    for command, paths in met.items():
        missing = set(table_of(f"## {command}")) - paths
        if command == "check":  # there is nothing wrong
            missing -= {"problems[].where", "problems[].text"}
        assert not missing, (command, missing)


def test_a_page_for_each_command_that_has_the_option():
    parser = cli.make_parser()
    choices, = (action.choices for action in parser._actions if action.choices)
    having = {name for name, command in choices.items()
              if "--json" in command._option_string_actions
              and command.get_default("run") is not None
              and command._option_string_actions["--json"].dest == "as_json"}
    assert having == set(COMMANDS)


class TestEdges:
    """Documents where something is wrong, or missing, are of the same fields."""

    def test_no_entry(self, make, printed):
        m = make()
        code, document = printed("get", m.name, "none")
        assert code == 1 and document["found"] is False and document["value"] is None
        assert printed("ttl", m.name, "none") == (
            1, {"schema": 1, "command": "ttl", "name": m.name, "found": False, "ttl": None})

    def test_numbers_that_json_has_not(self, make, printed):
        m = make()
        for key, value in {"nan": float("nan"), "inf": float("-inf"), "long": 10**5000,
                           "deep": {"x": float("inf")}, "ints": [10**5000]}.items():
            m[key] = value
            shown = printed("get", m.name, key)[1]["value"]
            assert shown["value"] is None and len(shown["text"]) > 2
            assert key != "long" or int(shown["text"], 16) == value

    def test_what_json_says_exactly_and_what_not(self, make, printed):
        m = make()
        for value in ("x\ud800", 5, True, None, 1.5, [1, [2]], {"a": {"b": []}}):
            m["k"] = value
            shown = printed("get", m.name, "k")[1]["value"]
            assert shown["value"] == value and type(shown["value"]) is type(value)
        for value in ((1, 2), {1: 2}, {1, 2}, [(1,)], b"x", {"a": b"x"}):
            m["k"] = value
            assert printed("get", m.name, "k")[1]["value"]["value"] is None

    def test_few_bytes_that_stand_for_very_much(self, make, printed):
        m = make()
        laughs: Any = ["ha"]
        for _ in range(64):
            laughs = [laughs, laughs]
        m["k"] = laughs
        assert "more than 1,000,000 items" in printed("get", m.name, "k")[1]["value"]["text"]
        assert printed("scan", m.name)[0] == 0

    def test_codecs(self, make, printed):
        class Reversed:
            name = "reversed"

            def dumps(self, value: Any) -> bytes:
                return repr(value).encode()[::-1]

            def loads(self, data: bytes) -> Any:
                raise AssertionError("nobody asked for that")

        m = make(codec=Reversed())
        m["k"] = [1]
        code, document = printed("get", m.name, "k")
        assert code == 0 and document["value"]["type"] == "coded"
        assert bytes.fromhex(document["value"]["hex"]) == b"]1["

    def test_json_as_codec(self, make, printed):
        m = make(codec="json")
        m["k"] = {"a": (1, 2)}
        assert printed("get", m.name, "k")[1]["value"]["value"] == {"a": [1, 2]}

    def test_a_damaged_shard(self, make, printed):
        m = make(shards=2)
        m["k"] = 1
        shard = m.attachment.mappings[0]
        before = bytes(shard.buffer[:8])
        shard.buffer[:8] = b"\0" * 8
        try:
            assert printed("ls")[0] == 0
            code, document = printed("stats", m.name)
            assert code == 1 and document["unreadable_shards"] == 1
            code, document = printed("check", m.name)
            assert code == 1 and not document["is_sound"] and document["problems"]
            assert printed("keys", m.name)[0] == printed("scan", m.name)[0] == 1
            assert printed("info", m.name)[1]["entries"] is None
        finally:
            shard.buffer[:8] = before

    def test_garbage_is_listed(self, make, clean, printed):
        m = make()
        magic = m.attachment.control.MAGIC
        poke(clean, "MAGIC", 12345)
        one, = (one for one in printed("ls")[1]["maps"] if one["name"] == clean)
        assert one["state"] == "garbage" and one["workers"] is None and one["entries"] is None
        poke(clean, "MAGIC", magic)

    def test_no_map_prints_nothing(self, name, capsys):
        for command in sorted(set(COMMANDS) - {"ls", "doctor"}):
            more = ["k"] if command in ("get", "ttl", "watch") else []
            assert cli.main([command, name, *more, "--json"]) == 1
            said = capsys.readouterr()
            assert said.out == "" and f"no map {name!r}" in said.err
