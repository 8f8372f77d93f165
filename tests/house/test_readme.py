"""The README is true: its Python snippets run as shown, and the files it names are there."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmmap

README = Path(__file__).resolve().parents[2] / "README.md"
LIMIT_S = 60.0
FENCE = re.compile(r"^```python(?: terminal=(\d))?\n(.*?)^```$", re.M | re.S)
BLOCKS = [(match[1], match[2]) for match in FENCE.finditer(README.read_text())]

# A terminal: runs each block that it is sent as a doctest, and answers with what differed.
TERMINAL = """
import doctest, io, json, sys
variables = {}
for line in sys.stdin:
    said = io.StringIO()
    test = doctest.DocTestParser().get_doctest(json.loads(line), {}, "block", "README.md", 0)
    test.globs = variables
    doctest.DocTestRunner(verbose=False).run(test, out=said.write, clear_globs=False)
    print(json.dumps([len(test.examples), said.getvalue()]), flush=True)
"""


class Terminal:
    """A Python of its own that runs blocks one after the other, as one session."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", TERMINAL], cwd=directory, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(self, block: str) -> None:
        """Run a block; fail with what differed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(block) + "\n")
        self.process.stdin.flush()
        assert select.select([self.process.stdout], [], [], LIMIT_S)[0], f"no answer to {block}"
        examples, difference = json.loads(self.process.stdout.readline())
        assert examples == block.count(">>> ") and not difference, difference


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[dict[str | None, Terminal]]:
    """One terminal for each number that the README uses."""
    opened = {number: Terminal(tmp_path) for number in {number for number, _ in BLOCKS}}
    yield opened
    for terminal in opened.values():
        terminal.process.kill()
        terminal.process.communicate(timeout=LIMIT_S)


def test_every_snippet_runs_as_shown(terminals, name):
    """All blocks in order; those of one terminal share a process, the others have a third."""
    assert {number for number, _ in BLOCKS} == {None, "1", "2"}
    for number, block in BLOCKS:
        assert '"demo"' in block or number
        terminals[number].run(block.replace('"demo"', repr(name)))


def test_a_wrong_snippet_is_noticed(terminals):
    with pytest.raises(AssertionError, match="Expected"):
        terminals["1"].run(">>> 1 + 1\n3\n")


def test_every_python_block_is_a_session():
    assert README.read_text().count("```python") == len(BLOCKS) >= 5
    assert all(block.startswith(">>> ") for _, block in BLOCKS)


def test_names_only_files_that_are_there():
    text = README.read_text()
    named = re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r"(?:tests|examples)/\w+\.py", text)
    assert len(named) >= 6
    missing = [file for file in named if not (README.parent / file).exists()]
    assert not missing


@pytest.mark.parametrize("command", ["ls", "info", "unlink", "dump", "load", "size", "doctor"])
def test_names_the_commands_that_there_are(command, tmp_path):
    assert f"python -m shmmap {command}" in README.read_text()
    made = subprocess.run([sys.executable, "-m", "shmmap", command, "--help"], cwd=tmp_path,
                          capture_output=True, timeout=LIMIT_S, env={**os.environ})
    assert made.returncode == 0


def test_names_only_errors_and_variables_that_there_are():
    text = README.read_text()
    errors = set(re.findall(r"`((?:Map|Shard|Shared|Lock|Entry|Workers|Config|Reent)\w+)`", text))
    assert len(errors) >= 8
    assert all(hasattr(shmmap, error) for error in errors), errors
    sources = "".join(
        (README.parent / file).read_text()
        for file in ("setup.py", "shmmap/_engine.py", "shmmap/lifecycle/names.py")
    )
    assert all(variable in sources for variable in re.findall(r"SHMMAP_\w+", text))
