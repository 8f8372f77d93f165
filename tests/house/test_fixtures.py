"""A parameter that is called as a fixture hides it, from the test and from what it asks for.

`make` asks for `name`. Where a test's own parameter is called `name`, too, its map gets that value
as its name: one name, for the tests of both engines at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    """List the functions of a file, those of its classes among them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def asked_for(function: ast.FunctionDef) -> set[str]:
    """Return the names of what a test or a fixture asks for."""
    return {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}


def fixtures(folder: Path) -> dict[str, set[str]]:
    """Map each fixture that a folder's tests see to all that it asks for, at any distance."""
    seen: dict[str, set[str]] = {}
    for above in reversed((folder, *folder.parents)):
        if above.is_relative_to(TESTS) and (above / "conftest.py").exists():
            for function in functions(above / "conftest.py"):
                if any("fixture" in ast.unparse(one) for one in function.decorator_list):
                    seen[function.name] = asked_for(function)
    grown = True
    while grown:
        grown = False
        for needs in seen.values():
            more = set().union(needs, *(seen.get(need, set()) for need in needs))
            grown = grown or more != needs
            needs |= more
    return seen


def parameters(function: ast.FunctionDef) -> set[str]:
    """Return the names of what a test is repeated for."""
    names: set[str] = set()
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith(".parametrize"):
            first = ast.literal_eval(decorator.args[0])
            names |= set(first.replace(",", " ").split() if isinstance(first, str) else first)
    return names


def hidden(function: ast.FunctionDef, known: dict[str, set[str]]) -> set[str]:
    """Return the fixtures that a test hides from those it asks for."""
    mine = parameters(function)
    needed = set().union(*(known.get(one, set()) for one in asked_for(function) - mine))
    return mine & needed & set(known)


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: path.stem)
def test_no_parameter_hides_what_a_fixture_asks_for(path):
    known = fixtures(path.parent)
    found = {function.name: hidden(function, known) for function in functions(path)}
    assert not {test: names for test, names in found.items() if names}


def test_one_is_found():
    source = '@pytest.mark.parametrize(("name", "n"), [("a", 1)])\ndef test(make, name, n): ...'
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    known = fixtures(TESTS / "unit")
    assert hidden(function, known) == {"name"}
    assert hidden(function, {**known, "make": set()}) == set()
