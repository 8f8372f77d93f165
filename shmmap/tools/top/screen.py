"""The live screen, drawn with rich.

What others have named is drawn as `Text`: in a str rich reads "[...]" as markup, and may fail.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ...lifecycle.timings import in_units
from ...printable import human, printable
from .. import happenings
from . import plain, text
from .readings import KEPT, Line, Reading
from .state import HELP, State

_BESIDE = 56  # columns of a table of workers but for their commands
EVENTS = 5  # of a map, the last ones
HISTORY = 16  # columns of a map's history in the table
LEFT_OUT = (  # where a screen has less columns
    (142, {"WAIT p99"}), (132, {"HISTORY"}), (112, {"DELETES/s", "EXPIRED/s"}),
    (90, {"ALLOCATED", "WAITS/s", "WORKERS", "EVICTED/s"}), (56, {"FILL", "WRITES/s", "ENTRIES"}),
)
_COUNTED = (
    ("reads that found", "hits"), ("reads that found none", "misses"), ("writes", "writes"),
    ("deletes", "deletes"), ("evicted", "evicted"), ("expired", "expired"), ("aged", "aged"),
    ("waits for a lock", "waits"), ("reads that queued", "locked_reads"),
    ("reads that began anew", "retries"), ("locks taken over", "takeovers"),
    ("shards repaired", "repairs"),
)


def draw(state: State, console: Console) -> RenderableType:
    """Return what the screen shows, as tall as it is."""
    signs = text.BLOCKS if "utf" in console.encoding.lower() else text.ASCII
    opened = state.opened()
    body = _maps(state, console, signs) if opened is None else _one(opened, console, signs)
    return Group(_head(state), body, _foot(state))


def _head(state: State) -> Text:
    reads = sum(line.reads for line in state.lines)
    writes = sum(line.per_s.get("writes", 0.0) for line in state.lines)
    head = Text(f"shmmap top  {time.strftime('%H:%M:%S')}  ", style="bold")
    head.append(f"{len(state.lines)} maps, {text.rate(reads)} reads/s, {text.rate(writes)} "
                f"writes/s, every {state.interval_s:g} s, by {state.order}", style="not bold")
    if state.is_paused:
        head.append("  PAUSED", style="bold reverse")
    return head


def _foot(state: State) -> Text:
    if state.typed is not None:
        return Text(f"/{printable(state.typed)}_   (enter: take, escape: leave)")
    foot = Text(HELP, style="dim", no_wrap=True, overflow="ellipsis")
    if state.filter:
        foot = Text.assemble((f"filter {printable(state.filter)}   ", "bold"), foot)
    return foot


def _maps(state: State, console: Console, signs: str) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    gone = set().union(*(heads for width, heads in LEFT_OUT if console.width < width))
    heads = [head for head in (*plain.HEADS[:4], "HISTORY", *plain.HEADS[4:]) if head not in gone]
    for head in heads:
        table.add_column(head, justify="left" if head in ("NAME", "HISTORY") else "right",
                         no_wrap=True, overflow="ellipsis")
    shown = state.shown()
    room = max(1, console.height - 4)
    first = 0
    labels = [line.now.label for line in shown]
    if state.chosen in labels:
        first = max(0, labels.index(state.chosen) - room + 1)
    for line in shown[first:first + room]:
        cells = dict(zip(plain.HEADS, plain.cells(line), strict=True))
        cells["HISTORY"] = text.blocks(line.history[-HISTORY:], signs).rjust(HISTORY)
        table.add_row(*(Text(cells[head]) for head in heads), style=_style(line, state))
    if not shown:
        return Text("no maps" if not state.lines else "no map has that in its name", style="dim")
    return table


def _style(line: Line, state: State) -> str:
    style = "reverse" if line.now.label == state.chosen else ""
    if not line.now.counts and line.now.state not in ("busy", "lingers"):
        return f"red {style}"
    if line.per_s.get("repairs") or line.per_s.get("takeovers"):
        return f"yellow {style}"
    return style


def _one(line: Line, console: Console, signs: str) -> RenderableType:
    now, width = line.now, max(20, console.width - 6)
    about = Table.grid(padding=(0, 2))
    amplification = f"{now.allocated / now.live_bytes:.2f}" if now.live_bytes else "-"
    for name, value in (
        ("entries", f"{now.entries:,} in {len(now.shards)} shards"),
        ("cells", f"{text.bar(now.fill, 30, signs)} {now.fill:.1%} of {now.slots:,}"),
        ("memory", f"{human(now.allocated)} of {human(now.size)}, {amplification} times keys and "
                   "values"),
        ("hit ratio", f"{text.percent(line.hit_ratio)}  "
                      f"{text.blocks(line.history[-KEPT:], signs)}"),
        ("balance", text.balance(now.shards, width - 14, signs)),
        *([("moving", now.moving)] if now.moving else []),
    ):
        about.add_row(name, Text(value))
    counts = Table(box=None, pad_edge=False, header_style="bold")
    counts.add_column("OPERATIONS")
    counts.add_column("a second", justify="right")
    counts.add_column("since it was made", justify="right")
    for name, kind in _COUNTED:
        if now.counts.get(kind) or kind in ("hits", "misses", "writes"):
            counts.add_row(name, text.rate(line.per_s[kind]) if line.per_s else "",
                           f"{now.counts.get(kind, 0):,}")
    latency, events = _latency(now, signs), _events(now, width)
    left = max(3, console.height - 12 - sum(
        one.row_count for one in (about, counts, latency, events)))
    return Panel(Group(about, "", counts, "", latency, "", events, "",
                       _workers(now.workers, left, width)),
                 title=Text(f"{printable(now.label)}: {now.state}"), title_align="left")


def _latency(now: Reading, signs: str) -> Table:
    """Return how long operations took since the map was made, of each kind that there was."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head, side in (("LATENCY", "left"), ("50 %", "right"), ("99 %", "right"),
                       ("16 ns .. 275 s", "left")):
        table.add_column(head, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for name, one in now.latency.items():
        if one.total:
            most = max(one.counts)
            table.add_row(Text(name.replace("_", " ")), Text(in_units(one.percentile(50))),
                          Text(in_units(one.percentile(99))),
                          Text(text.blocks([count / most for count in one.counts], signs)))
    return table


def _events(now: Reading, width: int) -> Table:
    """Return the last events, the newest first."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(now.events))
    table.add_column("EVENTS", no_wrap=True, overflow="ellipsis", max_width=width)
    for event in now.events[:-EVENTS - 1:-1]:
        table.add_row(Text(happenings.in_words(event)))
    return table


def _workers(pids: Iterable[int] | None, most: int, width: int) -> RenderableType:
    """Return a table of processes; what this user may not see of one is left out."""
    if pids is None:
        return Text("its workers cannot be told", style="dim")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head, side in (("WORKER", "right"), ("STATE", "left"), ("CPU s", "right"),
                       ("RSS", "right"), ("SHARED", "right"), ("COMMAND", "left")):
        table.add_column(head, justify=side, no_wrap=True, overflow="ellipsis")  # type: ignore
    known = sorted(pids)
    for pid in known[:most]:
        table.add_row(*map(Text, _process(pid, max(12, width - _BESIDE))))
    if len(known) > most:
        table.add_row("...", "", "", "", "", f"{len(known) - most} more")
    return table


def _process(pid: int, room: int) -> tuple[str, ...]:
    """Return the cells of a process. Its command is cut here: a column that is wider than the
    screen would leave nothing to the others."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            memory, times = process.memory_info(), process.cpu_times()
            return (str(pid), process.status(), f"{times.user + times.system:.1f}",
                    human(memory.rss), human(getattr(memory, "shared", 0)),
                    printable(" ".join(process.cmdline()) or process.name(), room))
    except psutil.Error as error:
        return str(pid), type(error).__name__, "", "", "", ""
