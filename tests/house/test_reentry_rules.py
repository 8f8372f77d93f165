"""What the pure engine's bookkeeping relies on, compared with the sources: see `reentry`."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmmap
from shmmap import _engine
from shmmap.operations import reentry


def functions(module: str) -> Iterator[ast.FunctionDef]:
    """Go through the functions and methods of a hot module; none has a function inside it."""
    for node in ast.walk(ast.parse(Path(f"{_engine.path_of(module)}.py").read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def calls(node: ast.AST) -> set[str]:
    """List what is called anywhere in it: `hold` for `self.hold()` or `handle.hold()`."""
    found = [ast.unparse(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)]
    return {name.partition(".")[2] for name in found if name.startswith(("self.", "handle."))} | {
        name for name in found if not name.startswith(("self.", "handle."))
    }


TAKES_A_LOCK = {"hold", "hold_each", "try_hold", "reentry.note"}
BEGIN = {"enter", "come_in"}
DO_IT = {*BEGIN, "hold", "hold_each", "try_hold", "hold_as_child", "drop", "let_go", "ready",
         "leave"}
"""Those that a rule speaks of are of `Handle`."""


def test_the_list_of_lock_holders_is_complete():
    """Rules E2 and E3 of `reentry`."""
    holders = {
        node.name: f"shmmap.{name}" for name in _engine.MODULES for node in functions(name)
        if calls(node) & {*TAKES_A_LOCK, "shard.lock.try_quickly"} and node.name not in DO_IT
    }
    assert holders == reentry.HOLDERS


def test_the_names_of_lock_holders_are_unlike():
    """HOLDERS has one module for each name."""
    named = [node.name for name in _engine.MODULES if name.startswith("operations.")
             for node in functions(name)]
    assert [name for name in reentry.HOLDERS if named.count(name) != 1] == []


@pytest.mark.skipif(shmmap.ENGINE != "pure", reason="compiled functions have no frames")
def test_the_shard_of_a_lock_holder_is_its_local_shard():
    """Rule E2 of `reentry`: what it looks for in frames is there, once the lock is asked for."""
    for name, module in reentry.HOLDERS.items():
        owner = importlib.import_module(module)
        kinds = [kind for kind in vars(owner).values() if isinstance(kind, type)]
        found = [vars(kind)[name] for kind in (owner, *kinds) if name in vars(kind)]
        assert "shard" in found[0].__code__.co_varnames, name
        for node in functions(module.removeprefix("shmmap.")):
            if node.name == name and name not in reentry.HOLDERS_OF_ALL:
                taken = [ast.unparse(n.args[0]) for n in ast.walk(node) if isinstance(n, ast.Call)
                         and ast.unparse(n.func).partition(".")[2] in TAKES_A_LOCK]
                assert set(taken) == {"shard"}, name


def test_operations_come_and_go_by_themselves():
    """Rule E1 of `reentry`: a function that calls `enter` calls `leave`, in a `finally`. Not where
    nothing is done in between."""
    seen = 0
    for name in _engine.MODULES:
        for node in functions(name):
            if node.name in (*DO_IT, "_begin", "_go_over") or not calls(node) & {*BEGIN, "leave"}:
                continue
            last = {call for n in ast.walk(node) if isinstance(n, ast.Try)
                    for step in n.finalbody for call in calls(step)}
            assert calls(node) & BEGIN and "leave" in last, node.name
            seen += 1
    assert seen > 20


METHODS_THAT_END = {  # what the end of a `with` does that is a method, and why it may be left out
    "map.ShmMap": "the handle is closed when it is dropped",
    "copies.dumps.DumpReader": "so is the file",
    "tiers.tiered.Tiered": "so are its connections, and another process listens",
    "memory.words.Words": "so is the view",
    "locks.editing._Entry": "it is called in the `try` of an end that is not",
}


def test_the_end_of_a_with_is_nothing_that_a_handler_can_leave_out():
    """See `blocks`: neither contextlib's managers, nor an `__exit__` that is a method."""
    found = set()
    for path in Path(shmmap.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and path.parent.name != "contrib":
                module = ".".join(path.relative_to(Path(shmmap.__file__).parent).parts)[:-3]
                found |= {f"{module}.{node.name}" for one in node.body
                          if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))
                          and one.name in ("__exit__", "__aexit__")}
            decorators = getattr(node, "decorator_list", ())
            assert not {ast.unparse(one).rpartition(".")[2] for one in decorators} & {
                "contextmanager", "asynccontextmanager"}, f"{path}: {node}"
    assert found == set(METHODS_THAT_END)
