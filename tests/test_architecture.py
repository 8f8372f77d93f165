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
from shmmap import _engine, _handle_cy

PACKAGE = Path(shmmap.__file__).parent
PROJECT = Path(__file__).resolve().parents[1]
LINES_AT_MOST = 450
FLOORS = {
    0: "errors checks clibrary descriptors printable layout _layout _words _cython _engine _once "
       "_clock_cy _guard_cy _hash_cy process",
    1: "presences tasks unfinished mutex background segment removal record_lock creation judging "
       "holding workers geometry newfile turns _lock_cy",
    2: "_index_cy _slots_cy _expiry_cy _eviction_cy",
    3: "_look_cy _room_cy _shard_cy _repair_cy _copy_cy",
    4: "_keys_cy _codecs_cy",
    5: "_near_cy _handle_cy _decoding_cy _reads_cy _writes_cy _takes_cy _raw_cy _scans_cy "
       "_snapshots_cy parameters control making explain sweeper ephemeral attachment opening "
       "salvage stats copying views snapshots dumps merging locktable owed holds locks last_words "
       "closing flights subclasses callkeys keeping map",
    6: "__init__ __main__ allowances cached cli doctor findings fsck inspection machine seen "
       "sizing torture",
}
FLOOR_OF = {module: floor for floor, modules in FLOORS.items() for module in modules.split()}
# Who may use whom on the same floor. No two of the pieces on floor 2 know each other.
SIDEWAYS = {
    "_clock_cy": {"_cython", "_words"},
    "_guard_cy": {"_cython"},
    "_hash_cy": {"_cython", "_words", "_layout", "layout"},
    "descriptors": {"process"},
    "mutex": {"tasks"},
    "unfinished": {"mutex"},
    "newfile": {"unfinished"},
    "background": {"tasks"},
    "turns": {"tasks"},
    "record_lock": {"segment"},
    "creation": {"segment", "mutex", "record_lock", "tasks"},
    "removal": {"segment"},
    "judging": {"segment", "record_lock", "tasks"},
    "holding": {"segment", "tasks"},
    "workers": {"holding", "judging", "segment", "record_lock", "tasks"},
    "_room_cy": {"_look_cy"},
    "_shard_cy": {"_look_cy", "_room_cy"},
    "_repair_cy": {"_look_cy", "_shard_cy"},
    "_copy_cy": {"_look_cy", "_repair_cy", "_shard_cy"},
    "_codecs_cy": {"_keys_cy"},
    "_handle_cy": {"_near_cy"},
    "_decoding_cy": {"_handle_cy"},
    "_reads_cy": {"_near_cy", "_decoding_cy"},
    "_writes_cy": {"_near_cy", "_reads_cy"},
    "_takes_cy": {"_reads_cy", "_writes_cy"},
    "_raw_cy": {"_near_cy", "_takes_cy"},
    "_scans_cy": {"_raw_cy", "_reads_cy"},
    "_snapshots_cy": {"_scans_cy"},
    "snapshots": {"_snapshots_cy", "explain", "views"},
    "subclasses": {"_snapshots_cy"},
    "views": {"_reads_cy", "_writes_cy", "copying"},
    "dumps": {"control", "parameters"},
    "merging": {"_scans_cy", "dumps"},
    "control": {"parameters"},
    "making": {"control", "parameters"},
    "opening": {"attachment", "control", "making", "parameters"},
    "locktable": {"_scans_cy", "explain"},
    "owed": {"locktable"},
    "sweeper": {"owed"},
    "holds": {"explain", "locktable", "owed"},
    "locks": {"holds", "locktable", "owed"},
    "last_words": {"holds", "opening"},
    "closing": {"_handle_cy", "holds", "last_words", "opening"},
    "keeping": {"_reads_cy"},
    "flights": {"_reads_cy", "_writes_cy", "holds", "keeping", "locktable"},
    "attachment": {"control", "ephemeral", "explain", "locktable", "parameters", "sweeper"},
    "map": {"_near_cy", "_snapshots_cy", "_writes_cy", "closing", "control", "dumps", "flights",
            "last_words", "locks", "locktable", "merging", "opening", "owed", "parameters",
            "salvage", "snapshots", "stats", "subclasses", "sweeper", "views"},
    "__init__": {"cached"},
    "__main__": {"cli"},
    "allowances": {"findings", "machine"},
    "cli": {"__init__", "doctor", "findings", "fsck", "inspection", "sizing", "torture"},
    "doctor": {"__init__", "allowances", "findings", "inspection", "machine"},
    "fsck": {"__init__", "findings", "inspection"},
    "inspection": {"__init__", "seen"},
    "machine": {"findings"},
    "sizing": set(),
    "torture": {"__init__"},
}
SOURCES = sorted(str(file.relative_to(PACKAGE).with_suffix("")) for file in PACKAGE.rglob("*.py"))


