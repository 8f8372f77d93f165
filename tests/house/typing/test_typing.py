"""The public types: mypy --strict on what a user writes, right and wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import shmmap

from ...support.engines import once

pytestmark = once  # the same with either engine

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for the runs of this module: the second one is quick."""
    return tmp_path_factory.mktemp("mypy")


def mypy(file: Path, cache: Path) -> str:
    """Run mypy --strict on a file, against the package under test; return what it says."""
    package = Path(shmmap.__file__).parents[1]
    # mypy finds what is installed by itself, and refuses to be pointed there
    path = {} if package.name == "site-packages" else {"MYPYPATH": str(package)}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", "--strict", "--no-error-summary",
         "--enable-error-code=unused-awaitable", "--no-pretty", f"--cache-dir={cache}",
         "--follow-imports=silent", str(file)],
        env={**os.environ, **path}, cwd=cache,
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1) and not done.stderr, done.stderr
    return done.stdout


def test_the_package_is_marked_as_typed():
    assert (Path(shmmap.__file__).parent / "py.typed").exists()


def test_a_users_code_passes_strict(cache):
    assert mypy(HERE / "sample.py", cache) == ""


def test_a_users_mistakes_are_found(cache):
    file = HERE / "wrong.py"
    lines = file.read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    found = {int(n) for n in re.findall(r"wrong\.py:(\d+): error", mypy(file, cache))}
    assert found == wrong
