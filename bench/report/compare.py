"""`python -m bench compare OLD.json NEW.json`: what became faster or slower, and how surely.

For each figure that both runs have, the ratio of the medians over the repetitions, new to old,
with an interval of 99 % confidence: both runs' repetitions are drawn again with replacement, the
ratio of the medians is taken, and the middle 99 % of 10,000 such ratios are the interval. Source:
Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval).

Fewer than five repetitions a side cannot give that confidence: even if all of one side lay above
all of the other, chance alone does so in more than 1 of 100 cases. Such figures are `unsure`.

The interval knows what differs between the repetitions of a run, not what differs between runs:
where memory happened to lie, and other work on the machine. The other stores are the same in both
runs, so what they changed by says how far the machine is to be trusted.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core.results import FORMAT, OURS, UNITS, Row
from ..peers import EmptyLoop
from .tables import Table, quantity, union

CONFIDENCE = 0.99
RESAMPLES = 10_000
TOLERANCE = 0.03  # a smaller difference is of no interest, however sure
LARGE = 1.1  # such a ratio is told even if it may be chance
FASTER, SLOWER, SAME, UNSURE = "faster", "slower", "same", "unsure"


class Change(NamedTuple):
    """What became of one figure; the ratios are new to old."""

    scenario: str
    label: str
    peer: str
    figure: str
    old: float
    new: float
    ratio: float
    low: float
    high: float
    verdict: str


def interval(old: list[float], new: list[float], seed: int) -> tuple[float, float]:
    """Return the interval of the ratio of medians, new to old; endless where it cannot be known.

    >>> interval([10.0] * 5, [11.0] * 5, 1), interval([1.0], [2.0], 1)
    ((1.1, 1.1), (0.0, inf))
    """
    # The chance that one side lies wholly above or below the other, if they do not differ.
    if 2 / math.comb(len(old) + len(new), len(old)) > 1 - CONFIDENCE or min(*old, *new) <= 0:
        return 0.0, math.inf
    random = np.random.default_rng(seed)

    def medians(samples: list[float]) -> Any:
        return np.median(random.choice(samples, (RESAMPLES, len(samples))), axis=1)

    ratios = medians(new) / medians(old)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return float(low), float(high)


def verdict(ratio: float, low: float, high: float, better: str) -> str:
    """Judge a ratio, new to old, by its interval.

    >>> verdict(1.1, 1.05, 1.2, "lower"), verdict(1.1, 1.05, 1.2, "higher")
    ('slower', 'faster')
    >>> verdict(1.1, 0.95, 1.2, "lower"), verdict(1.01, 0.99, 1.02, "lower")
    ('unsure', 'same')
    """
    if low >= 1 - TOLERANCE and high <= 1 + TOLERANCE:
        return SAME
    if low > 1 and ratio > 1 + TOLERANCE:
        return SLOWER if better == "lower" else FASTER
    if high < 1 and ratio < 1 - TOLERANCE:
        return FASTER if better == "lower" else SLOWER
    return UNSURE


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """List the change of each figure that is better one way, and that both runs have sound."""
    before = {(row.scenario, row.label()): row for row in _sound(old)}
    found = []
    for row in _sound(new):
        earlier = before.get((row.scenario, row.label()))
        if earlier is None or row.peer == EmptyLoop.name:
            continue
        for figure, samples in row.samples.items():
            if not (UNITS[figure].better and samples and earlier.samples.get(figure)):
                continue
            was, now = earlier.median(figure), row.median(figure)
            ratio = now / was if was else (1.0 if now == was else math.inf)
            # A seed of its own for each figure, so that none depends on which others there are.
            seed = zlib.crc32(f"{row.scenario}/{row.label()} {figure}".encode())
            low, high = interval(earlier.samples[figure], samples, seed)
            if earlier.samples[figure] == samples:
                low = high = ratio
            found.append(Change(
                row.scenario, row.label(), row.peer, figure, was, now, ratio, low, high,
                verdict(ratio, low, high, UNITS[figure].better),
            ))
    return found


def _sound(results: dict[str, Any]) -> list[Row]:
    return [row for row in (Row(**row) for row in results["rows"]) if not row.problem]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """List what else differs between the runs: then their figures may differ for that reason."""
    found = []
    for part, names in {
        "machine": ("cpu", "cores", "memory_bytes", "kernel", "python"),
        "engine": ("engine", "version", "revision"),
        "scale": union([*old["scale"], *new["scale"]]),
    }.items():
        for name in names:
            was, now = old[part].get(name), new[part].get(name)
            if was != now:
                found.append(f"{part}, {name}: {was} -> {now}")
    for name in ("seed", "processes"):
        if old[name] != new[name]:
            found.append(f"{name}: {old[name]} -> {new[name]}")
    for peer in union([*old["peers"], *new["peers"]]):
        was, now = (results["peers"].get(peer) for results in (old, new))
        if was is None or now is None:
            found.append(f"{peer}: only in the {'new' if was is None else 'old'} run")
        elif was != now:
            found.append(f"{peer}: {was['version']}, {was['setting']} -> "
                         f"{now['version']}, {now['setting']}")
    return found


def broken(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """List what answered wrongly or failed in the new run and not in the old one."""
    def wrong(results: dict[str, Any]) -> dict[str, str]:
        rows = (Row(**row) for row in results["rows"])
        found = {f"{row.scenario}, {row.label()}": row.problem for row in rows if row.problem}
        return {**found, **results["failures"]}

    before = wrong(old)
    return [f"{name}: {why}" for name, why in wrong(new).items() if name not in before]


def text(old: dict[str, Any], new: dict[str, Any], found: list[Change]) -> str:
    """Tell what else differs, what changed (slower first), how many figures did what."""
    parts = []
    if differ := differences(old, new):
        parts.append("The runs differ in more than time:\n" + "\n".join(f"  {d}" for d in differ))
    told = sorted(
        (c for c in found if c.verdict in (FASTER, SLOWER) or _large(c)),
        key=lambda c: ((SLOWER, FASTER, UNSURE).index(c.verdict), c.peer != OURS),
    )
    if told:
        cells = [
            [c.scenario, c.label, c.figure, quantity(c.old), quantity(c.new), f"{c.ratio:.3f}",
             f"{c.low:.3f}-{c.high:.3f}", c.verdict]
            for c in told
        ]
        heads = ["scenario", "", "figure", "old", "new", "new/old", "99 % within", ""]
        parts.append(Table(heads, cells, 3).text())
    parts.append(_summary(found))
    if wrong := broken(old, new):
        parts.append("Wrong or failed now, and not before:\n" + "\n".join(wrong))
    return "\n\n".join(parts)


def _large(change: Change) -> bool:
    """Tell whether a change is worth a look although nothing is sure of it."""
    return change.verdict == UNSURE and not 1 / LARGE < change.ratio < LARGE


def _summary(found: list[Change]) -> str:
    if not found:
        return "The runs have no figure in common."
    lines = []
    for name, chosen in (
        (OURS, [c for c in found if c.peer == OURS]),
        ("the others", [c for c in found if c.peer != OURS]),
    ):
        counts = Counter(change.verdict for change in chosen)
        told = ", ".join(f"{counts[v]} {v}" for v in (FASTER, SLOWER, SAME, UNSURE))
        # How much longer it takes, whichever way the figure is better.
        longer = [c.ratio if UNITS[c.figure].better == "lower" else 1 / c.ratio
                  for c in chosen if 0 < c.ratio < math.inf]
        middle = f"; middle of the changes {statistics.median(longer) - 1:+.1%}" if longer else ""
        lines.append(f"{name}: {told}{middle}" if chosen else f"{name}: nothing in common")
    lines.append("(+: slower, or more memory. If the others changed, the machine did.)")
    chance = len([c for c in found if c.high < math.inf]) * (1 - CONFIDENCE) / 2
    lines.append(f"Chance alone would call about {chance:.1f} figures slower, at most.")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Compare two runs; 1: something became slower or wrong, 2: they cannot be compared."""
    parser = argparse.ArgumentParser(
        prog="python -m bench compare", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("old", type=Path, help="what --json wrote earlier")
    parser.add_argument("new", type=Path, help="what --json wrote now")
    options = parser.parse_args(arguments)
    runs = []
    for path in (options.old, options.new):
        results = json.loads(path.read_text())
        if results.get("format") != FORMAT:
            parser.error(f"{path} has format {results.get('format')}, not {FORMAT}: "
                         "measure again with this version of the runner")
        runs.append(results)
    old, new = runs
    found = changes(old, new)
    print(text(old, new, found))
    return 1 if any(c.verdict == SLOWER for c in found) or broken(old, new) else 0
