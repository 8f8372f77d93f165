"""Hooks for gunicorn: the map is there before the workers, and the dead leave nothing behind.

In gunicorn.conf.py, below your own hooks, if there are any:

    from shmmap.contrib.gunicorn import share

    share(globals(), "cache", size="64MB")
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..errors import MapClosed, ShmMapError
from ..map import ShmMap

Hook = Callable[..., Any]
_shared: dict[str, ShmMap] = {}  # a HUP reads the file anew: it goes on with the same handle


def share(config: dict[str, Any], name: str, **options: Any) -> None:
    """Have gunicorn's master open a map, and look after it.

    - The map is made as the file is read, before the application is imported and a worker forked;
      where that cannot be, gunicorn does not start. Workers open it by its name, as ever.
    - As a worker ends, however it does, its named locks, permits and row are freed at once: the
      next in the queue has the lock when gunicorn notices the death, not when a sweep comes by.
    - A HUP, a USR2 and the death of every worker at once keep the entries, since the master has the
      map open. With `ephemeral=True` the map goes as the last master does; with `linger=` so many
      seconds later. Without, it outlives gunicorn, and a restarted server finds its cache warm.

    Args:
        config: `globals()` of the configuration file: its `child_exit` and `on_exit` are set; those
            that are there are called, too, first.
        name: the map's name. More than one map: one call each.
        options: those of ShmMap.
    """
    if name not in _shared or _shared[name].closed:
        _shared[name] = ShmMap(name, **options)

    def child_exit(server: Any, worker: Any) -> None:
        m = _shared.get(name)
        if m is not None and not m.closed:
            try:
                m.reap()
            except ShmMapError as error:  # whoever needs it next tries again, and a sweep does
                logging.getLogger("shmmap").warning(
                    "map %r: what worker %s had could not be freed yet: %s",
                    name, getattr(worker, "pid", "?"), error,
                )

    def on_exit(server: Any) -> None:
        m = _shared.pop(name, None)
        if m is not None:
            with suppress(MapClosed):
                m.close()

    for hook in (child_exit, on_exit):
        former = config.get(hook.__name__)
        config[hook.__name__] = _after(former, hook) if callable(former) else hook


def _after(first: Hook, then: Hook) -> Hook:
    """Call both; gunicorn counts a hook's arguments, and all of one name have as many."""
    if then.__code__.co_argcount == 1:
        def one(server: Any) -> None:
            first(server)
            then(server)

        return one

    def two(server: Any, worker: Any) -> None:
        first(server, worker)
        then(server, worker)

    return two
