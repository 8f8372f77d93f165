"""shmmap locks --break: a lock is taken from a holder that is stopped or hangs."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

import shmmap
from shmmap.locks import breaking
from shmmap.tools import cli, unlinking

from ...protocol.holders import SOON_S, entries, take_and_stop
from ...support.engines import once

PATIENCE_S = 30.0


@pytest.fixture
def say(capsys):
    """Run a command; return the exit code, and all that it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        code = cli.main(arguments)
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture
def answer(monkeypatch):
    """Have somebody at the terminal, who gives this answer; list what was asked."""

    def give(text: str) -> list[str]:
        asked: list[str] = []
        monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
        monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or text)
        return asked

    return give


class TestAStoppedHolder:
    @pytest.mark.parametrize("lease", [None, 600.0])
    def test_loses_its_lock_and_is_told(self, make, start, say, lease):
        m = make()
        holder = start(take_and_stop(m, "nightly", lease))
        first = holder.hear()
        holder.stop()
        code, said = say("locks", m.name, "--break", "--key", "nightly", "--yes")
        assert code == 0 and "LockLost" in said and f"process {holder.pid} " in said
        assert "stopped" in said and f"token {first}" in said, said
        with m.lock("nightly", timeout=0) as lock:
            assert lock.token > first
            holder.tell("leave it")
            holder.go_on()
            assert "broken" in holder.result()
            assert lock.held, "who lost it freed the other's lock"
        assert entries(m) == 0

    def test_is_told_as_it_extends(self, make, start, say):
        m = make()

        def work(child: Any) -> tuple[bool, str, float]:
            lock = m.lock("a", lease=60, auto_renew=True)
            lock.acquire()
            child.tell("has it")
            child.hear()
            try:
                lock.extend(60)
            except shmmap.LockLost as error:
                return lock.held, str(error), entries(m)
            return lock.held, "", -1

        holder = start(work)
        holder.hear()
        assert say("locks", m.name, "--break", "--key", "a", "--yes")[0] == 0
        holder.tell("extend it")
        held, said, left = holder.result()
        assert not held and "broken" in said and left == 0

    def test_who_waits_has_it_at_once(self, make, start, say):
        m = make()
        holder = start(take_and_stop(m, "a"))
        holder.hear()
        holder.stop()

        def wait(child: Any) -> str:
            child.tell("waits")
            with m.lock("a", timeout=PATIENCE_S):
                return "has it"

        waiter = start(wait)
        assert waiter.hear() == "waits"
        assert not waiter.is_told()
        assert say("locks", m.name, "--break", "--key", "a", "--yes")[0] == 0
        assert waiter.result(PATIENCE_S) == "has it"


class TestTheQuestion:
    pytestmark = once

    def test_says_who_and_what_can_go_wrong(self, make, say, answer):
        m = make()
        asked = answer("n")
        with m.lock("a") as lock:
            assert say("locks", m.name, "--break", "--key", "a") == (0, "nothing was broken\n")
            question, = asked
            for part in (f"process {os.getpid()} ", "without a lease", "both change", "kill -CONT"):
                assert part in question
            assert lock.held
            answer("y")
            assert say("locks", m.name, "--break", "--key", "a")[0] == 0
            assert not lock.held
            with pytest.raises(shmmap.LockLost):
                lock.release()
            lock.acquire()

    def test_nobody_to_be_asked(self, make, say):
        m = make()
        with m.lock("a", lease=30) as lock:
            code, said = say("locks", m.name, "--break", "--key", "a")
            assert code == 1 and "nothing was broken" in said and "--yes" in said
            assert "of its lease left" in said and lock.held

    def test_one_that_was_left_and_taken_anew_meanwhile_stays(self, make, say, answer, monkeypatch):
        m = make()
        lock = m.lock("a")
        lock.acquire()
        answer("y")

        def hand_over(question: str) -> bool:
            lock.release()
            lock.acquire()
            return True

        monkeypatch.setattr(unlinking, "agreed", hand_over)
        code, said = say("locks", m.name, "--break", "--key", "a")
        assert code == 1 and "left meanwhile" in said and lock.held
        lock.release()


class TestRefusals:
    pytestmark = once

    def test_what_nobody_holds(self, make, say, start):
        m = make()
        m["a"] = 1
        code, said = say("locks", m.name, "--break", "--key", "a", "--yes")
        assert code == 1 and "nobody holds" in said and "computed" not in said
        holder = start(take_and_stop(m, "b"))
        holder.hear()
        holder.kill()
        code, said = say("locks", m.name, "--break", "--key", "b", "--yes")
        assert code == 1 and "nobody holds" in said

    def test_permits_and_computings(self, make, say):
        m = make()
        said = []
        with m.semaphore("pool", 3):
            said.append(say("locks", m.name, "--break", "--key", "pool", "--yes"))
        m.get_or_set("page", lambda: said.append(
            say("locks", m.name, "--break", "--key", "page", "--yes")) or 1)
        assert [code for code, _ in said] == [1, 1]
        assert all("cannot be broken" in text for _, text in said)

    @pytest.mark.parametrize("options", [
        ["--break"], ["--break", "--key", "a", "--json"], ["--yes"],
        ["--break", "--key", "a", "--engine", shmmap.ENGINE],
        ["--break", "--key", "a", "--layout", "9"], ["--break", "--key", "x", "--int"],
    ])
    def test_wrong_usage(self, make, say, options):
        m = make()
        with m.lock("a") as lock:
            assert say("locks", m.name, *options)[0] == 2
            assert lock.held

    def test_no_such_map(self, name, say):
        code, said = say("locks", name, "--break", "--key", "a", "--yes")
        assert code == 1 and name in said

    def test_the_lock_shard_not_to_be_had(self, make):
        """Its own lock's holder is stopped, say."""
        m = make(lock_timeout=0.1)
        shard = m.attachment.locks.shards[0]
        with m.lock("a") as lock:
            holder = breaking.find_holder(m, "a")
            assert holder is not None and holder.token == lock.token
            shard.lock.lock(m.attachment.worker.fork_page.word | 0x3000, 10**9)
            try:
                with pytest.raises(shmmap.LockTimeout):
                    breaking.break_hold(m, holder)
            finally:
                shard.lock.unlock()
            assert lock.held


def test_several_keys_of_another_kind(make, say):
    m = make()
    with m.lock(7) as seven, m.lock(8) as eight:
        code, said = say("locks", m.name, "--break", "--key", "7", "--key", "9", "--int", "--yes")
        assert code == 1 and "broken" in said and "nobody holds lock '9'" in said
        assert not seven.held and eight.held
        seven.acquire(timeout=SOON_S)
