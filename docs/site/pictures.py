"""Draw the pictures of the pages: `python docs/site/pictures.py` writes docs/pictures/*.svg.

A picture is a list of boxes and a list of lines; a test compares the files with what is drawn here.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import NamedTuple

PICTURES = Path(__file__).resolve().parents[1] / "pictures"
INK, PAPER, LINE = "#1b2733", "#ffffff", "#5b6b7b"
COLOURS = {
    "user": "#e8eefc", "operation": "#dcefe4", "memory": "#fdeccf", "system": "#f3e1ec",
    "base": "#eceff2",
}
FONT = "font-family='ui-sans-serif, system-ui, DejaVu Sans, Arial, sans-serif'"


class Box(NamedTuple):
    """A rectangle with a title and a line or more below it."""

    x: int
    y: int
    width: int
    height: int
    title: str
    text: str = ""
    colour: str = "base"


class Arrow(NamedTuple):
    """A line from one point down to another, with a head at its end."""

    x1: int
    y1: int
    x2: int
    y2: int


# What a package of the tree knows, from the users' side down to memory. Each uses only what lies
# below it.
PACKAGES = {
    "contrib": "backends for others' caches",
    "mirroring": "the way over from an old cache",
    "tiers": "several machines, by a store",
    "counters": "where rate limits count",
    "testing": "a map of one process, fixtures",
    "torture": "kill, stop and fork real workers",
    "tools": "the command line",
    "moving": "a map takes another shape",
    "copies": "snapshots, dumps, merges",
    "lifecycle": "make, open, sweep, close",
    "locks": "named locks, single flight",
    "operations": "what a handle does, key by key and for all shards",
    "shard": "a complete small map under one lock, in bytes",
    "values": "Python objects as bytes",
    "system": "segments, byte locks, who is alive",
    "memory": "which byte means what, and how it is touched",
}


def packages() -> str:
    """Draw the packages, what is imported below what imports it."""
    def box(name: str, x: int, y: int, width: int, colour: str) -> Box:
        return Box(x, y, width, 58, f"{name}/", PACKAGES[name], colour)

    boxes = [
        *(box(name, 20 + 115 * place, 20, 105, "user") for place, name in enumerate(
            ("contrib", "mirroring", "tiers", "testing", "torture", "tools"))),
        Box(20, 98, 500, 58, "map.py, decorator.py, rates.py",
            "ShmMap, @cached, RateLimiter: what users import", "user"),
        box("counters", 530, 98, 170, "user"),
        box("moving", 20, 176, 680, "operation"),
        box("copies", 20, 254, 680, "operation"),
        box("lifecycle", 20, 332, 680, "operation"),
        box("locks", 20, 410, 680, "operation"),
        box("operations", 20, 488, 680, "operation"),
        box("shard", 20, 566, 400, "memory"),
        Box(440, 566, 260, 136, "values/", PACKAGES["values"], "memory"),
        box("system", 20, 644, 400, "system"),
        box("memory", 20, 722, 680, "memory"),
        Box(730, 20, 150, 760, "the base", "errors checks printable _engine _cython _once: "
            "every package can import these", "base"),
    ]
    return picture(900, 800, boxes, [])


def journey(lanes: list[str], steps: list[tuple[int, str, str]]) -> str:
    """Draw steps, one below the other, each in the lane of the package that takes it."""
    width, top, high, gap = 200, 54, 58, 20
    boxes = [Box(20 + n * (width + 14), 12, width, 30, lane, "", "base")
             for n, lane in enumerate(lanes)]
    arrows = []
    for number, (lane, title, text) in enumerate(steps):
        x, y = 20 + lane * (width + 14), top + number * (high + gap)
        colour = ("user", "operation", "memory", "memory")[lane]
        boxes.append(Box(x, y, width, high, f"{number + 1}  {title}", text, colour))
        if number:
            before = 20 + steps[number - 1][0] * (width + 14) + width // 2
            arrows.append(Arrow(before, y - gap, x + width // 2, y))
    bottom = top + len(steps) * (high + gap)
    return picture(26 + len(lanes) * (width + 14), bottom + 4, boxes, arrows)


LANES = ["operations/", "values/", "shard/", "memory/"]


def get() -> str:
    """Draw the journey of a get."""
    return journey(LANES, [
        (0, "m.get(key)", "is the handle open, in this process? one load"),
        (1, "encode the key", "type and bytes, and their hash"),
        (0, "choose the shard", "by bits of the hash"),
        (2, "probe the index", "one cache line: 8 words with tags, no lock"),
        (3, "look at the slot", "the version, the key's bytes, the deadline"),
        (2, "copy the value out", "it can be torn; nobody knows yet"),
        (3, "look again", "same version, same index word: a hit"),
        (1, "decode the value", "only now: the bytes are whole"),
    ])


def set_() -> str:
    """Draw the journey of a set."""
    return journey(LANES, [
        (0, "m.set(key, value)", "is the handle open, in this process?"),
        (1, "encode both", "pickling happens before any lock"),
        (0, "take the shard's lock", "one compare-and-exchange; else wait"),
        (2, "DIRTY = 1", "a death from here on needs a repair"),
        (2, "make room", "expired entries, then evicted ones"),
        (3, "fill free slots", "key, value, deadline; then the version"),
        (2, "publish", "SEQUENCE odd; old version ends; index word; even"),
        (2, "tidy", "free the old slots, counts, DIRTY = 0"),
        (0, "release the lock", "wake a process that sleeps"),
    ])


def locks() -> str:
    """Draw the order in which locks are taken."""
    chains = [
        ("Making, opening, closing", [
            ("mutex of the name", "threads of this process"),
            ("byte of the name", "creators' file, all processes"),
            ("byte of a worker row", "liveness file: I am alive"),
            ("byte of the totals", "liveness file: add my counters"),
        ]),
        ("Taking a snapshot", [
            ("snapshot mutex", "threads of this process"),
            ("snapshot byte", "liveness file, all processes"),
            ("locks of all shards", "in ascending order"),
            ("compare-exchange guard", "pure engine only"),
        ]),
        ("Any operation", [
            ("lock of one shard", "or of the lock shard, never both"),
            ("compare-exchange guard", "pure engine only"),
        ]),
    ]
    def colour(title: str) -> str:
        return "memory" if "shard" in title else "system"

    boxes, arrows = [], []
    for column, (head, chain) in enumerate(chains):
        x = 20 + column * 290
        boxes.append(Box(x, 14, 260, 32, head, "", "base"))
        for row, (title, text) in enumerate(chain):
            y = 62 + row * 88
            boxes.append(Box(x, y, 260, 62, title, text, colour(title)))
            if row:
                arrows.append(Arrow(x + 130, y - 26, x + 130, y))
    return picture(890, 420, boxes, arrows)


def picture(width: int, height: int, boxes: list[Box], arrows: list[Arrow]) -> str:
    """Put boxes and arrows into an SVG."""
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' "
        f"height='{height}' {FONT}>",
        "<!-- drawn by docs/site/pictures.py; do not edit -->",
        "<defs><marker id='head' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' "
        f"markerHeight='7' orient='auto'><path d='M0 0L10 5L0 10z' fill='{LINE}'/></marker></defs>",
        f"<rect width='{width}' height='{height}' rx='8' fill='{PAPER}'/>",
    ]
    for arrow in arrows:
        middle = (arrow.y1 + arrow.y2) // 2  # down, across, down
        lines.append(f"<path d='M{arrow.x1} {arrow.y1}V{middle - 2}H{arrow.x2}V{arrow.y2}' "
                     f"fill='none' stroke='{LINE}' stroke-width='1.4' marker-end='url(#head)'/>")
    for box in boxes:
        lines.append(
            f"<rect x='{box.x}' y='{box.y}' width='{box.width}' height='{box.height}' rx='6' "
            f"fill='{COLOURS[box.colour]}' stroke='{LINE}' stroke-width='0.8'/>"
        )
        middle = box.x + box.width // 2
        told = wrapped(box.text, (box.width - 16) // 6)
        y = box.y + (box.height - 15 * len(told)) // 2 + 4
        lines.append(f"<text x='{middle}' y='{y}' text-anchor='middle' font-size='14' "
                     f"font-weight='600' fill='{INK}'>{escape(box.title)}</text>")
        for number, text in enumerate(told, 1):
            lines.append(f"<text x='{middle}' y='{y + 3 + 15 * number}' text-anchor='middle' "
                         f"font-size='11.5' fill='{INK}'>{escape(text)}</text>")
    return "\n".join([*lines, "</svg>"]) + "\n"


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines of at most so many characters."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


DRAWN = {"packages.svg": packages, "get.svg": get, "set.svg": set_, "lock-order.svg": locks}


def main() -> None:
    """Write the pictures."""
    PICTURES.mkdir(exist_ok=True)
    for name, draw in DRAWN.items():
        (PICTURES / name).write_text(draw())


if __name__ == "__main__":
    main()
