"""LocalMap: a ShmMap that lies in the memory of one process."""

from __future__ import annotations

from typing import Any

from ..copies.replacing import Copying, ReplaceReport
from ..lifecycle.names import namespace_of
from ..lifecycle.stats import Stats
from ..map import ShmMap
from ..memory._clock_cy import monotonic
from . import local_maps


class LocalMap(ShmMap):
    """A ShmMap of one process: the same engine on private memory. For tests, and for development
    where there are no shared maps (macOS).

    It takes the same arguments, has the same methods and raises the same errors; sizes, deadlines
    and evictions are those of a shared map with these parameters. Values are copies, as there.
    In one process the same name is the same map, from any thread, until `unlink`; no file is made
    and no other process sees it, so it ends with its process at the latest.

    What differs:

    - A forked child goes on with a copy of its own, from the fork on, and says so by a
      RuntimeWarning at its first use.
    - A pickle of it can be loaded in its own process only (elsewhere: MapNotFound).
    - Nobody else can kill, stop or truncate anything, so what these lead to does not come.
    - Where the compiled engine is not there it runs the pure one, some 30 times slower.

    >>> with LocalMap("doctest", size="1MB", ephemeral=True) as m:
    ...     m["answer"] = 42
    ...     m["answer"], m.incr("answer"), len(m)
    (42, 43, 1)
    """

    _ways: Any = local_maps

    def _replace(self) -> tuple[ShmMap, ReplaceReport]:
        """Replace the map that is there by one of the shape that is asked for. What other threads
        write meanwhile may be lost."""
        started = monotonic()
        name = self._request.name
        with LocalMap.attach(name, namespace=namespace_of(name)) as former:
            attached = former._live
            copied = former.snapshot()
            local_maps.give_way(attached)  # type: ignore[arg-type]
            wanted = self._request.again(attached.parameters).wanted
            made = LocalMap(name, namespace=namespace_of(name), on_unlinked="raise",
                            _wishes=tuple(wanted))
            copying = Copying(made)
            copying.bring(copying.take(copied))
        took = monotonic() - started
        return made, ReplaceReport(*copying.counts, took, took)

    def __repr__(self) -> str:
        """See ShmMap."""
        return super().__repr__().replace("ShmMap", "LocalMap", 1)

    def stats(self) -> Stats:
        """Return the map's figures: see Stats. What is allocated is what a shared map of this kind
        would take."""
        figures = super().stats()
        with self._inside() as found:
            taken = local_maps.allocated_bytes(found)
        live = figures.live_bytes
        return figures._replace(
            allocated_bytes=taken, amplification=taken / live if live else float("inf")
        )
