"""`shmmap locks NAME --break --key KEY`: take a named lock from a holder that is stopped or hangs.

Unlike the rest of `shmmap locks` this joins the map, as `clear` does: see `locks.breaking`.
"""

from __future__ import annotations

import argparse
import sys

from ..checks import Key
from ..locks.breaking import Holder, break_hold, find_holder, is_otherwise_held
from ..locks.semaphores import MOST
from ..map import ShmMap
from ..printable import printable_lines
from . import findings, keys_written, named, unlinking
from .entries import seconds

DANGER = (
    "Breaking it lets another process in, while this one may be at work, or go on later in the "
    "middle of it: then both change what the lock protects. It is told by LockLost, but not before "
    "it leaves or extends the lock. Without this danger: continue it (kill -CONT), or end it (kill)"
)


def add_options(command: argparse.ArgumentParser) -> None:
    """Say what `locks` takes for it."""
    command.add_argument("--break", dest="breaks", action="store_true",
                         help="free the locks of --key, whoever holds them; asks first")
    command.add_argument("--yes", action="store_true", help="with --break: do not ask")


def run(options: argparse.Namespace) -> int:
    """Break the locks that were named; return the exit code."""
    if not options.key:
        raise keys_written.WrongUsage("--break needs --key KEY: the lock to break")
    for option, is_said in (("--json", options.as_json), ("--engine", options.engine),
                            ("--layout", options.layout is not None)):
        if is_said:
            raise keys_written.WrongUsage(f"--break joins the map, and prints a line: it takes no "
                                          f"{option}")
    keys = [(text, keys_written.read_key(options, text)) for text in options.key]
    with ShmMap.attach(options.name, **named.trusted(options.name)) as m:
        return max([_break_one(m, text, key, options.yes) for text, key in keys])


def _break_one(m: ShmMap, text: str, key: Key, yes: bool) -> int:
    lock = f"lock {text!r} of map {m.name!r}"
    holder = find_holder(m, key)
    if holder is None:
        other = (". Its value is being computed, or a permit of a semaphore is held: these cannot "
                 "be broken, only locks" if is_otherwise_held(m, key, MOST) else "")
        return findings.say(f"nobody holds {lock}: there is nothing to break{other}")
    warning = f"{lock} is {_held(holder)}. {DANGER}"
    if yes:
        findings.say(warning)
    elif sys.stdin is None or not sys.stdin.isatty():
        return findings.say(f"nothing was broken: {warning}. Say --yes to break it all the same")
    elif not unlinking.agreed(f"{printable_lines(warning)}.\nBreak it? [y/N] "):
        print("nothing was broken")
        return 0
    if not break_hold(m, holder):
        return findings.say(f"{lock} was left meanwhile: nothing was broken. If somebody else has "
                            "it now, run the command again")
    print(printable_lines(f"broken: {lock}, which was {_held(holder)}, token {holder.token}"))
    return 0


def _held(holder: Holder) -> str:
    lease = ("without a lease" if holder.lease_s is None
             else f"with {seconds(holder.lease_s)} s of its lease left")
    return f"held by {holder.who} for {holder.held_s:.3g} s, {lease}"
