"""One copy of this package a process, however often it is imported.

Test runners and plugin hosts drop a package, or some of its modules, from sys.modules and import
them again; %autoreload executes them again in place. A second copy would know nothing of the maps
that the first one has open: it would open their liveness files again, and to close one of those
drops the record locks by which the process counts as alive. So the modules of the first import are
kept where a second one finds them, and are what it gives: new code needs a new process.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_PLACE = "_shmmap_modules"  # an attribute of sys, which nobody imports anew


class _Again:
    """Loads a module by giving the one that is there, as it is; else as that one's loader."""

    def __init__(self, module: ModuleType, own: ModuleSpec) -> None:
        self._module = module
        self._own = own

    def __getattr__(self, name: str) -> object:
        return getattr(self._own.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Execute nothing; put back what the machinery of imports has changed."""
        module.__spec__, module.__loader__ = self._own, self._own.loader


class _Finder:
    """Finds the package's modules where they are kept, whoever dropped them from sys.modules. The
    package itself is found as ever: its first lines ask `restore`, which refuses another copy."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        module: Any = getattr(sys, _PLACE, {}).get(fullname)
        own = getattr(module, "__spec__", None)
        if own is None or "." not in fullname:
            return None
        spec = ModuleSpec(fullname, None, origin=own.origin)
        spec.loader = _Again(module, own)  # type: ignore[assignment]
        spec.submodule_search_locations = own.submodule_search_locations
        return spec


def _is_same(file: str | None, other: str) -> bool:
    """Tell whether two paths lead to the same file: one may go through a symbolic link."""
    if file is None or file == other:
        return file == other
    try:
        return os.path.samefile(file, other)
    except OSError:
        return False


def restore(package: str, file: str) -> None:
    """Put back the modules of an earlier import in this process, if there was one.

    Raises:
        ImportError: that was another copy of the package.
    """
    kept: dict[str, ModuleType] | None = getattr(sys, _PLACE, None)
    if kept is None:
        return
    first = kept[package].__file__
    if not _is_same(first, file):
        raise ImportError(
            f"shmmap was imported from {first} before in this process, and a process can have one "
            f"copy of it: the kernel's record locks belong to the process. Not imported: {file}"
        )
    sys.modules.update(kept)


def remember(package: str) -> None:
    """Keep the modules that are imported now."""
    setattr(sys, _PLACE, {
        name: module for name, module in sys.modules.copy().items()
        if name == package or name.startswith(f"{package}.")
    })
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
