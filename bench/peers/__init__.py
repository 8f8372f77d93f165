"""The peers, each at its strongest fair setting, one file each.

To add a peer: subclass Peer (core/peer.py says what it must have), list it in PEERS.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.peer import Peer
from ..core.results import OURS
from .diskcache import DiskCache, FanoutCache
from .empty_loop import EmptyLoop
from .gunicorn_stash import GunicornStash
from .lmdb import Lmdb
from .manager_dict import ManagerDict
from .memcached import Memcached
from .plain_dict import Dict, DictLock
from .redis import Redis
from .shared_memory_dict import SharedMemoryDictPeer
from .shm_map import ShmMapPeer
from .sqlite import Sqlite
from .ttl_cache import TTLCacheLock
from .ultra_dict import UltraDictPeer

__all__ = [
    "PEERS", "Dict", "DictLock", "DiskCache", "EmptyLoop", "FanoutCache", "GunicornStash", "Lmdb",
    "ManagerDict", "Memcached", "Redis", "SharedMemoryDictPeer", "ShmMapPeer", "Sqlite",
    "TTLCacheLock", "UltraDictPeer", "named", "present_peers",
]

PEERS: tuple[type[Peer], ...] = (
    EmptyLoop, Dict, DictLock, ShmMapPeer, TTLCacheLock, ManagerDict, UltraDictPeer,
    SharedMemoryDictPeer, Lmdb, DiskCache, FanoutCache, Sqlite, Redis, Memcached, GunicornStash,
)


def present_peers() -> tuple[list[type[Peer]], dict[str, str]]:
    """List the peers that can run, and for those that cannot what installs them."""
    absent = {peer.name: peer.missing() for peer in PEERS if peer.missing()}
    return [peer for peer in PEERS if peer.name not in absent], absent


def named(peers: Sequence[type[Peer]], wanted: str) -> list[type[Peer]]:
    """List the peers of these comma-separated names or parts of names; "": all.

    A name that is one peer's whole name means that one only. Our map and the empty loop are
    always there: the ratios and the net figures are made with them.
    """
    if not wanted:
        return list(peers)
    chosen = {OURS, EmptyLoop.name}
    for part in wanted.lower().split(","):
        whole = {peer.name for peer in peers if peer.name.lower() == part}
        found = whole or {peer.name for peer in peers if part and part in peer.name.lower()}
        if not found:
            raise ValueError(f"no peer is called {part!r}: {', '.join(p.name for p in peers)}")
        chosen |= found
    return [peer for peer in peers if peer.name in chosen]
