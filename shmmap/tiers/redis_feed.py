"""What changes in a Redis or Valkey server, by its own tracking of keys: CLIENT TRACKING, BCAST.

The server sends the names that begin with a prefix, and the answer to a PING, over one connection
(RESP3), in order. It adds a name to what it has to send before it sends the answer to the write
that changed it, and answers a PING with what it has to send then. So all that was acknowledged to
anybody before a PING was sent comes before its answer.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

import redis

from ..errors import StoreUnavailable
from ..memory._clock_cy import monotonic
from .store import AllChanged, Changed, Proven

SILENCE_S = 2.0  # that a PING may go unanswered


def _is_pong(answer: Any) -> bool:
    return answer in (b"PONG", "PONG")


class RedisFeed:
    """See `store.Feed`.

    Args:
        asking: turns redis-py's errors into a store's.
        signs: the commands that are asked as a sign of life.
        judge: told of each answer in turn; returns whether it is the last one, and a sound one;
            raises StoreUnavailable for one that is not.
        is_current: whether a connection is to the server that is asked now.
    """

    def __init__(
        self, connection: Any, prefix: bytes, asking: Callable[[], AbstractContextManager[None]],
        signs: Sequence[Sequence[Any]] = (("PING",),), judge: Callable[[Any], bool] = _is_pong,
        is_current: Callable[[Any], bool] = lambda connection: True,
    ) -> None:
        self._connection = connection
        self._asking = asking
        self._signs = signs
        self._judge = judge
        self._is_current = is_current
        self._asked_at = 0.0
        try:
            connection.connect()
            # It returns what the server sent; what it raised would be logged and lost.
            connection._parser.set_invalidation_push_handler(_itself)
            words = ("PREFIX", prefix) if prefix else ()
            connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", *words)
            connection.read_response()
        except BaseException:
            connection.disconnect()
            raise

    def prove(self) -> None:
        """Ask for a sign of life."""
        with self._asking():
            connection = self._connection
            connection.send_packed_command(connection.pack_commands(self._signs))
        self._asked_at = monotonic()

    def next(self, timeout_s: float) -> Changed | AllChanged | Proven | None:
        """Return what comes next; None: nothing within that time."""
        if not self._is_current(self._connection):
            raise StoreUnavailable("another server is master now")
        with self._asking():
            # Not by the timeout= of read_response, which redis-py 5.1 does not have.
            if not self._connection.can_read(timeout=max(timeout_s, 0.001)):
                if self._asked_at and monotonic() - self._asked_at > SILENCE_S:
                    raise redis.ConnectionError(
                        f"nothing was heard on the tracking connection for {SILENCE_S:g} s"
                    )
                return None
            message = self._connection.read_response(disable_decoding=True, push_request=True)
        if isinstance(message, list) and message and message[0] in (b"invalidate", "invalidate"):
            return change_of(message[1:], message)
        if self._asked_at and isinstance(message, (bytes, str)):
            if not self._judge(message):
                return None
            self._asked_at = 0.0
            return Proven()
        raise StoreUnavailable(f"the tracking connection said {message!r}, which is not understood")

    def has_more(self) -> bool:
        """Tell whether something has come that was not returned yet."""
        with self._asking():
            return bool(self._connection.can_read(timeout=0))

    def fileno(self) -> int:
        """Return the descriptor on which more comes."""
        socket = self._connection._sock
        if socket is None:
            raise StoreUnavailable("the tracking connection is closed")
        return int(socket.fileno())

    def close(self) -> None:
        """Let the connection go."""
        self._connection.disconnect()


def change_of(told: Sequence[Any], message: Any) -> Changed | AllChanged:
    """Return what a server tells: names, or nothing where all has changed. Anything else may have
    been a change, and ends the feed."""
    if len(told) == 1 and told[0] is None:
        return AllChanged()
    if len(told) == 1 and isinstance(told[0], list) and all(
        isinstance(name, bytes) for name in told[0]
    ):
        return Changed(told[0])
    raise StoreUnavailable(f"the tracking connection said {message!r}, which is not understood")


def wait_for(sources: Sequence[Any], timeout_s: float) -> None:
    """Wait until one of these has something to read. One that is closed is not waited for: the
    next look at it says so. `select` would do for descriptors below 1024 only."""
    try:
        poll = select.poll()
    except AttributeError:  # eventlet takes it away
        poll = None
    with suppress(ValueError):
        if poll is None:
            select.select(sources, [], [], timeout_s)
            return
        for source in sources:
            poll.register(source, select.POLLIN)
        poll.poll(timeout_s * 1e3)


def _itself(message: Any) -> Any:
    return message
