"""shmmap set, del, touch, clear and sweep."""

from __future__ import annotations

import io
import os
import sys
import time

import pytest

import shmmap
from shmmap.tools import cli

from ...support.engines import once
from .maps import OTHER, needs_other_engine

pytestmark = once  # the same with either engine


@pytest.fixture
def say(capsys):
    """Run a command; return the exit code, and all that it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        try:
            code = cli.main(arguments)
        except SystemExit as error:
            code = int(error.code or 0)
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture
def stdin(monkeypatch):
    """Have stdin say something."""

    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return put


class TestSet:
    @pytest.mark.parametrize("written, value", [
        (["Ada"], "Ada"), (["--text", "7"], "7"), (["--int", "7"], 7), (["--", "-7"], "-7"),
        (["--json", '{"a": [1, null]}'], {"a": [1, None]}),
        (["--literal", "(1, {2: b'x'})"], (1, {2: b"x"})), ([""], ""),
    ])
    def test_values_are_what_is_written(self, make, say, written, value):
        m = make()
        assert say("set", m.name, "k", *written) == (0, "")
        assert m["k"] == value and type(m["k"]) is type(value)

    @pytest.mark.parametrize("options, value", [
        ([], b"\xff\0 7\n"), (["--text"], " 7\n"), (["--int"], 7), (["--json"], 7),
    ])
    def test_values_of_stdin(self, make, say, stdin, options, value):
        m = make()
        stdin(b"\xff\0 7\n" if not options else b" 7\n")
        assert say("set", m.name, "k", "-", *options) == (0, "")
        assert m["k"] == value
        if options == ["--text"]:
            stdin(b"\xff")
            code, told = say("set", m.name, "k", "-", *options)
            assert code == 2 and "not UTF-8" in told and m["k"] == value

    def test_keys_have_options_of_their_own(self, make, say):
        m = make()
        assert say("set", m.name, "--key-int", "7", "x")[0] == 0
        assert say("set", m.name, "--key-literal", "(1, 2)", "8", "--int")[0] == 0
        assert say("set", m.name, "--key-hex", "ff", "x")[0] == 0
        assert dict(m) == {7: "x", (1, 2): 8, b"\xff": "x"}

    def test_ttl(self, make, say):
        m = make(ttl=1000)
        for ttl, least, most in (([], 990, 1000), (["--ttl", "60"], 59, 60.1),
                                 (["--ttl", "0.5"], 0.1, 0.6)):
            assert say("set", m.name, "k", "v", *ttl)[0] == 0
            assert least < m.ttl("k") <= most
        assert say("set", m.name, "k", "v", "--ttl", "never")[0] == 0 and m.ttl("k") is None
        for wrong in ("-1", "0", "nan", "inf", "x", "1e300"):
            assert say("set", m.name, "k", "v", "--ttl=" + wrong)[0] == 2

    @pytest.mark.parametrize("written", [
        ["--int", "x"], ["--json", "{"], ["--literal", "f()"], [], ["--int", "--json", "1"],
        ["--json", "[" * 100_000],
    ])
    def test_wrong_usage_is_2_and_writes_nothing(self, make, say, written):
        m = make()
        assert say("set", m.name, "k", *written)[0] == 2 and len(m) == 0

    def test_what_the_map_refuses(self, make, say):
        m = make(codec="safe", size="300kB")
        code, told = say("set", m.name, "k", "--literal", "1j")
        assert code == 1 and 'codec="safe"' in told
        code, told = say("set", m.name, "k", "x" * 99_000 * 10)
        assert code == 1 and len(told) < 1000 and len(m) == 0

    @needs_other_engine
    def test_a_map_of_the_other_engine_is_not_written(self, hold, clean, say):
        hold(clean, engine=OTHER)
        code, told = say("set", clean, "k", "v")
        assert code == 1 and clean in told
        assert say("get", clean, "k")[0] == 1


class TestDelAndTouch:
    def test_del(self, make, say):
        m = make()
        m.update({"a": 1, "b": 2, "c": 3})
        assert say("del", m.name, "a", "b") == (0, "")
        code, told = say("del", m.name, "c", "none")
        assert code == 1 and "no key 'none'" in told and len(m) == 0
        m[7] = 1
        assert say("del", m.name, "--int", "7")[0] == 0 and len(m) == 0

    def test_touch(self, make, say):
        m = make()
        m["a"] = 1
        assert say("touch", m.name, "a", "--ttl", "60") == (0, "") and 50 < m.ttl("a") <= 60
        assert say("touch", m.name, "a", "--ttl", "never")[0] == 0 and m.ttl("a") is None
        assert say("touch", m.name, "none", "--ttl", "1")[0] == 1
        assert say("touch", m.name, "a")[0] == 2


class TestClear:
    def test_says_how_many_and_does_not_ask_where_nobody_is(self, make, say, monkeypatch):
        m = make()
        m.update({"user:1": 1, "user:2": 2, "page": 3})
        monkeypatch.setattr(sys, "stdin", None)
        code, told = say("clear", m.name)
        assert code == 1 and "say --yes to remove 3 entries" in told and len(m) == 3
        assert say("clear", m.name, "--prefix", "user:", "--yes") == (0, "removed 2 entries\n")
        assert dict(m) == {"page": 3}
        assert say("clear", m.name, "--yes")[0] == 0 and len(m) == 0
        assert say("clear", m.name)[0] == 0  # there is nothing to ask about

    @pytest.mark.parametrize("answer, left", [("y", 0), ("n", 1), ("", 1)])
    def test_asks(self, make, say, monkeypatch, answer, left):
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        m = make()
        m["a"] = 1
        monkeypatch.setattr(sys, "stdin", Terminal(answer + "\n"))
        assert say("clear", m.name)[0] == 0 and len(m) == left


def test_sweep(make, say, start):
    m = make()
    for i in range(20):
        m.set(i, i, ttl=0.001)
    m["stays"] = 1

    def leave_a_lock(child):
        with shmmap.ShmMap.attach(m.name) as mine:
            mine.lock("x").acquire()
            child.tell("has it")
            os.kill(os.getpid(), 9)

    child = start(leave_a_lock)
    assert child.hear() == "has it"
    child.kill()
    time.sleep(0.05)
    code, told = say("sweep", m.name)
    assert code == 0 and told.startswith("20 expired, 0 by age, 1 rows and 1 named locks"), told
    assert m.stats().expired == 20 and len(m) == 1


@pytest.mark.parametrize("command", [["set", "k", "v"], ["del", "k"], ["touch", "k", "--ttl", "1"],
                                     ["clear", "--yes"], ["sweep"]])
def test_no_such_map(name, say, command):
    code, told = say(command[0], name, *command[1:])
    assert code == 1 and name in told
