"""The pages of docs/ are true: their programs run, and the reference names all that is public."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import shmmap

from ..support.engines import once
from .test_readme import LIMIT_S, Terminal

pytestmark = once  # the same with either engine

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r'^```python(?: title="(\S+)")?\n(.*?)^```$', re.M | re.S)
FOLDED = re.compile(r"^\?\?\? .*\n((?:    .*\n|\n)+)", re.M)  # see mkdocs.yml: pymdownx.details
OUTPUT = re.compile(r"\n*```text\n(.*?)^```$", re.M | re.S)
TESTED = {"conftest.py", "shop.py", "test_shop.py"}  # of guide/testing.md

def text_of(page: Path) -> str:
    """Read a page, what is folded in it unfolded."""
    return FOLDED.sub(lambda match: textwrap.dedent(match[1]), page.read_text())


SESSIONS = [page for page in PAGES if "```python\n" in text_of(page)]
# Of a handle, what the package's own modules call; no user needs them.
INNER = {"attachment", "inflight", "near", "ttl_ns"}


def label(page: Path) -> str:
    """Name a page."""
    return str(page.relative_to(DOCS))


def programs() -> Iterator[tuple[Path, str, str, str]]:
    """List the whole programs of the pages: page, file name, text, and the output shown."""
    for page in PAGES:
        text = text_of(page)
        for match in FENCE.finditer(text):
            if match[1]:
                shown = OUTPUT.match(text, match.end())
                yield page, match[1], match[2], shown[1] if shown else ""


PROGRAMS = list(programs())


def test_there_are_guides():
    assert len(SESSIONS) >= 10
    files = {"after.py", "app.py", "before.py", "count.py", "gunicorn.conf.py", "tasks.py", *TESTED}
    assert {file for _, file, _, _ in PROGRAMS} == files
    print_what_is_shown = {file for _, file, _, shown in PROGRAMS if shown}
    assert print_what_is_shown == {"after.py", "before.py", "count.py"}


@pytest.mark.parametrize("page", SESSIONS, ids=label)
def test_every_session_runs_as_shown(page, name, tmp_path):
    """The blocks of a page in order, in one process."""
    terminal = Terminal(tmp_path)
    try:
        for match in FENCE.finditer(text_of(page)):
            if not match[1]:
                assert match[2].startswith(">>> ")
                terminal.run(match[2].replace('"demo"', f'"{name}"'))
    finally:
        terminal.process.kill()
        terminal.process.communicate(timeout=LIMIT_S)


def test_a_program_prints_what_is_shown(name, tmp_path):
    for _, file, text, shown in PROGRAMS:
        if shown:
            (tmp_path / file).write_text(text.replace('"demo"', f'"{name}"'))
            ran = subprocess.run([sys.executable, file], cwd=tmp_path, text=True,
                                 capture_output=True, timeout=LIMIT_S)
            assert (ran.stdout, ran.stderr) == (shown, "")


def test_the_lines_before_and_after_are_as_many_as_is_said():
    before, after = (next(text for _, file, text, _ in PROGRAMS if file == f"{when}.py")
                     for when in ("before", "after"))

    def lines(text: str) -> Counter[str]:
        return Counter(line.strip() for line in text.splitlines()
                       if line.strip() and not line.startswith(("import ", "from ")))

    only = [(lines(before) - lines(after)).total(), (lines(after) - lines(before)).total()]
    said = re.search(r"(\d+) lines instead of (\d+)", (DOCS / "contrib" / "flask.md").read_text())
    assert said and [int(number) for number in said.groups()] == only


@pytest.mark.parametrize("more", [[], ["-o", "shmmap_kind=local"], ["-n", "2"]], ids=str)
def test_the_tests_that_are_shown_pass(tmp_path, more):
    if "-n" in more:
        pytest.importorskip("xdist")
    for _, file, text, _ in PROGRAMS:
        if file in TESTED:
            (tmp_path / file).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *more]
    ran = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=LIMIT_S)
    said = "4 passed, 1 skipped" if "shmmap_kind=local" in more else "5 passed"
    assert said in ran.stdout, ran.stdout + ran.stderr


def test_the_app_runs_under_gunicorn(name, tmp_path):
    pytest.importorskip("gunicorn")
    for _, file, text, _ in PROGRAMS:
        if file in ("app.py", "gunicorn.conf.py"):
            (tmp_path / file).write_text(text.replace('"demo"', f'"{name}"'))
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", "app:app"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        answers = {asked(f"http://127.0.0.1:{port}/page") for _ in range(10)}
        assert len(answers) == 1  # drawn once, whichever worker answers
    finally:
        server.terminate()
        server.wait(LIMIT_S)


def asked(url: str) -> bytes:
    """Return what a server answers, once it does."""
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:
                body: bytes = answer.read()
                return body
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def named(page: str) -> set[str]:
    """List what a page of the reference has entries for."""
    return set(re.findall(r"^::: shmmap\.(\S+)$", (DOCS / "reference" / page).read_text(), re.M))


def test_the_reference_has_every_public_name():
    found = set().union(*(named(page.name) for page in (DOCS / "reference").glob("*.md")))
    assert {entry for entry in found if "." not in entry} == set(shmmap.__all__)


def test_the_reference_has_every_public_method():
    found = {entry.partition(".")[2] for entry in named("map.md")} - {""}
    public = {member for member in dir(shmmap.ShmMap) if not member.startswith("_")}
    assert found <= public
    if shmmap.ENGINE == "compiled":  # the pure engine shows what is C functions there
        assert found == public - INNER


def test_troubleshooting_has_every_error():
    text = (DOCS / "guide" / "troubleshooting.md").read_text()
    headings = set(re.findall(r"^### (\w+)$", text, re.M))
    errors = {name for name in shmmap.__all__
              if isinstance(getattr(shmmap, name), type)
              and issubclass(getattr(shmmap, name), (shmmap.ShmMapError, Warning))}
    assert headings == errors - {"ShmMapError"}


def test_the_command_line_has_every_command(tmp_path):
    page = (DOCS / "guide" / "command-line.md").read_text()
    said = subprocess.run([sys.executable, "-m", "shmmap", "--help"], cwd=tmp_path, text=True,
                          capture_output=True, timeout=LIMIT_S).stdout
    there = set(re.findall(r"^    (\w+)(?:  |$)", said, re.M))
    assert set(re.findall(r"^\| `(\w+)", page, re.M)) == there - {"COMMAND"}


def test_guarantees_are_those_of_the_readme():
    readme = (DOCS.parent / "README.md").read_text()
    section = readme[readme.index("## What is guaranteed"):readme.index("## When to use")]
    page = (DOCS / "guarantees.md").read_text()
    link = "[docs/failing-calls.md](docs/failing-calls.md)"
    section = section.replace(link, "[Failing calls](failing-calls.md)")
    assert page.removeprefix("# ").split() == section.removeprefix("## ").split()


def pictures() -> ModuleType:
    """Import the module that draws."""
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "site" / "pictures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["pictures"] = module  # its NamedTuples look it up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["pictures"]
    return module


def test_the_pictures_are_those_that_are_drawn():
    drawn = pictures()
    assert {file.name for file in drawn.PICTURES.iterdir()} == set(drawn.DRAWN)
    for file, draw in drawn.DRAWN.items():
        assert (drawn.PICTURES / file).read_text() == draw(), "python docs/site/pictures.py"
    package = Path(shmmap.__file__).parent
    assert set(drawn.PACKAGES) == {
        folder.name for folder in package.iterdir() if (folder / "__init__.py").exists()
    }


def test_every_page_is_in_the_site():
    site = (DOCS.parent / "mkdocs.yml").read_text()
    missing = [label(page) for page in PAGES if f" {label(page)}\n" not in site]
    assert not missing


def test_links_lead_to_files():
    made = {"benchmarks.md", "bench-method.md", "changelog.md", "contributing.md",
            "modules.md"}
    for page in [*PAGES, DOCS.parent / "ARCHITECTURE.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in target and os.path.basename(target) not in made:
                assert (page.parent / target).exists(), f"{label(page)}: {target}"


PATH = re.compile(r"\b(?:tests|bench|docs|shmmap)/[\w./-]+")
NO_FILES = re.compile(r"^shmmap/(peer|x\.so|_hot_cy)")  # what the words mean otherwise
TEXTS = ("docs/**/*.md", "*.md", "bench/README.md", "shmmap/**/*.py", "tests/**/*.py",
         "bench/**/*.py", "pyproject.toml", "mkdocs.yml")


def test_every_file_that_is_named_is_there():
    """In the documentation, in comments, in messages: what moves is named anew."""
    top = DOCS.parent
    wrong = {
        f"{text.relative_to(top)}: {found}" for pattern in TEXTS for text in top.glob(pattern)
        for found in (path.rstrip(".") for path in PATH.findall(text.read_text()))
        if not NO_FILES.match(found) and not (top / found).exists()
        and not (top / f"{found}.py").exists()
    }
    assert not wrong
