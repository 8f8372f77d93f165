"""The mapping contract, bound to dict and to maps of one shard, many shards, and that evict."""

from __future__ import annotations

from .mapping_contract import MappingContract, ShmMappingContract


class TestDict(MappingContract):
    parameters = None


class TestOneShard(ShmMappingContract):
    parameters = {"shards": 1}  # noqa: RUF012


class TestManyShards(ShmMappingContract):
    parameters = {"shards": 64, "size": "2MB"}  # noqa: RUF012


class TestEvicting(ShmMappingContract):
    parameters = {"shards": 1, "on_full": "evict"}  # noqa: RUF012


class TestNear(ShmMappingContract):
    parameters = {"shards": 1, "near": 3}  # noqa: RUF012


class TestSession(ShmMappingContract):
    parameters = {"shards": 64, "size": "2MB", "near": 100, "consistency": "session"}  # noqa: RUF012
