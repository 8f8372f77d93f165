"""One copy of this package a process, however often it is imported.

Test runners and plugin hosts drop a package from sys.modules and import it again. A second copy
would know nothing of the maps that the first one has open: it would open their liveness files
again, and to close one of those drops the record locks by which the process counts as alive. So
the modules of the first import are kept where a second one finds them, and are what it gives.
"""

from __future__ import annotations

import sys
from types import ModuleType

_PLACE = "_shmmap_modules"  # an attribute of sys, which nobody imports anew


def restore(package: str, file: str) -> None:
    """Put back the modules of an earlier import in this process, if there was one.

    Raises:
        ImportError: that was another copy of the package.
    """
    kept: dict[str, ModuleType] | None = getattr(sys, _PLACE, None)
    if kept is None:
        return
    first = kept[package].__file__
    if first != file:
        raise ImportError(
            f"shmmap was imported from {first} before in this process, and a process can have one "
            f"copy of it: the kernel's record locks belong to the process. Not imported: {file}"
        )
    sys.modules.update(kept)


def remember(package: str) -> None:
    """Keep the modules that are imported now."""
    setattr(sys, _PLACE, {
        name: module for name, module in list(sys.modules.items())
        if name == package or name.startswith(f"{package}.")
    })
