"""The folders of the bench, whom each may import, and the one list of its scenarios."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import bench
from bench.core.scenario import Scenario
from bench.scenarios import MODULES, families, scenarios

from ..support.imports import imported

BENCH = Path(bench.__file__).parent
FLOORS: dict[str, set[str]] = {"core": set(), "peers": {"core"}}
"""Whom the files of a folder may import, beside each other."""
FLOORS["load"] = {"core", "peers"}
FLOORS["policies"] = {*FLOORS["load"], "load"}
FLOORS["scenarios"] = {*FLOORS["policies"], "policies"}
FLOORS["scenarios/cache"] = {*FLOORS["scenarios"], "scenarios"}
FLOORS["scenarios/design"] = {*FLOORS["scenarios"], "scenarios"}
FLOORS["report"] = {"core", "peers"}
FLOORS["__main__"] = set(FLOORS)
FLOORS["__init__"] = set()
FILES = sorted(str(file.relative_to(BENCH).with_suffix("")) for file in BENCH.rglob("*.py"))
LINES_AT_MOST = 450


def floor_of(file: str) -> str:
    """Return the folder of a file, or the name of a file that is in none."""
    return file.rpartition("/")[0] or file


def imports(file: str) -> set[str]:
    """List the files of the bench that a file imports, wherever in it."""
    nodes = ast.walk(ast.parse((BENCH / f"{file}.py").read_text()))
    return set(map(file_of, imported(nodes, "bench", file))) - {file}


def file_of(dotted: str) -> str:
    """Return the file that an import names: `bench.a.b` is a module, or a name in `bench.a`."""
    path = dotted.partition(".")[2].replace(".", "/")
    while path not in FILES and f"{path}/__init__" not in FILES:
        path = path.rpartition("/")[0]
    return path if path in FILES else f"{path}/__init__".lstrip("/")


def text_of(module: str) -> str:
    return (BENCH / f"scenarios/{module.replace('.', '/')}.py").read_text()


def test_every_file_has_a_floor():
    assert {floor_of(file) for file in FILES} == set(FLOORS)


@pytest.mark.parametrize("file", FILES)
def test_imports_go_down(file):
    mine = floor_of(file)
    wrong = {used for used in imports(file) if floor_of(used) not in {mine, *FLOORS[mine]}}
    assert not wrong


def test_imports_have_no_circle():
    """Not even one that a late import breaks."""
    done: set[str] = set()

    def visit(file: str, way: tuple[str, ...]) -> None:
        assert file not in way, " -> ".join((*way, file))
        if file not in done:
            for other in imports(file):
                visit(other, (*way, file))
            done.add(file)

    for file in FILES:
        visit(file, ())


def test_every_file_with_scenarios_is_listed_once():
    found = {
        str(file.relative_to(BENCH / "scenarios").with_suffix("")).replace("/", ".")
        for file in (BENCH / "scenarios").rglob("*.py")
        if re.search(r"^SCENARIOS\b", file.read_text(), re.M)
    }
    assert sorted(MODULES) == sorted(found)
    assert len(scenarios()) == len({scenario.name for scenario in scenarios()})


@pytest.mark.parametrize("module", MODULES)
def test_a_file_of_scenarios_begins_with_its_question(module):
    said = ast.get_docstring(ast.parse(text_of(module)))
    assert said and said.partition("\n\n")[0].partition("?")[1] == "?"
    assert re.search(r"^SCENARIOS: tuple\[Scenario, \.\.\.\] = ", text_of(module), re.M)


def test_scenarios_stand_under_the_headings_there_are_in_their_order():
    headings = [value for name, value in vars(families).items() if name.isupper()]
    used = list(dict.fromkeys(scenario.family for scenario in scenarios()))
    assert used == headings


def test_every_scenario_has_what_one_must_have():
    names = {name for name in vars(Scenario) if not name.startswith("_")}
    assert names == {"name", "title", "family", "quick", "plots", "steps", "run"}
    for scenario in scenarios():
        assert all(hasattr(scenario, name) for name in names), scenario.name


@pytest.mark.parametrize("file", FILES)
def test_every_file_says_what_it_is_and_is_not_too_long(file):
    text = (BENCH / f"{file}.py").read_text()
    assert ast.get_docstring(ast.parse(text))
    assert text.count("\n") <= LINES_AT_MOST
