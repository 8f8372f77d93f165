"""Run seeded operations on a map and print a digest of what they left: a part of test_same_bytes.

Run as: same_bytes_run.py DIRECTORY-OF-THIS-FILE NAME SHAPE SEED STEPS
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from typing import Any

RANDOM_WORD = 0x9E37_79B9_7F4A_7C15


def shard_bytes(m: Any, number: int) -> bytes:
    """Copy a shard without the words of its lock, and without unreserved deadlines."""
    from shmmap.memory.layout import constants

    k = constants()
    areas = m.attachment.geometry.areas
    memory = memoryview(m.attachment.mappings[number].buffer).cast("B")
    words = memory.cast("Q")
    end = areas.end if words[k["S_HAS_DEADLINES"] >> 3] else areas.deadlines
    copy = bytearray(memory[:end])
    for field in ("S_OWNER", "S_WAITERS"):
        copy[k[field] : k[field] + 8] = bytes(8)
    return bytes(copy)


def main() -> None:
    """Print the engine, a digest a shard, and how often room ran out."""
    directory, name, shape, seed, steps = sys.argv[1:]
    import shmmap
    from shmmap.lifecycle import headers, making

    making.random_word = lambda: RANDOM_WORD  # nonce and hash seed
    headers.CLOCK.frozen_ns = 10**15  # where deadlines count from

    sys.path.insert(0, directory)
    operations = importlib.import_module("operations")
    parameters = json.loads(shape)
    m = shmmap.ShmMap.create(name, sweep_interval=None, **parameters)
    try:
        run = operations.Operations(
            m, int(seed), full=shmmap.MapFull, evicts=parameters.get("on_full") == "evict",
            default_ttl=parameters.get("ttl"),
        )
        for _ in range(int(steps)):
            run.step()
        shards = [shard_bytes(m, i) for i in range(m.attachment.geometry.shards)]
        print(json.dumps({
            "engine": shmmap.ENGINE,
            "digests": [hashlib.sha256(shard).hexdigest() for shard in shards],
            "first shard": shards[0].hex(),
            "entries": len(m), "refused": run.refused, "evicted": m.stats().evicted,
        }))
    finally:
        m.unlink()
        m.close()


if __name__ == "__main__":
    main()
