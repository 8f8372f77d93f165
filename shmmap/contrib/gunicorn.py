"""Hooks for gunicorn: the map is there before the workers, and the dead leave nothing behind.

In gunicorn.conf.py, below your own hooks, if there are any:

    from shmmap.contrib.gunicorn import share

    share(globals(), "cache", size="64MB")
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..errors import MapClosed, MapExists, MapNotFound, ShmMapError
from ..lifecycle.names import full_name
from ..map import ShmMap
from ..system import creation

Hook = Callable[..., Any]
_shared: dict[str, _Shared] = {}  # a HUP reads the file anew: it goes on with the same handle


class _Shared:
    """A map of this master's.

    The configuration is read by `gunicorn --check-config`, too. So the reading changes no map that
    is there, and takes one that it has made away again at its end, unless a master begins, which
    calls a hook.
    """

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self._name = name
        self._options = options
        self._reader = os.getpid()
        self._is_begun = self._is_made = False
        self.map = self._look()
        if self._is_made:
            atexit.register(self._take_away)

    def _look(self) -> ShmMap | None:
        """Make the map, or open the one that is there as it is; None: it is to be replaced,
        or resized."""
        options = {name: value for name, value in self._options.items() if name != "fresh"}
        is_fresh = self._options.get("fresh", False)
        while True:
            with suppress(MapExists):
                made = ShmMap.create(self._name, **options)
                self._is_made = True
                return made
            if is_fresh or options.get("on_mismatch") in ("replace", "resize"):
                return None
            with suppress(MapNotFound):
                return ShmMap.attach(self._name, **options)

    def begin(self) -> None:
        """Open the map as is asked for. Before the application is imported and a worker forked; in
        the daemon, if there is one, where what the reader has open counts no more."""
        if self._is_begun:
            return
        self._is_begun = True
        if self._is_made and os.getpid() == self._reader:
            return
        options = dict(self._options, fresh=False) if self._is_made else self._options
        former, self.map = self.map, ShmMap(self._name, **options)
        if former is not None:
            former.close()

    def _take_away(self) -> None:
        """Unlink a map that was made for no master, unless another process has opened it."""
        m = self.map
        if m is None or self._is_begun or os.getpid() != self._reader or m.closed:
            return
        with suppress(ShmMapError), creation.creation_lock(m.name):  # nobody opens it meanwhile
            if {*m.stats().workers} <= {self._reader}:
                m.unlink()


def share(config: dict[str, Any], name: str, **options: Any) -> None:
    """Have gunicorn's master open a map, and look after it.

    - The map is there before the application is imported and a worker forked; where that cannot
      be, gunicorn does not start. Workers open it by its name, as ever.
    - As a worker ends, however it does, its named locks, permits and row are freed at once: the
      next in the queue has the lock when gunicorn notices the death, not when a sweep comes by.
    - A HUP, a USR2 and the death of every worker at once keep the entries, since the master has the
      map open. With `ephemeral=True` the map goes as the last master does; with `linger=` so many
      seconds later. Without, it outlives gunicorn, and a restarted server finds its cache warm.
    - `gunicorn --check-config` and `--print-config` leave a map that is there as it is, whatever
      the options say (`fresh`, `on_mismatch="resize"` or `"replace"`); one that was not there is
      made for the check of the application, and unlinked at its end.

    Args:
        config: `globals()` of the configuration file: its `nworkers_changed`, `child_exit` and
            `on_exit` are set; those that are there are called, too, first.
        name: the map's name. More than one map: one call each.
        options: those of ShmMap. With `fresh=True` each master begins with an empty map, also that
            of a USR2; a HUP goes on with the one that there is.
    """
    full = full_name(name, options.get("namespace"))
    shared = _shared.get(full)
    if shared is None or (shared.map is not None and shared.map.closed):
        _shared[full] = _Shared(name, options)

    def nworkers_changed(server: Any, number: Any, former: Any) -> None:
        # the first that a master does with a configuration: see gunicorn's Arbiter.setup
        found = _shared.get(full)
        if found is not None:
            found.begin()

    def child_exit(server: Any, worker: Any) -> None:
        found = _shared.get(full)
        m = None if found is None else found.map
        if m is not None and not m.closed:
            try:
                m.reap()
            except ShmMapError as error:  # whoever needs it next tries again, and a sweep does
                logging.getLogger("shmmap").warning(
                    "map %r: what worker %s had could not be freed yet: %s",
                    name, getattr(worker, "pid", "?"), error,
                )

    def on_exit(server: Any) -> None:
        found = _shared.pop(full, None)
        if found is not None and found.map is not None:
            with suppress(MapClosed):
                found.map.close()

    for hook in (nworkers_changed, child_exit, on_exit):
        former = config.get(hook.__name__)
        config[hook.__name__] = _after(former, hook) if callable(former) else hook


def _after(first: Hook, then: Hook) -> Hook:
    """Call both; gunicorn counts a hook's arguments, and all of one name have as many."""
    def one(server: Any) -> None:
        first(server)
        then(server)

    def two(server: Any, worker: Any) -> None:
        first(server, worker)
        then(server, worker)

    def three(server: Any, number: Any, former: Any) -> None:
        first(server, number, former)
        then(server, number, former)

    return (one, two, three)[then.__code__.co_argcount - 1]
