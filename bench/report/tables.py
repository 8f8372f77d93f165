"""One table for each scenario, made from the results only; as text here, as HTML in page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..core.results import OURS, UNITS, Row
from ..core.targets import MISS, NONE, PASS
from ..peers import EmptyLoop

RATIO = "shmmap/peer"
WRONG = "WRONG"


class Table(NamedTuple):
    """A table of text.

    Attributes:
        heads: of the columns.
        rows: their cells.
        left: so many first columns are flush left; the last one is, too.
        notes: how to read the columns, a line each.
    """

    heads: list[str]
    rows: list[list[str]]
    left: int = 1
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Lay the table out.

        >>> print(Table(["name", "n", ""], [["a", "10", "PASS"], ["bcd", "5", ""]]).text())
        name   n
        a     10  PASS
        bcd    5
        """
        widths = [max(len(row[n]) for row in [self.heads, *self.rows])
                  for n in range(len(self.heads))]
        last = len(widths) - 1

        def line(row: Sequence[str]) -> str:
            cells = [
                cell.ljust(width) if n < self.left or n == last else cell.rjust(width)
                for n, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            return "  ".join(cells).rstrip()

        return "\n".join([line(self.heads), *map(line, self.rows)])


def quantity(figure: Any) -> str:
    """Write a number with the three digits that count; whole numbers whole.

    >>> [quantity(x) for x in (0.0512, 1.3789, 26.91, 114.2, 60886.4, 12345678.9, 4000000, 0.0)]
    ['0.0512', '1.38', '26.9', '114', '60,886', '12.3 M', '4,000,000', '0']
    """
    if isinstance(figure, int) or figure == 0 or not math.isfinite(figure):
        return f"{figure:,.0f}"
    if abs(figure) >= 1e6:
        return f"{quantity(figure / 1e6)} M"
    places = max(0, 2 - math.floor(math.log10(abs(figure))))
    return f"{figure:,.{places}f}" if places < 8 else f"{figure:.2e}"


def measured_on(results: dict[str, Any]) -> str:
    """Say which engine ran on what, in half a line."""
    machine, engine = results["machine"], results["engine"]
    python = machine["python"].split(" (")[0]
    return f"{engine['engine']} engine, {machine['cores']} cores of {machine['cpu']}, {python}"


def rows_of(results: dict[str, Any], scenario: str) -> list[Row]:
    """List a scenario's rows: points as they were measured, at each the best peer first, what
    answered wrongly last."""
    rows = [Row(**row) for row in results["rows"] if row["scenario"] == scenario]
    points = union(str(row.point) for row in rows)
    figure = next(iter(union(name for row in rows for name in row.samples)), "")

    better = UNITS[figure].better if figure else ""

    def place(row: Row) -> tuple[int, bool, float]:
        value = row.median(figure) if row.samples.get(figure) else math.inf
        rank = {"lower": value, "higher": -value if value < math.inf else value}
        return points.index(str(row.point)), bool(row.problem), rank.get(better, 0.0)

    return sorted(rows, key=place)


def union(names: Iterable[str]) -> list[str]:
    """List every name once, in the order of first appearance."""
    return list(dict.fromkeys(names))


def table_of(results: dict[str, Any], scenario: str) -> Table:
    """Make a scenario's table: peer, point, first figure, span, ratio, other figures, facts."""
    rows = rows_of(results, scenario)
    dimensions = union(name for row in rows for name in row.point)
    names = union(name for row in rows for name in row.samples)
    facts, everywhere = _facts(rows)
    repeated = any(len(samples) > 1 for row in rows for samples in row.samples.values())
    rated = next((name for name in names if UNITS[name].ratio), "")
    compared = {row.peer for row in rows} - {EmptyLoop.name}
    rated = rated if OURS in compared and len(compared) > 1 else ""
    beside = [*["span"] * repeated, *[RATIO] * bool(rated)]
    heads = ["", *dimensions, *names[:1], *beside, *names[1:], *facts, ""]
    cells = []
    for row in rows:
        line = [row.peer, *(_point(row.point.get(name, "")) for name in dimensions)]
        medians = [quantity(row.median(n)) if row.samples.get(n) else "-" for n in names]
        line += medians[:1]
        if repeated:
            line.append(_span(row.samples.get(names[0], [])))
        if rated:
            line.append(_ratio(results, row, rated))
        line += medians[1:]
        line += ["-" if row.facts.get(n) is None else quantity(row.facts[n]) for n in facts]
        cells.append([*line, _mark(results, row)])
    notes = [_unit_note(name) for name in names]
    if repeated:
        notes.append(f"span: most less least {names[0]} of the repetitions, of the median")
    if rated:
        notes.append(
            f"{RATIO}: {rated} of shmmap divided by the peer's, repetition by repetition; "
            f"{'below' if UNITS[rated].better == 'lower' else 'above'} 1 shmmap is better"
        )
    if everywhere:
        told = ", ".join(f"{name} {quantity(fact)}" for name, fact in everywhere.items())
        notes.append(f"in every row of {scenario}: {told}")
    notes += union(
        f"{row.peer}: {name}: {text}"
        for row in rows for name, text in row.facts.items() if isinstance(text, str) and text
    )
    return Table(heads, cells, 1, tuple(notes))


def _facts(rows: list[Row]) -> tuple[list[str], dict[str, float]]:
    """Return the facts that are numbers: names of those to be told by row, and the others."""
    varying, everywhere = [], {}
    for name in union(name for row in rows for name in row.facts):
        values = [row.facts.get(name) for row in rows if not row.problem]
        if not all(type(value) in (int, float, type(None)) for value in values):
            continue
        if len(values) == 1 or len(set(values)) > 1:
            varying.append(name)
        elif values and values[0] is not None:
            everywhere[name] = values[0]
    return varying, everywhere


def _point(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _span(samples: list[float]) -> str:
    if len(samples) < 2:
        return "-"
    ranked = sorted(samples)
    median = ranked[len(ranked) // 2]
    return f"{(ranked[-1] - ranked[0]) / median:.0%}" if median else "-"


def _ratio(results: dict[str, Any], row: Row, figure: str) -> str:
    if row.peer in (OURS, EmptyLoop.name):
        return ""
    ratio = results["metrics"].get(f"{row.scenario}/{OURS}:{row.label()} {figure}")
    return "-" if ratio is None else quantity(float(ratio))


def _unit_note(name: str) -> str:
    unit = UNITS[name]
    better = f" ({unit.better} is better)" if unit.better else ""
    return f"{name}: {unit.label}{better}"


def _mark(results: dict[str, Any], row: Row) -> str:
    """Return WRONG, or the worst verdict of the targets for this row of our map."""
    if row.problem:
        return WRONG
    if row.peer != OURS:
        return ""
    point = row.label().partition("@")[2]
    verdicts = {
        target["verdict"] for target in results["targets"]
        if target["scenario"] == row.scenario
        and target["metric"].rpartition(" ")[0].partition("@")[2] == point
    }
    return next((v for v in (MISS, NONE, PASS) if v in verdicts), "")


def targets_table(results: dict[str, Any]) -> Table:
    """Make the table of what was promised and what came of it."""
    cells = [
        [
            row["metric"],
            "-" if row["measured"] is None else f"{row['measured']:.3f}{row['unit']}",
            f"{row['relation']} {row['limit']:g}{row['unit']}",
            row["verdict"],
        ]
        for row in results["targets"]
    ]
    return Table(["target", "measured", "limit", ""], cells)
