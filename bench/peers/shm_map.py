"""The map under test."""

from __future__ import annotations

from typing import Any, ClassVar

from ..core.peer import Entries, Peer, unique_name
from ..core.workloads import Scale


class ShmMapPeer(Peer):
    """The map with the defaults that `capacity=` and `value_size=` give."""

    name = "shmmap"
    modules = ("shmmap",)
    requirement = "shmmap"
    key_size: ClassVar[int | None] = None  # told to the map, if its default is not right
    shared = True
    atomic_incr = True
    setting = "capacity= the entries, value_size= their length, everything else as by default"
    statements: ClassVar = {
        "get": "value = get(key)",
        "miss": "value = get(key)",
        "contains": "value = key in data",
        "set": "data[key] = value",
        "incr": "value = incr(key)",
        "delete": "del data[key]",
        "get_object": "value = get(key)",
        "set_object": "data[key] = value",
        "get_many": "value = get_many(keys)",
        "set_many": "set_many(mapping)",
    }

    def make(self, room: int, value_bytes: int) -> None:
        import shmmap

        name = unique_name()
        self.handle = shmmap.ShmMap.create(
            name, capacity=room, value_size=value_bytes, key_size=self.key_size, ephemeral=True
        )
        self.address = name

    def open(self) -> None:
        import shmmap

        if self.handle is None:
            self.handle = shmmap.ShmMap.attach(self.address)

    def fill(self, entries: Entries) -> None:
        self.handle.set_many(entries)

    @classmethod
    def version(cls) -> str:
        import shmmap

        return shmmap.__version__

    @classmethod
    def limit(cls, scale: Scale, operation: str = "") -> int | None:
        import shmmap

        return scale.pure_batch if shmmap.ENGINE == "pure" else None

    def names(self) -> dict[str, Any]:
        data = self.handle
        return {
            "data": data, "get": data.get, "incr": data.incr, "get_many": data.get_many,
            "set_many": data.set_many,
        }

    def shut(self) -> None:
        if self.made:
            self.handle.unlink()
        self.handle.close()
