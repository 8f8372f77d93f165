"""Pictures of a run, as PNG and SVG, drawn from the JSON only.

Axes start at zero, or say that they are logarithmic. A line is the median over the repetitions,
the band around it reaches from the least to the most. What answered wrongly is not drawn, and
named below. A name has one colour, marker and line style in all pictures of a run.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from ..core.results import OURS, UNITS, Row
from ..core.scenario import Plot
from .tables import rows_of, union

# Colours that stay apart for the colour-blind (Okabe and Ito, "Color Universal Design", 2008;
# without its yellow, which is faint on white). The first is our map's alone; the others come
# again, after the eighth name, with other markers and line styles.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = "os^DvP*XhpdH8"
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))


SETTINGS: Any = {
    "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 10,
    "axes.spines.top": False, "axes.spines.right": False,
}
HIGH = 4.6  # inches of a picture with lines; its y axis is named above it


class Style(NamedTuple):
    """How a name looks."""

    colour: str
    marker: str
    dash: Any
    width: float


class Picture(NamedTuple):
    """One plot of one scenario, ready to be drawn."""

    file: str
    plot: Plot
    rows: list[Row]
    left_out: list[str]


def missing() -> str:
    """Return what to do to have plots; "": they can be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        return "plots need matplotlib: pip install '.[bench]'"
    return ""


def pictures(results: dict[str, Any]) -> dict[str, list[Picture]]:
    """List each scenario's pictures, those with something on them."""
    found: dict[str, list[Picture]] = {}
    for scenario, about in results["scenarios"].items():
        rows = rows_of(results, scenario)
        wrong = union(row.peer for row in rows if row.problem)
        for plot in (Plot(**plot) for plot in about["plots"]):
            shown = [row for row in rows if not row.problem and row.samples.get(plot.y)]
            if shown:
                name = f"{scenario}-{plot.name}" if plot.name else scenario
                found.setdefault(scenario, []).append(Picture(name, plot, shown, wrong))
    return found


def styles(results: dict[str, Any]) -> dict[str, Style]:
    """Return every name its looks: our map, the peers, and whatever else has rows: designs.

    Designs begin with the first looks again, but for those of peers beside which they stand.
    """
    peers = {name: n for n, name in enumerate(p for p in results["peers"] if p != OURS)}
    designs = union(row["peer"] for row in results["rows"] if row["peer"] not in {OURS, *peers})
    mixed = {row["scenario"] for row in results["rows"] if row["peer"] in designs}
    taken = {
        peers[row["peer"]] for row in results["rows"]
        if row["scenario"] in mixed and row["peer"] in peers
    }
    free = (n for n in itertools.count() if n not in taken)
    places = {**peers, **{name: next(free) for name in designs}}
    own = Style(COLOURS[0], MARKERS[0], DASHES[0], 2.4)
    return {OURS: own, **{name: _style(n) for name, n in places.items()}}


