"""The package, or a part of it, imported again where a map is open and a lock is held."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import shmmap

PACKAGE = Path(shmmap.__file__).parent
PROGRAM = """
import importlib, subprocess, sys
import shmmap
name, folder = sys.argv[1:]
m = shmmap.ShmMap.create(name, size="1MB", shards=1)
m["a"] = 1
lock = m.lock("l")
lock.acquire()
def drop(*names):
    for module in list(sys.modules):
        if module in names or not names and module.partition(".")[0] == "shmmap":
            del sys.modules[module]
def parts():
    return [module for module in sorted(sys.modules) if module.startswith("shmmap.")]
WAY
other = Map(name)
assert other["a"] == 1
other.close()
took = subprocess.run([sys.executable, "-c", '''
import shmmap, sys
print("took it" if shmmap.ShmMap(sys.argv[1]).lock("l", timeout=0.2).acquire() else "held")
''', name], capture_output=True, text=True)
assert took.stdout == "held\\n", (took.stdout, took.stderr)
lock.release()
m["a"] = 2
assert m.check() == []
m.unlink()
m.close()
print("ok")
"""
WAYS = {
    "the package": "drop(); import shmmap as again; Map = again.ShmMap",
    "two of its modules": """
drop("shmmap.lifecycle.opening", "shmmap.map")
import shmmap.lifecycle.opening
from shmmap.map import ShmMap as Map
""",
    "all its modules but the package": """
drop(*parts())
import shmmap.lifecycle.opening
from shmmap.map import ShmMap as Map
""",
    "all, and one of its modules first": "drop(); from shmmap.map import ShmMap as Map",
    "the package reloaded": "Map = importlib.reload(shmmap).ShmMap",
    "each module reloaded": """
before = shmmap.LockTimeout
for module in parts(): importlib.reload(sys.modules[module])
Map = importlib.reload(shmmap).ShmMap
assert shmmap.LockTimeout is before  # what is caught
""",
    "through a symbolic link": """
drop(); sys.path.insert(0, folder)
from shmmap import ShmMap as Map
""",
    "its modules seen by tools": """
import importlib.util, inspect
drop(*parts())
import shmmap.lifecycle.opening as again
assert importlib.reload(again) is again
found = importlib.util.find_spec("shmmap.lifecycle.opening")
assert found.origin == again.__file__ == again.__spec__.origin
assert "def join_map" in inspect.getsource(again) and again.__loader__ is again.__spec__.loader
Map = shmmap.ShmMap
""",
}


def run(code: str, name: str, folder: str) -> tuple[str, str]:
    """Run it on the package under test, from where there is no source tree to be found."""
    done = subprocess.run(
        [sys.executable, "-c", code, name, folder], cwd=Path(folder).parent,
        capture_output=True, text=True, timeout=60,
    )
    return done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize("way", WAYS)
def test_what_is_imported_again_is_what_is_there(name, tmp_path, way):
    (tmp_path / "shmmap").symlink_to(PACKAGE)
    assert run(PROGRAM.replace("WAY", WAYS[way]), name, str(tmp_path)) == ("ok\n", "")


def test_another_copy_is_refused(name, tmp_path):
    (tmp_path / "shmmap").mkdir()
    for file in PACKAGE.iterdir():
        (tmp_path / "shmmap" / file.name).symlink_to(file)
    copied = tmp_path / "shmmap" / "__init__.py"
    text = copied.read_text()
    copied.unlink()
    copied.write_text(text)
    way = """
drop(); sys.path.insert(0, folder)
try: import shmmap
except ImportError as error: assert "one copy" in str(error) and folder in str(error), error
else: raise AssertionError
sys.path.remove(folder)
import shmmap as again; Map = again.ShmMap
"""
    assert run(PROGRAM.replace("WAY", way), name, str(tmp_path)) == ("ok\n", "")


def fresh(code: str) -> str:
    """Run it in a new interpreter, and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_import_loads_what_a_map_needs_and_no_more():
    loaded = fresh(
        "import shmmap, sys\n"
        "print(sorted(name for name in sys.modules))\n"
        "before = set(sys.modules)\n"
        "m = shmmap.ShmMap(f'imports-{__import__(\"os\").getpid()}', size='1MB', ephemeral=True)\n"
        "m['a'] = 1; m.incr('a'); m.snapshot(); list(m.items()); m.check(); m.stats()\n"
        "with m.lock('l'): pass\n"
        "m.close()\n"
        "print(sorted(set(sys.modules) - before))\n"
    ).splitlines()
    first, later = (set(ast.literal_eval(line)) for line in loaded)
    assert not first & {"asyncio", "inspect", "ssl", "numpy", "psutil", "logging"}
    assert not {one for one in later if one.startswith("shmmap")}, later


def test_all_its_names_are_there_for_programs_and_for_type_checkers():
    tree = ast.parse(Path(shmmap.__file__).read_text())
    typed = {
        (alias.name, node.module) for block in tree.body if isinstance(block, ast.If)
        for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert {(name, home) for home, names in shmmap._LATER.items() for name in names} == typed
    for name in shmmap.__all__:
        assert getattr(shmmap, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Map'"):
        shmmap.Map  # noqa: B018
    said = [name for name in shmmap.__all__ if isinstance(getattr(shmmap, name), type)]
    assert {getattr(shmmap, name).__module__ for name in said} == {"shmmap"}


def test_threads_that_use_it_first_all_get_it():
    assert fresh(
        "import shmmap, sys, threading\n"
        "sys.setswitchinterval(1e-6)\n"
        "names, got = list(shmmap.__all__), []\n"
        "def use(first):\n"
        "    got.append([getattr(shmmap, n) for n in names[first:] + names[:first]])\n"
        "threads = [threading.Thread(target=use, args=(i * 5,)) for i in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "print(len(got), {len(one) for one in got} == {len(names)})\n"
    ) == "8 True\n"
