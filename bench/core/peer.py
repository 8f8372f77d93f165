"""What every store is to the runner: a peer."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import os
import shutil
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from .timing import gather_loop
from .workloads import VALUE_BYTES, Scale, Workload

_numbers = itertools.count()

Entries = Mapping[str, Any]


class Peer:
    """One store. Subclasses say what they are, and how each operation is written.

    Statements are the fastest that the store's users can write (not a wrapper: a call to one
    costs as much as a dict's operation). The runner puts them into a loop over `key`:

        get, miss, contains, get_object   leave `value`
        set, set_object                   write `value`
        incr                              leaves `value`, the new count
        delete                            leaves nothing; the key is there
        get_many                          `keys` -> `value`, a dict, or a list in their order
        set_many                          writes `mapping`

    What a store cannot do is absent. Keys are native_keys(), in `mapping` too.

    Attributes:
        name: as in tables and metrics.
        distribution: whose version is told, and that must be installed; "": nothing.
        modules: what must be importable; default: the distribution's name.
        requirement: for pip; default: the distribution's name.
        program: the server's; "": none.
        package: for apt, which brings the program.
        slow: has a limit to the operations of a batch.
        shared: other processes can open it by `address`, which a process takes along that is
            being spawned (it may hold a lock, which cannot be sent later).
        atomic_incr: no increment is lost between processes.
        most_entries: the most that it is filled with, if more would take minutes.
        setting: how it is set up, for the report.
        answers: statements leave something to verify.
        statements: operation -> statement.
    """

    name: ClassVar[str]
    distribution: ClassVar[str] = ""
    modules: ClassVar[tuple[str, ...]] = ()
    requirement: ClassVar[str] = ""
    program: ClassVar[str] = ""
    package: ClassVar[str] = ""
    slow: ClassVar[bool] = False
    shared: ClassVar[bool] = False
    atomic_incr: ClassVar[bool] = False
    most_entries: ClassVar[int | None] = None
    setting: ClassVar[str] = ""
    answers: ClassVar[bool] = True
    statements: ClassVar[Mapping[str, str]]
    address: Any = None
    handle: Any = None  # whatever open() opened
    made: bool = False

    def __init__(self, room: int, value_bytes: int = VALUE_BYTES) -> None:
        """Make an empty store for so many entries with values of this length, and open it."""
        self.made = True
        try:
            self.make(room, value_bytes)
            self.open()
        except BaseException:
            self.close()
            raise

    @classmethod
    def attach(cls, address: Any) -> Peer:
        """Open the store that another process made."""
        peer = cls.__new__(cls)
        peer.address = address
        peer.open()
        return peer

    @classmethod
    def missing(cls) -> str:
        """Return the command that installs this peer; "": it is there."""
        modules = cls.modules or ((cls.distribution,) if cls.distribution else ())
        steps = []
        if not all(map(_importable, modules)):
            steps.append(f"pip install {cls.requirement or cls.distribution}")
        if cls.program and shutil.which(cls.program) is None:
            steps.append(f"apt-get install {cls.package}")
        return " && ".join(steps)

    @classmethod
    def version(cls) -> str:
        """Return the peer's version."""
        if cls.distribution:
            return importlib.metadata.version(cls.distribution)
        return "standard library"

    @classmethod
    def limit(cls, scale: Scale, operation: str = "") -> int | None:
        """Return the most operations of a batch, for a peer that would take minutes; else None."""
        return scale.slow_batch if cls.slow else None

    @classmethod
    def fitting(cls, workload: Workload) -> Workload:
        """Return the workload, or one with as many keys as this peer is filled with."""
        scale = workload.scale
        if cls.most_entries is None or scale.keys <= cls.most_entries:
            return workload
        return Workload(scale._replace(keys=cls.most_entries))

    def make(self, room: int, value_bytes: int) -> None:
        """Make what open() opens, and note how it is found in `address`."""

    def open(self) -> None:
        """Open what is at `address`; the result is `handle`."""

    def fill(self, entries: Entries) -> None:
        """Write these entries (an int: a counter; what is not bytes: an object), all at once."""
        raise NotImplementedError

    def names(self) -> dict[str, Any]:
        """Return what the statements refer to."""
        raise NotImplementedError

    def native_keys(self, keys: list[str]) -> list[Any]:
        """Turn keys into what this peer takes, before the clock runs."""
        return keys

    @cached_property
    def _looking(self) -> Any:
        return gather_loop(self.statements["miss"], self.names())

    def read(self, key: str) -> Any:
        """Read one entry, for verification; None: there is none."""
        return self.read_all([key])[0]

    def read_all(self, keys: list[str]) -> list[Any]:
        """Read entries one by one, for verification, in a loop that is not timed."""
        found: list[Any] = self._looking(self.native_keys(keys), None)
        return found

    def close(self) -> None:
        """Let the store go, and remove it if this process made it."""
        try:
            if self.handle is not None:
                self.shut()
                self.handle = None
        finally:
            if self.made:
                self.made = False
                self.remove()

    def shut(self) -> None:
        """Let go of `handle`."""

    def remove(self) -> None:
        """Remove what make() made, or the part of it that it came to."""


def unique_name() -> str:
    """Return a map name that nobody else uses."""
    return f"bench-{os.getpid()}-{next(_numbers)}"


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False  # the package that it would be in
