"""The fixtures for users' tests: fresh maps, and nothing left, however tests end; in parallel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ...support.engines import once
from ...support.leftovers import SHM

pytestmark = once
CONFTEST = 'pytest_plugins = ["shmmap.testing.plugin"]\n'


def ours() -> set[str]:
    """List the maps of fixtures that nobody has: other runs of this machine have theirs."""
    return {entry for entry in os.listdir(SHM) if entry.startswith("shmmap.pytest-")
            and not Path("/proc", entry.split("-")[1]).exists()}


def run(folder: Path, tests: str, *arguments: str, conftest: str = CONFTEST) -> tuple[int, str]:
    """Run tests as a user does; return the exit code and what was said. It may leave nothing."""
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_it.py").write_text("import os, pytest, shmmap\n" + tests)
    before = ours()
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "--strict-markers", "-p",
         "no:cacheprovider", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=100,
    )
    assert not ours() - before, ran.stdout
    return ran.returncode, ran.stdout + ran.stderr


def test_each_test_has_a_map_of_its_own(tmp_path):
    code, said = run(tmp_path, """
seen = set()
@pytest.mark.parametrize("number", range(5))
def test_fresh(shmmap_map, number):
    assert len(shmmap_map) == 0 and shmmap_map.name not in seen
    assert type(shmmap_map) is shmmap.ShmMap
    assert 3e6 < shmmap_map.stats().size_bytes <= 4e6
    shmmap_map["a"] = 1
    seen.add(shmmap_map.name)
    assert any(entry.startswith(f"shmmap.{shmmap_map.name}.") for entry in os.listdir("/dev/shm"))
""")
    assert code == 0 and "5 passed" in said, said


@pytest.mark.parametrize("kind", ["shared", "local"])
def test_however_a_test_ends_nothing_is_left(tmp_path, kind):
    code, said = run(tmp_path, """
@pytest.fixture(autouse=True)
def none_left(request):
    yield
    from shmmap.testing import local_maps
    assert not local_maps._maps

def test_closed(shmmap_map):
    shmmap_map.close()

def test_unlinked(shmmap_map):
    shmmap_map.unlink()

def test_both(shmmap_map):
    shmmap_map.unlink()
    shmmap_map.close()

def test_made_anew(shmmap_map, shmmap_class, shmmap_name):
    shmmap_map.unlink()
    shmmap_map.close()
    again = shmmap_class(shmmap_name, size="1MB", mode=0o666)
    again["a"] = 1
    again.close()

def test_two_handles(shmmap_map, shmmap_class):
    other = shmmap_class.attach(shmmap_map.name)
    other["a"] = 1
    assert shmmap_map["a"] == 1
    other.close()

def test_only_a_name(shmmap_name, shmmap_class):
    shmmap_class(shmmap_name, size="1MB").close()

def test_no_map_of_that_name(shmmap_name):
    pass

def test_fails(shmmap_map):
    assert shmmap_map["a"]
""", "-o", f"shmmap_kind={kind}")
    assert code == 1 and "1 failed, 7 passed" in said and "KeyError" in said, said


def test_the_marker_says_how(tmp_path):
    code, said = run(tmp_path, """
@pytest.mark.shmmap_map(capacity=100, ttl=60, near=5)
class TestIt:
    def test_it(self, shmmap_map):
        shmmap_map["a"] = 1
        assert 59 < shmmap_map.ttl("a") <= 60 and shmmap_map.stats().slots < 1000

    @pytest.mark.shmmap_map(size="300kB")
    def test_the_nearest_counts(self, shmmap_map):
        shmmap_map["a"] = 1
        assert shmmap_map.ttl("a") is None and shmmap_map.stats().size_bytes < 300_000

@pytest.mark.shmmap_map(sizes="1MB")
def test_wrong(shmmap_map):
    pass
""")
    assert code == 1 and "2 passed, 1 error" in said and "sizes" in said, said


def test_an_unknown_kind_is_refused(tmp_path):
    code, said = run(tmp_path, "def test_it(): pass\n", "-o", "shmmap_kind=mock")
    assert code == 4 and "shmmap_kind = 'mock' must be one of shared, local, auto" in said


def test_on_the_command_line(tmp_path):
    code, said = run(tmp_path, "def test_it(shmmap_map): pass\n", "-p", "shmmap.testing.plugin",
                     conftest="")
    assert code == 0 and "1 passed" in said, said


def test_without_it_nothing_is_imported(tmp_path):
    code, said = run(tmp_path, "import sys\ndef test_it():\n"
                     "    assert 'shmmap.testing' not in sys.modules\n", conftest="")
    assert code == 0, said


PARALLEL = """
import multiprocessing, time

def work(m):
    for _ in range(50):
        m.incr("n")

@pytest.mark.parametrize("number", range(12))
def test_alone(shmmap_map, number):
    started = [multiprocessing.get_context("spawn").Process(target=work, args=(shmmap_map,))
               for _ in range(number % 2)]
    for one in started: one.start()
    work(shmmap_map)
    for one in started: one.join()
    assert shmmap_map["n"] == 50 * (1 + len(started)) and len(shmmap_map) == 1
"""


def test_workers_of_xdist_do_not_meet(tmp_path):
    pytest.importorskip("xdist")
    code, said = run(tmp_path, PARALLEL, "-n", "3")
    assert code == 0 and "12 passed" in said, said


def test_runs_at_the_same_time_do_not_meet(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text("import pytest\n" + PARALLEL.replace("% 2", "% 1"))
    before = ours()
    runs = [
        subprocess.Popen([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
                         cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    said = [one.communicate(timeout=100)[0] for one in runs]
    assert [one.returncode for one in runs] == [0, 0, 0], said
    assert not ours() - before
