"""Keys as they are pressed, and a terminal that is as it was afterwards."""

from __future__ import annotations

import errno
import os
import select
import signal
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from ...system.blocks import block

_SEQUENCES = {"[A": "up", "[B": "down", "OA": "up", "OB": "down", "": "escape"}
PATIENCE_S = 2.0
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Ended(BaseException):
    """A signal has asked this program to end."""


@block
def keys_of(descriptor: int, before_stop: Callable[[], None], after: Callable[[], None]) -> (
    Iterator[Keyboard]
):
    """Have keys come one by one, unseen, within the block. A signal that ends the program raises
    Ended where it waits for a key. Ctrl+Z: `before_stop` is called there, and `after` when it goes
    on. A handler only notes the signal: it may run in the middle of what draws, and what writes to
    the terminal must not be entered twice. One that ends the program does so where that is, if it
    comes again, or PATIENCE_S have passed; where even that takes as long, since the terminal takes
    nothing, as it does by default."""
    before = termios.tcgetattr(descriptor)
    handlers: dict[signal.Signals, Any] = {}
    noted: list[int] = []
    raised: list[int] = []
    reader, writer = os.pipe()

    def note(number: int, frame: object) -> None:
        if number not in noted:
            noted.append(number)
            os.write(writer, bytes([number]))
            if number != signal.SIGTSTP:
                signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
        elif number != signal.SIGTSTP:
            end(number)

    def late(number: int, frame: object) -> None:
        end(raised[0] if raised else next(one for one in noted if one != signal.SIGTSTP))

    def end(number: int) -> None:
        if number in raised:
            termios.tcsetattr(descriptor, termios.TCSANOW, before)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raised.append(number)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
        raise Ended(number)

    def take(number: int) -> None:
        if number != signal.SIGTSTP:
            raise Ended(number)
        noted.remove(number)
        before_stop()
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
        os.kill(os.getpid(), signal.SIGSTOP)  # here it stands still, and goes on
        tty.setcbreak(descriptor, termios.TCSANOW)
        after()

    try:
        for number in (*ENDING, signal.SIGTSTP):
            handlers[number] = signal.signal(number, note)
        handlers[signal.SIGALRM] = signal.signal(signal.SIGALRM, late)
        tty.setcbreak(descriptor, termios.TCSANOW)
        yield Keyboard(descriptor, reader, take)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(descriptor, termios.TCSANOW, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


class Keyboard:
    """The keys of a terminal, and the signals that were noted meanwhile: `take` has them."""

    def __init__(self, descriptor: int, signals: int, take: Callable[[int], None]) -> None:
        self._descriptor = descriptor
        self._signals = signals
        self._take = take

    def key(self, timeout_s: float) -> str | None:
        """Return a character, or "up", "down", "escape", "enter", "back"; None: no key was pressed
        in that time; "end": the terminal is gone."""
        ready = select.select([self._signals, self._descriptor], [], [], max(0.0, timeout_s))[0]
        if self._signals in ready:
            self._take(os.read(self._signals, 1)[0])
        if self._descriptor not in ready:
            return None
        try:
            data = os.read(self._descriptor, 1)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            return "end"
        if data == b"\x1b":
            more = b""
            while len(more) < 2 and select.select([self._descriptor], [], [], 0.02)[0]:
                more += os.read(self._descriptor, 1)
            return _SEQUENCES.get(more.decode("latin-1"), "")
        while data[0] >= 0xC0 and len(data) < 4 and not _is_whole(data):
            data += os.read(self._descriptor, 1)
        text = data.decode("utf-8", "replace")
        return {"\r": "enter", "\n": "enter", "\x7f": "back", "\b": "back"}.get(text, text)


def _is_whole(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
