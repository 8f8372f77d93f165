"""The examples: their protocol at every point of death, and each script run as a reader would."""

from __future__ import annotations

import ast
import copy
import importlib.util
import io
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from shutil import which
from typing import Any

import pytest

import shmmap

from ..support.engines import once
from ..support.leftovers import objects_of

EXAMPLES = Path(__file__).parents[2] / "examples"
INDEX = EXAMPLES / "01_index_stdlib.py"
TERMINALS = EXAMPLES / "02_two_terminals.py"
LIMIT_S = 100
PACKAGE = "email"  # small, and its modules need each other


def load(path: Path) -> Any:
    """Import an example, whose name is not an identifier."""
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(*command: Any, **more: str) -> subprocess.CompletedProcess[str]:
    """Run an example to its end; subprocess.run kills and reaps it when the time is up."""
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=LIMIT_S,
        env={**os.environ, **more}, cwd=EXAMPLES,
    )


# -- the work of the index -------------------------------------------------------------

CORPUS = {
    "base.py": 'def make(a, b=1):\n    """Make it."""\n\nclass Thing:\n    def work(self): ...\n',
    "front.py": "from base import make as build, Thing\nLIMIT = 3\n",
    "stars.py": "from front import *\n",
    "pack/__init__.py": "from . import inner\nfrom .inner import deep as shallow\n",
    "pack/inner.py": "import base\nfrom sys import exit\ndef deep(): base.make(1)\n",
    "user.py": "import stars, pack.inner as p\nfrom front import build\nbuild(), stars.Thing.work, "
               "p.deep, stars.LIMIT\ndef late():\n    import pack\n"
               "    pack.shallow, pack.nothing\n",
    "circle.py": "from circle2 import x\n",
    "circle2.py": "from circle import x\nimport circle\ncircle.x\n",
    "broken.py": "def (:\n",
}


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example as a module."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return load(INDEX)


