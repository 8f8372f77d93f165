"""UltraDict: a dict in each process, and a stream of changes in shared memory."""

from __future__ import annotations

from multiprocessing import resource_tracker
from typing import Any, ClassVar

from ..core.peer import Entries, Peer, unique_name
from ..core.workloads import KEY_BYTES, Scale

BUFFER_BYTES = 64 << 20
_READS = ("get", "miss", "contains", "get_object", "get_many")


class UltraDictPeer(Peer):
    """UltraDict with the lock that independent processes need."""

    name = "UltraDict"
    distribution = "UltraDict"
    modules = ("UltraDict", "atomics", "psutil")
    requirement = "UltraDict atomics psutil"
    shared = True
    atomic_incr = True
    setting = (
        "shared_lock=True, as processes write that were spawned; 64 MB of buffer, so that full "
        "dumps are rare; filled by one dump; incr and set_many in `with data.lock:`; an "
        "object that is read is the local copy's own"
    )
    statements: ClassVar = {
        "get": "value = data[key]",
        "miss": "value = get(key)",
        "contains": "value = key in data",
        "set": "data[key] = value",
        "incr": "with lock:\n    value = data[key] = data[key] + 1",
        "delete": "del data[key]",
        "get_object": "value = data[key]",
        "set_object": "data[key] = value",
        "get_many": "value = {key: data[key] for key in keys}",
        "set_many": "with lock:\n    update(mapping)",
    }

    @classmethod
    def limit(cls, scale: Scale, operation: str = "") -> int | None:
        return None if operation in _READS else scale.slow_batch

    def make(self, room: int, value_bytes: int) -> None:
        self.address = unique_name()
        self.handle = _ultra_dict()(
            name=self.address, create=True, buffer_size=BUFFER_BYTES, shared_lock=True,
            full_dump_size=room * (value_bytes + KEY_BYTES + 64) + (1 << 20),
        )

    def open(self) -> None:
        if self.handle is None:
            self.handle = _ultra_dict()(name=self.address, create=False, shared_lock=True)

    def fill(self, entries: Entries) -> None:
        with self.handle.lock:
            self.handle.apply_update()
            self.handle.data.update(entries)
            self.handle.dump()

    def names(self) -> dict[str, Any]:
        data = self.handle
        return {"data": data, "get": data.get, "update": data.update, "lock": data.lock}

    def shut(self) -> None:
        self.handle.close()  # the process that made it unlinks, too


def _ultra_dict() -> Any:
    """Import UltraDict; it takes shared memory from the resource tracker of the whole process,
    which others count on, so what it replaced is put back."""
    replaced = {name: getattr(resource_tracker, name) for name in ("register", "unregister")}
    cleanup = dict(resource_tracker._CLEANUP_FUNCS)  # type: ignore[attr-defined]
    from UltraDict import UltraDict

    for name, function in replaced.items():
        setattr(resource_tracker, name, function)
    resource_tracker._CLEANUP_FUNCS.update(cleanup)  # type: ignore[attr-defined]
    return UltraDict
