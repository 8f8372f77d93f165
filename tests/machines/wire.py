"""A cable that delays, loses and doubles packets, by chance of a seed: two TAP devices, and a
process that reads frames of each and writes them to the other.

It does what `tc netem` does, which not every kernel has. Each frame has a delay of its own, so
later ones overtake earlier ones, as netem's do.
"""

from __future__ import annotations

import fcntl
import heapq
import multiprocessing
import os
import random
import select
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from ..support.children import Child

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_LONGEST = 65536  # bytes of a frame
_LIMIT_S = 1800


class Chance:
    """What becomes of a frame: the delays at which it comes out; none: it is lost."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    def delays(
        self, delay_s: float, jitter_s: float, loss: float, double: float
    ) -> Iterator[float]:
        """Draw those of one frame. `loss`, `double`: shares of all frames."""
        if self._draw.random() < loss:
            return
        for _ in range(1 + (self._draw.random() < double)):
            yield max(0.0, delay_s + self._draw.uniform(-jitter_s, jitter_s))


class Wire:
    """A cable between two namespaces: eth0 in the one, a named device in the other."""

    def __init__(
        self, enter_near: Callable[[], None], enter_far: Callable[[], None], cable: str, seed: int,
    ) -> None:
        self._settings = multiprocessing.get_context("fork").RawArray("d", 4)
        self._counts = multiprocessing.get_context("fork").RawArray("q", 3)
        settings, counts = self._settings, self._counts

        def work(child: Child) -> None:
            signal.alarm(_LIMIT_S)
            enter_near()
            near = _tap("eth0")
            enter_far()
            far = _tap(cable)
            child.tell("ready")
            _carry(near, far, Chance(seed), settings, counts)

        self._child = Child(work)
        try:
            assert self._child.hear() == "ready"
        except BaseException:
            self._child.kill()
            raise

    def set(
        self, delay_s: float = 0.0, jitter_s: float = 0.0, loss: float = 0.0, double: float = 0.0
    ) -> None:
        """Say what becomes of frames from now on; shares of 0 to 1."""
        self._settings[:] = [delay_s, jitter_s, loss, double]

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many frames came in, were lost, and were doubled."""
        return tuple(self._counts)  # type: ignore[return-value]

    def close(self) -> None:
        """Cut it for good."""
        if self._child.status is None:
            self._child.kill()


def _tap(name: str) -> int:
    """Make a device that this process is the other end of."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return device


def _carry(near: int, far: int, chance: Chance, settings: Any, counts: Any) -> None:
    """Hand frames on, until this process is ended."""
    due: list[tuple[float, int, int, bytes]] = []
    number = 0
    while True:
        wait_s = max(0.0, due[0][0] - time.monotonic()) if due else 1.0
        for device in select.select([near, far], [], [], wait_s)[0]:
            with suppress(BlockingIOError):
                while frame := os.read(device, _LONGEST):
                    now, copies = time.monotonic(), 0
                    for delay_s in chance.delays(*settings):
                        number, copies = number + 1, copies + 1
                        heapq.heappush(due, (now + delay_s, number,
                                             far if device == near else near, frame))
                    counts[0] += 1
                    counts[1] += not copies
                    counts[2] += copies > 1
        now = time.monotonic()
        while due and due[0][0] <= now:
            _, _, device, frame = heapq.heappop(due)
            with suppress(OSError):  # its queue is full, or it is down
                os.write(device, frame)
