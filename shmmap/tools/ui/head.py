"""What a client sends, bounded: so many bytes, within so many seconds."""

from __future__ import annotations

import io
import socket
from contextlib import suppress
from typing import Any

from ...memory._clock_cy import monotonic

BYTES_AT_MOST = 65_536
SECONDS_AT_MOST = 5.0


class Head(io.RawIOBase):
    """The bytes of a question, from a socket. Where there are too many, or they take too long, they
    end, as if the client had said no more; so a client that sends a byte now and then keeps a
    thread for seconds only."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._left = BYTES_AT_MOST
        self._until = monotonic() + SECONDS_AT_MOST

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has come."""
        left_s = self._until - monotonic()
        count = 0
        if left_s > 0 and self._left:
            self._connection.settimeout(left_s)
            with suppress(OSError):  # it took too long, or has gone
                count = self._connection.recv_into(buffer, min(len(buffer), self._left))
        self._left -= count
        return count
