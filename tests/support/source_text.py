"""Functions with a fault: compiled anew from their own source with some text replaced."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable
from typing import Any


def with_changes(owner: Any, name: str, changes: Iterable[tuple[str, str]]) -> Any:
    """Return a function of a class or module with texts replaced. Each must be there exactly once:
    what comes of it is never the function itself unnoticed."""
    function = inspect.unwrap(getattr(owner, name))
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in changes:
        found = source.count(old)
        assert found == 1, f"{name}: {found} times, not once: {old!r}"
        source = source.replace(old, new)
    scope: dict[str, Any] = {}
    exec(compile(source, inspect.getfile(function), "exec"), function.__globals__, scope)
    return scope[name]
