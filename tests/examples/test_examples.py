"""The examples: their protocol at every point of death, and each script run as a reader would."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import random
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import shmmap

EXAMPLES = Path(__file__).parents[2] / "examples"
INDEX = EXAMPLES / "01_index_stdlib.py"
TERMINALS = EXAMPLES / "02_two_terminals.py"
LIMIT_S = 100
FILES = {"compiled": 120, "pure": 40}[shmmap.ENGINE]  # so many that a worker dies inside of one


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


# -- the protocol of the index ---------------------------------------------------------


class Died(Exception):
    """Stands for SIGKILL: the worker does nothing more."""


class Watched:
    """A map whose every operation first calls `before(number of the operation)`."""

    def __init__(self, m: Any, before: Any) -> None:
        self._map, self._before, self.operations = m, before, 0

    def _begin(self) -> Any:
        self.operations += 1
        self._before(self.operations - 1)
        return self._map

    def get(self, *a: Any) -> Any:
        return self._begin().get(*a)

    def get_versioned(self, *a: Any) -> Any:
        return self._begin().get_versioned(*a)

    def cas(self, *a: Any, **k: Any) -> Any:
        return self._begin().cas(*a, **k)

    def delete(self, key: Any) -> Any:
        return self._begin().delete(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._begin()[key] = value


class Job:
    """A small corpus, and workers whose every map operation can be stopped at."""

    def __init__(self, folder: Path, make: Any) -> None:
        self.index = load(INDEX)
        for name, text in {
            "a.py": "x = x + y", "b.py": "x y z", "c.py": "z z x", "d.py": "x", "e.py": "",
            "f.py": "y x",
        }.items():
            (folder / name).write_text(text)
        self.plan = self.index.make_plan(folder, None, 2)
        self.words, self.sizes = self.index.recount(self.plan)
        self.m = make()
        self.clock = self.m.attachment.clock
        self.real_ns = self.clock.now_ns()

    def restart(self) -> None:
        """Begin with an empty map, the clock standing still."""
        self.m.clear()
        self.clock.frozen_ns = self.real_ns

    def let_leases_expire(self) -> None:
        """Turn the clock on."""
        self.clock.frozen_ns += int(2e9 * self.index.LEASE_S)

    def work(self, worker: int, before: Any = lambda operation: None) -> int:
        """Be a worker until all is done, or `before` raises Died; count its operations."""
        watched = Watched(self.m, before)
        with contextlib.suppress(Died):
            self.index.work(watched, self.plan, worker)
        return watched.operations

    def agrees(self) -> bool:
        """Compare the map with the recount."""
        return self.index.agrees(self.index.gather(self.m, 1.0), self.words, self.sizes)


def dies_at(fatal: int) -> Any:
    """Return a `before` that ends the worker at its operation number `fatal`."""

    def before(operation: int) -> None:
        if operation == fatal:
            raise Died

    return before


@pytest.fixture
def job(tmp_path: Path, make: Any) -> Any:
    made = Job(tmp_path, make)
    yield made
    made.clock.frozen_ns = -1


def test_the_corpus_has_what_can_go_wrong(job: Job) -> None:
    """Words in several files of one lane, and in both lanes; an empty file."""
    per_lane = [[job.plan.read(path)[1] for path in lane] for lane in job.plan.lanes]
    assert all(sum("x" in counts for counts in lane) >= 2 for lane in per_lane)
    assert any(not counts for lane in per_lane for counts in lane)


def test_a_worker_may_die_between_any_two_operations(job: Job) -> None:
    job.restart()
    operations = job.work(0)
    assert job.agrees() and operations > 50
    for fatal in range(operations):
        job.restart()
        job.work(0, dies_at(fatal))
        job.let_leases_expire()
        job.work(1)
        assert job.agrees(), f"the worker died before operation {fatal}"


def test_its_successors_may_die_too(job: Job) -> None:
    for seed in range(100):
        chance = random.Random(seed)
        job.restart()
        for worker in range(4):
            job.work(worker, dies_at(chance.randrange(60)))
            job.let_leases_expire()
        job.work(4)
        assert job.agrees(), f"seed {seed}"


def test_a_slow_worker_may_wake_beside_its_successor(job: Job) -> None:
    """At each operation in turn the first worker sleeps while another does the whole job."""
    job.restart()
    for slow in range(job.work(0)):
        job.restart()

        def before(operation: int, slow: int = slow) -> None:
            if operation == slow:
                job.let_leases_expire()
                job.work(1)

        job.work(0, before)
        assert job.agrees(), f"the first worker slept before operation {slow}"


def test_a_late_worker_does_not_turn_the_progress_back(job: Job) -> None:
    """It sleeps while another does the whole job, wakes, takes a few more steps, and dies."""
    job.restart()
    operations = job.work(0)
    for seed in range(100):
        chance = random.Random(seed)
        job.restart()
        slow = chance.randrange(operations)
        fatal = slow + chance.randrange(1, 12)

        def before(operation: int, slow: int = slow, fatal: int = fatal) -> None:
            if operation == slow:
                job.let_leases_expire()
                job.work(1)
            elif operation == fatal:
                raise Died

        job.work(0, before)
        assert job.index.count_files(job.m, job.plan) == job.plan.total, f"seed {seed}"
        assert job.agrees(), f"seed {seed}"


def test_two_workers_may_be_halfway_through_one_file(job: Job) -> None:
    """The successor dies part of the way; the slow one goes on; both halves overlap."""
    for seed in range(150):
        chance = random.Random(seed)
        job.restart()
        slow, fatal = chance.randrange(60), chance.randrange(60)

        def before(operation: int, slow: int = slow, fatal: int = fatal) -> None:
            if operation == slow:
                job.let_leases_expire()
                job.work(1, dies_at(fatal))
                job.let_leases_expire()

        job.work(0, before)
        job.let_leases_expire()
        job.work(2)
        assert job.agrees(), f"seed {seed}: slept at {slow}, the successor died at {fatal}"


def test_without_the_ledger_the_counts_would_be_wrong(job: Job, monkeypatch: Any) -> None:
    """The tests above can fail: a plain "read, add, write" does fail them."""

    def add(m: Any, plan: Any, word: str, times: int, lane: int, number: int) -> None:
        entry, version = m.get_versioned(word, plan.empty)
        changed = bytearray(entry)
        job.index.COUNT.pack_into(changed, 0, job.index.COUNT.unpack_from(entry)[0] + times)
        assert m.cas(word, bytes(changed), version)

    monkeypatch.setattr(job.index, "add_once", add)
    wrong = 0
    for fatal in range(60):
        job.restart()
        job.work(0, dies_at(fatal))
        job.let_leases_expire()
        job.work(1)
        wrong += not job.agrees()
    assert wrong > 5


# -- the scripts -----------------------------------------------------------------------


def count_apart(files: int) -> tuple[int, str, int]:
    """Count by other means than the example's: bytes, and one pass over all text."""
    plan = load(INDEX).make_plan(Path(sysconfig.get_path("stdlib")), files, 1)
    text = b"\n".join((plan.root / path).read_bytes() for path in plan.lanes[0])
    counts = Counter(re.findall(rb"[A-Za-z_][A-Za-z0-9_]*", text))
    word = min(counts, key=lambda word: (-counts[word], word))
    return sum(counts.values()), word.decode(), counts[word]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_index_agrees_with_a_worker_killed_inside_a_file(seed: int) -> None:
    done = run(INDEX, "--files", FILES, "--workers", 4, "--seed", seed)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    occurrences, word, times = count_apart(FILES)
    runs = done.stdout.count("\nrun ")
    assert runs >= 2
    assert done.stdout.count("counts agree exactly with the recount") == runs
    assert done.stdout.count(f"{occurrences:,} occurrences, {FILES} files") == runs
    assert f"top words:  {word} {times:,}," in done.stdout
    hit = re.search(r"SIGKILL to worker (\d+) .*\n  it died in (\S+\.py) \(lane \d+\), with "
                    r"([\d,]+) of ([\d,]+) words in; worker (\d+) went on", done.stdout)
    assert hit is not None, said
    victim, _, words_in, words, successor = hit.groups()
    hits = re.findall(r"with ([\d,]+) of ([\d,]+) words in; worker", done.stdout)
    assert victim != successor and int(hits[-1][0].replace(",", "")) > 0
    assert int(words_in.replace(",", "")) <= int(words.replace(",", ""))
    throughput = re.search(r"throughput: ([\d,]+) words/s, ([\d,]+) map operations/s", done.stdout)
    memory = re.search(r"in ([\d,]+) entries: ([\d.]+) times", done.stdout)
    assert throughput is not None and memory is not None
    assert float(memory[2]) > 1.0
    assert re.search(r"shards: +\d+, of [\d,]+ to [\d,]+ entries", done.stdout)


