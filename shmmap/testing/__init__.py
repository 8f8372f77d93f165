"""For tests and development: LocalMap, a map of one process; LocalStore, a store behind a Tiered in
this process; and a plugin for pytest."""

from .. import _once
from .local_map import LocalMap
from .local_store import LocalStore

_once.remember("shmmap")  # imported again, this would have another list of the process's maps

__all__ = ["LocalMap", "LocalStore"]
