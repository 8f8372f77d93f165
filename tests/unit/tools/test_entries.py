"""shmmap get, ttl, keys and scan: how keys are written, what is printed, and exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.tools import cli

from ...support.engines import once
from ...support.strangers import VICTIM, as_user
from .maps import LIMIT_S, OTHER, needs_other_engine, objects

EVIL = "\x1b]0;title\x07\x1b[2J\n\r\t\u202e\u2066\x9b31m\ud800\x00"  # no character of it prints
SEEN_OF_EVIL = r"\x1b]0;title\x07\x1b[2J\n\r\t\u202e\u2066\x9b31m\ud800\x00"


@pytest.fixture
def say(capsys):
    """Run a command; return the exit code, and what it printed."""

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = cli.main(arguments)
        except SystemExit as error:
            code = int(error.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


class TestKeys:
    @pytest.mark.parametrize("key, written", [
        ("user:7", ["user:7"]), (7, ["--int", "7"]), (-7, ["--int", "--", "-7"]),
        (("user", 7), ["--literal", "('user', 7)"]), (None, ["--literal", "None"]),
        (b"\x00\xff", ["--hex", "00ff"]), (b"x", ["--literal", "b'x'"]), ("-x", ["--", "-x"]),
        (1.5, ["--key-literal", "1.5"]), (8, ["--key-int", "8"]), ("", [""]),
        ("\udcff", ["\udcff"]),
    ])
    def test_are_found_as_they_are_written(self, make, say, key, written):
        m = make()
        m[key] = "found"
        assert say("get", m.name, *written) == (0, "found\n", "")
        assert say("ttl", m.name, *written) == (0, "never\n", "")

    @pytest.mark.parametrize("written, why", [
        (["--int", "x"], "no whole number"), (["--int", "9" * 5000], "no whole number"),
        (["--literal", "open('x')"], "no Python literal"), (["--literal", "(" * 300], "literal"),
        (["--literal", "[1]"], "unhashable"), (["--literal", "1e999-1e999"], "literal"),
        (["--hex", "0"], "hexadecimal"), (["--int", "--hex", "00"], "not allowed with"),
        (["--literal", "{}"], "unhashable"), ([], "KEY"),
    ])
    def test_wrong_usage_is_2(self, make, say, written, why):
        m = make()
        code, printed, told = say("get", m.name, *written)
        assert code == 2 and printed == "" and why in told and len(told) < 2000

    def test_one_that_is_too_long_for_any_map_is_not_there(self, make, say):
        assert say("get", make().name, "x" * 70_000)[0] == 1


class TestAnswers:
    def test_one_that_is_not_there(self, make, say):
        m = make()
        assert say("get", m.name, "none") == (1, "", f"shmmap: map {m.name!r} has no key 'none'\n")
        assert say("ttl", m.name, "--int", "5")[2] == (
            f"shmmap: map {m.name!r} has no key '5' (int)\n")

    @pytest.mark.parametrize("command", [["get", "k"], ["ttl", "k"], ["keys"], ["scan"]])
    def test_no_such_map(self, name, say, command):
        code, printed, told = say(command[0], name, *command[1:])
        assert (code, printed) == (1, "") and f"no map {name!r}" in told

    def test_how_long_an_entry_has(self, make, say):
        m = make(ttl=100)
        m["k"] = 1
        code, printed, _ = say("ttl", m.name, "k")
        assert code == 0 and 90 < float(printed) <= 100

    def test_values(self, make, say):
        m = make()
        m.update({"s": "käse", "b": b"\0\xff", "i": 5, "n": None, "t": (1, {2: [None]})})
        shown = {key: say("get", m.name, key)[1] for key in m}
        assert shown == {"s": "käse\n", "b": "00ff\n", "i": "5\n", "n": "None\n",
                         "t": "(1, {2: [None]})\n"}

    def test_pickles_are_not_loaded_unless_that_is_asked_for(self, make, say, tmp_path):
        witness = tmp_path / "witness"

        class Hostile:
            def __reduce__(self) -> Any:
                return Path.touch, (witness,)

        m = make()
        m["k"] = Hostile()
        for command in (["get", m.name, "k"], ["scan", m.name], ["get", m.name, "k", "--json"],
                        ["scan", m.name, "--json"], ["keys", m.name], ["check", m.name]):
            assert say(*command)[0] == 0
        assert "<pickle, " in say("get", m.name, "k")[1] and not witness.exists()
        assert say("get", m.name, "k", "--unpickle") == (0, "None\n", "")
        assert witness.exists()

    def test_a_pickle_that_fails(self, make, say):
        class Gone:
            def __reduce__(self) -> Any:
                return eval, ("1/0",)

        m = make()
        m.update({"k": Gone(), "other": 1})
        code, printed, told = say("get", m.name, "k", "--unpickle")
        assert code == 1 and "cannot be unpickled here: ZeroDivisionError" in told
        code, printed, told = say("scan", m.name, "--unpickle")
        assert code == 1 and "other" in printed and "key k: a value cannot be unpickled" in told

    def test_prefix_and_limit(self, make, say):
        m = make()
        m.update({**{f"user:{i}": i for i in range(10)}, "page": 1, b"user:": 2, 5: 3})
        assert len(say("keys", m.name)[1].splitlines()) == 13
        found = say("keys", m.name, "--prefix", "user:")[1].splitlines()
        assert sorted(found) == [f"user:{i}" for i in range(10)]
        assert len(say("scan", m.name, "--prefix", "user:", "--limit", "3")[1].splitlines()) == 4
        assert json.loads(say("keys", m.name, "--limit", "4", "--json")[1])["count"] == 4
        for wrong in ("0", "-1", "x", "1.5"):
            assert say("keys", m.name, "--limit", wrong)[0] == 2

    def test_a_scan_has_tabs_between_its_columns(self, make, say):
        m = make(ttl=60)
        m["a\tb"] = "c\td"
        head, line = say("scan", m.name)[1].splitlines()
        assert head.split("\t") == ["KEY", "TTL", "BYTES", "TYPE", "VALUE"]
        key, ttl, size, kind, value = line.split("\t")
        assert (key, size, kind, value) == (r"a\tb", "3", "str", r"c\td") and 50 < float(ttl) <= 60

    @needs_other_engine
    def test_a_map_of_the_other_engine(self, hold, clean, say):
        hold(clean, engine=OTHER)
        assert say("get", clean, "held") == (0, "1\n", "")
        assert say("keys", clean, "--engine", OTHER) == (0, "held\n", "")
        assert say("get", clean, "held", "--engine", shmmap.ENGINE)[0] == 1


class TestTerminal:
    """Nothing that lies in a map reaches a terminal, or a pipe, as it is."""

    @pytest.mark.parametrize("command", [
        ["get", "NAME", EVIL], ["keys", "NAME"], ["scan", "NAME"], ["get", "NAME", "in a list"],
        ["locks", "NAME"], ["get", "NAME", "of bytes"],
    ])
    @pytest.mark.parametrize("as_json", [False, True])
    def test_escapes(self, make, say, command, as_json):
        m = make()
        m[EVIL.replace("\0", "")] = m[EVIL] = EVIL
        m["in a list"], m["of bytes"] = [EVIL, {EVIL: EVIL}], EVIL.encode("utf-8", "surrogatepass")
        command = [part.replace("NAME", m.name) for part in command]
        with m.lock(EVIL):
            code, printed, told = say(*command, *["--json"] * as_json)
        assert code == 0 and told == ""
        assert printed.replace("\n", "").replace("\t", "").isprintable() and printed.isascii()
        assert as_json or "bytes" in command[-1] or SEEN_OF_EVIL in printed.replace("\\\\", "\\")
        assert "title" in printed or "of bytes" in command

    def test_of_errors_too(self, make, say):
        m = make()
        code, _, told = say("get", m.name, EVIL)
        assert code == 1 and told.rstrip("\n").isprintable() and "title" in told
        code, _, told = say("get", m.name, "--literal", EVIL.replace("\0", ""))
        assert code == 2 and told.rstrip("\n").isprintable()

    def test_an_encoding_that_lacks_characters(self, make, run):
        m = make()
        m["käse"] = "\u4e16"
        made = run("scan", m.name, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
        assert made.returncode == 0 and r"k\xe4se" in made.stdout and r"\u4e16" in made.stdout

    def test_no_colour_even_in_a_terminal(self, make, monkeypatch):
        m = make()
        m["k"] = "v"

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        for command in (["scan", m.name], ["stats", m.name], ["ls"], ["workers", m.name],
                        ["check", m.name], ["locks", m.name]):
            monkeypatch.setattr(sys, "stdout", Terminal())
            assert cli.main(command) == 0
            assert "\x1b" not in sys.stdout.getvalue()

    def test_a_reader_that_has_seen_enough(self, make, shell):
        m = make(size="4MB")
        m.update({f"key-{i:05}": "x" * 50 for i in range(9000)})
        for command in ("keys", "scan", "scan --json"):
            done = shell(f"{command} {m.name} | head -n 2")
            assert done.stderr == "" and done.stdout.count("\n") == 2, command

    @once
    @pytest.mark.parametrize("command", ["get NAME k", "scan NAME --json", "stats NAME"])
    def test_nowhere_to_print(self, make, command, tmp_path):
        m = make()
        m["k"] = "v"
        done = subprocess.run(
            f"{sys.executable} -m shmmap {command.replace('NAME', m.name)} >&-", shell=True,
            cwd=tmp_path, capture_output=True, timeout=LIMIT_S)
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
@pytest.mark.parametrize("mode, groups, code", [
    (0o600, (), 1), (0o660, (), 1), (0o660, (os.getegid(),), 0), (0o666, (), 0),
])
def test_another_user_reads_as_far_as_permissions_go(make, mode, groups, code):
    m = make(mode=mode)
    m["k"] = "v"
    looks = [["get", m.name, "k"], ["keys", m.name], ["scan", m.name], ["ttl", m.name, "k"],
             ["locks", m.name], ["stats", m.name], ["check", m.name], ["workers", m.name]]
    codes = as_user(VICTIM, lambda: [cli.main(look) for look in looks], groups)
    assert codes == [code] * len(looks)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_another_user_who_may_read_only(make, capfd):
    m = make(mode=0o666)
    m["k"] = "v"
    for file in objects(m.name):
        file.chmod(0o644)
    assert as_user(VICTIM, lambda: [cli.main(look) for look in (
        ["get", m.name, "k"], ["scan", m.name, "--json"], ["locks", m.name], ["check", m.name],
        ["set", m.name, "k", "w"], ["sweep", m.name])]) == [0, 0, 0, 0, 1, 1]
    assert m["k"] == "v" and "Traceback" not in capfd.readouterr().err
