"""Functions with a fault: compiled anew from their own source with some text replaced."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable
from typing import Any

BEHIND_CODE = re.compile(r"(?m)(?<=\S)  # .*$")


def with_changes(owner: Any, name: str, changes: Iterable[tuple[str, str]]) -> Any:
    """Return a function of a class or module with texts replaced. Each must be there exactly once:
    what comes of it is never the function itself unnoticed. Comments behind code are no part of
    the texts."""
    function = inspect.unwrap(getattr(owner, name))
    source = BEHIND_CODE.sub("", textwrap.dedent(inspect.getsource(function)))
    for text, new in changes:
        old = BEHIND_CODE.sub("", text)
        found = source.count(old)
        assert found == 1, f"{name}: {found} times, not once: {old!r}"
        source = source.replace(old, new)
    scope: dict[str, Any] = {}
    exec(compile(source, inspect.getfile(function), "exec"), function.__globals__, scope)
    return scope[name]
