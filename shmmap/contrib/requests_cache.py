"""A backend for requests-cache: responses that all processes of the machine share.

    session = CachedSession(backend=ShmMapCache("pages", size="64MB"), expire_after=60)
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, ValuesView
from typing import Any

from requests_cache.backends import BACKEND_CLASSES
from requests_cache.backends.base import BaseCache, BaseStorage
from requests_cache.policy import DEFAULT_CACHE_NAME, CacheSettings
from requests_cache.serializers import pickle_serializer

from ..checks import Key, Value
from ..map import ShmMap
from ..operations._writes_cy import DEFAULT
from .part import NOTHING, Part, check_options

# A session that is told backend="shmmap" hands its own settings on to the backend.
_SETTINGS = {field.name for field in CacheSettings.__attrs_attrs__}


class ShmMapCache(BaseCache):
    """requests-cache's interface on a map that every process of the machine shares.

    Args:
        cache_name: the map's name, or a handle on it.
        serializer: of requests-cache's, or the name of one; default: pickle.
        decode_content: as requests-cache has it.
        prefix: shares the map with caches of other prefixes: `clear` leaves theirs alone.
        ttl_offset: seconds that the map keeps a response after it has expired, for it to be
            revalidated, or served where the server fails; None: until the map needs the room.
        options: those of ShmMap, where `cache_name` is a name, and `strict`: True: raise what the
            map raises.

    A session can be used after its `close`, as with other backends; the handle stays open.
    """

    responses: ShmMapStorage
    redirects: ShmMapStorage

    def __init__(
        self, cache_name: ShmMap | str = DEFAULT_CACHE_NAME, *, serializer: Any = None,
        decode_content: bool = False, prefix: Key = None, ttl_offset: float | None = 3600,
        strict: bool = False, **options: Any,
    ) -> None:
        options = {name: value for name, value in options.items() if name not in _SETTINGS}
        check_options("ShmMapCache", options, named="cache_name")
        responses = Part(cache_name, (prefix, "responses"), strict=strict, **options)
        self.map = responses.map
        super().__init__(cache_name=self.map.name)
        self.responses = ShmMapStorage(
            responses, serializer or pickle_serializer, decode_content, ttl_offset)
        self.redirects = ShmMapStorage(Part(self.map, (prefix, "redirects"), strict=strict))


class ShmMapStorage(BaseStorage[str, Any]):
    """What requests-cache calls a table: the entries of a part of a map.

    A key that is not there, or that cannot be read just now, is a KeyError; what cannot be written
    just now is not kept.
    """

    def __init__(
        self, part: Part, serializer: Any = None, decode_content: bool = False,
        ttl_offset: float | None = None,
    ) -> None:
        super().__init__(serializer=serializer, decode_content=decode_content)
        self.part = part
        self.ttl_offset = ttl_offset

    def __contains__(self, key: object) -> bool:
        return self.part.has(key)

    def __getitem__(self, key: str) -> Value:
        stored = self.part.get(key, NOTHING)
        if stored is NOTHING:
            raise KeyError(key)
        return self.deserialize(key, stored)

    def __setitem__(self, key: str, value: Value) -> None:
        self.part.set(key, self.serialize(value), self._ttl(value))

    def __delitem__(self, key: str) -> None:
        if not self.part.delete(key):
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.part.keys()))

    def __len__(self) -> int:
        return len(list(self.part.keys()))

    def _ttl(self, value: Value) -> Any:
        """Return how many seconds a value stays."""
        left = getattr(value, "expires_delta", None)  # negative: it has expired already
        if left is None or self.ttl_offset is None or left + self.ttl_offset <= 0:
            return DEFAULT
        return left + self.ttl_offset

    def items(self) -> ItemsView[str, Any]:
        """Return the items; one that is removed meanwhile by anybody is left out."""
        return self._present().items()

    def values(self) -> ValuesView[Any]:
        """Return the values, in the same way."""
        return self._present().values()

    def _present(self) -> dict[str, Any]:
        found = self.part.get_many(list(self.part.keys()))
        return {key: self.deserialize(key, stored) for key, stored in found.items()}

    def bulk_delete(self, keys: Iterable[str]) -> None:
        """Remove those that are there."""
        for key in keys:
            self.part.delete(key)

    def clear(self) -> None:
        """Remove every entry of this part, and none of another one. O(entries of the map)."""
        self.part.clear()


BACKEND_CLASSES["shmmap"] = ShmMapCache
