"""A backend for Flask-Caching.

    app.config["CACHE_TYPE"] = "shmmap.contrib.flask_caching.ShmMapCache"
    app.config["CACHE_OPTIONS"] = {"name": "pages", "size": "64MB"}
"""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask_caching.backends.base import BaseCache

from .cachelib import ShmMapCache as CachelibCache


class ShmMapCache(CachelibCache, BaseCache):
    """Flask-Caching's interface on a map that every process of the machine shares.

    Of the configuration it takes CACHE_DEFAULT_TIMEOUT, CACHE_KEY_PREFIX (apps of different
    prefixes share a map, and `clear` leaves the others alone) and CACHE_OPTIONS: `name`, the map's
    name ("flask-caching"), and the options of ShmMap.
    """

    NAMED, TIMEOUT = "name", "CACHE_DEFAULT_TIMEOUT, beside CACHE_OPTIONS"

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> ShmMapCache:
        """Make one as the configuration says; Flask-Caching calls this."""
        options = {"name": "flask-caching", **kwargs}
        options.setdefault("key_prefix", config.get("CACHE_KEY_PREFIX") or None)
        return cls(options.pop("name"), *args, **options)
