"""`shmmap prune`: remove what nobody uses any more.

Without --unused-for: what dead processes left, and ephemeral maps that nobody came back to. With
it, also maps that no live process has open, and that nobody has opened, written, swept or closed
for that long. Only maps of your own, root's too. A map is looked at again when nobody can open it
any more, so that none goes that somebody has just used.
"""

from __future__ import annotations

import argparse
import os
import re
import sys

from ..lifecycle import lingering
from . import findings, inspection, named, unlinking
from .inspection import SeenMap

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_USABLE = ("ready", inspection.LINGERS)


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    command.description = __doc__
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_argument(
        "--unused-for", metavar="TIME", type=_time, help="such as 90s, 30m, 12h, 1d or 2w"
    )
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.add_argument("--dry-run", action="store_true", help="only list them")
    command.set_defaults(run=run)


def _time(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write a number and s, m, h, d or w, such as 12h or 1d"
        )
    return float(match[1]) * _UNITS[match[2]]


def run(options: argparse.Namespace) -> int:
    """List what nobody uses, and remove it if that is wanted; return the exit code."""
    mine = [one for one in inspection.find_maps() if one.owner == os.geteuid()]
    due = [one for one in mine if not _why_stays(one, options.unused_for)]
    for one in due:
        print(f"{one.label}: {_why_goes(one)}, {findings.human(one.allocated)}")
    if not due:
        print(f"nothing to remove; {len(mine):,} map(s) of this user are in use or kept")
        return 0
    if options.dry_run:
        return 0
    if not options.yes:
        if sys.stdin is None or not sys.stdin.isatty():
            return findings.say("nothing was removed: say --yes to remove these")
        if not unlinking.agreed(f"Remove {'it' if len(due) == 1 else f'all {len(due):,}'}? [y/N] "):
            print("nothing was removed")
            return 0

    def keep(one: SeenMap) -> str:
        return _why_stays(one, options.unused_for)

    return int(sum(not unlinking.attempt(one.name, False, keep, one.flavour) for one in due) > 0)


def _why_stays(one: SeenMap, unused_s: float | None) -> str:
    """Say why a map is not removed; "": it is."""
    if one.leftover:
        return ""
    if one.state not in _USABLE or one.control is None:
        return f"is {one.state}"
    if one.workers is None or one.workers:
        return "is in use, or may be"
    if unused_s is None:
        return "may be used again"
    last_ns = last_use_ns(one)
    if last_ns is None:
        return "cannot be read"
    return "" if last_ns <= lingering.now_ns() - unused_s * 1e9 else "was used since"


def _why_goes(one: SeenMap) -> str:
    if one.leftover:
        return one.problem or one.state
    return f"unused for {_in_words((lingering.now_ns() - (last_use_ns(one) or 0)) / 1e9)}"


def last_use_ns(one: SeenMap) -> int | None:
    """Tell when a process last opened, wrote, swept or closed a map, by the clock of maps; None:
    not all of it can be read."""
    control = one.control
    assert control is not None
    last = max(lingering.joined_ns(control), control.LEFT_NS, control.SWEPT_NS,
               control.LEASE_BEAT_NS)
    for shard in inspection.shards_of(one):
        if shard.header is None:
            return None
        last = max(last, shard.header.STAMP >> 1)  # a version is twice a time
    return last


def _in_words(seconds: float) -> str:
    """Write a time in the largest unit of which there are two.

    >>> _in_words(100), _in_words(150), _in_words(200_000)
    ('100 s', '2 min', '2 days')
    """
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length):,} {unit}"
    return f"{max(0, int(seconds)):,} s"


COMMANDS = (
    named.Command("prune", "remove maps that nobody uses any more", add_command,
                  ("shmmap prune --unused-for 1d --dry-run",)),
)
