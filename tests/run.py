"""Run every check of this project: `python3 tests/run.py [lint | arguments for pytest]`.

Needs Python 3.10 and its venv module, nothing else. Makes a virtual environment in .venv-test,
installs the package into it (again whenever a source has changed; only what changed is
compiled again), then runs ruff, mypy, codespell and proselint, builds the documentation, and runs
pytest for each engine (most parts of it at once).
What is tested is the installed package, never the source tree. The compiled engine is required
where C can be compiled; where not, only the pure engine is tested.

`lint` alone runs no test.

What failed is told once more at the end. The last line is "N passed, N failed", summed over the
engines; what a linter finds, a warning of the documentation, and a pytest that broke
off, count as one failure each. The exit code is 0 only if nothing failed.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import venv
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

from support.leftovers import remove_of_dead_runs

TOP = Path(__file__).resolve().parent.parent
VENV = TOP / ".venv-test"
PYTHON = VENV / "bin" / "python"
BUILD = VENV / "build-tree"  # a copy of the sources: what is built stays out of the checkout
STAMP = VENV / "installed"
FLAGS = ("SHMMAP_CFLAGS", "SHMMAP_PROBES")  # that a build heeds, with either engine
LINTED = ("shmmap", "tests", "bench", "building", "docs", "examples", "setup.py")
# Of the pure engine alone, or of none. No time is in it: it goes beside the others all along.
EXPLORER = ("tests/explore", "tests/moving_model")
# Parts of the tests, those that take longest first, so that none is left alone with one processor
# at the end. Several go at once, of both engines.
PARTS = (
    ("tests/unit",), ("tests",), ("tests/fault", "tests/foreign", "tests/fuzz"), ("tests/bench",),
    ("tests/examples", "tests/stress"), ("tests/failing", "tests/reentry"),
)  # `tests`: whatever is in no other one
# These look at what dead runs have left, which every run removes as it begins: they go alone.
ALONE = ("tests/unit/tools/test_doctor.py", "tests/house/test_leftovers.py")


class Job(NamedTuple):
    """One run of pytest."""

    engine: str
    arguments: list[str]
    yields: bool = False  # it takes a processor only when no other program wants it

    def label(self) -> str:
        """Name it."""
        paths = [argument for argument in self.arguments if not argument.startswith("-")]
        return ", ".join([f"{self.engine} engine", *paths])


class Outcome(NamedTuple):
    """What one run of pytest came to."""

    passed: int
    failures: list[str]  # a name and what was said, each


# Runs in the very process under test, before pytest can import anything from the checkout.
UNDER_TEST = """
import pathlib, sys
sys.path[:] = [entry for entry in sys.path if entry]
import shmmap
home = pathlib.Path(shmmap.__file__).resolve()
assert home.is_relative_to(pathlib.Path(sys.prefix).resolve()), f"shmmap is not installed: {home}"
assert shmmap.ENGINE == sys.argv[1], f"{shmmap.ENGINE} engine, not {sys.argv[1]}: {home}"
import pytest
sys.exit(pytest.main(sys.argv[2:]))
"""


def main(arguments: list[str]) -> int:
    """Run everything; return the exit code."""
    # A shell's background job ignores it, and so would the processes that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    compiles = can_compile()
    prepare(compiles)
    if not compiles:
        shout("NO COMPILER: only the pure engine is tested. apt-get install gcc python3-dev")
    failures = lint()
    passed = 0
    engines = ("compiled", "pure") if compiles else ("pure",)
    for jobs in plan(engines, arguments) if arguments != ["lint"] else ():
        for outcome in test(jobs):
            passed += outcome.passed
            failures += outcome.failures
        remove_of_dead_runs()  # what a run could not remove if it was killed
    if not compiles:
        shout("the compiled engine was NOT tested: there is no compiler")
    for failure in failures:
        shout(f"FAILED {failure}")
    print(f"{passed} passed, {len(failures)} failed", flush=True)
    return 1 if failures else 0


def shout(text: str) -> None:
    """Print what must not be overlooked."""
    print(f"\n{'=' * 79}\n{text}\n{'=' * 79}", flush=True)


def can_compile(header: str = "Python.h") -> bool:
    """Tell whether C that uses a header compiles, Python's if no other is said: tried."""
    words = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if not shutil.which(words[0]):
        return False
    command = [*words, "-fsyntax-only", f"-I{sysconfig.get_path('include')}", "-x", "c", "-"]
    made = subprocess.run(command, input=f"#include <{header}>\n".encode(), capture_output=True)
    return made.returncode == 0


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment without what could lead another package or engine in."""
    kept = {
        name: value for name, value in os.environ.items()
        if not name.startswith(("SHMMAP_", "PYTHON")) or name in FLAGS
    }
    return {**kept, **more}


def sources() -> list[Path]:
    """List the files that make up the package."""
    package = (TOP / "shmmap").rglob("*")
    inside = [p for p in package if p.suffix in (".py", ".pxd", ".pyi", ".html")
              or p.name == "py.typed"]
    build = ("setup.py", "pyproject.toml", "README.md", "building/shmmap_build.py")
    return sorted([*inside, *(TOP / name for name in build)])


def prepare(compiles: bool) -> None:
    """Make the environment, and install the package unless it is there as the sources are."""
    python = f"{sys.version} {sysconfig.get_path('include')}"
    said = [os.environ.get(name) for name in FLAGS]
    probes = compiles and can_compile("sys/sdt.h")  # the build heeds whether it is there
    digest = hashlib.sha256(f"{python} {compiles} {said} {probes}".encode())
    for path in sources():
        digest.update(f"{path.relative_to(TOP)}\0".encode() + path.read_bytes())
    wanted = f"{python!r}\n{digest.hexdigest()}\n"
    found = STAMP.read_text() if STAMP.exists() else ""
    if found == wanted:
        return
    if not PYTHON.exists() or found.split("\n")[0] != repr(python):
        shutil.rmtree(VENV, ignore_errors=True)
        print(f"making {VENV}", flush=True)
        try:
            venv.create(VENV, with_pip=True)
        except subprocess.CalledProcessError:
            sys.exit("no virtual environment can be made: apt-get install python3-venv")
        STAMP.write_text(f"{python!r}\n")  # the environment is of this Python; nothing installed
    copy_sources()
    install(compiles)
    STAMP.write_text(wanted)


def copy_sources() -> None:
    """Bring the build's copy up to date, file by file, so that the build sees what changed."""
    current = {path.relative_to(TOP): path for path in sources()}
    known = [p.relative_to(BUILD) for p in BUILD.glob("shmmap/**/*") if p.is_file()]
    gone = [p for p in known if p not in current and p.suffix in (".py", ".pxd", ".pyi", ".html")]
    setup = BUILD / "setup.py"
    same_setup = setup.exists() and setup.read_bytes() == (TOP / "setup.py").read_bytes()
    if gone or not same_setup:  # a build never forgets a module by itself
        shutil.rmtree(BUILD, ignore_errors=True)
    for relative, path in current.items():
        copy = BUILD / relative
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    (BUILD / "setup.cfg").write_text(f"[build_ext]\nparallel = {os.cpu_count() or 1}\n")


