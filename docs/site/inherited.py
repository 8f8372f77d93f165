"""An extension of griffe: what readers of the reference need and the sources cannot say.

- A method without a docstring has that of the class it overrides: ShmMap repeats a few methods of
  the compiled classes only to give their types.
- Parameters that begin with an underscore are for the package alone.
- A default that stands for "not given" is shown as `...`.
- An example becomes a block of code: a line that begins with `>>>` would be a quotation.
- Two asterisks between numbers are a power, not the beginning of bold text.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

NOT_GIVEN = {"DEFAULT", "UNSAID", "_UNSAID", "MISSING"}
NUMBERS = {"LOCK_TIMEOUT_S": "5.0"}
POWER = re.compile(r"(\d)\*\*(\d)")
EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.M)


class Inherited(griffe.Extension):
    """Mend what was read of the package."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Go over the package once all its modules are known."""
        if pkg.name != "shmmap":
            return
        shm_map = pkg["map.ShmMap"]
        for name, method in shm_map.members.items():
            if method.is_function and not method.docstring and not name.startswith("_"):
                bases = (base.members.get(name) for base in shm_map.mro())
                found = next((base for base in bases if base is not None and base.docstring), None)
                method.docstring = found and found.docstring
        mend(pkg)


def mend(thing: Any) -> None:
    """Mend the signatures and docstrings of a module or class, and of all in it."""
    if thing.is_alias:
        return
    if thing.docstring:
        text = EXAMPLE.sub(r"```pycon\n\g<0>\n```", thing.docstring.value)
        thing.docstring.value = POWER.sub(r"\1\\*\\*\2", text)
    if thing.is_function:
        shown = [parameter for parameter in thing.parameters if not parameter.name.startswith("_")]
        for parameter in shown:
            default = str(parameter.default)
            if default in NOT_GIVEN:
                parameter.default = "..."
            parameter.default = NUMBERS.get(default, parameter.default)
        thing.parameters = griffe.Parameters(*shown)
    for member in thing.members.values():
        mend(member)
