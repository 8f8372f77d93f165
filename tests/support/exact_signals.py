"""A real signal whose handler raises at an exact place: where the interpreter looks for signals.

It does so at the first line of a function that is written in Python, after a call of one that is
written in C, and as a loop begins anew; nowhere else. So an exception at any line, as a trace
function raises it, may be one that no handler could raise there. Here the signal is sent between
two looks, and the next look finds it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import shmmap

INSIDE = os.path.dirname(shmmap.__file__) + os.sep
SIGNAL = signal.SIGUSR1


class Raised(BaseException):
    """What the handler raises."""


class _Sender:
    """`-sender` sends the signal, without a look for it after that: an operator is no call."""

    __neg__ = staticmethod(functools.partial(getattr(ctypes.CDLL(None), "raise"), int(SIGNAL)))


send = _Sender()


@contextmanager
def raising() -> Iterator[None]:
    """Have the handler of the signal raise Raised."""

    def handler(*_: object) -> None:
        raise Raised

    former = signal.signal(SIGNAL, handler)
    try:
        yield
    finally:
        signal.signal(SIGNAL, former)


class Instructions:
    """Sends the signal before the k-th instruction of the package's Python code that runs while
    `during` does; 0: never, only counts. `function`: only those of functions of that name count,
    of whatever module."""

    def __init__(self, at: int, function: str = "") -> None:
        self.at = at
        self.function = function
        self.count = 0
        self.place = ""

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "call":
            code = frame.f_code
            if not (code.co_name == self.function if self.function else
                    code.co_filename.startswith(INSIDE)):
                return None
            frame.f_trace_opcodes = True
        if event == "opcode":
            self.count += 1
            if self.count == self.at:
                self.place = f"{frame.f_code.co_name}:{frame.f_lineno}"
                sys.settrace(None)
                step: FrameType | None = frame
                while step is not None:
                    step.f_trace = None
                    step = step.f_back
                _ = -send  # no look for signals from here to the traced instruction
                return None
        return self

    def during(self, run: Callable[[], object]) -> None:
        """Run and count."""
        sys.settrace(self)
        try:
            run()
        finally:
            sys.settrace(None)
