"""Looking again and again, until somebody has seen enough."""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Iterator
from contextlib import suppress

SHORTEST_S = 0.01


def interval(text: str) -> float:
    """Read the seconds between two looks, for argparse."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not SHORTEST_S <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is no interval: write {SHORTEST_S} s to a day, "
                                         "in seconds")
    return seconds


def looks(interval_s: float) -> Iterator[int]:
    """Yield 0, 1, 2, ... at such intervals. Raises BrokenPipeError once nobody reads stdout any
    more, though nothing was printed."""
    number = 0
    while True:
        yield number
        number += 1
        _wait(interval_s)


def _wait(seconds: float) -> None:
    """Sleep, but end as soon as nobody reads stdout any more."""
    poll = select.poll()
    with suppress(AttributeError, OSError, ValueError):  # there is none
        poll.register(sys.stdout.fileno(), 0)
    found = poll.poll(int(seconds * 1000))
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in found):
        raise BrokenPipeError


def clear_screen() -> None:
    """Begin at the top of the terminal, where stdout is one that can do that."""
    if sys.stdout is not None and sys.stdout.isatty() and (
        os.environ.get("TERM", "dumb") != "dumb"
    ):
        print("\x1b[H\x1b[2J", end="")
