"""The package's files, and its floors."""

from __future__ import annotations

from pathlib import Path

import shmmap

PACKAGE = Path(shmmap.__file__).parent
SOURCES = sorted(str(file.relative_to(PACKAGE).with_suffix("")) for file in PACKAGE.rglob("*.py"))
BASE = {"errors", "checks", "frames", "printable", "_cython", "_engine", "_once", "_public"}
"""What every floor may use; of the package they import each other only."""
FLOORS: dict[str, set[str]] = {"memory": set(), "system": {"memory"}, "shard": {"memory", "system"}}
"""Whom the modules of a package may import, beside their own package and the base."""
FLOORS["values"] = {"memory"}
FLOORS["operations"] = {"memory", "system", "shard", "values"}
FLOORS["locks"] = {*FLOORS["operations"], "operations"}
FLOORS["lifecycle"] = {*FLOORS["locks"], "locks"}
FLOORS["copies"] = {*FLOORS["lifecycle"], "lifecycle"}
FLOORS["moving"] = {*FLOORS["copies"], "copies"}
FLOORS["subclasses"] = {"operations"}
FLOORS["care"] = {*FLOORS["moving"], "moving"}
FLOORS["in_asyncio"] = {*FLOORS["copies"], "copies"}
FLOORS["prompt"] = {*FLOORS["lifecycle"], "lifecycle", "subclasses"}
FLOORS["entering"] = {*FLOORS["care"], "care"}
FLOORS["map"] = {*FLOORS["entering"], "entering", "in_asyncio", "subclasses", "prompt"}
FLOORS["call_keys"] = {"values"}
FLOORS["generation"] = {*FLOORS["map"], "map"}
FLOORS["results"] = {*FLOORS["generation"], "generation", "call_keys"}
FLOORS["decorator"] = {*FLOORS["results"], "results"}
FLOORS["windows"] = set()
FLOORS["breaker"] = {"memory"}
FLOORS["mirroring"] = {*FLOORS["map"], "map", "breaker"}
FLOORS["tiers"] = {*FLOORS["decorator"], "decorator", "breaker", "windows"}
FLOORS["counters"] = {*FLOORS["tiers"], "tiers"}
FLOORS["rates"] = {*FLOORS["counters"], "counters"}
FLOORS["__init__"] = {*FLOORS["decorator"], "decorator", "mirroring", "rates", "tiers",
                      "tools"}  # when used
FLOORS["torture"] = {*FLOORS["decorator"], "decorator", "__init__"}
FLOORS["tools"] = {*FLOORS["torture"], "torture", "tiers"}
FLOORS["testing"] = {*FLOORS["decorator"], "decorator", "tiers", "windows", "__init__"}
FLOORS["contrib"] = {*FLOORS["rates"], "rates", "mirroring", "breaker", "tools"}
FLOORS["__main__"] = {"tools"}


def part_of(module: str) -> str:
    """Return the package of a file, or the name of a module that is in none."""
    return module.partition("/")[0]
