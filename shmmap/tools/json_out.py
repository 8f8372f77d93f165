"""What `--json` prints: one document, of ASCII, that says which schema it is of.

docs/reference/json.md has every field; a test holds it against what is printed. A field is never
renamed or removed, and never changes its meaning, while SCHEMA stays; new ones may come.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import Any

from . import named, unlinking

SCHEMA = 1


def add_option(command: argparse.ArgumentParser) -> None:
    """Have a command take `--json`."""
    command.add_argument("--json", dest="as_json", action="store_true",
                         help="print JSON: see docs/reference/json.md")


def add_look(command: argparse.ArgumentParser) -> None:
    """Have a command that looks into a map take its NAME, which of those that have it, and
    `--json`."""
    named.add_name(command)
    unlinking.add_flavour(command)
    add_option(command)


def show(command: str, **fields: Any) -> None:
    """Print a document."""
    print(_text({"schema": SCHEMA, "command": command, **fields}), flush=True)


class Listing:
    """A document that ends with a list which is printed as it comes, an item a line, so that it
    needs no memory; and then with what is known at the end."""

    def __init__(self, command: str, **fields: Any) -> None:
        self._head = _text({"schema": SCHEMA, "command": command, **fields})[:-1]

    def show(self, field: str, items: Iterable[Any]) -> None:
        """Print its head, and the list."""
        print(f'{self._head}, "{field}": [', end="")
        between = "\n"
        for item in items:
            print(between + _text(item), end="")
            between = ",\n"
        print("]", end="")

    def end(self, **fields: Any) -> None:
        """Print its end."""
        print(", " + _text(fields)[1:])


def _text(value: Any) -> str:
    return json.dumps(value, allow_nan=False)
