"""Write the table of docs/failing-calls.md from what was seen."""

from __future__ import annotations

from typing import Any


def write_table(records: list[dict[str, Any]]) -> None:
    """Write the page."""