def part_of(module: str) -> str:
    """Give the module of the floors that a file belongs to: itself, or its package."""
    return module.partition("/")[0]


def imported_by_py(module: str) -> set[str]:
    """List the package's modules that a .py file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(["shmmap", *module.split("/")][: -node.level]) if node.level else ""
            base = f"{base}.{node.module or ''}".strip(".")
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "shmmap" else [base]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "shmmap":
                part = rest.partition(".")[0]
                there = (PACKAGE / f"{part}.py").exists() or (PACKAGE / part).is_dir()
                found.add(part if there and part else "__init__")
    return found - {part_of(module)}


def imported_by_pxd(module: str) -> set[str]:
    """List what the .pxd file beside it cimports."""
    file = PACKAGE / f"{module}.pxd"
    if not file.exists():
        return set()
    return set(re.findall(r"^from \.(\w+) cimport", file.read_text(), re.M)) - {module}


def test_every_module_has_a_floor():
    parts = set(map(part_of, SOURCES))
    assert parts <= set(FLOOR_OF), sorted(parts - set(FLOOR_OF))
    pxds = {file.stem for file in PACKAGE.glob("*.pxd")}
    assert pxds <= set(FLOOR_OF)


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_down(module):
    wrong = []
    mine = part_of(module)
    for used in imported_by_py(module) | imported_by_pxd(module):
        below = FLOOR_OF[used] < FLOOR_OF[mine]
        if not below and used not in SIDEWAYS.get(mine, set()):
            wrong.append(f"{module} (F{FLOOR_OF[mine]}) uses {used} (F{FLOOR_OF[used]})")
    assert not wrong


def test_there_is_one_guard():
    """Its C has state: a second module that cimports it would have a second handler."""
    for file in PACKAGE.glob("*.pxd"):
        assert not re.search(r"_guard_cy\s+cimport|cimport\s.*_guard_cy", file.read_text()), file


def test_one_module_knows_the_threads():
    """The C of `_words.pxd` keeps what it knows of a thread once for each module that uses it: of
    two modules each would number the threads, and two threads could have one lock token."""
    for file in PACKAGE.glob("_*_cy.py"):
        uses = re.search(r"\b(thread_number|(begin|end|own)_operations?)\(", file.read_text())
        assert not uses or file.name == "_handle_cy.py", file


def test_sideways_uses_have_no_circle():
    def reach(module: str, seen: tuple[str, ...]) -> None:
        assert module not in seen, " -> ".join((*seen, module))
        for used in SIDEWAYS.get(module, ()):
            reach(used, (*seen, module))

    for module in SIDEWAYS:
        reach(module, ())


def test_the_lists_of_hot_modules_agree():
    on_disk = {name for name in SOURCES if name.endswith("_cy")}
    assert set(_engine.MODULES) == on_disk
    assert len(set(_engine.MODULES)) == len(_engine.MODULES)
    floors = [FLOOR_OF[module] for module in _engine.MODULES]
    assert floors == sorted(floors), "in the order of their floors"
    setup = ast.parse((PROJECT / "setup.py").read_text())
    listed = next(
        ast.literal_eval(node.value)
        for node in setup.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "MODULES"
    )
    assert listed == _engine.MODULES


@pytest.mark.parametrize("module", _engine.MODULES)
def test_a_hot_module_knows_which_engine_it_is(module):
    loaded = __import__(f"shmmap.{module}", fromlist=["COMPILED"])
    assert (shmmap.ENGINE == "compiled") is loaded.COMPILED
    assert (Path(loaded.__file__).suffix == ".py") is not loaded.COMPILED
    assert (PACKAGE / f"{module}.pxd").exists()


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
              and type(value).__name__ != "module"}
    assert public == set(shmmap.__all__) - {"__version__"}


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
    code = compile((PACKAGE / f"{name}.py").read_text(), name, "exec")
    missing = set(globals_used(code)) - vars(module).keys() - vars(builtins).keys()
    assert missing <= COMPILED_ONLY


def test_the_list_of_lock_holders_is_complete():
    holders = set()
    for name in _engine.MODULES:
        for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text())):
            if isinstance(node, ast.FunctionDef) and node.name not in ("hold", "try_hold"):
                calls = {ast.unparse(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
                if calls & {"self.hold", "core.hold", "self.try_hold", "shard.lock.try_quickly"}:
                    holders.add(node.name)
    assert holders == _handle_cy.HOLDERS
