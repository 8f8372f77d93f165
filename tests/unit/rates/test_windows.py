"""The algorithms of rates, each against what it promises, over random hits."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmmap.windows import ALGORITHMS, Found, Rate

PER = 1_000
STEPS = st.lists(st.tuples(st.integers(0, 700), st.integers(1, 4)), max_size=60)
EACH = pytest.mark.parametrize("name", ALGORITHMS)


def play(name: str, rate: Rate, steps: list[tuple[int, int]]) -> tuple[list[int], bytes, int]:
    """Hit at each step; return the times of the units that passed, the state, and the time."""
    state, now, passed = b"", 10_000, []
    for wait, cost in steps:
        now += wait
        found = ALGORITHMS[name](rate, state, now, cost)
        if found.allowed:
            state, passed = found.state, passed + [now] * cost
    return passed, state, now


def most_within(times: list[int], span: int) -> int:
    """Return the most units that lie in any span, its end excluded."""
    return max((sum(start <= time < start + span for time in times) for start in times), default=0)


@given(STEPS, st.integers(1, 6))
def test_moving_never_passes_more_in_any_span(steps, limit):
    passed, _, _ = play("moving", Rate(limit, PER, limit), steps)
    assert most_within(passed, PER) <= limit


@given(STEPS, st.integers(1, 6))
def test_moving_refuses_nothing_that_fits(steps, limit):
    state, now, passed = b"", 10_000, []
    for wait, cost in steps:
        now += wait
        found = ALGORITHMS["moving"](Rate(limit, PER, limit), state, now, cost)
        fits = sum(now - PER < time for time in passed) + cost <= limit
        assert found.allowed == fits
        if fits:
            state, passed = found.state, passed + [now] * cost


@given(STEPS, st.integers(1, 6))
def test_fixed_passes_the_limit_in_each_window_from_a_first_hit(steps, limit):
    passed, _, _ = play("fixed", Rate(limit, PER, limit), steps)
    while passed:
        window = [time for time in passed if time < passed[0] + PER]
        assert len(window) <= limit
        passed = passed[len(window):]
    passed, _, _ = play("fixed", Rate(limit, PER, limit), steps)
    assert most_within(passed, PER) <= 2 * limit


@given(STEPS, st.integers(1, 6), st.integers(1, 9))
def test_bucket_never_passes_more_than_burst_and_rate(steps, limit, burst):
    passed, _, _ = play("bucket", Rate(limit, PER, burst), steps)
    for first, start in enumerate(passed):
        for last in range(first, len(passed)):
            allowed = burst + Fraction((passed[last] - start) * limit, PER)
            assert last - first + 1 <= allowed


@given(STEPS, st.integers(1, 6))
def test_sliding_never_passes_more_than_its_estimate_allows(steps, limit):
    """In no window of its own more than the limit; in any span less than twice of it."""
    passed, _, _ = play("sliding", Rate(limit, PER, limit), steps)
    assert most_within(passed, PER) < 2 * limit or limit == 1


def comes_true(name: str, rate: Rate, state: bytes, now: int, cost: int) -> None:
    """Assert what is told of a hit: retry_after, remaining, reset_after; nobody else hits."""
    def at(time: int, units: int) -> Found:
        return ALGORITHMS[name](rate, state, time, units)

    found, most = at(now, cost), rate.burst if name == "bucket" else rate.limit
    assert found.allowed == (found.retry_ns == 0)
    if found.retry_ns > 0:
        assert at(now + found.retry_ns, cost).allowed
        assert not at(now + found.retry_ns - 1, cost).allowed
    elif found.retry_ns < 0:
        assert cost > most and not at(now + 100 * PER, cost).allowed
    left = at(now, 0).remaining
    assert not at(now, left + 1).allowed
    assert left == 0 or at(now, left).allowed
    assert at(now + at(now, 0).reset_ns, most).allowed
    assert at(now, 0).reset_ns <= at(now, 0).lasts_ns or not state


@EACH
@settings(max_examples=200)
@given(steps=STEPS, limit=st.integers(1, 6), cost=st.integers(1, 4))
def test_what_it_says_comes_true(name, steps, limit, cost):
    rate = Rate(limit, PER, limit)
    _, state, now = play(name, rate, steps)
    comes_true(name, rate, state, now, cost)


@EACH
@settings(max_examples=200)
@given(
    deploys=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30), STEPS), min_size=2,
                     max_size=4),
    cost=st.integers(1, 4), wait=st.integers(0, 700),
)
def test_it_comes_true_when_the_limit_was_another_one_before(name, deploys, cost, wait):
    """And no key is locked out for longer than a new one that has hit as much as it could."""
    state, now, last, rate = b"", 10_000, 0, Rate(1, PER, 1)
    for limit, burst, steps in deploys:
        rate = Rate(limit, PER, burst)
        for pause, units in steps:
            now += pause
            found = ALGORITHMS[name](rate, state, now, units)
            if found.allowed:
                state, last = found.state, now
    comes_true(name, rate, state, now + wait, cost)
    if state and cost <= rate.limit and (name != "bucket" or cost <= rate.burst):
        longest = {"fixed": PER, "moving": PER, "sliding": 2 * PER,
                   "bucket": -(-cost * PER // rate.limit)}[name]
        assert ALGORITHMS[name](rate, state, last, cost).retry_ns <= longest


def test_a_bucket_is_exact_where_a_hit_takes_less_than_a_nanosecond():
    """10,000 in a microsecond: 10 leak in each nanosecond."""
    rate = Rate(10_000, PER, 10_000)
    state = ALGORITHMS["bucket"](rate, b"", 10_000, 10_000).state
    assert ALGORITHMS["bucket"](rate, state, 10_001, 0).remaining == 10
    assert ALGORITHMS["bucket"](rate, state, 10_000, 5_001).retry_ns == 501


@EACH
def test_a_time_far_ahead_counts_for_nothing(name):
    rate = Rate(3, PER, 3)
    later = ALGORITHMS[name](rate, b"", 10**15, 3).state
    assert ALGORITHMS[name](rate, later, 5_000, 3).allowed


@EACH
def test_a_state_of_other_bytes_counts_for_nothing(name):
    for junk in (b"", b"x", b"y" * 9, b"z" * 25, b"\xff" * 8):
        assert ALGORITHMS[name](Rate(3, PER, 3), junk, 5_000, 1).allowed
