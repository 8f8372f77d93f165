"""A store for joblib's Memory: results in a map that all processes of the machine share.

    import shmmap.contrib.joblib
    options = {"name": "results", "size": "64MB"}
    memory = Memory("reports", backend="shmmap", backend_options=options)

    @memory.cache
    def report(day): ...

What joblib would write to files of a directory are entries here, whose keys are (location, path).
Each is written in one step.
"""

from __future__ import annotations

import io
import json
import os.path
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from joblib import register_store_backend
from joblib._store_backends import CacheItemInfo, StoreBackendBase, StoreBackendMixin

from ..errors import ShmMapError
from .part import Part, check_options

_CODE, _RESULT, _ABOUT = "func_code.py", "output.pkl", "metadata.json"
_UNKNOWN = {"duration": 0.0, "input_args": {}, "time": 0.0}  # of a result: computed long ago
_OPTIONS = {"compress", "mmap_mode", "name"}


class _Written(io.BytesIO):
    """What is written; joblib closes it before it is stored."""

    def close(self) -> None:
        pass


class ShmMapStoreBackend(StoreBackendBase, StoreBackendMixin):  # type: ignore[misc]  # no types
    """joblib's interface on a map. `location` sets apart what several Memory have in one map.

    `configure` takes as `backend_options`:

        name: the map's name ("joblib"), or a handle on it.
        compress: as joblib has it. `mmap_mode` is ignored: a result that is read is a copy.
        strict: True: raise what the map raises. (joblib makes a warning of it where it writes.)
        All others are options of ShmMap.

    A result is only as good as the function's code that is stored beside it. If the map has lost
    that code (it evicted it, or a ttl is over), it is not known of which code the results are, and
    they are removed before the code is stored anew.
    """

    def configure(
        self, location: str, verbose: int = 1, backend_options: dict[str, Any] | None = None
    ) -> None:
        """Open the map."""
        options = dict(backend_options or {})
        self.location = location
        self.verbose = verbose
        self.compress = options.get("compress") or False
        self.mmap_mode = None
        if options.get("mmap_mode") is not None:
            warnings.warn("mmap_mode is ignored: what lies in a map is read as a copy",
                          stacklevel=2)
        of_map = {key: value for key, value in options.items() if key not in _OPTIONS}
        check_options("backend_options", of_map, named="name")
        self.part = Part(options.get("name", "joblib"), location, **of_map)
        self.map = self.part.map
        self._unsure: set[str] = set()  # functions whose old results could not be removed

    # -- what joblib's mixin asks for: files, and directories, which need not be made --------

    def _key(self, path: str) -> str:
        return path.removeprefix(self.location).lstrip(os.sep)

    def _open_item(self, f: str | _Written, mode: str) -> io.BytesIO:
        if isinstance(f, _Written):
            return f
        stored = self.part.get(self._key(f))
        if stored is None:
            raise FileNotFoundError(f"{f} is not in map {self.map.name!r}")
        return io.BytesIO(stored)

    def _item_exists(self, location: str) -> bool:
        is_file = os.path.basename(location) in (_CODE, _RESULT, _ABOUT)
        return not is_file or self.part.has(self._key(location))

    def _move_item(self, src: str, dst: str) -> None:
        raise NotImplementedError("nothing is moved: an entry is written in one step")

    def _concurrency_safe_write(
        self, to_write: Any, filename: str, write_func: Callable[[Any, _Written], None]
    ) -> None:
        written = _Written()
        write_func(to_write, written)
        self.part.set(self._key(filename), written.getvalue())

    def create_location(self, location: str) -> None:
        """Do nothing: an entry needs no directory."""

    def clear_location(self, location: str) -> bool:
        """Remove all that lies below; tell whether that could be done. O(entries of the map)."""
        below = self._key(location) + os.sep
        try:
            for key in list(self.part.keys()):
                if below == os.sep or key.startswith(below):
                    self.map.delete(self.part.key(key))
            return True
        except ShmMapError as error:
            return bool(self.part.missed(error, self._key(location), False))

    # -- results -----------------------------------------------------------------------------

    def contains_item(self, call_id: Sequence[str]) -> bool:
        """Tell whether there is a result, of the function's present code."""
        function, call = call_id
        if function in self._unsure and not self._remove_results(function):
            return False
        # it is read so that a map that evicts spares it: without it the results are lost
        self.part.get(os.path.join(function, _CODE))
        return self.part.has(os.path.join(function, call, _RESULT))

    def clear_item(self, call_id: Sequence[str]) -> None:
        """Remove a result."""
        for file in (_RESULT, _ABOUT):
            self.part.delete(os.path.join(*call_id, file))

    def get_metadata(self, call_id: Sequence[str]) -> dict[str, Any]:
        """Return what was noted about a result; what was lost counts as computed long ago."""
        stored = self.part.get(os.path.join(*call_id, _ABOUT))
        about: dict[str, Any] = dict(_UNKNOWN) if stored is None else json.loads(stored)
        return about

    def store_cached_func_code(
        self, call_id: Sequence[str], func_code: str | None = None
    ) -> None:
        """Store a function's code, once there is no result of another one any more."""
        function = os.path.join(*call_id)
        if func_code is None:
            return
        if self.part.get(os.path.join(function, _CODE)) == func_code.encode():
            self._unsure.discard(function)  # another process has done it meanwhile
        elif self._remove_results(function):
            self.part.set(os.path.join(function, _CODE), func_code.encode())

    def _remove_results(self, function: str) -> bool:
        """Remove a function's results and code; tell whether that could be done."""
        is_done = self.clear_location(os.path.join(self.location, function))
        (self._unsure.discard if is_done else self._unsure.add)(function)
        return is_done

    def get_items(self) -> list[Any]:
        """List the results for `Memory.reduce_size`. O(bytes of this part). A map keeps no time of
        access: the time is that when the result was stored."""
        found = []
        for key in list(self.part.keys()):
            folder, file = os.path.split(key)
            if file == _RESULT:
                call_id = os.path.split(folder)
                sizes = [len(self.part.get(os.path.join(folder, name), b""))
                         for name in (_RESULT, _ABOUT)]
                stored = datetime.fromtimestamp(self.get_metadata(call_id)["time"])
                found.append(CacheItemInfo(os.path.join(self.location, folder), sum(sizes), stored))
        return found


register_store_backend("shmmap", ShmMapStoreBackend)
