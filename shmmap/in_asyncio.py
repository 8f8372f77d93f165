"""What a map does for coroutines: what would hold up the event loop is awaited.

Reads and writes are not here: they take microseconds, and to await them would take longer.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .checks import Key, Value
from .locks import task_flights
from .operations._writes_cy import DEFAULT

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .copies.dumps import DumpReport
    from .copies.merging import MergeReport
    from .copies.snapshots import Snapshot
    from .lifecycle.parameters import MapOptions

    Path = str | bytes | os.PathLike[str]

P = ParamSpec("P")
Done = TypeVar("Done")
Self = TypeVar("Self", bound="InAsyncio")


async def in_thread(act: Callable[P, Done], *args: P.args, **kwargs: P.kwargs) -> Done:
    """Do something in a thread of the event loop's, which goes on meanwhile. If the task that
    waits is cancelled, the thread does it to its end all the same."""
    from asyncio import to_thread  # not at the top: most programs never get here

    return await to_thread(act, *args, **kwargs)


class InAsyncio:
    """The part of ShmMap that is awaited."""

    if TYPE_CHECKING:
        def snapshot(self) -> Snapshot: ...
        def dump(self, path: Path) -> DumpReport: ...
        def merge(self, other: Any) -> MergeReport: ...

    async def aget_or_set(
        self, key: Key, factory: Callable[[], Awaitable[Value] | Value],
        ttl: float | None = DEFAULT, *, stale: float = 0, timeout: float | None = None,
        strict: bool = False,
    ) -> Value:
        """Do as `get_or_set` does, in a coroutine: while another worker or task computes the value,
        the event loop goes on. Tasks of one loop that miss it at once compute it once.

        Args:
            factory: a coroutine function, or a plain one, which holds up the loop while it runs.
            ttl: see get_or_set, also for those below.
            stale: seconds that it may be served after its ttl.
            timeout: seconds to wait for another worker's value.
            strict: True: raise why the map could not be used.

        A task that is cancelled while it computes is replaced by the next one that waits. Raises as
        `get_or_set` does; Reentered: tasks that `factory` starts count as part of it.

        >>> import asyncio
        >>> async def draw():
        ...     return "drawn"
        >>> with shmmap.ShmMap("doctest", size="1MB", ephemeral=True) as m:
        ...     asyncio.run(m.aget_or_set("page", draw, ttl=60))
        'drawn'
        """
        handle: Any = self
        return await task_flights.get_or_set(
            handle, key, factory, ttl, stale, timeout, strict
        )

    async def asnapshot(self) -> Snapshot:
        """Take a `snapshot` in a thread."""
        return await in_thread(self.snapshot)

    async def adump(self, path: Path) -> DumpReport:
        """Write a `dump` in a thread. If this task is cancelled, it is written all the same."""
        return await in_thread(self.dump, path)

    async def amerge(self, other: Any) -> MergeReport:
        """Do a `merge` in a thread. If this task is cancelled, it goes on to its end."""
        return await in_thread(self.merge, other)

    @classmethod
    async def aload(
        cls: type[Self], path: Path, name: str, size: int | str | None = None,
        **parameters: Unpack[MapOptions],
    ) -> Self:
        """Do a `load` in a thread. If this task is cancelled, the map is made all the same."""
        maker: Any = cls
        load = partial(maker.load, path, name, size, **parameters)
        made: Self = await in_thread(load)
        return made
