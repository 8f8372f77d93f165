"""What Python files import, by name."""

from __future__ import annotations

import ast
from collections.abc import Iterable


def imported(nodes: Iterable[ast.AST], package: str, module: str) -> set[str]:
    """List what import statements name, in full: of `from ..a import b` in `c/d` of a package it is
    `package.a.b`. Others' modules are left out."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([package, *module.split("/")][: -node.level]) if node.level else ""
            base = f"{base}.{node.module or ''}".strip(".")
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return {name for name in found if name.partition(".")[0] == package}
