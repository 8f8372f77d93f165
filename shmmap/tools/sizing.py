"""How large a map must be for given entries, and into slots of what size to cut it.

Computed with the functions that lay out a map (`geometry`). What each shard
needs is bounded as `capacity=` bounds it, for entries of different lengths: by
the exponential moments of the slots that fall on a shard (Chernoff), with the
same chance of 1e-6 that any shard fills up before.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import NamedTuple, TextIO

from ..copies.dumps import MAGIC, DumpReader, entry_bytes
from ..memory.geometry import (
    DEFAULT_SLOT,
    FAILURE_CHANCE,
    KEY_SIZE,
    LONG_VALUE,
    SHARD_LIMIT,
    SLOT_LIMIT,
    Geometry,
    buckets_for,
    control_bytes,
    lock_bytes,
    plan_capacity,
    plan_size,
    slots_needed,
)
from ..memory.layout import PAGE
from ..printable import printable
from ..values import _codecs_cy, _keys_cy

OVERHEAD = 14  # bytes of index and chain a slot, to compare slot sizes by
FEWEST_SHARDS = 4
LARGEST_SHARD = 64 << 20  # bytes; a repair of it takes about 30 ms
AMPLE = 2  # times the slots of the entries: what takes more is mostly headroom, in too many shards
NEAR_BEST = 1.02  # of slot sizes within 2 % of the least memory, the largest: fewest slots an entry
FORMATS = """\
FILE is one of
  - a dump, as `python -m shmmap dump` writes it
  - JSON lines, each [key, value], told by the first [; a key that is a list stands for a tuple
  - CSV of two columns, key and value, both taken as str
BYTES of a value are one number; or several with their shares, `100x70,4000x30`; a range, `20-400`,
is spread evenly. Values are counted as they are stored: pickled ones by their pickle."""


class Sample:
    """Lengths of entries: how many have so many bytes in a map, and sums."""

    def __init__(self) -> None:
        self.lengths: Counter[int] = Counter()  # bytes in slots, padding included
        self.entries = 0
        self.key_bytes = 0
        self.value_bytes = 0
        self.largest = 0

    def add(self, key_length: int, value_type: int, value_length: int, times: int = 1) -> None:
        """Count an entry."""
        length = entry_bytes(key_length, value_type, value_length)
        self.largest = max(self.largest, length)
        self.lengths[_step(length)] += times
        self.entries += times
        self.key_bytes += key_length * times
        self.value_bytes += value_length * times

    def quantile(self, share: float) -> int:
        """Return the length that this share of the entries does not exceed."""
        left = share * self.entries
        for length in sorted(self.lengths):
            left -= self.lengths[length]
            if left <= 0:
                return min(length, self.largest)
        return self.largest

    def needs(self, slot_size: int) -> Counter[int]:
        """Count the entries that need so many slots."""
        found: Counter[int] = Counter()
        for length, times in self.lengths.items():
            found[slots_needed(length, slot_size)] += times
        return found


def _step(length: int) -> int:
    """Round up: to words, which changes no number of slots; long ones by at most 1 in 256, so that
    there are few different ones."""
    unit = 8 if length <= 1 << 14 else 1 << (length.bit_length() - 9)
    return -(-length // unit) * unit


class Plan(NamedTuple):
    """A layout for a sample: what to say to ShmMap, and what it then takes.

    `size` is what to give as size=; `allocated` counts the pages in use, `slots_used` an entry.
    `default_shards`: what ShmMap would choose for that size, -1: it would refuse it.
    """

    geometry: Geometry
    size: int
    value_size: int
    key_size: int
    default_shards: int
    slots_used: float
    allocated: int
    amplification: float

    @property
    def shards_said(self) -> bool:
        """Tell whether shards= has to be said."""
        return self.default_shards != self.geometry.shards


def read_sample(path: str) -> Sample:
    """Read entries from a file: see FORMATS. Raises ValueError, DumpCorrupted, OSError."""
    sample = Sample()
    with open(path, "rb") as file:  # once: what a pipe has given is gone
        if file.peek(len(MAGIC)).startswith(MAGIC):
            with DumpReader(path) as dump:
                for entry in dump.records():
                    sample.add(len(entry.key), entry.value_type, len(entry.value))
            return sample
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        try:
            _read_text(text, path, sample)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path} is neither a dump nor text in UTF-8 ({error.reason})"
            ) from None
    return sample


def _read_text(text: TextIO, path: str, sample: Sample) -> None:
    """Read JSON lines or CSV, as the first line that is not empty tells."""
    seen = []
    for content in text:
        seen.append(content)
        if content.strip():
            break
    read = _json_lines if "".join(seen).lstrip()[:1] == "[" else _csv_rows
    for line, key, value in read(chain(seen, text), path):
        try:
            _, raw_key = _keys_cy.pack(key)
            value_type, raw_value = _codecs_cy.pack(value)
        except TypeError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
        sample.add(len(raw_key), value_type, len(raw_value))


def _json_lines(lines: Iterable[str], path: str) -> Iterator[tuple[int, object, object]]:
    for line, content in enumerate(lines, 1):
        if content.strip():
            try:
                key, value = json.loads(content)
            except (TypeError, ValueError, RecursionError) as error:
                raise ValueError(
                    f"{path}, line {line} is not [key, value] in JSON: {error}"
                ) from None
            yield line, _tuples(key), value


def _tuples(key: object) -> object:
    return tuple(map(_tuples, key)) if isinstance(key, list) else key


def _csv_rows(lines: Iterable[str], path: str) -> Iterator[tuple[int, object, object]]:
    rows = csv.reader(lines)
    try:
        for row in rows:
            if len(row) not in (0, 2):
                raise ValueError(
                    f"{path}, line {rows.line_num} has {len(row)} columns, not key and value"
                )
            if row:
                yield rows.line_num, row[0], row[1]
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num} is not CSV: {error}") from None


def parse_lengths(text: str) -> list[tuple[int, float]]:
    """Read lengths with their shares: "100", "20-400", "100x70,4000x30".

    >>> parse_lengths("100x3,8")
    [(100, 3.0), (8, 1.0)]
    """
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?(?:x(\d{1,9}(?:\.\d+)?))?", part.strip())
        if match is None:
            raise ValueError(f"{part!r} is not BYTES, FROM-TO or either with xSHARE")
        low, share = int(match[1]), float(match[3] or 1)
        high = int(match[2] or low)
        if high < low:
            raise ValueError(f"{part!r}: {high} is less than {low}")
        points = min(32, high - low + 1)
        found += [
            (low + (high - low + 1) * (2 * i + 1) // (2 * points), share / points)
            for i in range(points)
        ]
    if not any(share for _, share in found):
        raise ValueError(f"{text!r}: no share is above 0")
    return found


def made_sample(entries: int, key_bytes: int, values: Iterable[tuple[int, float]]) -> Sample:
    """Make a sample of so many entries, values of these lengths by these shares."""
    sample, values = Sample(), list(values)
    whole = sum(share for _, share in values)
    done, passed = 0, 0.0
    for length, share in values:
        passed += share
        upto = round(entries * passed / whole)
        if upto > done:
            sample.add(key_bytes, 0, length, upto - done)
            done = upto
    return sample


# -- planning -----------------------------------------------------------------------------


def slots_bound(needs: Counter[int], factor: float, shards: int) -> int:
    """Bound the slots that any shard needs for `factor` times these entries, but for a chance of
    1e-6: P(X >= c) <= E exp(tX) exp(-tc), each entry being in this shard with chance 1 / shards.

    With room for one entry more, so that the longest can be overwritten in a full shard.
    """
    longest = max(needs)
    if shards == 1:
        return math.ceil(sum(need * n for need, n in needs.items()) * factor) + longest
    p, spare = 1 / shards, math.log(shards / FAILURE_CHANCE)

    def bound(exponent: float) -> float:
        t = math.exp(exponent) / longest
        moments = sum(n * math.log1p(p * math.expm1(t * need)) for need, n in needs.items())
        return (moments * factor + spare) / t

    low, high = -20.0, 4.0  # t: from 0 to 55, by the longest; unimodal between
    for _ in range(100):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, b) if bound(a) < bound(b) else (a, high)
    return math.ceil(bound(low)) + longest


def plan(
    sample: Sample, slot_size: int, entries: int, evicts: bool, ttl: bool, shards: int = 0
) -> Plan:
    """Lay out a map with slots of that size that holds so many entries like the sample's; over
    so many shards (0: as many as ShmMap would choose, or fewer: see AMPLE).

    Every shard needs room for the longest entries that may meet there, so where few long ones are
    most of the bytes, twice the shards are twice the memory: no number of shards would be what
    ShmMap chooses for that size.
    """
    needs, factor = sample.needs(slot_size), entries / sample.entries
    key_size = min(round(sample.key_bytes / sample.entries), slot_size - 16)
    if abs(key_size - KEY_SIZE) <= 4 and slot_size >= 32:
        key_size = KEY_SIZE  # the default says it well enough
    value_size = slot_size - 16 - key_size
    said, shards = shards, shards or 1
    fewer = 0  # the last number of shards that would do
    ample = AMPLE * factor * sum(need * n for need, n in needs.items()) + max(needs)
    while True:
        slots = max(2, slots_bound(needs, factor, shards))
        slots = max(slots, 1 - (-(sample.largest + 8) // (slot_size - 8)))  # fits into a shard
        size = _rounded(
            Geometry(shards, slots, slot_size, buckets_for(slots), int(evicts)).total_bytes
        )
        by_default = -1
        if slots <= SLOT_LIMIT:
            if fewer and not said and shards * slots > ample:
                return plan(sample, slot_size, entries, evicts, ttl, fewer)
            fewer = shards
            with suppress(ValueError):
                by_default = plan_size(size, None, value_size, key_size, evicts).shards
            if said or by_default <= shards:
                break
        if said or shards == SHARD_LIMIT:
            raise ValueError(f"{entries:,} such entries are more than any map holds")
        shards *= 2
    shape = plan_size(size, shards, value_size, key_size, evicts)
    pages = shape.areas.end if ttl else shape.areas.deadlines
    allocated = control_bytes() + PAGE + lock_bytes() + shards * (pages + PAGE)
    live = (sample.key_bytes + sample.value_bytes) * factor
    used = sum(need * n for need, n in needs.items()) / sample.entries
    return Plan(
        shape, size, value_size, key_size, by_default, used, allocated, allocated / live
    )


def _rounded(size: int) -> int:
    """Round up to four digits."""
    unit = int(10 ** max(0, len(str(size)) - 4))
    return -(-size // unit) * unit


def with_fewer_shards(chosen: Plan, again: Callable[[int], Plan]) -> Plan | None:
    """Look for fewer shards that save a tenth of the memory: the fewer, the better they balance,
    but the fewer processes can write at once, and the longer the repair of one takes."""
    best, shards = chosen, chosen.geometry.shards
    while shards > FEWEST_SHARDS:
        shards //= 2
        fewer = again(shards)
        if fewer.geometry.areas.end > LARGEST_SHARD:
            break
        if fewer.allocated < 0.9 * best.allocated:
            best = fewer
    return None if best is chosen else best


def best_slot(sample: Sample) -> int:
    """Choose the slot size: see NEAR_BEST."""
    costs = {
        slot: sum(need * n for need, n in sample.needs(slot).items()) * (slot + OVERHEAD)
        for slot in range(32, LONG_VALUE + 8, 8)
    }
    least = min(costs.values())
    if costs[DEFAULT_SLOT] <= least * NEAR_BEST:
        return DEFAULT_SLOT
    longest_useful = max(32, -(-(sample.largest + 16) // 8) * 8)
    near = [slot for slot, cost in costs.items() if cost <= least * NEAR_BEST]
    return max(slot for slot in near if slot <= longest_useful or slot == min(near))


def candidates(sample: Sample) -> list[int]:
    """Choose slot sizes to compare: the best, the default, and some that fit typical entries."""
    fitting = [sample.quantile(share) + 16 for share in (0.1, 0.5, 0.9)]
    fitting.append((sample.key_bytes + sample.value_bytes) // sample.entries + 16)
    slots = {min(max(32, -(-length // 8) * 8), LONG_VALUE) for length in fitting}
    return sorted(slots | {DEFAULT_SLOT, best_slot(sample)})


# -- the command ----------------------------------------------------------------------------


def add_command(parser: argparse.ArgumentParser) -> None:
    """Make a parser that of the command `size`."""
    parser.epilog = FORMATS
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--sample", metavar="FILE", help="real entries")
    parser.add_argument("--entries", type=int, metavar="N",
                        help="how many there will be (default: as many as the sample has)")
    parser.add_argument("--key-bytes", type=int, default=KEY_SIZE, metavar="BYTES",
                        help=f"without a sample: bytes of a key (default {KEY_SIZE})")
    parser.add_argument("--value-bytes", default="100", metavar="BYTES",
                        help="without a sample: bytes of a value (default 100)")
    parser.add_argument("--evict", action="store_true", help='for on_full="evict"')
    parser.add_argument("--ttl", action="store_true", help="entries have a ttl")
    parser.set_defaults(run=lambda options: _run(parser, options))


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    csv.field_size_limit(1 << 30)  # else 128 kB
    try:
        if options.entries is not None and options.entries < 1:
            raise ValueError(f"--entries {options.entries}: give at least 1")
        if options.sample:
            sample = read_sample(options.sample)
            if not sample.entries:
                raise ValueError(f"{options.sample} holds no entries")
        elif options.entries:
            if not 0 <= options.key_bytes <= 0xFFFF:
                raise ValueError(f"--key-bytes {options.key_bytes}: from 0 to 65535")
            sample = made_sample(
                options.entries, options.key_bytes, parse_lengths(options.value_bytes)
            )
        else:
            raise ValueError("give --sample FILE, or --entries N --key-bytes K --value-bytes V")
        if not sample.key_bytes + sample.value_bytes:
            raise ValueError("the entries have no bytes at all")
        print(report(sample, options.entries or sample.entries, options.evict, options.ttl))
    except ValueError as error:
        parser.error(printable(str(error), most=1000))
    return 0


def report(sample: Sample, entries: int, evicts: bool, ttl: bool) -> str:
    """Say how slot sizes compare, and what to write."""
    key, value = sample.key_bytes / sample.entries, sample.value_bytes / sample.entries
    lines = [
        f"{sample.entries:,} entries: keys of {key:,.0f} bytes and values of {value:,.0f} on "
        f"average; together half have at most {sample.quantile(0.5):,}, 90 % at most "
        f"{sample.quantile(0.9):,}, the longest {sample.largest:,}",
        f"for {entries:,} entries, {round((key + value) * entries):,} bytes of keys and values:",
        "",
        f"{'slot':>6} {'slots an entry':>15} {'shards':>7} {'slots':>13} {'bytes':>16} "
        f"{'amplification':>14}",
    ]
    best = best_slot(sample)
    chosen = plan(sample, best, entries, evicts, ttl)
    for slot in candidates(sample):
        with suppress(ValueError):  # no shard can number so many short slots
            one = chosen if slot == best else plan(sample, slot, entries, evicts, ttl)
            lines.append(
                f"{slot:6,} {one.slots_used:15.2f} {one.geometry.shards:7,} "
                f"{one.geometry.shards * one.geometry.slots:13,} {one.allocated:16,} "
                f"{one.amplification:14.3f}" + ("  <- recommended" if slot == best else "")
            )
    more = [f"value_size={chosen.value_size}"] if best != DEFAULT_SLOT else []
    if more and chosen.key_size != KEY_SIZE:
        more.append(f"key_size={chosen.key_size}")
    if evicts:
        more.append('on_full="evict"')
    lines += ["", "    " + _call(chosen, more), "", "bytes: what it takes until an entry has a "
              "deadline; size=: the most that it ever takes, which /dev/shm must have."]
    if chosen.default_shards > chosen.geometry.shards:
        lines += [
            "", f"Say shards=: {chosen.default_shards:,}, as ShmMap would choose for that size, "
            "would each need room for the longest entries, most of it empty. Fewer processes can "
            "write at once.",
        ]
    fewer = with_fewer_shards(
        chosen, lambda shards: plan(sample, best, entries, evicts, ttl, shards)
    )
    if fewer is not None:
        lines += [
            "", f"or in {fewer.allocated:,} bytes (amplification {fewer.amplification:.3f}), over "
            "fewer shards: they balance better, but fewer processes can write at once:", "",
            "    " + _call(fewer, more),
        ]
    if max(sample.needs(best)) == 1 and not chosen.shards_said:
        by_count = plan_capacity(entries, None, chosen.value_size, chosen.key_size, evicts)
        lines += [
            "", f"or, since each entry takes one slot, by their number ({by_count.total_bytes:,} "
            "bytes at most):", "",
            "    shmmap.ShmMap(NAME, " + ", ".join([f"capacity={entries}", *more]) + ")",
        ]
    return "\n".join(lines)


def _call(plan: Plan, more: list[str]) -> str:
    shards = [f"shards={plan.geometry.shards}"] if plan.shards_said else []
    return f"shmmap.ShmMap(NAME, {', '.join([f'size={_written(plan.size)}', *more, *shards])})"


def _written(size: int) -> str:
    """Write a size as ShmMap takes it."""
    for unit, letters in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit and size % (unit // 1000) == 0:
            return f'"{size / unit:g}{letters}"'
    return str(size)
