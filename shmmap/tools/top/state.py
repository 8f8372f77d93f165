"""What the person at the screen has chosen: order, filter, a map, a pause."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .readings import Line

ORDERS: dict[str, Any] = {
    "reads": lambda line: -line.reads, "writes": lambda line: -line.per_s.get("writes", 0.0),
    "fill": lambda line: -line.now.fill, "memory": lambda line: -line.now.allocated,
    "evicted": lambda line: -line.per_s.get("evicted", 0.0), "name": lambda line: 0,
}
HELP = ("q quit   p pause   s sort   / filter   up, down: choose   enter: one map   "
        "escape: back   + - slower, faster")


@dataclass
class State:
    """See the module. `typed`: the filter that is being typed; None: none is."""

    interval_s: float = 1.0
    order: str = "reads"
    filter: str = ""
    typed: str | None = None
    chosen: str = ""
    is_open: bool = False
    is_paused: bool = False
    is_over: bool = False
    lines: list[Line] = field(default_factory=list)

    def shown(self) -> list[Line]:
        """Return the lines that pass the filter, in order."""
        wanted = self.filter if self.typed is None else self.typed
        lines = [line for line in self.lines if wanted in line.now.label]
        return sorted(lines, key=lambda line: (ORDERS[self.order](line), line.now.label))

    def opened(self) -> Line | None:
        """Return the map that is looked at alone."""
        if not self.is_open:
            return None
        return next((line for line in self.lines if line.now.label == self.chosen), None)

    def press(self, key: str) -> None:
        """Do what a key means."""
        if self.typed is not None:
            self._type(key)
        elif key in ("q", "end"):
            self.is_over = True
        elif key in ("p", " "):
            self.is_paused = not self.is_paused
        elif key == "s":
            orders = list(ORDERS)
            self.order = orders[(orders.index(self.order) + 1) % len(orders)]
        elif key == "/":
            self.typed = self.filter
        elif key in ("+", "-"):
            times = 2 if key == "+" else 0.5
            self.interval_s = min(60.0, max(0.125, self.interval_s * times))
        elif key in ("up", "down"):
            self._move(1 if key == "down" else -1)
        elif key == "enter":
            self._move(0)
            self.is_open = bool(self.chosen)
        elif key == "escape":
            if not self.is_open:
                self.filter = ""
            self.is_open = False

    def _type(self, key: str) -> None:
        assert self.typed is not None
        if key == "enter":
            self.filter, self.typed = self.typed, None
        elif key in ("escape", "end"):
            self.typed = None
            self.is_over = key == "end"
        elif key == "back":
            self.typed = self.typed[:-1]
        elif len(key) == 1 and key.isprintable():
            self.typed += key

    def _move(self, by: int) -> None:
        labels = [line.now.label for line in self.shown()]
        if not labels:
            self.chosen = ""
        elif self.chosen not in labels:
            self.chosen = labels[0]
        else:
            self.chosen = labels[(labels.index(self.chosen) + by) % len(labels)]
