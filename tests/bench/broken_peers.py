"""Stores that other processes can open, and that are wrong in one way each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bench.core.workloads import key_of
from bench.peers import ShmMapPeer


class LosesUpdates(ShmMapPeer):
    """Counts in its own process, and writes down what it came to over what others wrote."""

    name = "loses updates"
    statements = {  # noqa: RUF012
        **ShmMapPeer.statements, "incr": "value = count[0] = count[0] + 1\ndata[key] = value",
    }

    def names(self) -> dict[str, Any]:
        return {**super().names(), "count": [self.handle[key_of(0)]]}


class Tears(ShmMapPeer):
    """Leaves the second half of a value as it was."""

    name = "tears"
    statements = {  # noqa: RUF012
        **ShmMapPeer.statements, "set": "data[key] = value[:40] + get(key)[40:]",
    }


class KeepsOld(ShmMapPeer):
    """Says yes to a write and keeps what it had."""

    name = "keeps old"
    statements = {**ShmMapPeer.statements, "set": "pass"}  # noqa: RUF012


class AnswersNothing(ShmMapPeer):
    """Is fast, as it finds nothing; who filled it is told what is there."""

    name = "answers nothing"

    def names(self) -> dict[str, Any]:
        names = super().names()
        return names if self.made else {**names, "get": lambda key: None}


class Dies(ShmMapPeer):
    """Takes its process along when a worker asks it."""

    name = "dies"

    def names(self) -> dict[str, Any]:
        names = super().names()
        return names if self.made else {**names, "get": lambda key: os._exit(7)}


class Refuses(ShmMapPeer):
    """Raises when a worker writes."""

    name = "refuses"
    statements = {  # noqa: RUF012
        **ShmMapPeer.statements, "set": "raise OSError('the disk\\nis full')",
    }


class HoldsNothing(ShmMapPeer):
    """Does not take what it is to be filled with."""

    name = "holds nothing"

    def fill(self, entries: Mapping[str, Any]) -> None:
        raise ValueError("a value of 100 bytes is too large")


class WillNotOpen(ShmMapPeer):
    """Serves only the process that made it."""

    name = "will not open"

    def open(self) -> None:
        if not self.made:
            raise ConnectionRefusedError("one client is enough")
