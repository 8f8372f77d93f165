"""The sources of the projects whose tests are run against our backends.

They are fetched as pip fetches them, of the version that is installed, into the folder of the
environment, once. Where there is no network the tests that need them are skipped, and say so.

They test our backends, which know nothing of engines: where both are there, they are run with one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import shmmap

FOLDER = Path(sys.prefix) / "upstream"
Outcomes = dict[str, str]


def fetch(project: str) -> Path:
    """Return the folder of a project's source distribution, of the version that is installed."""
    built = Path(shmmap.__file__).parent.glob("memory/*.so")
    if shmmap.ENGINE == "pure" and any(built):
        pytest.skip("run with the compiled engine")
    try:
        wanted = version(project)
    except PackageNotFoundError:
        pytest.skip(f"{project} is not installed")
    folder = FOLDER / f"{project.lower()}-{wanted}"
    if not folder.exists():
        _unpack(_download(project, wanted), folder)
    return folder


def _download(project: str, wanted: str) -> Path:
    """Fetch the archive, if it is not there."""
    archives = FOLDER / f"{project.lower()}-{wanted}.archive"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary",
               project, f"{project}=={wanted}", "--dest", str(archives)]
    if not list(archives.glob("*.tar.gz")):
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        if done.returncode:
            pytest.skip(f"the source of {project} {wanted} is not to be had: {done.stderr[-300:]}")
    return next(archives.glob("*.tar.gz"))


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive that has one folder at its top."""
    partial = FOLDER / f".{folder.name}-{os.getpid()}"
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(archive) as opened:
        opened.extractall(partial, **safely)  # type: ignore[arg-type]
    try:
        next(partial.iterdir()).rename(folder)
    except OSError:  # the other engine's tests were quicker
        assert folder.exists()


def run(
    folder: Path, names: list[str], report: Path, plugin: Path, *options: str,
    under: str = "tests"
) -> Outcomes:
    """Run modules of a project's tests, which lie in the folder `under`, in a pytest of their own,
    with a plugin of ours that says what they are run against; return what became of each:
    "passed", "failed" or "skipped"."""
    files = [str(folder / under / f"{name}.py") for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-p", plugin.stem, "-p", "no:cacheprovider",
               "-p", "no:asyncio", "-o", "addopts=", f"--junitxml={report}", *files, *options]
    path = os.pathsep.join([str(plugin.parent), str(folder)])
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": path},
                          capture_output=True, text=True, timeout=110)
    found: Outcomes = {}
    if report.exists():
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            kinds = {part.tag for part in case}
            name = f"{case.get('classname', '').rpartition('.')[2]}.{case.get('name')}"
            found[name] = ("failed" if kinds & {"failure", "error"} else
                           "skipped" if "skipped" in kinds else "passed")
    assert found, done.stdout + done.stderr
    return found


def compare(outcomes: Outcomes, does_not_apply: dict[str, str], passed: int) -> None:
    """See that just those tests did not pass that do not apply, by name and reason, and that as
    many passed as we say."""
    others = {name for name, outcome in outcomes.items() if outcome != "passed"}
    unexpected = sorted(others ^ set(does_not_apply))
    assert not unexpected, unexpected
    assert Counter(outcomes.values())["passed"] == passed, Counter(outcomes.values())
