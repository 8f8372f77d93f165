"""`await m.aget_or_set(...)`, and copies that are made in a thread while the loop goes on."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import pytest

import shmmap

from .holders import SOON_S, entries
from .test_awaited_locks import STALL_S, watched


def test_tasks_of_a_loop_compute_a_value_once(make):
    m = make()
    calls: list[str] = []

    async def draw() -> str:
        calls.append("page")
        await asyncio.sleep(0.05)
        return "drawn"

    async def main() -> list[Any]:
        return await asyncio.gather(*[m.aget_or_set("page", draw, ttl=60) for _ in range(20)])

    assert asyncio.run(main()) == ["drawn"] * 20 and calls == ["page"]
    assert asyncio.run(m.aget_or_set("page", draw)) == "drawn" == m["page"]
    assert entries(m) == 0


def test_a_plain_function_computes_too(make):
    m = make()
    assert asyncio.run(m.aget_or_set("a", lambda: 5)) == 5 == m["a"]
    with pytest.raises(ZeroDivisionError):
        asyncio.run(m.aget_or_set("b", lambda: 1 // 0))
    with pytest.raises(TypeError, match="callable"):
        asyncio.run(m.aget_or_set("c", 5))
    assert entries(m) == 0


def test_of_all_processes_one_computes(make, start):
    m = make()
    m["calls"] = 0

    def work(child: Any) -> list[str]:
        async def draw() -> str:
            m.incr("calls")
            await asyncio.sleep(0.2)
            return "drawn"

        async def main() -> list[str]:
            return await asyncio.gather(*[m.aget_or_set("page", draw) for _ in range(4)])

        return asyncio.run(main())

    children = [start(work) for _ in range(3)]
    assert [child.result() for child in children] == [["drawn"] * 4] * 3
    for child in children:
        child.reap()
    assert m["calls"] == 1


def test_the_loop_goes_on_while_another_process_computes_and_dies(make, start):
    m = make()
    child = start(lambda child: m.get_or_set("k", lambda: (child.tell("go"), child.hear())))
    child.hear()

    async def wait() -> None:
        assert await m.aget_or_set("k", lambda: "mine", timeout=30) == "mine"

    async def main() -> float:
        asyncio.get_running_loop().call_later(0.4, child.kill)
        return await watched(wait())

    assert asyncio.run(main()) < STALL_S


def test_a_timeout_names_who_computes(make, start):
    m = make()
    child = start(lambda child: m.get_or_set("k", lambda: (child.tell("go"), child.hear())))
    child.hear()
    with pytest.raises(shmmap.LockTimeout, match=f"process {child.pid} "):
        asyncio.run(m.aget_or_set("k", int, timeout=0.05))
    child.tell("end")
    child.result()


def test_a_cancelled_task_is_replaced(make):
    m = make()
    calls: list[int] = []

    async def draw() -> int:
        calls.append(1)
        await asyncio.sleep(0.1)
        return len(calls)

    async def main() -> Any:
        tasks = [asyncio.ensure_future(m.aget_or_set("k", draw)) for _ in range(3)]
        await asyncio.sleep(0.03)
        tasks[0].cancel()
        return [await tasks[1], await tasks[2]]

    assert asyncio.run(main()) == [2, 2] and entries(m) == 0


def test_what_could_not_end_is_refused(make):
    m = make()
    began = time.monotonic()

    async def endless() -> Any:
        return await asyncio.gather(m.aget_or_set("k", endless))

    async def blocks() -> Any:
        return m.get_or_set("k", int)

    async def slow() -> int:
        await asyncio.sleep(0.1)
        return 1

    async def beside() -> None:
        computing = asyncio.ensure_future(m.aget_or_set("k", slow))
        await asyncio.sleep(0.01)
        with pytest.raises(shmmap.Reentered, match="aget_or_set"):
            m.get_or_set("k", int)  # would hold up the loop, and so the one that computes
        assert await computing == 1

    with pytest.raises(shmmap.Reentered):
        asyncio.run(m.aget_or_set("k", endless))
    with pytest.raises(shmmap.Reentered):
        asyncio.run(m.aget_or_set("k", blocks))
    with pytest.raises(shmmap.Reentered, match="outside of this task"):
        m.get_or_set("k", lambda: asyncio.run(m.aget_or_set("k", int)))
    asyncio.run(beside())
    assert time.monotonic() - began < SOON_S and entries(m) == 0


def test_stale_values_are_served_meanwhile(make, freeze):
    m = make()
    clock = freeze(m)

    async def slow() -> str:
        await asyncio.sleep(0.05)
        return "new"

    async def main() -> list[Any]:
        return await asyncio.gather(
            *[m.aget_or_set("k", slow, ttl=10, stale=30) for _ in range(3)]
        )

    assert asyncio.run(m.aget_or_set("k", lambda: "old", ttl=10, stale=30)) == "old"
    clock.advance(15)
    assert sorted(asyncio.run(main())) == ["new", "old", "old"]


def test_copies_are_made_in_a_thread(make, name, tmp_path):
    m = make()
    m.update({number: bytes(50) for number in range(2000)})
    file = tmp_path / "dump"
    threads: list[int] = []

    class Telling(os.PathLike[str]):
        def __fspath__(self) -> str:
            threads.append(threading.get_ident())
            return str(file)

    async def main() -> None:
        snapshot = await m.asnapshot()
        assert len(snapshot) == 2000
        assert (await m.adump(Telling())).entries == 2000
        m.clear()
        assert (await m.amerge(file)).written == 2000
        other = await shmmap.ShmMap.aload(file, name + "-x", size="2MB")
        assert dict(other) == dict(m) and isinstance(other, shmmap.ShmMap)
        other.unlink()
        other.close()

    asyncio.run(main())
    assert threads and threading.get_ident() not in threads
