"""The package's files, and its floors."""

from __future__ import annotations

from pathlib import Path

import shmmap

PACKAGE = Path(shmmap.__file__).parent
SOURCES = sorted(str(file.relative_to(PACKAGE).with_suffix("")) for file in PACKAGE.rglob("*.py"))
BASE = {"errors", "checks", "printable", "_cython", "_engine", "_once"}
"""What every floor may use; of the package they import each other only."""
FLOORS: dict[str, set[str]] = {"memory": set(), "system": {"memory"}, "shard": {"memory", "system"}}
"""Whom the modules of a package may import, beside their own package and the base."""
FLOORS["values"] = {"memory"}
FLOORS["operations"] = {"memory", "system", "shard", "values"}
FLOORS["locks"] = {*FLOORS["operations"], "operations"}
FLOORS["lifecycle"] = {*FLOORS["locks"], "locks"}
FLOORS["copies"] = {*FLOORS["lifecycle"], "lifecycle"}
FLOORS["subclasses"] = {"operations"}
FLOORS["in_asyncio"] = {*FLOORS["copies"], "copies"}
FLOORS["map"] = {*FLOORS["copies"], "copies", "subclasses", "in_asyncio"}
FLOORS["call_keys"] = {"values"}
FLOORS["decorator"] = {*FLOORS["map"], "map", "call_keys"}
FLOORS["__init__"] = {*FLOORS["decorator"], "decorator"}
FLOORS["tools"] = {*FLOORS["__init__"], "__init__", "torture"}
FLOORS["torture"] = {*FLOORS["__init__"], "__init__"}
FLOORS["__main__"] = {"tools"}


def part_of(module: str) -> str:
    """Return the package of a file, or the name of a module that is in none."""
    return module.partition("/")[0]
