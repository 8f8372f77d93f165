"""The floors, the engines' lists of modules, and the size of files."""

from __future__ import annotations

import ast
import builtins
import dis
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

import shmmap
from shmmap import _engine
from shmmap.operations import _handle_cy
from shmmap.shard import _status

PACKAGE = Path(shmmap.__file__).parent
PROJECT = Path(__file__).resolve().parents[2]
LINES_AT_MOST = 450
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
FLOORS["map"] = {*FLOORS["copies"], "copies", "subclasses"}
FLOORS["call_keys"] = {"values"}
FLOORS["decorator"] = {*FLOORS["map"], "map", "call_keys"}
FLOORS["__init__"] = {*FLOORS["decorator"], "decorator"}
FLOORS["tools"] = {*FLOORS["__init__"], "__init__", "torture"}
FLOORS["torture"] = {*FLOORS["__init__"], "__init__"}
FLOORS["__main__"] = {"tools"}
PIECES = {f"shard/_{piece}_cy" for piece in ("index", "slots", "expiry", "eviction")}
"""Of a shard: none of them knows another."""
SOURCES = sorted(str(file.relative_to(PACKAGE).with_suffix("")) for file in PACKAGE.rglob("*.py"))


def part_of(module: str) -> str:
    """Return the package of a file, or the name of a module that is in none."""
    return module.partition("/")[0]


def module_of(dotted: str) -> str:
    """Return the file that an import names: `shmmap.a.b` is a module, or a name in `shmmap.a`."""
    path = dotted.partition(".")[2].replace(".", "/")
    while path and not ((PACKAGE / f"{path}.py").exists() or (PACKAGE / f"{path}.pxd").exists()):
        path = path.rpartition("/")[0]
    return path or "__init__"


def imported_by_py(module: str) -> set[str]:
    """List the package's modules that a .py file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(["shmmap", *module.split("/")][: -node.level]) if node.level else ""
            base = f"{base}.{node.module or ''}".strip(".")
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {module_of(name) for name in names if name.partition(".")[0] == "shmmap"}
    return found - {module}


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
    assert pxds - set(SOURCES) == {"memory/_layout"}


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
        if module.endswith("/__init__") and not module.startswith("torture/"):
            body = ast.parse((PACKAGE / f"{module}.py").read_text()).body
            assert len(body) == 1 and isinstance(body[0], ast.Expr), module


def test_there_is_one_guard():
    """Its C has state: a second module that cimports it would have a second handler."""
    for file in PACKAGE.rglob("*.pxd"):
        assert not re.search(r"_sigbus_cy\s+cimport|cimport\s.*_sigbus_cy", file.read_text()), file


def test_one_module_knows_the_threads():
    """The C of `_atomics.pxd` keeps what it knows of a thread once for each module that uses it: of
    two modules each would number the threads, and two threads could have one lock token."""
    for file in PACKAGE.rglob("_*_cy.py"):
        uses = re.search(r"\b(thread_number|(begin|end|own)_operations?)\(", file.read_text())
        assert not uses or file.name == "_handle_cy.py", file


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
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in inner:
            base = ".".join(["shmmap", *module.split("/")][: -node.level]) if node.level else ""
            base = f"{base}.{node.module or ''}".strip(".")
            if base.partition(".")[0] == "shmmap":
                found |= {module_of(f"{base}.{alias.name}") for alias in node.names}
    return found - {module}


def test_the_list_of_hot_modules_is_true():
    on_disk = {name.replace("/", ".") for name in SOURCES if name.endswith("_cy")}
    assert set(_engine.MODULES) == on_disk
    assert len(set(_engine.MODULES)) == len(_engine.MODULES)
    floors = [list(FLOORS).index(module.partition(".")[0]) for module in _engine.MODULES]
    assert floors == sorted(floors), "in the order of their floors"
    for name in on_disk:
        text = Path(f"{_engine.path_of(name)}.py").read_text()
        assert text.startswith("# mypy: ignore-errors\n"), "its C types are in the .pxd"


@pytest.mark.parametrize("module", _engine.MODULES)
def test_a_hot_module_knows_which_engine_it_is(module):
    loaded = __import__(f"shmmap.{module}", fromlist=["COMPILED"])
    assert (shmmap.ENGINE == "compiled") is loaded.COMPILED
    assert (Path(loaded.__file__).suffix == ".py") is not loaded.COMPILED
    assert Path(f"{_engine.path_of(module)}.pxd").exists()


def test_compiled_modules_are_all_there_or_none():
    assert set(_engine.compiled_modules()) in (set(), set(_engine.MODULES))


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


# Names that only the compiled engine has, from a .pxd; used behind `if cython.compiled`.
COMPILED_ONLY = {
    "PyBytes_AS_STRING", "PyBytes_FromStringAndSize", "PyBytes_GET_SIZE", "PyErr_CheckSignals",
    "PyList_GET_ITEM", "begin_operation", "bytes_of_word", "call_hash_function",
    "call_own_function", "end_operation", "fits_word", "held_in", "own_operations",
    "region_is_cut", "set_hash_function", "tell_region", "unlink_that", "unwatch_region",
    "utf8_of", "watch_region", "word_of",
}  # fmt: skip


def globals_used(code: CodeType) -> Iterator[str]:
    """List the global names that a code object and those inside it look up."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from globals_used(constant)


@pytest.mark.skipif(shmmap.ENGINE != "pure", reason="compiled modules hold no Python names")
@pytest.mark.parametrize("name", _engine.MODULES)
def test_the_pure_engine_lacks_no_name(name):
    module = importlib.import_module(f"shmmap.{name}")
    code = compile(Path(f"{_engine.path_of(name)}.py").read_text(), name, "exec")
    missing = set(globals_used(code)) - vars(module).keys() - vars(builtins).keys()
    assert missing <= COMPILED_ONLY


def test_statuses_are_the_same_in_both_engines():
    for_c = (PACKAGE / "shard/_status.pxd").read_text()
    said = dict(re.findall(r"^    ([A-Z_]+) = (.+)$", for_c, re.M))
    mine = {name: value for name, value in vars(_status).items() if name.isupper()}
    assert {name: eval(value) for name, value in said.items()} == mine


def test_the_list_of_lock_holders_is_complete():
    holders = set()
    for name in _engine.MODULES:
        for node in ast.walk(ast.parse(Path(f"{_engine.path_of(name)}.py").read_text())):
            if isinstance(node, ast.FunctionDef) and node.name not in ("hold", "try_hold"):
                calls = {ast.unparse(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
                if calls & {"self.hold", "core.hold", "self.try_hold", "shard.lock.try_quickly"}:
                    holders.add(node.name)
    assert holders == _handle_cy.HOLDERS
