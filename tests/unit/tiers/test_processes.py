"""Tiers in several processes of several machines: who listens, who dies, what they read."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from shmmap import ShmMap, StoreUnavailable, Tiered

from .conftest import listens, until

BOUND_S = 0.4


def worker(
    name: str, path: str, answers: Callable[[Tiered, Any], Any], **options: Any
) -> Callable[[Any], None]:
    """Return the work of a child that opens a tier, and answers what it is told."""
    def work(child: Any) -> None:
        m = ShmMap(name, size="1MB")
        tier = Tiered(m, f"unix://{path}", **options)
        child.tell("ready")
        while (asked := child.hear()) is not None:
            child.tell(answers(tier, asked))
        tier.close()

    return work


def simple(tier: Tiered, asked: Any) -> Any:
    """Answer: is it the one that listens, or what a key holds; or write."""
    if asked == "listens":
        return tier.report().is_listening
    if isinstance(asked, tuple):
        tier.set(*asked)
        return None
    return tier.get(asked)


def ask(child: Any, question: Any) -> Any:
    child.tell(question)
    return child.hear()


@pytest.mark.parametrize("deed", ["kill", "stop"])
def test_another_one_listens(start, name, server, tiers, deed):
    work = worker(name, server.path, simple, max_staleness=60)
    children = [start(work) for _ in range(3)]
    for child in children:
        assert child.hear() == "ready"
    elsewhere = tiers(server.client())
    listener: list[Any] = []
    until(lambda: listener.extend(c for c in children if ask(c, "listens")) or listener)
    others = [child for child in children if child is not listener[0]]
    elsewhere["a"] = 1
    assert [ask(child, "a") for child in others] == [1, 1]
    began = time.monotonic()
    getattr(listener[0], deed)()
    until(lambda: any(ask(child, "listens") for child in others))
    assert time.monotonic() - began < 8
    assert ask(others[0], "b") is None
    elsewhere["b"] = 2
    until(lambda: ask(others[1], "b") == 2)
    if deed == "stop":
        listener[0].go_on()
        until(lambda: not ask(listener[0], "listens"))
        elsewhere["b"] = 3
        until(lambda: [ask(child, "b") for child in children] == [3, 3, 3])
    for child in children:
        if child.status is None:
            child.tell(None)
            child.end()
    ShmMap(name).unlink()


def test_a_forked_child_goes_on(start, server, tiers):
    tier = listens(tiers(server.client(), max_staleness=0.2))
    tier["a"] = 1
    assert tier["a"] == 1

    def work(child: Any) -> Any:
        first = tier["a"]
        tier["b"] = os.getpid()
        child.tell((first, tier["b"]))
        child.hear()
        time.sleep(0.5)
        return tier["a"], tier.report().is_listening

    child = start(work)
    assert child.hear() == (1, child.pid) and tier["b"] == child.pid
    tier["a"] = 2
    child.tell("go on")
    assert child.result() == (2, False)
    assert tier.report().is_listening


# -- what several machines read, while everything fails -------------------------------------------

KEYS = 4


def reads(kind: str) -> Callable[[Tiered, Any], Any]:
    """Return what reads until a time, and tells each answer with the time before and after."""
    def act(tier: Tiered, asked: tuple[float, int]) -> list[tuple[str, Any, float, float]]:
        deadline, seed = asked
        draw = random.Random(seed)
        answers = []
        while time.monotonic() < deadline:
            key = f"k{draw.randrange(KEYS)}"
            began = time.monotonic()
            try:
                value = tier.get(key, 0)
            except StoreUnavailable:
                time.sleep(0.01)
                continue
            answers.append((key, value, began, time.monotonic()))
            if draw.random() < 0.05:
                time.sleep(draw.random() * 0.02)
        return answers

    return act


def writes(tier: Tiered, asked: tuple[float, int]) -> list[tuple[str, Any, float, float]]:
    """Write numbers that rise, each key's by this one process; what was acknowledged it reads."""
    deadline, seed = asked
    draw = random.Random(seed)
    numbers = dict.fromkeys((f"k{i}" for i in range(KEYS)), 0)
    done = []
    while time.monotonic() < deadline:
        key = draw.choice(list(numbers))
        numbers[key] += 1
        began = time.monotonic()
        try:
            tier[key] = numbers[key]
        except StoreUnavailable:
            time.sleep(0.01)
            continue  # it may have been written: the next number is another one
        done.append((key, numbers[key], began, time.monotonic()))
        assert (seen := tier.get(key)) >= numbers[key], f"{key}: own write {numbers[key]}, {seen}"
        time.sleep(draw.random() * 0.004)
    return done


def judge_bound(written: list[Any], answers: list[Any], bound_s: float) -> None:
    """Assert that no answer was overwritten, with that acknowledged, longer ago than the bound."""
    for key, value, began, _ in answers:
        newest = max((n for k, n, _, acked in written if k == key and acked < began - bound_s),
                     default=0)
        assert value >= newest, f"{key}: {value} at {began}, {newest} was there {bound_s} s before"


def judge_session(answers: list[Any]) -> None:
    """Assert that a process never goes back."""
    last: dict[str, int] = {}
    for key, value, _, _ in answers:
        assert value >= last.get(key, 0), f"{key}: {last[key]}, then {value}"
        last[key] = value


def test_histories_while_the_connections_and_listeners_are_killed(start, name, server):
    seconds, machines = 4.0, [f"{name}-a", f"{name}-b"]
    roles: list[tuple[str, Any]] = []
    for m in machines:
        for role, act, options in [
            ("linearizable", reads("l"), {"consistency": "linearizable"}),
            ("session", reads("s"), {"consistency": "session"}),
            ("bounded", reads("b"), {"max_staleness": BOUND_S}),
        ]:
            roles.append((role, start(worker(m, server.path, act, **options))))
    writer = start(worker(machines[0], server.path, writes, max_staleness=BOUND_S))
    for _, child in [*roles, ("", writer)]:
        assert child.hear() == "ready"
    deadline = time.monotonic() + seconds
    for seed, (_, child) in enumerate([*roles, ("", writer)]):
        child.tell((deadline, seed))
    client, draw = server.client(), random.Random(7)
    killed = 0
    while time.monotonic() < deadline - 0.5:
        time.sleep(draw.random() * 0.3)
        tracking = [c for c in client.client_list() if "t" in c["flags"]]
        if tracking and draw.random() < 0.7:
            killed += bool(client.client_kill_filter(_id=draw.choice(tracking)["id"]))
        elif draw.random() < 0.5:
            server.stop()
            time.sleep(draw.random() * 0.5)
            server.go_on()
    written = writer.hear()
    heard = [(role, child.hear()) for role, child in roles]
    for _, child in [*roles, ("", writer)]:
        child.tell(None)
    assert killed and len(written) > 50
    for role, answers in heard:
        assert len(answers) > 50, role
        judge_bound(written, answers, 0.0 if role == "linearizable" else
                    BOUND_S if role == "bounded" else 60.0)
        if role != "bounded":
            judge_session(answers)
    for m in machines:
        ShmMap(m).unlink()
