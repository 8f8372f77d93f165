"""Elsewhere than on Linux: everything can be imported, the first shared map says what is missing,
and LocalMap does what it does here. In interpreters that take themselves for a Mac's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import shmmap
from shmmap import _engine

from ...support.engines import once
from ...support.every_method import CALLS, outcome

TOP = Path(__file__).resolve().parents[3]
START = f"""
import os, sys
sys.path[:] = [entry for entry in sys.path if entry]
sys.path.append({str(TOP)!r})
sys.path.insert(0, {str(Path(shmmap.__file__).parents[1])!r})
from tests.support.darwin import pretend
"""
MAC = START + """
pretend()
import warnings
warnings.simplefilter("error")
"""
SHARED = """
import errno, shmmap
ways = [
    lambda: shmmap.ShmMap("mac"), lambda: shmmap.ShmMap.create("mac", size="1MB"),
    lambda: shmmap.ShmMap.attach("mac"), lambda: shmmap.ShmMap.load(sys.argv[1], "mac"),
]
for way in ways:
    try:
        way()
    except shmmap.ShmMapError as error:
        assert isinstance(error, OSError) and error.errno == errno.ENOSYS
        print(type(error).__name__, error)
"""
METHODS = """
import json, shmmap
from shmmap.testing import LocalMap
from tests.support.every_method import CALLS, outcome
found = {}
for number, method in enumerate(CALLS):
    folder = os.path.join(sys.argv[1], method)
    os.mkdir(folder)
    m = LocalMap(f"mac-{number}", size="300kB", shards=2)
    found[method] = outcome(method, m, folder)
print(shmmap.ENGINE)
print(json.dumps(found))
"""
FORK = """
import shmmap, threading
from shmmap.testing import LocalMap
m = LocalMap("mac", size="300kB")
m["n"] = 1
child = os.fork()
if not child:
    warnings.simplefilter("ignore")
    m.incr("n")
    with m.lock("l", timeout=5):
        os._exit(m["n"] if m.check() == [] else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
assert m["n"] == 1
@shmmap.cached(m)
def double(n):
    return 2 * n
assert [double(2), double(2), double(n=2)] == [4, 4, 4]
def work():
    for _ in range(200):
        m.incr("n")
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(m["n"], m.check())
"""
COMMANDS = """
import contextlib, io
from shmmap.tools import cli
for command in (["ls"], ["info", "x"], ["fsck", "x"], ["unlink", "x"], ["dump", "x", "y"],
                ["load", "y", "x"], ["doctor"], ["torture"]):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = cli.main(command)
    print(command[0], code, "need Linux, and this is darwin" in said.getvalue())
"""
CONTRACT = START + """
import pytest
import tests.support.leftovers as leftovers  # there is no /dev/shm to look for them
leftovers.of_run, leftovers.remove_of_dead_runs = lambda pid: [], lambda: 0
pretend()
top = sys.argv[1]
sys.exit(pytest.main([
    "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:requests_mock",
    "--rootdir", top,
    "-c", f"{top}/pyproject.toml", f"{top}/tests/contract/test_local_map.py", "-k",
    "TestManyShards or TestEvictingCache or TestTtl or random",
]))
"""
pytestmark = once


def as_mac(code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python that takes itself for a Mac's."""
    environment = {name: value for name, value in os.environ.items() if name != _engine.VARIABLE}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=110,
        cwd="/", env={**environment, **variables},
    )


def test_the_first_map_says_what_is_missing(make, tmp_path):
    m = make()
    m["a"] = 1
    m.dump(tmp_path / "dump")
    ended = as_mac(MAC + SHARED, str(tmp_path / "dump"))
    assert ended.returncode == 0 and ended.stderr == "", ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == 4 and len(set(lines)) == 1
    assert lines[0].startswith("SystemCallError map 'mac': maps that processes share need Linux, "
                               "and this is darwin, without /dev/shm, /proc, posix_fallocate, ")
    assert "shmmap.testing.LocalMap" in lines[0] and "docs/guide/testing.md" in lines[0]
    assert (TOP / "docs/guide/testing.md").exists()


def test_every_method_of_a_local_map_works(name, tmp_path):
    import json

    from shmmap.testing import LocalMap

    ended = as_mac(MAC + METHODS, str(tmp_path))
    assert ended.returncode == 0 and ended.stderr == "", ended.stderr
    engine, found = ended.stdout.splitlines()
    assert engine == "pure"
    for number, (method, said) in enumerate(json.loads(found).items()):
        folder = tmp_path / f"{method}-here"
        folder.mkdir()
        m = LocalMap(f"{name}-{number}", size="300kB", shards=2)
        assert outcome(method, m, str(folder)) == said
        if not m.closed:
            m.unlink()
            m.close()
    assert set(json.loads(found)) == set(CALLS)


def test_forks_threads_and_cached(tmp_path):
    ended = as_mac(MAC + FORK)
    assert (ended.stdout, ended.stderr) == ("601 []\n", "")


def test_the_contract_holds():
    ended = as_mac(CONTRACT, str(TOP))
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]


def test_commands_say_it_too():
    ended = as_mac(MAC + COMMANDS)
    assert ended.stdout.splitlines() == [
        f"{command} 1 True" for command in
        ("ls", "info", "fsck", "unlink", "dump", "load", "doctor", "torture")
    ], ended.stderr
    assert as_mac(MAC + "from shmmap.tools import cli\nsys.exit(cli.main(['size', '--entries', "
                        "'5']))").returncode == 0


def test_the_compiled_engine_is_not_promised():
    ended = as_mac(MAC + "import shmmap", SHMMAP_ENGINE="compiled")
    assert "that engine runs on Linux only, and this is darwin: unset it" in ended.stderr


def test_where_there_is_no_posix_it_is_said_at_the_import():
    code = "import os, sys\nos.name, sys.platform = 'nt', 'win32'\nimport shmmap"
    assert "ImportError: shmmap runs on Linux, and for development on macOS; this is win32" in (
        as_mac(START + code).stderr)


def test_nothing_is_said_on_linux(make):
    from shmmap.system import elsewhere

    assert elsewhere.missing() == []
    elsewhere.refuse("nothing")
    m: Any = make()
    assert type(m) is shmmap.ShmMap
