"""Telling of an exception that nobody can be told of otherwise."""

from __future__ import annotations

import sys
from typing import Any


class _LeftByClose:
    """Its finalizer raises what came of what a close had left to the last operation."""

    def __init__(self, error: Any) -> None:
        self.error = error

    def __del__(self) -> None:
        raise self.error


def report() -> None:
    """Tell of the exception that is being handled, as of those in finalizers: in one, since the
    interpreter's own hook takes no call of ours."""
    _LeftByClose(sys.exc_info()[1])
