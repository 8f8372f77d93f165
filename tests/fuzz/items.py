"""Give the decoder of containers bytes that nobody wrote.

    python -m tests.fuzz.items --inputs 1000000 --seed 1
    python -m tests.fuzz.items --replay 4711

Each input has a seed: it is some value's bytes, damaged in several places, spliced with another's,
or bytes at random. What is demanded: a value, or MapCorrupted, within two seconds and without much
memory; and a value that was read is written and read again the same. A crash or a hang costs a
child its life, and is told with the seed. The exit code is 1 if there was any problem.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import decimal
import mmap
import os
import random
import resource
import signal
import sys
import time
import traceback
import uuid
from collections import Counter
from typing import Any

from shmmap.errors import MapCorrupted
from shmmap.values import _unpacking_cy
from shmmap.values._packing_cy import pack_items
from shmmap.values._unpacking_cy import unpack_items

from ..support.same_values import same

HANG_S = 2.0
MEMORY_BYTES = 2 << 30
_WORDS = ["", "a", "id", "name", "é", "\ud800", "x" * 63, "x" * 64, "y" * 300, "key"]


def some_value(draw: random.Random, depth: int = 0, hashable: bool = False) -> Any:
    """Make a value, of few of each kind."""
    kind = draw.randrange(10 if depth < 5 else 7)
    if kind < 3:
        return draw.choice(_WORDS)
    if kind == 3:
        return draw.choice([0, 63, 64, -1, 255, 256, -257, 2**31, -(2**63), 2**64, -(2**90)])
    if kind == 4:
        return draw.choice([None, True, False, 1.5, float("nan"), b"", b"bytes", b"z" * 20])
    if kind == 5:
        zone = draw.choice([None, datetime.timezone.utc,
                            datetime.timezone(datetime.timedelta(hours=2), "Z")])
        return datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=zone, fold=draw.randrange(2))
    if kind == 6:
        return draw.choice([decimal.Decimal("1.50"), uuid.UUID(int=5), datetime.date(1, 1, 1),
                            datetime.timedelta(-1, 5, 7), datetime.time(1)])
    number = draw.choice([0, 1, 2, 3, 5, 17])
    if kind == 7 or hashable:
        items = [some_value(draw, depth + 1, True) for _ in range(number)]
        return tuple(items) if hashable or draw.random() < 0.5 else set(items)
    if kind == 8:
        return {some_value(draw, depth + 1, True): some_value(draw, depth + 1)
                for _ in range(number)}
    items = [some_value(draw, depth + 1) for _ in range(number)]
    return items + items[:1]  # the last is the first one again


def some_bytes(draw: random.Random) -> bytes:
    """Make an input."""
    if draw.random() < 0.05:
        return bytes([draw.choice((0x10, 0x11)), *draw.randbytes(draw.randrange(60))])
    data = bytearray(pack_items(some_value(draw)))
    if draw.random() < 0.2:
        other = pack_items(some_value(draw))
        cut = draw.randrange(len(data))
        data = data[:cut] + other[draw.randrange(len(other)):]
    for _ in range(draw.choice((0, 1, 1, 2, 4)) if data else 0):
        at = draw.randrange(len(data))
        data[at] = draw.choice((draw.randrange(256), data[at] ^ 1 << draw.randrange(8), 0xFF, 0x80))
    if draw.random() < 0.1 and data:
        del data[draw.randrange(len(data)):]
    if draw.random() < 0.1:
        data[draw.randrange(len(data) + 1):0] = draw.randbytes(draw.randrange(6))
    if draw.random() < 0.3 and data:
        data[0] = 0x11
    return bytes(data)


def try_one(seed: int) -> str:
    """Decode an input; return what came of it. Raises AssertionError, or whatever went wrong."""
    data = some_bytes(random.Random(seed))
    try:
        value = unpack_items(data)
    except MapCorrupted:
        return "damage"
    again = pack_items(value)
    assert again is not None, "a value that was read cannot be written"
    assert same(unpack_items(again), value), "a value is another one the second time"
    return "a value"


def run_child(seeds: range, at: mmap.mmap, outcomes: int) -> None:
    """Try inputs; tell what came of them."""
    if "ASAN_OPTIONS" not in os.environ:  # which reserves more from the start
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    found: Counter[str] = Counter()
    for seed in seeds:
        at[:16] = seed.to_bytes(8, "little") + time.monotonic_ns().to_bytes(8, "little")
        try:
            found[try_one(seed)] += 1
        except BaseException as error:
            found[f"WRONG {type(error).__name__}"] += 1
            print(f"seed {seed}: {traceback.format_exc()}", file=sys.stderr, flush=True)
    os.write(outcomes, repr(dict(found)).encode())


def run_all(seeds: range) -> Counter[str]:
    """Try inputs in children, one after the other; count what came of them."""
    found: Counter[str] = Counter()
    with mmap.mmap(-1, 16) as at:
        while seeds:
            part = seeds[:100_000]
            ours, theirs = os.pipe()
            at[:16] = part[0].to_bytes(8, "little") + time.monotonic_ns().to_bytes(8, "little")
            pid = os.fork()
            if not pid:
                code = 1
                with contextlib.suppress(BaseException):
                    run_child(part, at, theirs)
                    code = 0
                os._exit(code)
            os.close(theirs)
            status = _wait(pid, at)
            with open(ours, "rb") as file:
                told = file.read()
            last = int.from_bytes(at[:8], "little")
            if status:
                found[f"WRONG end: {status}"] += 1
                print(f"seed {last}: ends the process ({status})", file=sys.stderr, flush=True)
                seeds = range(last + 1, seeds.stop)
                continue
            found.update(eval(told))
            seeds = seeds[len(part):]
    return found


def _wait(pid: int, at: mmap.mmap) -> int:
    """Wait for a child; kill it where an input takes too long. Return how it ended."""
    try:
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            began = int.from_bytes(at[8:16], "little")
            if time.monotonic_ns() - began > HANG_S * 1e9:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.items", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first input")
    parser.add_argument("--replay", type=int, help="try the input of this seed alone")
    options = parser.parse_args(arguments)
    if options.replay is not None:
        print(some_bytes(random.Random(options.replay)).hex(" "))
        print(try_one(options.replay))
        return 0
    began = time.monotonic()
    found = run_all(range(options.seed, options.seed + options.inputs))
    engine = "compiled" if _unpacking_cy.COMPILED else "pure"
    print(f"{engine} engine, {options.inputs:,} inputs, {time.monotonic() - began:.0f} s: "
          + ", ".join(f"{what} {count:,}" for what, count in sorted(found.items())))
    return int(any(what.startswith("WRONG") for what in found))


if __name__ == "__main__":
    sys.exit(main())
