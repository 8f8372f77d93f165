"""Decorated functions that note their calls."""

from __future__ import annotations

import asyncio
from typing import Any

import shmmap


def plain(m: Any, **parameters: Any) -> tuple[Any, list[Any]]:
    """Decorate a function; give it and the list of its calls."""
    calls: list[Any] = []

    @shmmap.cached(m, **parameters)
    def function(*args: Any, **kwargs: Any) -> Any:
        """Say something."""
        calls.append((args, kwargs))
        return f"{args} {sorted(kwargs.items())}"

    return function, calls


class Double:
    """An object that is called."""

    def __call__(self, n: int) -> int:
        return 2 * n


class DoubleLater:
    """An object that is called and awaited."""

    async def __call__(self, n: int) -> int:
        return 2 * n


def slow(m: Any, seconds: float = 0.05, **parameters: Any) -> tuple[Any, list[Any]]:
    """Decorate a coroutine function; give it and the list of its calls."""
    calls: list[Any] = []

    @shmmap.cached(m, **parameters)
    async def function(n: int) -> int:
        calls.append(n)
        await asyncio.sleep(seconds)
        if n < 0:
            raise ArithmeticError(n)
        return n * 2

    return function, calls
