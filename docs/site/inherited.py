"""An extension of griffe: a method without a docstring has that of the class it overrides.

ShmMap repeats a few methods of the compiled classes only to give their types.
"""

from __future__ import annotations

from typing import Any

import griffe


class Inherited(griffe.Extension):
    """Copy docstrings down."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Go over ShmMap once all modules are known."""
        if pkg.name != "shmmap":
            return
        shm_map = pkg["map.ShmMap"]
        for name, method in shm_map.members.items():
            if method.is_function and not method.docstring and not name.startswith("_"):
                for base in shm_map.mro():
                    found = base.members.get(name)
                    if found is not None and found.docstring:
                        method.docstring = found.docstring
                        break
