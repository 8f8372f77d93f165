"""lmdb in /dev/shm."""

from __future__ import annotations

import pickle
from typing import Any, ClassVar

from ..core.peer import Entries
from .base import PackedPeer, StoredPeer, encoded, packed

MAP_BYTES = 1 << 36  # addresses, not memory: the file grows as it is written


class Lmdb(StoredPeer, PackedPeer):
    """lmdb with every kind of syncing off, and one transaction an operation."""

    name = "lmdb"
    distribution = "lmdb"
    shared = True
    atomic_incr = True
    setting = (
        "in /dev/shm, writemap, sync/metasync/readahead/meminit off; one transaction an "
        "operation, ended by abort() (faster than `with`); keys encoded before the clock runs"
    )
    _get = "txn = begin()\nvalue = txn.get(key)\ntxn.abort()"
    _set = "txn = begin(None, None, True)\ntxn.put(key, {value})\ntxn.commit()"
    statements: ClassVar = {
        "get": _get,
        "miss": _get,
        "contains": "txn = begin(None, None, False, True)\n"
                    "value = txn.get(key) is not None\ntxn.abort()",
        "set": _set.format(value="value"),
        "incr": "txn = begin(None, None, True)\nvalue = int(txn.get(key)) + 1\n"
                "txn.put(key, b'%d' % value)\ntxn.commit()",
        "delete": "txn = begin(None, None, True)\ntxn.delete(key)\ntxn.commit()",
        # With buffers, pickle reads where the value lies: no copy.
        "get_object": "txn = begin(None, None, False, True)\n"
                      "value = loads(txn.get(key))\ntxn.abort()",
        "set_object": _set.format(value="dumps(value, 5)"),
        "get_many": "txn = begin()\nvalue = dict(txn.cursor().getmulti(keys))\ntxn.abort()",
        "set_many": "txn = begin(None, None, True)\n"
                    "txn.cursor().putmulti(mapping.items())\ntxn.commit()",
    }

    def open(self) -> None:
        import lmdb

        self.handle = lmdb.open(
            self.address, map_size=MAP_BYTES, sync=False, metasync=False, writemap=True,
            map_async=True, readahead=False, meminit=False, max_readers=512,
        )

    def fill(self, entries: Entries) -> None:
        with self.handle.begin(write=True) as txn:
            txn.cursor().putmulti((key.encode(), packed(value)) for key, value in entries.items())

    def names(self) -> dict[str, Any]:
        return {"begin": self.handle.begin, "loads": pickle.loads, "dumps": pickle.dumps}

    def native_keys(self, keys: list[str]) -> list[Any]:
        return encoded(keys)

    def shut(self) -> None:
        self.handle.close()