def install(compiles: bool) -> None:
    """Install the package's copy, and what its tests need."""
    print(f"installing {'both engines' if compiles else 'the pure engine'}", flush=True)
    environment = clean_environment(SHMMAP_BUILD="compiled" if compiles else "pure")
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    # The same version again is installed only over nothing.
    subprocess.run([*pip, "uninstall", "--yes", "shmmap"], env=environment, check=True,
                   stderr=subprocess.DEVNULL)
    everything = f"{BUILD}[test,docs,bench]"
    if subprocess.run([*pip, "install", everything], env=environment).returncode == 0:
        return
    if subprocess.run([*pip, "install", f"{BUILD}[test,docs]"], env=environment).returncode:
        sys.exit("the package could not be installed: see above")
    shout("not every peer of the benchmarks could be installed: theirs are left untested")


def pages() -> list[Path]:
    """List what is written for readers, but for the two pages that are written from runs."""
    made = {"failing-calls.md", "reentry.md"}
    found = [*TOP.glob("*.md")]
    for folder in ("docs", "bench", "examples"):
        found += [page for page in (TOP / folder).rglob("*.md") if page.name not in made]
    return sorted(found)


def lint() -> list[str]:
    """Run ruff, mypy, codespell and proselint, and build the documentation; give which of them
    found anything."""
    paths = [name for name in LINTED if (TOP / name).exists()]
    commands = {
        "ruff": [VENV / "bin" / "ruff", "check", "--output-format=concise", *paths],
        "mypy": [VENV / "bin" / "mypy", "--cache-dir", VENV / "mypy"],
        "codespell": [VENV / "bin" / "codespell", *paths, *sorted(TOP.glob("*.md"))],
        "proselint": [VENV / "bin" / "proselint", "check", *pages()],
        "documentation": [VENV / "bin" / "mkdocs", "build", "--strict"],
    }
    environment = clean_environment(NO_MKDOCS_2_WARNING="1")  # an advertisement
    return [f"{name}: see the first lines" for name, command in commands.items()
            if subprocess.run(command, cwd=TOP, env=environment).returncode]


