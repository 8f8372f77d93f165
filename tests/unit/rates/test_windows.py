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


@EACH
@settings(max_examples=200)
@given(steps=STEPS, limit=st.integers(1, 6), cost=st.integers(1, 4))
def test_what_it_says_comes_true(name, steps, limit, cost):
    """retry_after, remaining and reset_after, if nobody else hits meanwhile."""
    rate, ask = Rate(limit, PER, limit), ALGORITHMS[name]
    _, state, now = play(name, rate, steps)

    def at(time: int, units: int) -> Found:
        return ask(rate, state, time, units)

    found = at(now, cost)
    assert found.allowed == (found.retry_ns == 0)
    if found.retry_ns > 0:
        assert at(now + found.retry_ns, cost).allowed
        assert not at(now + found.retry_ns - 1, cost).allowed
    elif found.retry_ns < 0:
        assert cost > limit and not at(now + 100 * PER, cost).allowed
    left = at(now, 0).remaining
    assert not at(now, left + 1).allowed
    assert left == 0 or at(now, left).allowed
    assert at(now + at(now, 0).reset_ns, limit).allowed
    assert at(now, 0).reset_ns <= at(now, 0).lasts_ns or not state


@EACH
def test_a_state_of_other_bytes_counts_for_nothing(name):
    for junk in (b"", b"x", b"y" * 9, b"z" * 25):
        assert ALGORITHMS[name](Rate(3, PER, 3), junk, 5_000, 1).allowed
