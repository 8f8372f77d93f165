"""The maps of a run, as one process has them open."""

from __future__ import annotations

import pickle

from ..errors import MapNotFound
from ..map import ShmMap
from ..memory.layout import constants
from ..operations.marking import marked

_READY = constants()["STATE_READY"]
SIDE_SIZE = "400kB"
SIDE_SHARDS = 2


def open_cache(name: str, lock_timeout: float, on_unlinked: str = "reopen") -> ShmMap:
    """Open the map that evicts, which may have been unlinked: then make it anew."""
    return ShmMap(name, SIDE_SIZE, namespace="", shards=SIDE_SHARDS, on_full="evict",
                  sweep_interval=0.5, lock_timeout=lock_timeout, on_unlinked=on_unlinked)


class Maps:
    """The maps of a run: the one under test, one that evicts, and one that is always full. The
    first is replaced now and then, the second unlinked: the handles follow."""

    def __init__(self, main: ShmMap, cache: ShmMap, scratch: ShmMap) -> None:
        self.main = main
        self.cache = cache
        self.scratch = scratch

    def each(self) -> tuple[ShmMap, ShmMap, ShmMap]:
        """Return all three."""
        return self.main, self.cache, self.scratch

    def is_held_by(self, pid: int) -> bool:
        """Tell whether a process holds the main map's lock, if that has just one: of several,
        nobody knows which a survivor waits for."""
        attached = self.main.attachment
        with marked(self.main):
            if len(attached.shards) > 1 or attached.control.STATE != _READY:
                return False
            holder, _ = attached.worker.pid_of(attached.shards[0].lock.owner())
            return bool(holder == pid)

    def exchange(self, closes_first: bool, pickled: bool) -> None:
        """Get new handles, by name or by pickle, before or after the old ones are closed."""
        old = self.each()
        pickles = [pickle.dumps(m) if pickled else None for m in old]
        if closes_first:
            self._close(old)
        main, cache, scratch = zip(old, pickles, strict=True)
        self.main, self.cache, self.scratch = (
            _open_again(*main), _open_cache_again(*cache), _open_again(*scratch)
        )
        self._close(old)

    def close(self) -> None:
        """Close every handle."""
        self._close(self.each())

    @staticmethod
    def _close(handles: tuple[ShmMap, ...]) -> None:
        for handle in handles:
            handle.close()


def _open_again(old: ShmMap, pickled: bytes | None) -> ShmMap:
    """Open the map that a handle is on, or was."""
    if pickled is None:
        return ShmMap.attach(old.name, namespace="", lock_timeout=old._lock_timeout,
                             on_unlinked="reopen")
    found: ShmMap = pickle.loads(pickled)
    return found


def _open_cache_again(old: ShmMap, pickled: bytes | None) -> ShmMap:
    """Do the same with the map that may have been unlinked."""
    if pickled is not None:
        try:
            return _open_again(old, pickled)
        except MapNotFound:  # nobody has made it anew so far, and a pickle makes none
            pass
    return open_cache(old.name, old._lock_timeout)
