"""The modules of a shard, for tests that stop or kill the pure engine at one of its stores: each
has names of its own for what stores."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from shmmap import _engine


def that_have(function: str) -> list[ModuleType]:
    """Return those that have a function of that name, whatever files they are by now."""
    modules = [import_module(f"shmmap.{name}") for name in _engine.MODULES
               if name.startswith("shard.")]
    return [module for module in modules if hasattr(module, function)]