def test_index_leaves_nothing_behind() -> None:
    process = subprocess.Popen(
        [sys.executable, INDEX, "--files", "40", "--workers", "3", "--seed", "7"], cwd=EXAMPLES,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        assert process.wait(LIMIT_S) == 0
    finally:
        process.kill()
        process.wait()
    entries = os.listdir("/dev/shm")
    assert [entry for entry in entries if f"shmmap.index-{process.pid}" in entry] == []


def test_index_fails_when_the_counts_disagree(tmp_path: Path) -> None:
    """One occurrence more in the recount, and the exit code tells."""
    script = tmp_path / "wrong.py"
    script.write_text(f"""
import importlib.util, multiprocessing, sys
multiprocessing.set_start_method("fork")
spec = importlib.util.spec_from_file_location("index", {str(INDEX)!r})
index = importlib.util.module_from_spec(spec)
sys.modules["index"] = index
spec.loader.exec_module(index)
recount = index.recount
def miscount(plan):
    words, sizes = recount(plan)
    words["self"] += 1
    return words, sizes
index.recount = miscount
sys.exit(index.main())
""")
    done = run(script, "--files", 20, "--workers", 2, "--no-kill")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "DISAGREES: word 'self'" in done.stdout
    assert "1 disagreements" in done.stdout


def test_index_draws_its_own_bar_without_tqdm(tmp_path: Path) -> None:
    (tmp_path / "tqdm.py").write_text("raise ImportError('not installed')\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    done = run(INDEX, "--files", 20, "--workers", 3, "--no-kill", PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"[{'#' * 40}] 20/20 files" in done.stderr
    assert "SIGKILL" not in done.stdout


@pytest.mark.parametrize("wrong", [("--workers", "1"), ("--files", "0"), ("--files", "many")])
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
    assert not Path(f"/dev/shm/shmmap.{name}").exists(), "the last one out removes the map"


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
