"""A small site as people write them: pages that are cached, sessions, a count. It stands alone: the
scenario `web` copies it beside its server, and says by the environment which cache it has.
"""

from __future__ import annotations

import os
from typing import Any

from cachelib.base import BaseCache
from flask import Flask

WORK = 400  # rounds of what drawing a page costs: about 1 ms


class DiskCache(BaseCache):
    """diskcache under cachelib's names."""

    def __init__(self, folder: str) -> None:
        import diskcache

        super().__init__(300)
        self._cache = diskcache.Cache(folder)

    def get(self, key: str) -> Any:
        return self._cache.get(key)

    def set(self, key: str, value: Any, timeout: Any = None) -> bool:
        return bool(self._cache.set(key, value, expire=timeout or 300))

    def add(self, key: str, value: Any, timeout: Any = None) -> bool:
        return bool(self._cache.add(key, value, expire=timeout or None))

    def inc(self, key: str, delta: int = 1) -> int:
        return int(self._cache.incr(key, delta))


class Stash(BaseCache):
    """gunicorn's stash under cachelib's names. It has neither a ttl nor `incr`: entries stay, and
    where two workers count at once, one count may be lost."""

    def __init__(self, where: str) -> None:
        from gunicorn.dirty import stash

        super().__init__(300)
        stash.set_stash_socket_path(where)
        stash.ensure("site")
        self._stash = stash  # its functions have a connection for each thread

    def get(self, key: str) -> Any:
        try:
            return self._stash.get("site", key)
        except self._stash.StashError:  # what it raises for a key that is not there
            return None

    def set(self, key: str, value: Any, timeout: Any = None) -> bool:
        self._stash.put("site", key, value)
        return True

    def add(self, key: str, value: Any, timeout: Any = None) -> bool:
        return self.get(key) is None and self.set(key, value)

    def inc(self, key: str, delta: int = 1) -> int:
        total = int(self.get(key)) + delta
        self.set(key, total)
        return total


def open_cache(kind: str, where: str) -> Any:
    """Open one of the caches, each as its documentation says."""
    if kind == "dict":
        from cachelib import SimpleCache

        return SimpleCache(threshold=100_000)
    if kind == "redis":
        import redis
        from cachelib import RedisCache

        return RedisCache(redis.Redis(unix_socket_path=where))
    if kind == "diskcache.Cache":
        return DiskCache(where)
    if kind == "gunicorn stash":
        return Stash(where)
    from shmmap.contrib.cachelib import ShmMapCache

    return ShmMapCache(where, size="64MB", value_size=2_000)


app = Flask(__name__)
cache = open_cache(os.environ["SITE_CACHE"], os.environ["SITE_WHERE"])
cache.add("requests", 0, 0)  # without an end; the first worker's


def draw(number: int) -> str:
    """Draw a page of 2 kB, which takes about a millisecond."""
    total = number
    for step in range(WORK * 20):
        total = (total * 31 + step) % 1_000_003
    return f"<h1>{number}</h1>{total:<2000}"


@app.get("/<int:number>")
def page(number: int) -> str:
    """Answer a request: the visitor's session, the page, the count."""
    session = cache.get(f"session:{number % 500}") or {"visits": 0}
    session["visits"] += 1
    cache.set(f"session:{number % 500}", session, 600)
    text = cache.get(f"page:{number}")
    if text is None:
        text = draw(number)
        cache.set(f"page:{number}", text, 60)
    cache.inc("requests")
    return str(text)


@app.get("/count")
def count() -> str:
    """Tell how many requests were counted."""
    return str(cache.get("requests"))
