"""Who imports whom: each package only what is below it, and nothing in a circle."""

from __future__ import annotations

import ast
import re

import pytest

from ..support.engines import once
from ..support.imports import imported
from .packages import BASE, FLOORS, PACKAGE, SOURCES, part_of

pytestmark = once  # the same with either engine

PIECES = {f"shard/_{piece}_cy" for piece in ("index", "slots", "expiry", "eviction")}
"""Of a shard: none of them knows another."""


def module_of(dotted: str) -> str:
    """Return the file that an import names: `shmmap.a.b` is a module, or a name in `shmmap.a`."""
    path = dotted.partition(".")[2].replace(".", "/")
    while path and not ((PACKAGE / f"{path}.py").exists() or (PACKAGE / f"{path}.pxd").exists()):
        path = path.rpartition("/")[0]
    return path or "__init__"


def imported_by_py(module: str) -> set[str]:
    """List the package's modules that a .py file imports, wherever in it."""
    nodes = ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text()))
    return set(map(module_of, imported(nodes, "shmmap", module))) - {module}


def imported_by_pxd(module: str) -> set[str]:
    """List what the .pxd file beside it cimports."""
    file = PACKAGE / f"{module}.pxd"
    if not file.exists():
        return set()
    here = ["shmmap", *module.split("/")]
    names = re.findall(r"^from (\.+)([\w.]+) cimport", file.read_text(), re.M)
    return {module_of(".".join([*here[: -len(dots)], name])) for dots, name in names}


def imports(module: str) -> set[str]:
    """List what a module imports, in both engines."""
    return imported_by_py(module) | imported_by_pxd(module)


def test_every_module_has_a_floor():
    assert set(map(part_of, SOURCES)) == set(FLOORS) | BASE
    pxds = {str(file.relative_to(PACKAGE).with_suffix("")) for file in PACKAGE.rglob("*.pxd")}
    # one has its constants from layout.py; the pure engine has no probes
    assert pxds - set(SOURCES) == {"memory/_layout", "memory/_probes"}


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_down(module):
    mine = part_of(module)
    allowed = set() if mine in BASE else {mine, *FLOORS[mine]}
    wrong = {used for used in imports(module) if part_of(used) not in allowed | BASE}
    assert not wrong


def test_the_pieces_of_a_shard_do_not_know_each_other():
    for piece in PIECES:
        assert not imports(piece) & PIECES


def test_packages_hold_nothing_themselves():
    """One line of imports says where a thing is."""
    for module in SOURCES:
        if module.endswith("/__init__") and not module.startswith(("torture/", "testing/")):
            body = ast.parse((PACKAGE / f"{module}.py").read_text()).body
            assert len(body) == 1 and isinstance(body[0], ast.Expr), module


def test_imports_have_no_circle():
    """Of those that stand at the top of a file; the others are there to break one."""
    used = {module: at_the_top(module) for module in SOURCES}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for other in used.get(module, ()):
                visit(other, (*way, module))
            done.add(module)

    for module in SOURCES:
        visit(module, ())


def at_the_top(module: str) -> set[str]:
    """List what a module imports before it can be used."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    inner = {
        id(node) for outer in ast.walk(tree) if isinstance(outer, ast.FunctionDef | ast.If)
        and (isinstance(outer, ast.FunctionDef) or "TYPE_CHECKING" in ast.unparse(outer.test))
        for node in ast.walk(outer)
    }
    outer_nodes = [node for node in ast.walk(tree) if id(node) not in inner]
    return set(map(module_of, imported(outer_nodes, "shmmap", module))) - {module}
