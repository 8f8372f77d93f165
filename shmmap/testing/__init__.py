"""For tests and development: LocalMap, a map of one process; and a plugin for pytest."""

from .. import _once
from .local_map import LocalMap

_once.remember("shmmap")  # imported again, this would have another list of the process's maps

__all__ = ["LocalMap"]
