"""The interpreters that tests start import what is installed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def strays(source: str) -> list[int]:
    """List the lines that start an interpreter on code or a module where this one stands: from
    the checkout it would import the package's sources, of whatever engine, and test those."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        first = node.args[:1] if isinstance(node, ast.Call) else []
        command = [ast.unparse(part) for a in first if isinstance(a, ast.List) for part in a.elts]
        if command[:1] == ["sys.executable"] and {"'-c'", "'-m'"} & {*command[1:4]}:
            given = {word.arg for word in node.keywords}
            if "'-I'" not in command and not given & {"cwd", None}:
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "file", sorted(TESTS.rglob("*.py")), ids=lambda file: str(file.relative_to(TESTS))
)
def test_no_child_imports_the_checkout(file):
    assert strays(file.read_text()) == []


def test_a_stray_child_is_found():
    assert strays("run([sys.executable, '-W', 'error', '-c', code])\n") == [1]
    assert strays("run([sys.executable, '-c', code], cwd='/')\n") == []