def _style(place: int) -> Style:
    others = COLOURS[1:]
    return Style(
        others[place % len(others)], MARKERS[1:][place % (len(MARKERS) - 1)],
        DASHES[place // len(others) % len(DASHES)], 1.4,
    )


def write(results: dict[str, Any], directory: Path) -> list[Path]:
    """Draw every picture into a directory, as PNG and SVG; return the paths."""
    directory.mkdir(parents=True, exist_ok=True)
    looks, written = styles(results), []
    for drawn in pictures(results).values():
        for picture in drawn:
            for kind in ("png", "svg"):
                written.append(directory / f"{picture.file}.{kind}")
                written[-1].write_bytes(render(picture, looks, kind))
    return written


def inline_svg(picture: Picture, looks: dict[str, Style]) -> str:
    """Draw a picture as an <svg> element that refers to nothing outside itself."""
    text = render(picture, looks, "svg").decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg"):], flags=re.S)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    # Groups are called figure_1, axes_1 and so on in every picture; nothing refers to them.
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    label = picture.plot.title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def render(picture: Picture, looks: dict[str, Style], kind: str) -> bytes:
    """Draw a picture; return the file's bytes, the same for the same figures."""
    import matplotlib

    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": picture.file}):
        buffer = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {}
        figure_of(picture, looks).savefig(
            buffer, format=kind, dpi=130, bbox_inches="tight", metadata=metadata
        )
    return buffer.getvalue()


def figure_of(picture: Picture, looks: dict[str, Style]) -> Any:
    """Draw a picture; return matplotlib's figure."""
    return _lines(picture, looks) if _has_axis(picture) else _bars(picture, looks)


def _has_axis(picture: Picture) -> bool:
    """Tell whether x is a number at more than one place; else there is no line to draw."""
    places = {row.point.get(picture.plot.x) for row in picture.rows}
    return len(places) > 1 and all(isinstance(place, (int, float)) for place in places)


def _figure(width: float, height: float, picture: Picture) -> tuple[Any, Any]:
    """Make a figure without pyplot, which would keep it and look for a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(picture.plot.title, loc="left", fontsize=12, pad=24 if height == HIGH else 10)
    axes.set_axisbelow(True)
    return figure, axes


def _lines(picture: Picture, looks: dict[str, Style]) -> Any:
    """Draw a line for each peer; where the rows differ in more than x, one for each difference."""
    plot = picture.plot
    figure, axes = _figure(7.5, HIGH, picture)
    series: dict[str, list[Row]] = {}
    for row in picture.rows:
        series.setdefault(_name(row, plot.x), []).append(row)
    faint = 0.15 if len(series) <= 6 else 0.07
    kinds = union(_rest(row, plot.x) for row in picture.rows)
    for name, rows in series.items():
        look, nth = looks[rows[0].peer], kinds.index(_rest(rows[0], plot.x))
        rows.sort(key=lambda row: row.point[plot.x])
        x = [row.point[plot.x] for row in rows]
        axes.plot(
            x, [row.median(plot.y) for row in rows], label=name, color=look.colour, markersize=5,
            marker=MARKERS[(MARKERS.index(look.marker) + nth) % len(MARKERS)],
            linestyle=DASHES[nth % len(DASHES)] if len(kinds) > 1 else look.dash,
            linewidth=look.width, zorder=3 if rows[0].peer == OURS else 2,
        )
        least, most = ([f(row.samples[plot.y]) for row in rows] for f in (min, max))
        axes.fill_between(x, least, most, color=look.colour, alpha=faint, linewidth=0)
    named = _scale(axes.xaxis, axes.set_xscale, "x" in plot.log, plot.x.replace("_", " "))
    places = {row.point[plot.x] for row in picture.rows}
    if "x" in plot.log and 0 in places:  # linear from zero to the first other place
        axes.set_xscale("symlog", linthresh=min(places - {0}), linscale=0.5)
        _number(axes.xaxis)  # a scale brings its own way of writing numbers
        named += " but for 0"
    axes.set_xlabel(named)
    named = _scale(axes.yaxis, axes.set_yscale, "y" in plot.log, _label(plot.y))
    axes.text(0, 1.03, named, transform=axes.transAxes, color="#444444", fontsize=9.5)
    _tick_measured(axes, places, "x" in plot.log)
    if "x" not in plot.log:
        axes.set_xlim(left=0)
    if "y" not in plot.log:
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]) if _negative(picture) else 0)
    axes.grid(color="#E4E4E4", linewidth=0.8)
    # In the order in which the lines end, so that the eye finds them.
    handles, labels = axes.get_legend_handles_labels()
    ends = [handle.get_ydata()[-1] for handle in handles]
    order = sorted(range(len(ends)), key=lambda n: -ends[n])
    axes.legend(
        [handles[n] for n in order], [labels[n] for n in order], loc="center left",
        bbox_to_anchor=(1.02, 0.5), frameon=False, handlelength=3.2, fontsize=9,
    )
    _foot(figure, picture, "line: median of the repetitions; band: least to most")
    return figure


def _bars(picture: Picture, looks: dict[str, Style]) -> Any:
    """Draw a bar for each row; on a logarithmic axis a dot: a bar's length would mean nothing."""
    plot, rows = picture.plot, picture.rows
    log = "y" in plot.log
    figure, axes = _figure(7.5, 1.3 + 0.34 * len(rows), picture)
    for place, row in enumerate(rows):
        look, median = looks[row.peer], row.median(plot.y)
        least, most = min(row.samples[plot.y]), max(row.samples[plot.y])
        if log:
            axes.plot([median], [place], look.marker, color=look.colour, markersize=8)
        else:
            axes.barh(place, median, color=look.colour, height=0.62)
        axes.plot([least, most], [place, place], color="#333333", linewidth=1.2)
        axes.annotate(
            _short(median), (max(most, median), place), xytext=(7, 0), fontsize=9,
            textcoords="offset points", va="center",
            fontweight="bold" if row.peer == OURS else "normal",
        )
    axes.set_yticks(range(len(rows)), [_name(row, "") for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(_scale(axes.xaxis, axes.set_xscale, log, _label(plot.y)))
    if not log and not _negative(picture):
        axes.set_xlim(left=0)
    axes.margins(x=0.12)
    axes.grid(axis="x", color="#E4E4E4", linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    _foot(figure, picture, f"{'dot' if log else 'bar'}: median of the repetitions; "
                           "dark line: least to most")
    return figure


def _name(row: Row, x: str) -> str:
    """Name a line or a bar: the peer, and what else of the point x does not tell."""
    rest = _rest(row, x)
    return f"{row.peer}, {rest}" if rest else row.peer


def _rest(row: Row, x: str) -> str:
    return ", ".join(
        f"{key.replace('_', ' ')} {_short(value) if isinstance(value, (int, float)) else value}"
        for key, value in row.point.items() if key != x
    )


def _label(figure: str) -> str:
    unit = UNITS[figure]
    return f"{unit.label} ({unit.better} is better)" if unit.better else unit.label


def _scale(axis: Any, set_scale: Any, log: bool, label: str) -> str:
    """Set an axis linear or logarithmic, with short numbers; return its name, which says so."""
    from matplotlib.ticker import LogLocator

    if log:
        least, most = axis.get_data_interval()
        set_scale("log")
        if least > 0 and most / least < 100:  # few powers of ten or none: name more places
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    _number(axis)
    return f"{label}, log scale" if log else label


def _number(axis: Any) -> None:
    """Have an axis write short numbers, and none between them."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.set_minor_formatter(NullFormatter())


def _tick_measured(axes: Any, places: set[float], log: bool) -> None:
    """Put the ticks of x where something was measured, as far as they do not touch."""
    ranked = sorted(places)
    least = min((place for place in places if place > 0), default=1)
    at = [math.log(max(place, least / 4)) for place in ranked] if log else ranked
    whole = at[-1] - at[0] if log else at[-1]
    kept = [len(ranked) - 1]  # from the right, so that the last one is there
    for n in range(len(ranked) - 2, -1, -1):
        if at[kept[-1]] - at[n] > 0.055 * whole:
            kept.append(n)
    axes.set_xticks([ranked[n] for n in kept])
    axes.tick_params(axis="x", which="minor", length=0)


def _negative(picture: Picture) -> bool:
    return min(min(row.samples[picture.plot.y]) for row in picture.rows) < 0


def _short(value: float) -> str:
    """Write a number for an axis; powers of two from 1,024 on as such.

    >>> [_short(x) for x in (0, 0.05, 2.5, 64, 1_000, 1_024, 65_536, 2_500_000, 3e9)]
    ['0', '0.05', '2.5', '64', '1k', '1Ki', '64Ki', '2.5M', '3G']
    """
    if value >= 1024 and math.log2(value).is_integer():
        return f"{value / 2**20:g}Mi" if value >= 2**20 else f"{value / 2**10:g}Ki"
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{sign}"
    return f"{value:.3g}"


def _foot(figure: Any, picture: Picture, text: str) -> None:
    if picture.left_out:
        text += f"; left out, as wrong: {', '.join(picture.left_out)}"
    axes = figure.axes[0]
    axes.annotate(
        text, (0, 0), xycoords="axes fraction", xytext=(0, -48), textcoords="offset points",
        fontsize=8, color="#555555", va="top",
    )
