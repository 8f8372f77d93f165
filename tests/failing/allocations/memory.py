"""The preloaded library that fails allocations, and how Python tells it which."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).with_name("memory.c")
ON, WHICH, AT, MANY, SEEN, FIRED = range(6)
ALLOCATORS = {"python": 1, "malloc": 2}
# The k-th alone, or it and many after it. Not all: CPython 3.11 goes round for ever where it
# cannot have the integer that it needs to enter a `finally`.
HOW = {"once": 1, "many": 60}


def build(folder: Path) -> Path:
    """Compile the library."""
    library = folder / "memory.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True
    )
    return library


class Outcome(NamedTuple):
    """What came of a call with a failing allocation."""

    result: Any
    error: BaseException | None
    fired: int  # how many allocations failed


class Faults:
    """The library in this process, into which it was preloaded. For one thread."""

    def __init__(self, library: str) -> None:
        loaded = ctypes.CDLL(library)
        words = (ctypes.c_long * 6).in_dll(loaded, "memory_words")
        self.words = memoryview(words).cast("B").cast("l")
        loaded.memory_of_python()
        loaded.memory_thread()

    def call(self, function: Callable[[], Any], which: int, at: int, many: int) -> Outcome:
        """Call a function with `many` allocations failing, from its `at`-th on."""
        words, on, off, kept, result = self.words, 1, 0, None, None
        words[WHICH], words[AT], words[MANY], words[SEEN], words[FIRED] = which, at, many, 0, 0
        try:
            words[ON] = on
            result = function()
            words[ON] = off
        except BaseException as error:
            words[ON] = off  # a store that allocates nothing
            kept = error
        return Outcome(result, kept, words[FIRED])
