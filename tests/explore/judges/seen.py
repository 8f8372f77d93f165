"""What each simulated process has seen, and when: what its near cache may answer."""

from __future__ import annotations

from typing import Any, NamedTuple

from shmmap.operations._near_cy import LINEARIZABLE, SESSION
from shmmap.torture.linearizability import ABSENT, Call

ALL = "*"  # every key was changed
LISTED = "-"  # every key was seen
READS = ("get", "contains", "get_versioned")
NEAR = {"near": LINEARIZABLE, "session": SESSION, "bounded": 0}  # calls, and their consistency


class Look(NamedTuple):
    """A call that looked at shared memory: what the process holds afterwards was true at `since`
    or later; `version`: what it saw, 0: that is not known."""

    home: int
    key: str
    since: float
    end: float
    version: int


class Seen:
    """See the module."""

    def __init__(self) -> None:
        self.times: list[tuple[float, int]] = []  # events, and the clock then
        self.looks: list[Look] = []
        self.problems: list[str] = []

    def copy(self) -> Seen:
        """Return a copy."""
        other = Seen()
        other.times, other.looks = list(self.times), list(self.looks)
        return other

    def note(self, call: Call, home: int, result: Any) -> None:
        """Note a call that looked."""
        assert call.end is not None
        key, version = call.arguments[0], 0
        if call.name == "clear" or (call.name == "popitem" and result is None):
            key = ALL
        elif call.name == "popitem":
            key = result[0]
        elif call.name == "list":
            key = LISTED
        elif call.name in NEAR:
            version = result[1]
        # nothing from before the end is held, but by a read that found the entry
        found = version or (call.name in READS and result not in (ABSENT, False))
        since = call.start if found else call.end + 0.5
        self.looks.append(Look(home, key, since, call.end, version))

    def widened(self, call: Call, home: int, bound_ns: int | None) -> Call:
        """Let a call that did not look have taken effect earlier: when its process last looked at
        the key; where it is bounded, not before the bound, but listings do not count."""
        keys = (call.arguments[0], ALL, *([LISTED] if bound_ns is None else []))
        since = max((look.since for look in self.looks
                     if look.home == home and look.key in keys and look.end < call.start),
                    default=-1.0)
        if bound_ns is not None:
            before = [event for event, at in self.times if at < call.clock[0] - bound_ns]
            since = max(since, max(before, default=-1) + 0.5)
        return call._replace(start=since)  # type: ignore[arg-type]

    def check(self, call: Call, home: int, version: int) -> None:
        """Refuse a version older than one that the process had seen before."""
        key = call.arguments[0]
        newest = max((look.version for look in self.looks
                      if look.home == home and look.key == key and look.end < call.start),
                     default=0)
        if 0 < version < newest:
            self.problems.append(f"process {home} had seen version {newest} of {key!r}, and "
                                 f"{call.name} gave it {version}")
