"""What example 1 computes: an index of one module, and a report that needs those of many.

An index is expensive: the source is parsed, and each definition is noted with its signature and
its docstring. A report is cheap once the indexes are there: it follows every imported name that the
module uses to its definition, through re-exports, and counts the modules that it needs to run.
"""

from __future__ import annotations

import ast
import contextlib
import random
import sysconfig
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SKIPPED = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"}
USES = "<uses>"  # no name of Python's, so it can stand beside the names of a module
MOST_HOPS = 20  # through re-exports; those of a circle lead nowhere


class Index(NamedTuple):
    """What another module needs to know of a module first; its names are entries of their own."""

    lines: int
    needs: tuple[str, ...]  # the modules that it imports, and their packages
    stars: tuple[str, ...]  # of which it takes all names


class Name(NamedTuple):
    """A name of a module: where it is defined, or where it comes from."""

    line: int
    signature: str = ""
    doc: str | None = None
    origin: tuple[str, str] | None = None  # module and name that were imported; "": the module


class Report(NamedTuple):
    """The cross-reference of one module."""

    modules: int  # that it needs to run, directly or not, itself among them
    lines: int  # of their sources
    found: tuple[tuple[str, str], ...]  # a name that it uses, and its definition
    missing: tuple[str, ...]  # names that no source defines: those of extension modules


def list_modules(package: str | None = None) -> dict[str, Path]:
    """Find the modules of the standard library, without its tests, or those of one package of it;
    the largest come first."""
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if not SKIPPED.intersection(parts) and all(part.isidentifier() for part in parts):
            name = ".".join(parts[:-1] if parts[1:] and parts[-1] == "__init__" else parts)
            if package is None or name.partition(".")[0] == package:
                found.append((-path.stat().st_size, name, path))
    return {name: path for _, name, path in sorted(found)}


# -- an index --------------------------------------------------------------------------


