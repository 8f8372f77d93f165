"""A side that can be out of reach, and a mirror of it."""

from __future__ import annotations

from typing import Any

from shmmap import Mirror


class Breaking:
    """A side that can be out of reach."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.is_down = inner, False

    def __getattr__(self, name: str) -> Any:
        if self.is_down:
            raise ConnectionError("down")
        return getattr(self.inner, name)

    def __setitem__(self, key: Any, value: Any) -> None:
        if self.is_down:
            raise ConnectionError("down")
        self.inner[key] = value


def mirrored(old: Any, new: Any, m: Any, **options: Any) -> Mirror:
    return Mirror(old, new, m, **{"read_from": "new", "sample": 0.0, "deadline": 2.0, **options})
