"""What changes in a server that does not speak RESP3: tracking that is told to another connection.

One connection subscribes to what is told, the other one has the tracking: it ends with that, and
nobody says so. So a sign of life is asked of both: first of the one that has the tracking, and,
once that has answered, of the one that is told. All that was acknowledged before the first was
asked has been told by the time the second answers: see `redis_feed`.

What is told comes over a channel, to which whoever has the right can publish. Published are bytes,
always; the server itself tells a list of names, or nothing. So what others publish is known by its
shape, and passed over: it ends no feed, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import redis

from ..errors import StoreUnavailable
from ..memory._clock_cy import monotonic
from .redis_feed import SILENCE_S, change_of, wait_for
from .store import AllChanged, Changed, Proven

CHANNEL = b"__redis__:invalidate"


class RedirectFeed:
    """See `store.Feed`. `connect` makes a connection, by RESP2; `asking` as for RedisFeed.

    Attributes:
        foreign: messages that somebody else has published on the server's channel.
    """

    def __init__(
        self, connect: Callable[[], Any], prefix: bytes,
        asking: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._asking = asking
        self._told, self._tracking = connect(), connect()
        self._asked_at = 0.0
        self.foreign = 0
        try:
            for connection in (self._told, self._tracking):
                connection.connect()
            self._told.send_command("CLIENT", "ID")
            number = self._told.read_response()
            self._told.send_command("SUBSCRIBE", CHANNEL)
            self._told.read_response()
            words = ("PREFIX", prefix) if prefix else ()
            self._tracking.send_command("CLIENT", "TRACKING", "ON", "REDIRECT", number, "BCAST",
                                        *words)
            self._tracking.read_response()
        except BaseException:
            self.close()
            raise

    def prove(self) -> None:
        """Ask the one that has the tracking for a sign of life."""
        with self._asking():
            self._tracking.send_command("PING")
        self._asked_at = monotonic()

    def next(self, timeout_s: float) -> Changed | AllChanged | Proven | None:
        """Return what comes next; None: nothing within that time."""
        until = monotonic() + timeout_s
        while True:
            with self._asking():
                if self._tracking.can_read(timeout=0):
                    self._tracking.read_response()  # PONG
                    self._told.send_command("PING")
                message = None
                if self._told.can_read(timeout=0):
                    message = self._told.read_response(disable_decoding=True)
            if message is not None:
                event = self._understood(message)
                if event is not None:
                    return event
                if monotonic() < until:
                    continue
            if self._asked_at and monotonic() - self._asked_at > SILENCE_S:
                raise StoreUnavailable(
                    f"nothing was heard on the tracking connections for {SILENCE_S:g} s")
            left_s = until - monotonic()
            if left_s <= 0:
                return None
            both = [one._sock for one in (self._told, self._tracking) if one._sock is not None]
            wait_for(both, left_s)

    def _understood(self, message: Any) -> Changed | AllChanged | Proven | None:
        """Return what a message says; None: it is none of the server's own."""
        if isinstance(message, list) and message[:1] == [b"pong"]:
            self._asked_at = 0.0
            return Proven()
        if not isinstance(message, list) or message[:2] != [b"message", CHANNEL]:
            raise StoreUnavailable(
                f"the tracking connection said {message!r}, which is not understood")
        if len(message) == 3 and isinstance(message[2], bytes):
            self.foreign += 1
            return None
        return change_of(message[2:], message)

    def close(self) -> None:
        """Let the connections go."""
        for connection in (self._told, self._tracking):
            connection.disconnect()


def knows_no_resp3(error: Exception) -> bool:
    """Tell whether a server has refused to speak RESP3."""
    text = str(error).lower()
    return isinstance(error, redis.RedisError) and (
        "noproto" in text or "unknown command" in text or "protocol version" in text
        or "resp version" in text)
