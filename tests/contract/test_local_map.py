"""The contracts, bound to LocalMap: in one process it is what a shared map is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import shmmap
from shmmap.testing import LocalMap

from .cache_contract import CacheContract, DefaultTtlContract
from .mapping_contract import ShmMappingContract
from .operations import Operations


@pytest.fixture
def make(name: str) -> Iterator[Callable[..., Any]]:
    """Open the test's map, as the fixture of that name does for shared ones."""
    opened: list[Any] = []

    def open_map(**parameters: Any) -> Any:
        if not opened:
            parameters = {"size": "1MB", "sweep_interval": None, **parameters}
            if parameters.get("capacity"):
                del parameters["size"]
        opened.append(LocalMap(name, **parameters))
        return opened[-1]

    yield open_map
    for m in opened:
        if not m.closed:
            m.unlink()
            m.close()


class TestOneShard(ShmMappingContract):
    parameters = {"shards": 1}  # noqa: RUF012


class TestManyShards(ShmMappingContract):
    parameters = {"shards": 64, "size": "2MB"}  # noqa: RUF012


class TestEvicting(ShmMappingContract):
    parameters = {"shards": 1, "on_full": "evict"}  # noqa: RUF012


class TestNear(ShmMappingContract):
    parameters = {"shards": 1, "near": 3}  # noqa: RUF012


class TestCache(CacheContract):
    parameters = {"shards": 1}  # noqa: RUF012


class TestCacheOfManyShards(CacheContract):
    parameters = {"shards": 64, "size": "2MB"}  # noqa: RUF012


class TestEvictingCache(CacheContract):
    parameters = {"shards": 1, "on_full": "evict"}  # noqa: RUF012


class TestTtl(DefaultTtlContract):
    parameters = {"shards": 1}  # noqa: RUF012


@pytest.mark.parametrize(("parameters", "options"), [
    ({"shards": 1}, {}),
    ({"shards": 2, "ttl": 4.5}, {"default_ttl": 4.5}),
    ({"shards": 1, "capacity": 60, "value_size": 24}, {"full": shmmap.MapFull}),
    ({"shards": 1, "capacity": 60, "value_size": 24, "on_full": "evict"}, {"evicts": True}),
], ids=["roomy", "default ttl", "full", "evicting"])  # fmt: skip
def test_random_operations_give_what_a_dict_gives(make, freeze, parameters, options):
    m = make(**parameters)
    freeze(m)
    run = Operations(m, 1, **options)
    for _ in range(700):
        run.step()
    run.do_compare(None)
    assert m.check() == []
