"""Every scenario."""

from __future__ import annotations

from . import commands, lives, operations
from .scenario import Scenario


def _of(module: object) -> list[type[Scenario]]:
    """List a module's own scenarios that have a name of theirs, as they stand in it."""
    return [
        one for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Scenario) and "name" in vars(one)
        and one.name and one.__module__ == module.__name__
    ]


ALL: tuple[type[Scenario], ...] = (*_of(lives), *_of(operations), *_of(commands))
BY_NAME = {scenario.name: scenario for scenario in ALL}
