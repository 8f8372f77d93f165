"""What every file keeps to: documented, not too long; and what the package shows."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmmap

from ..support.engines import once
from .packages import PACKAGE, SOURCES

pytestmark = once  # the same with either engine

PROJECT = Path(__file__).resolve().parents[2]
LINES_AT_MOST = 450


def order(name: str) -> tuple[int, str]:
    """Sort as ruff's RUF022 does: constants, classes, everything else."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_all_is_sorted_and_true():
    assert shmmap.__all__ == sorted(set(shmmap.__all__), key=order)
    assert all(hasattr(shmmap, name) for name in shmmap.__all__)
    public = {name for name, value in vars(shmmap).items()
              if not name.startswith("_") and getattr(value, "__module__", "") != "shmmap._engine"
              and type(value).__name__ != "module" and name != "TYPE_CHECKING"}
    assert public == set(shmmap.__all__) - {"__version__"}


def test_public_classes_say_where_users_find_them():
    """Their pickles lie in maps and dumps, and must outlive any module."""
    classes = [getattr(shmmap, name) for name in shmmap.__all__]
    assert {kind.__module__ for kind in classes if isinstance(kind, type)} == {"shmmap"}


def test_the_version_is_that_of_the_project():
    project = (PROJECT / "pyproject.toml").read_text()
    assert f'version = "{shmmap.__version__}"' in project


@pytest.mark.parametrize("module", SOURCES)
def test_no_dict_is_listed_by_its_items(module):
    """`list(d.items())` makes tuples: a collection of garbage in there runs finalizers, which may
    change the dict. `d.copy().items()` is as good, and takes it in one step."""
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "list":
            assert not re.fullmatch(r"list\([\w.]+\.items\(\)\)", ast.unparse(node)), node.lineno


@functools.cache
def weak_dictionaries() -> set[str]:
    """List the attributes that hold weak dictionaries, whatever the object."""
    sources = "".join((PACKAGE / f"{module}.py").read_text() for module in SOURCES)
    return set(re.findall(r"(\w+)(?::[^=\n]*)? = weakref\.Weak(?:Value|Key)Dictionary\(", sources))


@pytest.mark.parametrize("module", SOURCES)
def test_no_weak_dictionary_is_gone_through(module):
    """Its `values`, `items` and `keys` are generators: another thread, or a handler of a signal,
    may add something in the middle. `presences.alive` takes what there is in one step."""
    weak = weak_dictionaries()
    assert {"handles", "turns"} <= weak
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of = node.func.value
            gone_through = node.func.attr in ("values", "items", "keys", "copy")
            assert not (gone_through and getattr(of, "attr", getattr(of, "id", "")) in weak), (
                node.lineno)
        if isinstance(node, ast.For | ast.comprehension):
            assert getattr(node.iter, "attr", "") not in weak


@pytest.mark.parametrize("module", SOURCES)
def test_no_file_is_too_long(module):
    lines = (PACKAGE / f"{module}.py").read_text().count("\n")
    assert lines <= LINES_AT_MOST, f"{module}.py has {lines} lines"


def public(node: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Go through public classes, functions and methods; a property's setter shares its doc."""
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef | ast.ClassDef) and not inner.name.startswith("_"):
            if not any("setter" in ast.unparse(mark) for mark in inner.decorator_list):
                yield inner
            if isinstance(inner, ast.ClassDef):
                yield from public(inner)


@pytest.mark.parametrize("module", SOURCES)
def test_every_module_says_what_it_is(module):
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    assert ast.get_docstring(tree)
    for node in public(tree):
        assert ast.get_docstring(node), f"{module}.{node.name}"
