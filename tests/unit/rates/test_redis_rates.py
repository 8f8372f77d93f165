"""What a server counts is what `windows` counts: the same states, byte for byte, and answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shmmap
from shmmap.tiers.redis_rates import HIT, TIME
from shmmap.tiers.store import SHARE
from shmmap.windows import ALGORITHMS, Rate

pytestmark = pytest.mark.skipif(shmmap.ENGINE == "pure", reason="the same with either engine")
EACH = pytest.mark.parametrize("algorithm", ALGORITHMS)
START = 1_790_000_000_000_000  # microseconds since 1970
LAST = START + 500_000_000_000_000  # 16 years later
LONGEST = 3_000_000_000 * 1_000_000 - 1
PER = st.one_of(st.integers(1, 1000), st.sampled_from([60_000_000, 86_400_000_000, LONGEST]),
                st.integers(1, LONGEST))
COUNT = st.one_of(st.integers(1, 9), st.integers(1, (1 << 32) - 1), st.just((1 << 32) - 1))
PARTS = st.tuples(st.integers(-5, 40), st.integers(1, 20))  # of a span and of a limit


WRITE = "redis.call('SET', KEYS[1], new, 'PX', "


class Server:
    """A server that is told the time, and keeps how long it would keep a state."""

    def __init__(self, client: Any) -> None:
        self.scripts = {}
        for algorithm, script in HIT.items():
            assert TIME in script and WRITE in script
            script = script.replace(TIME, "{0, ARGV[7]}")
            script = script.replace(WRITE, "redis.call('MSET', KEYS[1], new, 'lasts', ")
            self.scripts[algorithm] = client.register_script(script)
        self.client = client

    def ask(
        self, algorithm: str, rate: Rate, cost: int, now: int, more: int = 0, counts: bool = True,
    ) -> list[int]:
        words = [rate.limit, rate.per_ns, rate.burst, cost, more, int(counts), now]
        return self.scripts[algorithm](keys=["k"], args=words)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def told(running):
    client = running.client()
    yield Server(client)
    client.close()


def compare(told: Server, algorithm: str, rate: Rate, hits: list[tuple[int, int]]) -> None:
    """Hit both at these times, with these costs."""
    told.client.delete("k")
    ask, state = ALGORITHMS[algorithm], b""
    for now, cost in hits:
        found, none = ask(rate, state, now, cost), ask(rate, state, now, 0)
        would = [cost * found.allowed, *found[1:4]]
        assert told.ask(algorithm, rate, cost, now, counts=False) == [*would, 0, *none[1:3], 0]
        assert told.ask(algorithm, rate, cost, now) == would
        if found.allowed:
            state = found.state
            assert int(told.client.get("lasts")) == -(-found.lasts_ns // 1000)
        assert (told.client.get("k") or b"") == state


@EACH
@settings(max_examples=150, deadline=None)
@given(per=PER, limit=COUNT, burst=COUNT, parts=st.lists(PARTS, max_size=8))
def test_the_server_counts_as_windows_does(told, algorithm, per, limit, burst, parts):
    if algorithm == "moving":
        limit = limit % 50 + 1
    if algorithm != "bucket" or burst * per // limit >= LONGEST:
        burst = limit
    now, hits = START, []
    for span, of_limit in parts:
        now = min(max(0, now + span * per // 20 + span % 2), LAST)
        hits.append((now, max(1, limit * of_limit // 16)))
    compare(told, algorithm, Rate(limit, per, burst), hits)


@EACH
@settings(max_examples=100, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(-300, 700), st.integers(1, 4)), max_size=40),
       limit=st.integers(1, 6), burst=st.integers(1, 9))
def test_and_so_with_small_numbers(told, algorithm, steps, limit, burst):
    now, hits = START, []
    for wait, cost in steps:
        now += wait
        hits.append((now, cost))
    rate = Rate(limit, 1_000, burst if algorithm == "bucket" else limit)
    compare(told, algorithm, rate, hits)


@EACH
@settings(max_examples=60, deadline=None)
@given(deploys=st.lists(st.tuples(COUNT, PARTS), min_size=2, max_size=6))
def test_and_so_where_the_limit_changes(told, algorithm, deploys):
    told.client.delete("k")
    now, state = START, b""
    for limit, (span, of_limit) in deploys:
        if algorithm == "moving":
            limit = limit % 50 + 1
        rate, cost = Rate(limit, 60_000_000, limit), max(1, limit * of_limit // 16)
        now += span * 3_000_000
        found = ALGORITHMS[algorithm](rate, state, now, cost)
        assert told.ask(algorithm, rate, cost, now) == [cost * found.allowed, *found[1:4]]
        state = found.state if found.allowed else state
        assert (told.client.get("k") or b"") == state


@EACH
@given(more=st.integers(0, 300), used=st.integers(1, 90))
@settings(max_examples=40, deadline=None)
def test_a_share_is_a_tenth_of_what_remains(told, algorithm, more, used):
    """And what is taken is what a hit of so much would have come to."""
    told.client.delete("k")
    rate = Rate(100, 60_000_000, 100)
    state = ALGORITHMS[algorithm](rate, b"", START, used).state
    told.client.set("k", state)
    after = ALGORITHMS[algorithm](rate, state, START + 5, 1)
    found = ALGORITHMS[algorithm](rate, state, START + 5, 1 + min(more, after.remaining // SHARE))
    taken = 1 + min(more, after.remaining // SHARE)
    assert told.ask(algorithm, rate, 1, START + 5, more) == [taken, *found[1:4]]
    assert told.client.get("k") == found.state


@EACH
def test_a_state_of_other_bytes_counts_for_nothing(told, algorithm):
    for junk in (b"", b"x", b"y" * 9, b"z" * 25, b"\xff" * 8):
        told.client.set("k", junk)
        assert told.ask(algorithm, Rate(3, 1_000, 3), 1, START)[:2] == [1, 2]
