"""Whether two values are the same: equal, of one type, throughout."""

from __future__ import annotations

import struct
from typing import Any


def same(a: Any, b: Any) -> bool:
    """Tell whether two values are equal, and of one type, throughout; floats to the bit."""
    if type(a) is not type(b):
        return False
    if type(a) is float:
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(x, y) for pair in zip(a.items(), b.items(), strict=True)
            for x, y in zip(*pair, strict=True)
        )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (set, frozenset)):
        return sorted(map(described, a)) == sorted(map(described, b))
    return described(a) == described(b)


def described(a: Any) -> str:
    """Write all that tells a value of one of these types from others."""
    if isinstance(a, (tuple, frozenset)):
        inside = [described(item) for item in a]
        return f"{type(a)} {inside if isinstance(a, tuple) else sorted(inside)}"
    zone = getattr(a, "tzinfo", None)
    return f"{type(a)} {a!r} {getattr(a, 'fold', '')} {zone!r} {getattr(a, 'is_safe', '')}"
