"""The hot modules: one list of them, one engine at a time, and what both engines have alike."""

from __future__ import annotations

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
from shmmap.shard import _status

from .packages import FLOORS, PACKAGE, SOURCES


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


# Names that only the compiled engine has, from a .pxd; used behind `if cython.compiled`.
COMPILED_ONLY = {
    "PROBES_BUILT", "PyByteArray_AS_STRING", "PyBytes_AS_STRING", "PyBytes_FromStringAndSize",
    "PyBytes_GET_SIZE", "PyErr_CheckSignals", "PyList_GET_ITEM", "PyList_GET_SIZE", "ascii_text",
    "begin_operation", "begin_repair", "begin_sweep", "bits_of_real", "bytes_of_word",
    "call_hash_function", "call_own_function", "close_region", "end_operation", "fits_word",
    "has_datetime_calls", "held_in", "import_datetime", "map_file", "memcpy", "new_keys",
    "new_values", "octets_from", "own_operations", "probe_evict", "probe_lock_timeout",
    "probe_lock_wait", "probe_repair", "probe_sweep", "probe_takeover", "read_items",
    "region_is_cut", "region_was_cut", "regions_in_all", "regions_in_use", "regions_spare",
    "set_hash_function", "tell_region", "unlink_that", "utf8_of", "watch_region", "word_at",
    "word_of",
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