def plan(engines: Sequence[str], arguments: list[str]) -> list[list[Job]]:
    """List what to run after each other: the jobs that go at once, or as many of them as the
    machine can do."""
    if arguments or (os.cpu_count() or 1) < 2:
        return [[Job(engine, arguments)] for engine in engines]
    apart = [f"--ignore={path}" for path in ALONE]
    taken = [f"--ignore={path}" for part in (EXPLORER, *PARTS) for path in part if path != "tests"]
    return [
        [Job("pure", ["--timeout=600", *EXPLORER], yields=True), *(
            Job(engine, [*part, *apart, *(taken if part == ("tests",) else ())])
            for part in PARTS for engine in engines)],
        *([Job(engine, list(ALONE))] for engine in engines),
    ]


def test(jobs: list[Job]) -> Iterator[Outcome]:
    """Run pytest for these jobs, one more at once than there are processors, since tests also
    wait, and beside them those that yield; return what each came to."""
    most = 1 + (os.cpu_count() or 1)
    waiting, running = list(enumerate(jobs)), list[Run]()
    while waiting or running:
        while waiting and sum(not run.job.yields for run in running) < most:
            running.append(Run(*waiting.pop(0), alone=len(jobs) == 1))
        ended = next((run for run in running if run.process.poll() is not None), None)
        if ended is None:
            time.sleep(0.1)
            continue
        running.remove(ended)
        yield ended.outcome()


class Run:
    """A pytest that runs."""

    def __init__(self, number: int, job: Job, alone: bool) -> None:
        self.job = job
        self.began = time.monotonic()
        self.report = VENV / f"report-{number}.xml"
        self.report.unlink(missing_ok=True)
        self.said = None if alone else TemporaryFile()  # noqa: SIM115
        if alone:
            print(f"\n{job.engine} engine", flush=True)
        path = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        command = [*(("nice", "-n", "10") if job.yields else ()), PYTHON, "-c", UNDER_TEST]
        self.process = subprocess.Popen(
            [*command, job.engine, *job.arguments, f"--junitxml={self.report}"],
            cwd=TOP, env=clean_environment(SHMMAP_ENGINE=job.engine, PATH=path), stdout=self.said,
            stderr=self.said and subprocess.STDOUT,
        )

    def outcome(self) -> Outcome:
        """Tell what it said, and return what it came to, once it has ended."""
        if self.said is not None:  # what several jobs say is told one by one
            seconds = time.monotonic() - self.began
            print(f"\n{self.job.label()}: {seconds:.0f} s beside others", flush=True)
            self.said.seek(0)
            shutil.copyfileobj(self.said, sys.stdout.buffer)
            sys.stdout.flush()
            self.said.close()
        return read(self.report, self.job, self.process.returncode)


def read(report: Path, job: Job, code: int) -> Outcome:
    """Read from pytest's report how many tests passed, and which failed with what words."""
    passed, failures = 0, []
    cases = ElementTree.parse(report).getroot().iter("testcase") if report.exists() else ()
    for case in cases:
        bad = [part for part in case if part.tag in ("failure", "error")]
        passed += not bad and case.find("skipped") is None
        name = f"{case.get('classname')}.{case.get('name')}, {job.engine} engine"
        failures += [f"{name}\n{part.text}" for part in bad]
    if code and not failures:
        failures = [f"pytest, {job.label()}: it broke off with exit code {code}"]
    return Outcome(passed, failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