@pytest.fixture
def corpus(tmp_path: Path) -> dict[str, Path]:
    """A few modules that import each other."""
    modules = {}
    for name, text in CORPUS.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        modules[name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")] = path
    return modules


def alone(modules: dict[str, Path]) -> dict[str, Any]:
    """Make all reports with dicts, in this process."""
    sources = sys.modules["index_stdlib.sources"]
    indexes, names = {}, {}
    for module in modules:
        indexes[module], entries = sources.index_module(module, modules)
        names.update({(module, name): entry for name, entry in entries.items()})
    library = sources.Library(modules, indexes.__getitem__, names.get)
    return {module: library.report(module) for module in modules}


def test_names_are_followed_to_their_definition(index: Any, corpus: dict[str, Path]) -> None:
    reports = alone(corpus)
    assert dict(reports["user"].found) == {
        "front.build": "base:1 make(a, b=1)",
        "stars.Thing.work": "base:5 Thing.work(self)",
        "stars.LIMIT": "front:2 LIMIT",
        "pack.inner.deep": "pack.inner:3 deep()",
        "pack.shallow": "pack.inner:3 deep()",
    }
    assert reports["user"].missing == ("pack.nothing",)
    assert reports["user"].modules == 6  # front, stars, base, pack, pack.inner, and itself
    assert reports["circle2"].missing == ("circle.x",)
    assert reports["broken"] == (1, 1, (), ())


def test_definitions_of_the_library_are_where_the_reports_say(index: Any) -> None:
    """Looked up by another way: the line of the source has the word."""
    modules = {module: path for module, path in index.list_modules().items()
               if module.partition(".")[0] in ("os", "posixpath", "genericpath", "re", "fnmatch",
               "glob", "json", "stat", "functools", "contextlib", "shlex", "shutil", "bisect")}
    lines = {module: path.read_text("latin-1").splitlines() for module, path in modules.items()}
    places = {place for report in alone(modules).values() for _, place in report.found}
    found = [re.fullmatch(r"([\w.]+):(\d+) ([\w.]+).*", place, re.S) for place in places]
    checked = 0
    for match in filter(None, found):
        module, line, word = match.groups()
        assert word.rpartition(".")[2] in lines[module][int(line) - 1], match[0]
        checked += 1
    assert checked > 50


# -- its protocol, with real deaths ----------------------------------------------------


class Fatal:
    """A map that kills its process before its operation number `fatal`, or between the
    computing of a value and its storing, which counts as one too."""

    def __init__(self, m: Any, fatal: int) -> None:
        self._map, self._fatal, self.operations = m, fatal, 0

    def _step(self) -> Any:
        if self.operations == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        self.operations += 1
        return self._map

    def get(self, key: Any) -> Any:
        return self._step().get(key)

    def incr(self, key: Any) -> Any:
        return self._step().incr(key)

    def set_many(self, entries: Any) -> None:
        for key, value in entries.items():  # one by one: it can be cut short anywhere
            self._step().set(key, value)

    def get_or_set(self, key: Any, compute: Any) -> Any:
        def computed() -> Any:
            value = compute()
            self._step()
            return value

        return self._step().get_or_set(key, computed)


class Job:
    """The corpus, a map, and workers that can be killed at each operation."""

    def __init__(self, index: Any, corpus: dict[str, Path]) -> None:
        self.crew = sys.modules["index_stdlib.crew"]
        self.modules, self.truth = corpus, alone(corpus)
        self.cache = index.SharedMap(corpus)
        self.m = self.cache.m
        self.restart()

    def restart(self) -> None:
        """Begin again, with an empty map."""
        self.m.clear()
        self.board = self.crew.Board(8, len(self.modules))

    def work(self, number: int, fatal: int = -1) -> int:
        """Have a process do all that is left, or die; return how many operations it began."""
        count = self.crew.RawArray(self.crew.ctypes.c_int, 1)

        def body() -> None:
            cache = copy.copy(self.cache)
            cache.m = fated = Fatal(self.m, fatal)
            self.crew.Worker(cache, self.modules, self.board, number).work()
            count[0] = fated.operations

        process = multiprocessing.get_context("fork").Process(target=body)
        process.start()
        process.join(LIMIT_S)
        assert process.exitcode == (0 if fatal < 0 else -signal.SIGKILL)
        return count[0]

    def is_exact(self) -> bool:
        """Compare all reports with the truth, and the map with its rules."""
        keys = [(module, self.crew.REPORT) for module in self.modules]
        reports = {module: report for (module, _), report in self.cache.reports(keys).items()}
        return reports == self.truth and self.m.check() == []

    def again(self) -> int:
        """How many indexes were computed more than once."""
        return self.board.indexes() - sum(map(any, zip(*self.board.begun, strict=True)))


@pytest.fixture
def job(index: Any, corpus: dict[str, Path]) -> Any:
    made = Job(index, corpus)
    yield made
    made.cache.end()


@pytest.mark.timeout(300)
def test_a_worker_may_die_at_every_operation(job: Job) -> None:
    operations = job.work(0)
    assert job.is_exact() and job.again() == 0 and operations > 60
    for fatal in range(0, operations, 4 if shmmap.ENGINE == "pure" else 1):  # the slower engine
        job.restart()
        job.work(0, fatal)
        job.work(1)
        assert job.is_exact(), f"the worker died before operation {fatal}"
        assert job.again() <= 1, f"the worker died before operation {fatal}"


def test_its_successors_may_die_too(job: Job) -> None:
    for seed in range(15):
        chance = random.Random(seed)
        job.restart()
        for number in range(4):
            job.work(number, chance.randrange(20))
        job.work(4)
        assert job.is_exact(), f"seed {seed}"
        assert job.again() <= 4, f"seed {seed}"


@once
def test_an_index_before_its_names_would_be_wrong(job: Job, monkeypatch: Any) -> None:
    """The tests above can fail: in another order they do."""
    index_module = job.crew.index_module

    def compute(self: Any, module: str) -> Any:
        index, names = index_module(module, self._modules)
        self._cache.put({(module, job.crew.INDEX): index})
        self._cache.put({(module, name): entry for name, entry in names.items()})
        return index

    monkeypatch.setattr(job.crew.Worker, "_compute", compute)
    wrong = 0
    for fatal in range(0, job.work(0), 3):
        job.restart()
        job.work(0, fatal)
        try:
            job.work(1)
        except AssertionError:  # it found no names, and failed
            wrong += 1
        else:
            wrong += not job.is_exact()
    assert wrong > 3


# -- the scripts -----------------------------------------------------------------------

ROW = re.compile(
    r"^(\S.*?) +([\d.]+) +([\d.]+) +([\d,]+) +([\d,]+) +([\d.-]+|unknown) +([\d.]+)  "
    r"(all [\d,]+ exact|WRONG)$", re.M,
)


def rows_of(said: str) -> dict[str, tuple[int, int, float, str]]:
    """Read the table: indexes, those computed again, shared MB, and the verdict."""
    return {match[1]: (int(match[4].replace(",", "")), int(match[5].replace(",", "")),
                       float(match[7]), match[8]) for match in ROW.finditer(said)}


@pytest.mark.parametrize("seed", [1, 2])
def test_index_is_exact_with_a_worker_killed_inside_a_computation(seed: int) -> None:
    total = sum(1 for _ in Path(sysconfig.get_path("stdlib"), PACKAGE).rglob("*.py"))
    done = run(INDEX, "--only", PACKAGE, "--workers", 4, "--seed", seed)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    rows = rows_of(done.stdout)
    assert {row[3] for row in rows.values()} == {f"all {total} exact"}, said
    assert rows["one process, a dict"][:2] == rows["shmmap"][:2] == (total, 0)
    assert rows["a cache per process"][1] > 0
    assert rows["shmmap"][2] > 0
    died = re.search(r"SIGKILL to worker (\d) inside the index of ([\w.]+), with \d+ of "
                     rf"{total} reports made; worker (\d) computed it again", said)
    assert died is not None, said
    assert died[1] != died[3]
    assert rows["shmmap, one killed"][:2] == (total + 1, 1)
    assert done.stdout.count("damage: ") == done.stdout.count("damage: none") >= 2
    assert "redis" in rows or "\nredis                     not measured: " in done.stdout


def test_index_leaves_nothing_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, INDEX, "--only", "json", "--workers", "3"], cwd=EXAMPLES,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # a socket, and a server's, would be there
    )
    try:
        assert process.wait(LIMIT_S) in (0, 2)  # 2: it is so small that none may be hit
    finally:
        process.kill()
        process.wait()
    assert list(tmp_path.iterdir()) == []
    left = [entry for entry in os.listdir("/dev/shm") if f"index-stdlib-{process.pid}" in entry]
    assert left == []


