"""`shmmap top`: a live screen at a terminal, lines of text elsewhere."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import time
from typing import Any

from ...memory._clock_cy import monotonic
from .. import findings, named
from . import plain
from .keyboard import Ended, Keyboard, keys_of
from .readings import Watch
from .state import ORDERS, State

_MISSING = 'a live screen needs rich: pip install "shmmap[cli]"; lines of text follow'


def add_command(command: argparse.ArgumentParser) -> None:
    """Add what `shmmap top` takes."""
    command.add_argument("names", metavar="NAME", nargs="*", type=named.map_name,
                         help="which maps; none: all of this machine")
    command.add_argument("--interval", metavar="SECONDS", type=seconds, default=1.0,
                         help="between two looks (default: 1)")
    command.add_argument("--sort", choices=list(ORDERS), default="reads", help="by what")
    command.add_argument("--plain", action="store_true",
                         help="lines of text, as where stdout is no terminal")
    command.add_argument("--count", metavar="N", type=_count, default=None,
                         help="with lines of text: how many times (default: until Ctrl+C)")
    command.set_defaults(run=run)


def seconds(text: str) -> float:
    """Read the seconds between two looks of a person, for argparse."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.1 <= found <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} must be from 0.1 to 3600 seconds")
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be 1 or more")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Watch until the person has seen enough."""
    state = State(interval_s=options.interval, order=options.sort)
    named.say_missing(options.names)  # they may come
    watch = Watch(options.names)
    if options.plain or options.count is not None or not _is_terminal():
        return _run_plain(watch, state, options.count)
    try:
        from rich.console import Console
    except ImportError:
        findings.say(_MISSING)
        return _run_plain(watch, state, None)
    try:
        return _run_live(watch, state, Console())
    except Ended as ended:
        return 128 + int(ended.args[0])
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return 128 + signal.SIGHUP  # the terminal is gone, and takes nothing any more


def _is_terminal() -> bool:
    term = os.environ.get("TERM", "dumb")
    return term != "dumb" and all(
        stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def _run_plain(watch: Watch, state: State, count: int | None) -> int:
    state.lines = watch.look()
    while count is None or count > 0:
        time.sleep(state.interval_s)
        state.lines = watch.look()
        print(plain.table(state.shown(), stamp=True), flush=True)
        if count is not None:
            count -= 1
    return 0


def _run_live(watch: Watch, state: State, console: Any) -> int:
    from rich.live import Live

    from .screen import draw

    live = Live(console=console, screen=True, auto_refresh=False, transient=True)
    descriptor = sys.stdin.fileno()
    with keys_of(descriptor, live.stop, lambda: live.start(refresh=True)) as keyboard, live:
        while not state.is_over:
            if not state.is_paused:
                state.lines = watch.look()
            _until_next(state, keyboard, lambda: live.update(draw(state, console), refresh=True))
    return 0


def _until_next(state: State, keyboard: Keyboard, show: Any) -> None:
    """Show the screen, and anew at each key, until it is time to look."""
    until = monotonic() + state.interval_s
    while not state.is_over:
        show()
        key = keyboard.key(until - monotonic())
        if key is None:
            return
        state.press(key)


COMMANDS = (
    named.Command("top", "watch maps: operations, memory, workers", add_command,
                  ("shmmap top", "shmmap top pages --interval 10 --count 6")),
)
