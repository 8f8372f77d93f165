"""The package, or a part of it, imported again where a map is open and a lock is held."""

from __future__ import annotations

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
