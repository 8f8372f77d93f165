"""A worker as the parent sees it."""

from __future__ import annotations

from . import processes
from .ledger import CALL, CALLS, DELAYED, OPERATIONS, SINCE, Lane, now_ns


class Family:
    """A worker and its lanes: `pid` 0 if none lives there now. `always`: the kind that it is each
    time, where that is not left to chance."""

    def __init__(self, lanes: list[Lane], always: str = "") -> None:
        self.lanes = lanes
        self.pid = 0
        self.always = self.kind = always
        self.was_killed = False
        self.killed_ns = 0
        self.delay_ns = 0  # when it was killed: see processes.delay_ns
        self._progress = [(0, 0)] * len(lanes)
        self._since = [0.0] * len(lanes)

    def is_inside(self) -> bool:
        """Tell whether one of its lanes is inside an operation."""
        return any(lane.words[CALL] for lane in self.lanes)

    def last_delay(self) -> tuple[int, int, int]:
        """Return since when, until when, and for how long of it a dead worker that is not reaped
        yet was kept from running: since its last operation began, or since it was killed."""
        words = self.lanes[0].words
        since, before = self.killed_ns, self.delay_ns
        if words[CALL] and self.kind != "threads":  # there, lane 0 is not the main thread
            since, before = words[SINCE], words[DELAYED]
        return since, now_ns(), max(0, processes.delay_ns(self.pid) - before)

    def begin_watch(self, now: float) -> None:
        """Take now as the time of every lane's last progress."""
        self._since = [now] * len(self.lanes)

    def stuck_for(self, now: float) -> float:
        """Return for how long it, or one lane inside an operation, has made no progress."""
        for i, lane in enumerate(self.lanes):
            progress = lane.words[OPERATIONS], lane.words[SINCE]
            if progress != self._progress[i]:
                self._progress[i], self._since[i] = progress, now
        inside = [since for lane, since in zip(self.lanes, self._since, strict=True)
                  if lane.words[CALL]]
        return now - min([*inside, max(self._since)])

    def calls(self) -> str:
        """Say what its lanes are at."""
        now = now_ns()
        return ", ".join(
            f"lane {lane.number} in {CALLS[lane.words[CALL]]} for "
            f"{(now - lane.words[SINCE]) / 1e9:.1f} s" for lane in self.lanes if lane.words[CALL]
        ) or "in no operation"