def test_index_fails_when_a_report_is_wrong(tmp_path: Path) -> None:
    """A mistake in the truth, and the exit code tells."""
    script = tmp_path / "wrong.py"
    script.write_text(f"""
import importlib.util, sys
sys.path.insert(0, {str(EXAMPLES)!r})
spec = importlib.util.spec_from_file_location("example", {str(INDEX)!r})
example = importlib.util.module_from_spec(spec)
sys.modules["example"] = example
spec.loader.exec_module(example)
measure = example.measure
def mistaken(name, make, modules, workers, truth, killer=None):
    row = measure(name, make, modules, workers, truth, killer)
    if truth is None:
        row.outcome.reports["json.decoder"] = example.Report(0, 0, (), ())
    return row
example.measure = mistaken
if __name__ == "__main__":
    sys.exit(example.main())
""")
    done = run(script, "--only", "json", "--workers", 2)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "DISAGREES: shmmap: json.decoder: Report(" in done.stdout
    assert rows_of(done.stdout)["shmmap"][3] == "WRONG"


@pytest.mark.parametrize(("client", "reason"), [
    ("raise ImportError", "its client is not installed: pip install redis"),
    ("", "no redis-server on the PATH: apt-get install redis-server"),
])
def test_the_table_says_that_redis_is_missing(tmp_path: Path, client: str, reason: str) -> None:
    (tmp_path / "redis.py").write_text(client)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    done = run(INDEX, "--only", "json", "--workers", 2, PYTHONPATH=path, PATH=str(tmp_path))
    assert done.returncode in (0, 2), done.stdout + done.stderr  # so few that none may be hit
    assert re.search(rf"^redis +not measured: {reason}$", done.stdout, re.M)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_fits_a_terminal_and_a_log(index: Any) -> None:
    for out in (Terminal(), io.StringIO()):
        progress = index.Progress("shmmap", 1000, out)
        for done in range(0, 1001, 5):
            progress.show(done)
        progress.finish()
        said = out.getvalue()
        assert f"[{'#' * 40}] 1,000 of 1,000 reports" in said and said.endswith("\n")
        if out.isatty():
            assert said.count("\r") == 41 and said.count("\n") == 1
        else:
            assert "\r" not in said and said.count("\n") == 5


@pytest.mark.parametrize("wrong", [("--workers", "1"), ("--only", "no_such")])
def test_index_refuses_bad_arguments(wrong: tuple[str, str]) -> None:
    done = run(INDEX, *wrong)
    assert done.returncode == 2
    assert wrong[0] in done.stderr and "Traceback" not in done.stderr


def test_no_time_to_tick(name: str) -> None:
    done = run(TERMINALS, "--name", name, "--seconds", "-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "I counted 0; the map has 0 in all\n"


def test_two_terminals_see_each_other(name: str) -> None:
    """The first ticks; the second begins meanwhile; both see the other, and no tick is lost."""
    command = [sys.executable, "-u", TERMINALS, "--name", name, "--seconds", "5"]
    started = []
    said = []
    try:
        for _ in range(2):
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, text=True, cwd=EXAMPLES
            )
            started.append(process)
            assert process.stdout is not None
            said.append(process.stdout.readline())
        said = [
            line + process.communicate(timeout=LIMIT_S)[0]
            for line, process in zip(said, started, strict=True)
        ]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert [process.returncode for process in started] == [0, 0]
    for mine, other in ((0, 1), (1, 0)):
        assert re.search(rf"me, {started[mine].pid}: \d+ \| {started[other].pid}: \d+", said[mine])
    totals = [re.search(r"I counted (\d+); the map has (\d+) in all", text) for text in said]
    assert totals[0] is not None and totals[1] is not None
    ticks = sum(int(found[1]) for found in totals)
    assert max(int(found[2]) for found in totals) == ticks
    assert not objects_of(name), "the last one out removes the map"


