"""How an operation is timed: a loop of its own for each peer, and what is told of many batches."""

from __future__ import annotations

import gc
import math
import statistics
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# Every peer and scenario gets a code object of its own: CPython adapts bytecode to the types
# it meets, so a loop that peers share would be slower for all of them, most for dict.
_TIMED = """
def timed(batch, value{parameters}):
    start = clock_now()
    for key in batch:
{statement}
    return clock_now() - start, value
"""
_GATHER = """
def gather(batch, value{parameters}):
    seen = []
    for key in batch:
{statement}
        seen.append(value)
    return seen
"""


def _build(template: str, statement: str, names: dict[str, Any]) -> Callable[..., Any]:
    # Names are default arguments: local variables, the fastest that Python has.
    names = {**names, "clock_now": time.perf_counter_ns}
    source = template.format(
        parameters="".join(f", {name}={name}" for name in names),
        statement=textwrap.indent(statement, " " * 8),
    )
    space = dict(names)
    exec(compile(source, "<bench loop>", "exec"), space)  # text of this package only
    function: Callable[..., Any] = space["timed" if "def timed" in source else "gather"]
    return function


def timed_loop(statement: str, names: dict[str, Any]) -> Callable[..., tuple[int, Any]]:
    """Build timed(batch, value) -> (ns, last value): `statement` runs for each `key`."""
    return _build(_TIMED, statement, names)


def gather_loop(statement: str, names: dict[str, Any]) -> Callable[..., list[Any]]:
    """Build gather(batch, value) -> the `value` that the same statement left for each key."""
    return _build(_GATHER, statement, names)


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the garbage collector out of what is timed."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def percentile(figures: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile.

    >>> percentile([4, 1, 3, 2], 0.5), percentile([4, 1, 3, 2], 0.99)
    (2, 4)
    """
    ranked = sorted(figures)
    return ranked[max(1, math.ceil(share * len(ranked))) - 1]


def paired_ratio(above: Sequence[float], below: Sequence[float]) -> tuple[float, float, float]:
    """Return median, least and most of the repetitions' ratios.

    The two sides of a repetition ran right after each other, so what disturbs the machine for
    longer than a repetition disturbs both.

    >>> paired_ratio([2, 6, 5], [1, 2, 5])
    (2.0, 1.0, 3.0)
    """
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)
