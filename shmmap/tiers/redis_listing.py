"""What lies under a prefix of a Redis or Valkey server: names, and the first bytes of each.

A server has no order of names: SCAN goes over all that it has, also those of other prefixes, and
the bytes of a piece are asked for together with the next piece of names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn

import redis

from .store import HEAD, each

COUNT = 1_000  # names in one message
_WRONG_TYPE = "WRONGTYPE"


class RedisListing:
    """The part of RedisStore that lists."""

    def _asking(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def _send(self, *commands: Sequence[Any], again: bool = False) -> list[Any]:
        raise NotImplementedError

    def _refuse(self, error: redis.ResponseError) -> NoReturn:
        raise NotImplementedError

    def heads(self, names: Sequence[bytes]) -> list[bytes | None]:
        """Return the first HEAD bytes of each; b"": nothing is there, None: what has no bytes."""
        found: list[bytes | None] = []
        for piece in each(names, COUNT):
            found += self._heads(piece, ())[0]
        return found

    def list_heads(self, prefix: bytes) -> Iterator[list[tuple[bytes, bytes | None]]]:
        """Yield all names that begin with a prefix, some at a time, and their `heads`."""
        words = scan_words(prefix)
        cursor, names = self._ask_all([("SCAN", 0, *words)])[0]
        while True:
            more = () if int(cursor) == 0 else ("SCAN", cursor, *words)
            heads, scanned = self._heads(names, more)
            pairs = zip(names, heads, strict=True)
            yield [(name, head) for name, head in pairs if head != b""]
            if scanned is None:
                return
            cursor, names = scanned

    def _heads(self, names: Sequence[bytes], more: tuple[Any, ...]) -> tuple[list[Any], Any]:
        """Return the heads of names, and the answer to one command more; None: there is none."""
        commands: list[Any] = [("GETRANGE", name, 0, HEAD - 1) for name in names]
        answers = self._ask_all([*commands, more] if more else commands, again=not more)
        heads, answer = answers[:len(names)], answers[len(names):]
        empty = [at for at, head in enumerate(heads) if head == b""]
        is_there = self._ask_all([("EXISTS", names[at]) for at in empty])
        for at, there in zip(empty, is_there, strict=True):
            heads[at] = None if there else b""
        return heads, answer[0] if answer else None

    def _ask_all(self, commands: Sequence[tuple[Any, ...]], again: bool = True) -> list[Any]:
        """Return the answers; None of what is no string. A listing that goes on is not asked for
        `again` where the connection was cut: another server may have the address by now, whose
        names come in another order."""
        if not commands:
            return []
        with self._asking():
            answers = self._send(*commands, again=again)
        for at, answer in enumerate(answers):
            if isinstance(answer, redis.ResponseError):
                if not str(answer).startswith(_WRONG_TYPE):
                    self._refuse(answer)
                answers[at] = None
        return answers


def scan_words(prefix: bytes) -> tuple[Any, ...]:
    """Return what a SCAN of a prefix says behind its cursor."""
    return "MATCH", re.sub(rb"([*?\[\]\\^])", rb"\\\1", prefix) + b"*", "COUNT", COUNT
