"""The checker of histories: what it must accept, and what it must not."""

from __future__ import annotations

import itertools
import random

import pytest

from shmmap.torture.linearizability import ABSENT, GONE, UNKNOWN, Call, State, find_violation


def call(start, end, name, *arguments, result=None, clock=(0, 0)):
    return Call(start, end, name, arguments, result, clock=clock)


ACCEPTED = {
    "a read during a write sees old or new": [
        call(0, 9, "set", 1, None), call(1, 2, "get", result=ABSENT), call(3, 4, "get", result=1)],
    "two writes at once, in either order": [
        call(0, 5, "set", 1, None), call(0, 5, "set", 2, None), call(6, 7, "get", result=1)],
    "a write that died took effect late": [
        call(0, None, "set", 1, None), call(1, 2, "get", result=ABSENT),
        call(5, 6, "get", result=1)],
    "a write that died never took effect": [
        call(0, None, "set", 1, None), call(5, 6, "get", result=ABSENT)],
    "a write that raised, and had taken effect": [
        call(0, 2, "set", 1, None, result=UNKNOWN), call(3, 4, "get", result=1)],
    "a write that raised, and had not": [
        call(0, 2, "set", 1, None, result=UNKNOWN), call(3, 4, "get", result=ABSENT)],
    "cas that is an add, on an entry nobody has seen": [
        call(0, 1, "set", 1, None), call(2, 3, "cas", 2, None, 0, result=False)],
    "expired by the clock": [
        call(0, 1, "set", 1, (10, 10)), call(2, 3, "get", result=1, clock=(9, 9)),
        call(4, 5, "get", result=ABSENT, clock=(10, 10))],
    "a read that read the clock early still sees it": [
        call(0, 1, "set", 1, (10, 10)), call(2, 5, "get", result=1, clock=(9, 9)),
        call(3, 4, "get", result=ABSENT, clock=(10, 10))],
    "expired at once": [call(0, 1, "set", 1, GONE), call(2, 3, "get", result=ABSENT)],
    "a counter": [
        call(0, 9, "incr", 1, 0, None, result=2), call(0, 9, "incr", 1, 0, None, result=1)],
    "a version": [
        call(0, 1, "set", 1, None), call(2, 3, "get_versioned", result=(1, 40)),
        call(4, 5, "cas", 2, None, 40, result=True), call(6, 7, "cas", 3, None, 40, result=False)],
    "a version of the map that replaced the other": [
        call(0, 1, "set", 1, None), call(2, 3, "get_versioned", result=(1, 40)),
        call(0, None, "renew"), call(4, 5, "get_versioned", result=(1, 50)),
        call(6, 7, "cas", 2, None, 40, result=False)],
    "evicted": [
        call(0, 1, "set", 1, None), call(2, 3, "evict"), call(4, 5, "get", result=ABSENT)],
}
REFUSED = {
    "a lost write": [call(0, 1, "set", 1, None), call(2, 3, "get", result=ABSENT)],
    "back in time": [
        call(0, 9, "set", 1, None), call(1, 2, "get", result=1), call(3, 4, "get", result=ABSENT)],
    "a value nobody wrote": [call(0, 1, "set", 1, None), call(2, 3, "get", result=2)],
    "two winners": [
        call(0, 5, "add", 1, None, result=True), call(0, 5, "add", 2, None, result=True)],
    "a lost increment": [
        call(0, 5, "incr", 1, 0, None, result=1), call(0, 5, "incr", 1, 0, None, result=1)],
    "a dead write seen, then unseen": [
        call(0, None, "set", 1, None), call(1, 2, "get", result=1),
        call(5, 6, "get", result=ABSENT)],
    "a write that raised takes effect later": [
        call(0, 2, "set", 1, None, result=UNKNOWN), call(3, 4, "get", result=ABSENT),
        call(5, 6, "get", result=1)],
    "alive after its deadline": [
        call(0, 1, "set", 1, (10, 10)), call(2, 3, "get", result=1, clock=(10, 11))],
    "gone before its deadline": [
        call(0, 1, "set", 1, (10, 10)), call(2, 3, "get", result=ABSENT, clock=(8, 9))],
    "one version, two values": [
        call(0, 1, "set", 1, None), call(2, 3, "get_versioned", result=(1, 40)),
        call(4, 5, "set", 2, None), call(6, 7, "get_versioned", result=(2, 40))],
    "a version that falls": [
        call(0, 1, "set", 1, None), call(2, 3, "get_versioned", result=(1, 40)),
        call(4, 5, "set", 2, None), call(6, 7, "get_versioned", result=(2, 38))],
    "cas with an old version": [
        call(0, 1, "set", 1, None), call(2, 3, "get_versioned", result=(1, 40)),
        call(4, 5, "set", 1, None), call(6, 7, "cas", 2, None, 40, result=True)],
    "cas refused for nothing": [
        call(0, 1, "set", 1, None), call(2, 3, "get_versioned", result=(1, 40)),
        call(4, 5, "cas", 2, None, 40, result=False)],
    "lost as the map was replaced": [
        call(0, 1, "set", 1, None), call(0, None, "renew"), call(4, 5, "get", result=ABSENT)],
    "two versions, and one replacement": [
        call(0, 1, "set", 1, None), call(2, 3, "get_versioned", result=(1, 40)),
        call(0, None, "renew"), call(4, 5, "get_versioned", result=(1, 50)),
        call(6, 7, "get_versioned", result=(1, 60))],
    "back after eviction": [
        call(0, 1, "set", 1, None), call(2, 3, "evict"), call(4, 5, "get", result=ABSENT),
        call(6, 7, "get", result=1)],
    "both deletes": [
        call(0, 1, "set", 1, None), call(2, 9, "delete", result=True),
        call(2, 9, "delete", result=True)],
}