@once
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("0[4-9]_*.py")), ids=lambda path: path.stem)
def test_an_example_of_a_framework_runs_and_leaves_nothing(path: Path) -> None:
    process = subprocess.Popen([sys.executable, path.name], cwd=EXAMPLES, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        said, wrong = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
        process.wait()
    if "ModuleNotFoundError" in wrong:
        pytest.skip(wrong.splitlines()[-1])
    assert (process.returncode, wrong) == (0, ""), said + wrong
    assert not [left for left in os.listdir("/dev/shm") if str(process.pid) in left]


@pytest.mark.parametrize("path", [*sorted(EXAMPLES.glob("0[1245678]_*.py"))],
                         ids=lambda path: path.stem)
def test_its_help_explains_it_and_does_nothing_else(path: Path) -> None:
    done = subprocess.run([sys.executable, path.name, "--help"], cwd=EXAMPLES, text=True,
                          capture_output=True, timeout=LIMIT_S)
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert (done.returncode, done.stderr) == (0, "")
    described = " ".join(load_docstring(path).partition("\n\n")[0].split())
    assert done.stdout.startswith(f"usage: {path.name}")
    assert described in " ".join(done.stdout.split())


def test_the_extra_has_what_the_examples_import() -> None:
    """So that `pip install -e ".[examples]"`, once, is enough for all of them."""
    extras = (EXAMPLES.parent / "pyproject.toml").read_text()
    listed = re.findall(r'^examples = \[(.*)\]$', extras, re.MULTILINE)[0].lower()
    ours = {"shmmap", "psutil", "numpy", "index_stdlib", *sys.stdlib_module_names}
    ours.add("torch")  # too large to bring along: the example has a loader of its own
    for path in EXAMPLES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            for name in {name.partition(".")[0] for name in names} - ours:
                assert name.replace("_", "-") in listed, f"{path.name} imports {name}"


def test_the_readme_lists_each_example_with_its_command() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    numbered = sorted(path for path in EXAMPLES.glob("[0-9][0-9]_*.py"))
    assert len(numbered) >= 3
    for path in numbered:
        assert path.name in readme
        documented = re.findall(rf"^    (\S.*{path.stem}\S*)", load_docstring(path), re.MULTILINE)
        assert documented and documented[0] in readme


def load_docstring(path: Path) -> str:
    """Read a module's docstring without running it."""
    return ast.get_docstring(ast.parse(path.read_text()), clean=False) or ""


# -- two machines ----------------------------------------------------------------------


def test_two_machines_without_redis_s_client(tmp_path):
    if (which("redis-server") or which("valkey-server")) is None:
        pytest.skip("there is no redis-server")
    (tmp_path / "redis.py").write_text("raise ImportError")
    done = run(EXAMPLES / "10_two_machines.py", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "this needs redis's client: pip install redis\n"


BUSY = """
import socket, time

class Late(socket.socket):
    def listen(self, *given):
        time.sleep(0.3)
        super().listen(*given)

socket.socket = Late
"""  # on a busy machine the path of a socket is there long before anybody listens


def test_two_machines_and_a_wire_that_is_cut(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BUSY)
    wire = "a process" if shmmap.ENGINE == "pure" else "a network card"  # ten seconds each
    program = which("redis-server") or which("valkey-server")
    if program is None:
        pytest.skip("there is no redis-server")
    if wire == "a process":  # nothing but a redis is found, and no command that makes networks
        (tmp_path / "redis-server").symlink_to(program)
        done = run(EXAMPLES / "10_two_machines.py", PATH=str(tmp_path), PYTHONPATH=str(tmp_path))
        assert "root has network namespaces" in done.stdout
    else:
        done = run(EXAMPLES / "10_two_machines.py", PYTHONPATH=str(tmp_path))
        if "two network namespaces" not in done.stdout:
            pytest.skip("no network namespaces can be made here")
        assert not [name for name in os.listdir("/run/netns") if name.startswith("two")]
    assert done.returncode == 0, done.stdout + done.stderr
    assert "older than the bound of 500 ms: none" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines() if line[:6].strip().isdigit()]
    assert [line[1] for line in lines] == ["whole"] * 3 + ["cut"] * 3 + ["whole"] * 3
    pages = [[int(line[at].replace(",", "")) for line in lines] for at in (2, 6)]
    refused = [[int(line[at].replace(",", "")) for line in lines] for at in (5, 9)]
    assert min(pages[0]) > 20 and not any(refused[0]), "A never notices"
    assert refused[1][4] > 10 and pages[1][4] == 0, "B refuses"
    assert pages[1][8] > 20, "B is back"
