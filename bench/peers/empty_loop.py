"""The loop alone."""

from __future__ import annotations

from typing import Any, ClassVar

from ..core.peer import Entries, Peer


class EmptyLoop(Peer):
    """The loop over the same keys: what is inside every other figure."""

    name = "(empty loop)"
    setting = "the loop over the same keys, and nothing in it"
    answers = False
    statements: ClassVar = dict.fromkeys(
        ("get", "miss", "contains", "set", "incr", "delete", "get_object", "set_object",
         "get_many", "set_many"),
        "pass",
    )

    def fill(self, entries: Entries) -> None:
        pass

    def names(self) -> dict[str, Any]:
        return {}
