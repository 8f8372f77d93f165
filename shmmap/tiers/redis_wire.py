"""Connections to a Redis or Valkey server, of which no answer is ever taken for another's.

A connection serves one exchange at a time: commands are sent, and all their answers read. What
breaks that off (a signal handler that raises, a timeout, a greenlet that is killed) closes the
connection, since an answer may still be on its way. Each process has its own: a forked child never
touches those of its parent.

A connection that is closed takes with it what the server has not received. Else the system would
go on sending it for minutes, and a write that has failed could come through once a wire is whole
again: after, and over, one that was acknowledged since.
"""

from __future__ import annotations

import os
import socket
import struct
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import redis

from ..system.process import this_process

MOST_IDLE = 32
_AT_ONCE = struct.pack("ii", 1, 0)  # on, and for no time
_wires: weakref.WeakSet[Wire] = weakref.WeakSet()


class Unsent(redis.ConnectionError):
    """There is no connection: nothing was sent."""


class Wire:
    """Connections of one kind, which `make` makes. One that is not `is_current` is let go."""

    def __init__(
        self, make: Any, is_current: Callable[[Any], bool] = lambda connection: True
    ) -> None:
        self._make = make
        self._is_current = is_current
        self._idle: dict[int, list[Any]] = {}
        _wires.add(self)

    def ask(self, *commands: Sequence[Any], again: bool = False) -> list[Any]:
        """Send commands at once and return an answer for each: what the server refused is an error
        among them. `again`: they may be sent twice, where an idle connection turns out cut.

        Raises:
            Unsent: they were not sent; redis.ConnectionError, TimeoutError: nobody knows.
        """
        idle = self._idle.setdefault(this_process(), [])
        while True:
            connection, is_new = self._take(idle)
            try:
                connection.send_packed_command(connection.pack_commands(commands))
                answers = [_answer_of(connection) for _ in commands]
            except BaseException as error:
                connection.disconnect()
                if again and not is_new and isinstance(error, redis.ConnectionError) and not (
                    isinstance(error, redis.TimeoutError)
                ):
                    continue
                raise
            if len(idle) < MOST_IDLE and self._is_current(connection):
                idle.append(connection)
            else:
                connection.disconnect()
            return answers

    def _take(self, idle: list[Any]) -> tuple[Any, bool]:
        """Return a connection, and whether it is a new one."""
        while True:
            try:
                connection = idle.pop()  # in one step: threads share the list
            except IndexError:
                break
            with suppress(redis.ConnectionError, OSError):
                if self._is_current(connection) and not connection.can_read(timeout=0):
                    # nothing is due
                    return connection, False
            connection.disconnect()
        connection = self._make()
        try:
            connection.connect()
        except redis.AuthenticationError:
            raise
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            raise Unsent(str(error)) from error
        with suppress(OSError, AttributeError):  # a connection of redis-py's that has none
            connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        return connection, True

    def drop(self) -> None:
        """Close what is idle."""
        idle = self._idle.get(this_process(), [])
        while idle:
            idle.pop().disconnect()


def _answer_of(connection: Any) -> Any:
    """Read one answer. What the server refuses is an answer, too."""
    try:
        return connection.read_response(disable_decoding=True)
    except redis.AuthenticationError:
        raise
    except redis.ResponseError as error:
        return error


def _forget_the_parent_s() -> None:
    for wire in list(_wires):
        wire._idle.clear()


os.register_at_fork(after_in_child=_forget_the_parent_s)