def index_module(module: str, modules: dict[str, Path]) -> tuple[Index, dict[str, Any]]:
    """Parse a module; return its index, and an entry for each of its names."""
    source = modules[module].read_bytes()
    reader = Reader(module, modules[module].name == "__init__.py")
    with contextlib.suppress(SyntaxError, ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in old strings
        reader.read(ast.parse(source))
    entries: dict[str, Any] = {**reader.names, USES: tuple(sorted(reader.uses()))}
    imports = {outer: None for name in reader.imports for outer in prefixes(name)}
    needs = tuple(name for name in imports if name in modules and name != module)
    return Index(source.count(b"\n"), needs, tuple(reader.stars)), entries


def prefixes(name: str) -> list[str]:
    """Return "a", "a.b" and "a.b.c" for "a.b.c"."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


class Reader:
    """Reads the syntax tree of a module."""

    def __init__(self, module: str, is_package: bool) -> None:
        self._package = module.split(".") if is_package else module.split(".")[:-1]
        self._aliases: dict[str, tuple[str, str]] = {}
        self._chains: set[str] = set()
        self.names: dict[str, Name] = {}
        self.imports: dict[str, None] = {}  # a dict keeps the order
        self.stars: list[str] = []

    def read(self, tree: ast.Module) -> None:
        """Visit every node, in the order of the source, without recursion."""
        left: list[tuple[ast.AST, str, bool]] = [(tree, "", False)]
        while left:
            node, scope, is_inside = left.pop()
            if isinstance(node, (ast.Attribute, ast.Name)) and (chain := dotted(node)):
                self._chains.add(chain)
                continue
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self._import(node, is_inside or bool(scope))
            elif not is_inside:
                self._define(node, scope)
                if isinstance(node, ast.ClassDef):
                    scope = f"{scope}{node.name}."
            is_inside |= isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            children = list(ast.iter_child_nodes(node))
            left += [(child, scope, is_inside) for child in reversed(children)]

    def _define(self, node: ast.AST, scope: str) -> None:
        """Note what a statement of a module or of a class defines."""
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            name = Name(node.lineno, f"({ast.unparse(node.args)})", ast.get_docstring(node))
            self.names.setdefault(scope + node.name, name)
        elif isinstance(node, ast.ClassDef):
            bases = ", ".join(map(ast.unparse, node.bases))
            name = Name(node.lineno, f"({bases})", ast.get_docstring(node))
            self.names.setdefault(scope + node.name, name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    self.names.setdefault(scope + target.id, Name(node.lineno))

    def _import(self, node: ast.Import | ast.ImportFrom, is_local: bool) -> None:
        """Note what names an import binds, and what it loads."""
        if isinstance(node, ast.Import):
            bound = {a.asname or a.name.partition(".")[0]:
                     (a.name if a.asname else a.name.partition(".")[0], "") for a in node.names}
            loaded = [a.name for a in node.names]
        else:
            module = self._absolute(node)
            loaded = [module, *(f"{module}.{a.name}" for a in node.names)]
            bound = {a.asname or a.name: (module, a.name) for a in node.names}
            if bound.pop("*", None):
                self.stars.append(module)
        for name, origin in bound.items():
            self._aliases.setdefault(name, origin)
            if not is_local:
                self.names.setdefault(name, Name(node.lineno, origin=origin))
        self.imports.update(dict.fromkeys(loaded))

    def _absolute(self, node: ast.ImportFrom) -> str:
        """Return the whole name of the module that `from ... import` names."""
        if not node.level:
            return node.module or ""
        above = self._package[: len(self._package) + 1 - node.level]
        return joined(".".join(above), node.module or "")

    def uses(self) -> set[tuple[str, str]]:
        """Return the names of other modules that this one uses, as (module, name)."""
        found = set()
        for chain in self._chains:
            first, _, rest = chain.partition(".")
            if first in self._aliases:
                module, name = self._aliases[first]
                found.add((module, joined(name, rest)))
        return found


def joined(first: str, second: str) -> str:
    """Put a dot between two names, where both are there."""
    return f"{first}.{second}" if first and second else first or second


def dotted(node: ast.AST) -> str | None:
    """Return "a.b.c" for such an expression, None for another one."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


# -- a report --------------------------------------------------------------------------


class Library:
    """The modules, as their indexes in a cache show them.

    Args:
        modules: where their sources are.
        index: returns a module's index, and sees to it that its names are in the cache.
        lookup: returns the entry of a name of a module whose index is there, or None.
    """

    def __init__(
        self, modules: dict[str, Path], index: Callable[[str], Index],
        lookup: Callable[[tuple[str, str]], Any],
    ) -> None:
        self._modules, self._index, self._lookup = modules, index, lookup

    def report(self, module: str) -> Report:
        """Cross-reference one module."""
        lines, seen, left = 0, {module}, [module]
        while left:
            chosen = random.randrange(len(left))  # workers that all went the same way would all
            left[chosen], left[-1] = left[-1], left[chosen]  # wait for the same index
            index = self._index(left.pop())
            lines += index.lines
            left += [name for name in index.needs if name not in seen]
            seen.update(index.needs)
        found, missing = [], []
        for origin, name in self._lookup((module, USES)):
            place = self._find(origin, name)
            use = f"{origin}.{name}" if name else origin
            if place is None:
                missing.append(use)
            else:
                found.append((use, place))
        return Report(len(seen), lines, tuple(found), tuple(missing))

    def _find(self, module: str, name: str, hops: int = 0) -> str | None:
        """Follow a name of a module to its definition."""
        if hops > MOST_HOPS:
            return None
        if module not in self._modules:  # perhaps a name of one: os.path
            outer, _, last = module.rpartition(".")
            return self._find(outer, joined(last, name), hops + 1) if outer else None
        index = self._index(module)
        if not name:
            return f"{module}: {index.lines} lines"
        first, _, rest = name.partition(".")
        entry = self._lookup((module, first))
        if entry is not None and entry.origin not in (None, (module, first)):
            origin, there = entry.origin
            return self._find(origin, joined(there, rest), hops + 1)
        if entry is not None and entry.origin is None:
            inner = self._lookup((module, f"{first}.{rest}")) if rest else None
            line, signature, *_ = inner or entry
            return f"{module}:{line} {name if inner else first}{signature}"
        if f"{module}.{first}" in self._modules:
            return self._find(f"{module}.{first}", rest, hops + 1)
        places = (self._find(star, name, hops + 1) for star in index.stars)
        return next(filter(None, places), None)
