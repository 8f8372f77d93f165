"""What a run is asked to do: the options of the command, and what follows from them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import NamedTuple

from ..lifecycle.control import ENGINE
from ..lifecycle.parameters import check_name
from ..memory.geometry import check_shards, parse_size

LANES_EACH = 3  # lines of operations that one worker can have under way: threads or children
SIDES = ("", "-cache", "-scratch")  # the maps of a run, by what follows its name
KEYS = 8  # that only one lane writes
_LENGTHS = (0, 40, 1_000, 8_000, 30_000, 60_000, 120_000, 250_000)
LONGEST = {"compiled": 250_000, "pure": 12_000}[ENGINE]
RESIZERS = 2  # processes that resize, if any does
_SIZE = {"compiled": "64MB", "pure": "2MB"}
_PATIENCE_S = {"compiled": 10.0, "pure": 30.0}
LIMIT_MS = {"compiled": 200.0, "pure": 1000.0}  # for the longest wait that a death causes
REPLACER_LIMIT_MS = {"compiled": 1000.0, "pure": 4000.0}  # the same, for a replacer's death
MEDIAN_LIMIT_MS = {"compiled": 20.0, "pure": 1000.0}


class Plan(NamedTuple):
    """A run. `kills` 0: as many as the time allows; `fill` -1: half of the map's slots."""

    name: str
    seed: int
    seconds: float
    kills: int
    size: str
    shards: int
    fill: int
    workers: int
    patience_s: float
    replaces: bool = True
    resizes: bool = True

    @property
    def lanes(self) -> int:
        """How many lanes the workers have."""
        return self.workers * LANES_EACH

    @property
    def all_lanes(self) -> int:
        """The same, with those of who replaces and resizes the map."""
        return self.lanes + self.replaces + RESIZERS * self.resizes


def lengths(longest: int) -> tuple[int, ...]:
    """Return lengths of values: long ones keep a writer inside for most of its time."""
    longest = max(1_000, longest)
    return (*(length for length in _LENGTHS if length < longest), longest)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=_positive, help="how long to go on (60)")
    length.add_argument("--minutes", type=_positive, help="the same, in minutes")
    parser.add_argument("--kills", type=_count, default=0, help="end after so many deaths")
    parser.add_argument("--seed", type=int, default=None,
                        help="repeat a run's choices (default: the clock); moments stay random")
    parser.add_argument("--size", type=_size, default=_SIZE[ENGINE],
                        help=f"of the map ({_SIZE[ENGINE]})")
    parser.add_argument("--shards", type=_shards, default=1, help="of the map (1)")
    parser.add_argument("--fill", type=_count, default=-1, metavar="ENTRIES",
                        help="entries that lie there all along (half of what the map holds)")
    parser.add_argument("--workers", type=_count, default=max(4, 2 * (os.cpu_count() or 1)),
                        help="processes that use the map at any time (4, or 2 a processor)")
    parser.add_argument("--patience", type=_positive, default=_PATIENCE_S[ENGINE],
                        metavar="SECONDS", help="without progress until a worker counts as hung")
    parser.add_argument("--replace", action=argparse.BooleanOptionalAction, default=True,
                        help="replace the map by one of another shape again and again, and unlink "
                        "another one of the run (yes)")
    parser.add_argument("--resize", action=argparse.BooleanOptionalAction, default=True,
                        help="resize the map again and again, kill and stop who moves it (yes)")
    parser.add_argument("--name", type=_name, default=f"torture-{os.getpid()}",
                        help="of the map")
    parser.add_argument("--json", action="store_true", help="report as JSON")


def read_options(options: argparse.Namespace, clock_seed: int) -> Plan:
    """Return the run that the options describe."""
    seconds = options.minutes * 60 if options.minutes else options.seconds
    if seconds is None:
        seconds = 60.0 if not options.kills else 1e9
    return Plan(
        name=options.name, seed=clock_seed if options.seed is None else options.seed,
        seconds=seconds, kills=options.kills, size=options.size, shards=options.shards,
        fill=options.fill, workers=max(2, options.workers), patience_s=options.patience,
        replaces=options.replace, resizes=options.resize,
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _positive(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} must be more than 0")
    return value


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 0 or more")
    return value


def _checked(check: Callable[[str], object], text: str) -> None:
    try:
        check(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _name(text: str) -> str:
    _checked(lambda name: [check_name(name + side) for side in SIDES], text)
    return text


def _size(text: str) -> str:
    _checked(parse_size, text)
    return text


def _shards(text: str) -> int:
    _checked(lambda number: check_shards(_count(number)), text)
    return int(text)
