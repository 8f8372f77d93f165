"""A build of the map, for the bench only, whose reads take the lock of their shard.

One hot module is compiled again from the installed sources with two texts replaced; all the others
are the installed ones, so that nothing else differs.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path
from typing import Any, NamedTuple

from ...core.source_tree import CHECKOUT
from ...load.map_traffic import MapOpener, Store

MODULE = "operations._reads_cy"
PATIENCE_S = 300.0
CHANGES = (
    # no try without the lock ...
    ("for attempt in range(READ_TRIES):", "for attempt in range(0):"),
    # ... also not while waiting for it
    (
        "            raw = self.try_fetch(shard, key, found, wants_value)\n"
        "            if load(shard.mem, S_MOVED):\n"
        "                self.leave_moved(shard, key.hash >> UNIT_SHIFT)\n"
        "            if raw is not None:\n"
        "                return raw\n",
        "            if load(shard.mem, S_MOVED):\n"
        "                self.leave_moved(shard, key.hash >> UNIT_SHIFT)\n",
    ),
)


class Build(NamedTuple):
    """A compiled module as bytes, or why there is none."""

    file: str
    content: bytes
    problem: str = ""


def replaced(text: str, changes: Sequence[tuple[str, str]] = CHANGES) -> str:
    """Replace texts, each of which must be there exactly once.

    >>> replaced("a b", [("a", "c")])
    'c b'
    """
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"{MODULE}: {text.count(old)} times, not once: {old!r}")
        text = text.replace(old, new)
    return text


@cache
def locked_reads() -> Build:
    """Build the module, once in a run."""
    import shmmap

    if shmmap.ENGINE != "compiled":
        return Build("", b"", "locked reads need the compiled engine")
    if importlib.util.find_spec("Cython") is None:
        return Build("", b"", "locked reads need a build: pip install Cython setuptools")
    with tempfile.TemporaryDirectory(prefix="shmmap-bench-build-") as directory:
        return _build(Path(directory), Path(shmmap.__file__).parent)


def _build(directory: Path, package: Path) -> Build:
    sources = directory / "shmmap"
    shutil.copytree(package, sources, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    changed = sources / f"{MODULE.replace('.', '/')}.py"
    changed.write_text(replaced(changed.read_text()))
    listing = sources / "_engine.py"
    text, found = re.subn(r"MODULES = \([^)]*\)", f'MODULES = ("{MODULE}",)', listing.read_text())
    if found != 1:
        raise ValueError(f"_engine.py lists its modules {found} times, not once")
    listing.write_text(text)
    shutil.copy(CHECKOUT / "setup.py", directory)  # the flags and directives of the installed one
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=directory,
        capture_output=True, text=True, timeout=PATIENCE_S,
        env={**os.environ, "SHMMAP_BUILD": "compiled"},
    )
    built = next((file for suffix in EXTENSION_SUFFIXES
                  if (file := changed.with_suffix(suffix)).exists()), None)
    if done.returncode or built is None:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return Build("", b"", f"locked reads need a C compiler: {last[:200]}")
    return Build(built.name, built.read_bytes())


class _StandIn(MetaPathFinder):
    """Finds the changed module in place of the installed one."""

    def __init__(self, file: str) -> None:
        self.file = file

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != f"shmmap.{MODULE}":
            return None
        return importlib.util.spec_from_file_location(fullname, self.file)


class LockedOpener(NamedTuple):
    """Opens a map in a worker that has not imported shmmap yet, so that its reads lock.

    Attributes:
        name: the map's.
        file: where the built module lies.
    """

    name: str
    file: str

    def open(self) -> Store:
        """Attach."""
        sys.meta_path.insert(0, _StandIn(self.file))
        store = MapOpener(self.name).open()
        from shmmap.operations import _reads_cy

        if _reads_cy.__file__ != self.file:
            raise ImportError("shmmap was imported before, with the installed reads")
        return store
