"""Which engine runs: compiled where it was built, unless SHMMAP_ENGINE says otherwise."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec

# The one list of the hot modules, in the order of their floors: setup.py reads it from here.
MODULES = (
    "memory._clock_cy", "memory._hash_cy", "memory._figures_cy", "system._sigbus_cy",
    "shard._lock_cy",
    "shard._index_cy", "shard._slots_cy", "shard._expiry_cy", "shard._eviction_cy",
    "shard._lookup_cy", "shard._removing_cy", "shard._shard_cy", "shard._repair_cy",
    "shard._checking_cy",
    "shard._shadow_cy", "shard._moving_cy", "values._keys_cy", "values._others_cy",
    "values._packing_cy",
    "values._unpacking_cy", "values._codecs_cy",
    "operations._near_cy",
    "operations._handle_cy", "operations._holding_cy", "operations._decoding_cy",
    "operations._reads_cy", "operations._writes_cy", "operations._batches_cy",
    "operations._pop_any_cy", "operations._takes_cy",
    "operations._changes_cy", "operations._restore_cy", "operations._listing_cy",
    "operations._care_cy", "operations._cut_cy", "operations._moves_cy", "operations._needs_cy",
    "tiers._copies_cy",
)
VARIABLE = "SHMMAP_ENGINE"
_PACKAGE = os.path.dirname(os.path.abspath(__file__))  # not pathlib, which takes long to import


class _SourceFinder:
    """Import the hot modules from their .py files although compiled ones are there.

    Not a subclass of importlib.abc.MetaPathFinder: importing that takes longer than our engine.
    """

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != __package__ or name not in MODULES:
            return None
        import importlib.util

        source = f"{path_of(name)}.py"
        if not os.path.exists(source):
            raise ImportError(
                f"shmmap's pure engine needs {source}, which is not there; its compiled engine "
                f"is not complete, or not wanted ({VARIABLE}=pure). Install shmmap anew"
            )
        return importlib.util.spec_from_file_location(fullname, source)


def _in_main_interpreter() -> bool:
    api = ctypes.PyDLL(None)
    api.PyInterpreterState_Get.restype = api.PyInterpreterState_Main.restype = ctypes.c_void_p
    return bool(api.PyInterpreterState_Get() == api.PyInterpreterState_Main())


def path_of(module: str) -> str:
    """Return where the files of a module of this package are, but for what they end with."""
    return f"{_PACKAGE}/{module.replace('.', '/')}"


def compiled_modules() -> list[str]:
    """List the hot modules that have a compiled file for this interpreter."""
    return [
        name for name in MODULES
        if any(os.path.exists(path_of(name) + suffix) for suffix in EXTENSION_SUFFIXES)
    ]


def _refuse_hidden_cython() -> None:
    """Refuse a folder or module of the user's that stands in the place of Cython's."""
    try:
        import cython
    except ModuleNotFoundError:
        return  # as in most installations: see `_cython`
    if not hasattr(cython, "compiled"):
        where = getattr(cython, "__file__", None) or next(iter(cython.__path__), "?")
        raise ImportError(
            f"shmmap's pure engine uses Cython's module `cython` if there is one, and {where} is "
            "another one: rename it, or start Python elsewhere"
        )


def choose_engine() -> None:
    """Settle which engine this process runs, before any hot module is imported.

    SHMMAP_ENGINE: "compiled" (an ImportError if it is not there), "pure", or not set: compiled
    if it is there, else pure with one RuntimeWarning. Elsewhere than on Linux it is pure, for
    `testing.LocalMap`: see `system.elsewhere`.
    """
    if os.name != "posix":
        raise ImportError(
            f"shmmap runs on Linux, and for development on macOS; this is {sys.platform}. Use it "
            "in WSL 2, or in a container"
        )
    if not _in_main_interpreter():
        raise ImportError(
            "shmmap runs in a process's main interpreter only: the kernel's record locks, which "
            "tell the living from the dead, belong to the process, and a second interpreter would "
            "drop those of the first. Use processes instead; under mod_wsgi set "
            "WSGIApplicationGroup %{GLOBAL}"
        )
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "compiled", "pure"):
        raise ImportError(f'{VARIABLE}={wanted!r} must be "compiled" or "pure"')
    present = compiled_modules()
    is_linux = sys.platform == "linux"
    complete = len(present) == len(MODULES) and is_linux  # the C is Linux's
    if wanted == "compiled" and not complete:
        missing = sorted(set(MODULES) - set(present))
        raise ImportError(
            f"{VARIABLE}=compiled, but these modules are not compiled: {', '.join(missing)}. "
            f"{VARIABLE}=pure python -m shmmap doctor prints the command that compiles them"
            if is_linux else f"{VARIABLE}=compiled, but that engine runs on Linux only, and this "
            f"is {sys.platform}: unset it"
        )
    pure = wanted == "pure" or not complete
    if pure:
        _refuse_hidden_cython()
    if pure and present and not any(isinstance(one, _SourceFinder) for one in sys.meta_path):
        sys.meta_path.insert(0, _SourceFinder())
    if not wanted and not complete and is_linux:  # elsewhere nothing can be done about it
        why = "it was not compiled at installation"
        if os.path.exists(f"{_PACKAGE}/../setup.py"):
            why = (f"this is the source tree {os.path.dirname(_PACKAGE)}, which comes before any "
                   "installed copy on sys.path (start Python elsewhere to get that one)")
        warnings.warn(
            "shmmap runs its pure-Python engine, about 30 times slower than the compiled one: "
            f"{why}. `python -m shmmap doctor` says what to do; {VARIABLE}=pure silences this "
            "warning",
            RuntimeWarning, stacklevel=3,
        )
