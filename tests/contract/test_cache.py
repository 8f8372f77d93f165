"""The cache contract, bound to maps of one shard, many shards, and that evict."""

from __future__ import annotations

from .cache_contract import CacheContract, DefaultTtlContract

ONE = {"shards": 1}
MANY = {"shards": 64, "size": "2MB"}
EVICTING = {"shards": 1, "on_full": "evict"}
NEAR = {"shards": 1, "near": 3}
SESSION = {"shards": 1, "near": 100, "consistency": "session"}


class TestOneShard(CacheContract):
    parameters = ONE


class TestManyShards(CacheContract):
    parameters = MANY


class TestEvicting(CacheContract):
    parameters = EVICTING


class TestNear(CacheContract):
    parameters = NEAR


class TestSession(CacheContract):
    parameters = SESSION


class TestOneShardTtl(DefaultTtlContract):
    parameters = ONE


class TestManyShardsTtl(DefaultTtlContract):
    parameters = MANY


class TestEvictingTtl(DefaultTtlContract):
    parameters = EVICTING


class TestNearTtl(DefaultTtlContract):
    parameters = NEAR
