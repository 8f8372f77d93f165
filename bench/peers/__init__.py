"""The peers, each at its strongest fair setting, one file each.

To add a peer: subclass Peer (base.py says what it must have), list it in PEERS.
"""

from __future__ import annotations

from .base import Peer, unique_name
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
    "ManagerDict", "Memcached", "Peer", "Redis", "SharedMemoryDictPeer", "ShmMapPeer", "Sqlite",
    "TTLCacheLock", "UltraDictPeer", "present_peers", "unique_name",
]

PEERS: tuple[type[Peer], ...] = (
    EmptyLoop, Dict, DictLock, ShmMapPeer, TTLCacheLock, ManagerDict, UltraDictPeer,
    SharedMemoryDictPeer, Lmdb, DiskCache, FanoutCache, Sqlite, Redis, Memcached, GunicornStash,
)


def present_peers() -> tuple[list[type[Peer]], dict[str, str]]:
    """List the peers that can run, and for those that cannot what installs them."""
    absent = {peer.name: peer.missing() for peer in PEERS if peer.missing()}
    return [peer for peer in PEERS if peer.name not in absent], absent