@pytest.mark.parametrize("history", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(history):
    for order in itertools.islice(itertools.permutations(history), 24):
        assert find_violation(order) is None


@pytest.mark.parametrize("history", REFUSED.values(), ids=REFUSED)
def test_refused(history):
    violation = find_violation(history)
    assert violation is not None
    assert violation.call in history and violation.call.name in str(violation)


def in_order(history):
    """Explain a history by trying every order: the plain definition."""
    for order in itertools.permutations(history):
        if any(b.end < a.start for a, b in itertools.combinations(order, 2)):
            continue
        if find_violation([c._replace(start=2 * i, end=2 * i + 1) for i, c in enumerate(order)]):
            continue
        return True
    return False


def test_agrees_with_the_definition():
    rng = random.Random(7)
    verdicts = []
    for _ in range(400):
        history = []
        for i in range(5):
            start = rng.randrange(10)
            name = rng.choice(["set", "get", "add", "delete", "incr"])
            arguments = {"set": (i, None), "add": (i, None), "incr": (1, 0, None)}.get(name, ())
            result = {"set": None, "get": rng.choice([ABSENT, 0, 1, 2]), "incr": rng.randint(1, 3),
                      }.get(name, rng.random() < 0.5)
            history.append(Call(start, start + rng.randint(1, 6), name, arguments, result, i))
        found = find_violation(history)
        verdicts.append(found is None)
        assert verdicts[-1] == in_order(history), history
    assert 20 < sum(verdicts) < 380


def test_long_histories_are_quick():
    history = [Call(2 * i, 2 * i + 5, "incr", (1, 0, None), i + 1, i % 3) for i in range(20_000)]
    assert find_violation(history) is None
    history[10_000] = history[10_000]._replace(result=5)
    assert find_violation(history) is not None


def test_an_initial_state():
    assert find_violation([call(0, 1, "get", result=7)], State(7)) is None
    assert find_violation([call(0, 1, "get", result=8)], State(7)) is not None
