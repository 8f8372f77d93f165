"""What an attack with fresh eyes found, and what came of reading once more."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from shmmap import (
    StoreUnavailable,
    Tiered,
    ValueUnreadable,
)
from shmmap.testing import LocalStore

from .conftest import answers, copied, listens, until


class Slow(LocalStore):
    """A store whose answers take a while to come, or are lost."""

    after_s = 0.0
    loses = False

    def get_many(self, names: Any) -> Any:
        found = super().get_many(names)
        time.sleep(self.after_s)
        return found

    def set(self, *given: Any) -> bool:
        done = super().set(*given)
        if self.loses:
            raise StoreUnavailable("store local: the answer was lost")
        return done


def test_a_copy_does_not_outlive_its_key_by_the_time_that_the_answer_took(tiers):
    store = Slow()
    tier = listens(tiers(store, max_staleness=60))
    tier.set("a", 1, ttl=0.6)
    store.after_s = 0.4
    assert tier["a"] == 1
    store.after_s = 0
    time.sleep(0.3)
    assert "a" not in tier


def test_a_session_does_not_go_back_from_what_ttl_has_told(tiers):
    store = LocalStore()
    tier = listens(tiers(store, consistency="session"))
    tier["a"] = 1
    until(lambda: tier.report().changes and tier["a"] == 1 and "a" in tier.map)
    store.kept.clear()  # the news is still on its way
    with pytest.raises(KeyError):
        tier.ttl("a")
    assert tier.get("a") is None


def test_after_a_write_whose_answer_was_lost_the_store_is_asked(tiers):
    store = Slow()
    tier = listens(tiers(store, max_staleness=60))
    copied(tier, "a", 1)
    store.loses = True
    for feed in list(store.feeds):
        feed.lose()
    with pytest.raises(StoreUnavailable):
        tier["a"] = 2
    until(lambda: answers(tier) == 2, 2)


def test_what_another_thread_learns_does_not_vouch_for_a_copy(tiers, monkeypatch):
    store = LocalStore()
    tier = copied(tiers(store, max_staleness=0.3), "a", 1)
    elsewhere = tiers(store)
    look, looked = tier._asking.look, []

    def look_and_be_late(key: Any) -> Any:
        found = look(key)
        if not looked:
            looked.append(key)
            elsewhere["a"] = 2
            until(lambda: "a" not in tier.map)
            time.sleep(0.5)
            tier._refresh()  # as another thread does
        return found

    monkeypatch.setattr(tier._asking, "look", look_and_be_late)
    time.sleep(0.6)  # so that the next read looks
    assert tier["a"] == 2 and looked


def test_threads_of_a_forked_child_are_one_listener(start, tiers):
    tier = tiers(LocalStore())
    first = tier._watch.part

    def work(child: Any) -> Any:
        threads = [threading.Thread(target=tier.get, args=("a",)) for _ in range(16)]
        for thread in threads:
            thread.start()
        parts = {id(tier._watch.part) for _ in range(100)}
        for thread in threads:
            thread.join()
        return len(parts), len(tier._watch._parts), tier._watch.part is first

    assert start(work).result() == (1, 1, False)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of sockets that
# go as redis-py is interrupted in the middle of connecting
def test_no_answer_is_taken_for_another_s(tiers, running):
    tier = tiers(running.client(), consistency="linearizable")
    for number in range(50):
        tier[number] = number
    stopped = 0

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGALRM, stop)
    try:
        until_s = time.monotonic() + 2
        while time.monotonic() < until_s:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0003)
                for number in range(50):
                    assert tier[number] == number
            except KeyboardInterrupt:
                stopped += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, former)
    assert stopped > 100
    assert [tier[number] for number in range(50)] == list(range(50))
    assert len(running.client().client_list()) < 60


def test_a_busy_server_is_not_there_just_now(tiers, server):
    client = server.client()
    client.config_set("busy-reply-threshold", 5)
    tier = listens(tiers(server.client(), max_staleness=0.1, stale_if_error=30))
    copied(tier, "a", 1)
    thread = threading.Thread(target=_run_long, args=(server.client(),))
    thread.start()
    try:
        time.sleep(0.5)
        assert tier["a"] == 1
        with pytest.raises(StoreUnavailable, match="BUSY"):
            tier["b"]
    finally:
        client.script_kill()
        thread.join()
    until(lambda: answers(tier) == 1)


def _run_long(client: Any) -> None:
    with suppress(Exception):
        client.eval("while true do end", 0)


def test_what_the_store_answers_shows_that_it_is_there(tiers, server):
    client = server.client()
    tier = tiers(server.client(), consistency="linearizable")
    tier["a"] = 1
    client.set("shmmap:bad", "no value of ours")
    tier._breaker.failed()
    time.sleep(0.15)
    with pytest.raises(ValueUnreadable):
        tier["bad"]
    assert tier["a"] == 1


def test_spans_that_are_none_and_numbers_of_numpy(tiers, store):
    numpy = pytest.importorskip("numpy")
    tier = tiers(store, consistency="linearizable")
    tier.set("a", 1, ttl=float("inf"))
    assert tier.ttl("a") is None and tier.touch("a", 10**30) and tier.ttl("a") is None
    with pytest.raises(ValueError, match="ttl"):
        tier.set("a", 1, ttl=float("nan"))
    tier["n"] = numpy.int64(5)
    assert tier.incr("n", numpy.int64(2)) == 7


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e18])
def test_a_timeout_that_is_none(make, running, timeout):
    with pytest.raises(ValueError, match="timeout="):
        Tiered(make(), running.client(), timeout=timeout)


@pytest.mark.parametrize(("wrong", "words"), [
    ("localhost:6379", "store='localhost:6379'"), (None, "NoneType"), ({}, "dict"),
])
def test_what_is_no_store(make, wrong, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Tiered(make(), wrong)


def test_clients_that_are_not_served(make):
    redis = pytest.importorskip("redis")
    for wrong, words in [
        (redis.asyncio.Redis(), "coroutines"), (redis.Redis, "not its class"),
        (redis.cluster.RedisCluster, "cluster"),
    ]:
        with pytest.raises(TypeError, match=words):
            Tiered(make(), wrong)
