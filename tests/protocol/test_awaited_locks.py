"""`async with m.lock(key)`: each task holds for itself, the loop goes on meanwhile, and a task that
is cancelled holds nothing.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import shmmap

from .holders import SOON_S, STALL_S, entries, take_and_stop, watched


def test_tasks_exclude_each_other(make):
    m = make()
    shared = m.lock("a", timeout=20)
    inside, most = [0], [0]

    async def guarded(lock: Any) -> None:
        for _ in range(3):
            async with lock as entered:
                assert entered is lock and lock.held and lock.token > 0
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                await asyncio.sleep(0.003)
                inside[0] -= 1

    async def main() -> None:
        locks = [shared] * 4 + [m.lock("a", timeout=20) for _ in range(4)]
        await asyncio.gather(*map(guarded, locks))

    asyncio.run(main())
    assert most == [1] and entries(m) == 0 and not shared.held


def test_a_task_that_is_waiting_does_not_hold_up_its_loop(make, start):
    m = make()
    holder = start(take_and_stop(m, "a"))
    holder.hear()

    async def wait() -> None:
        async with m.lock("a", timeout=30):
            pass

    async def main() -> float:
        asyncio.get_running_loop().call_later(0.5, holder.tell, "leave")
        return await watched(wait())

    assert asyncio.run(main()) < STALL_S
    assert holder.result() == "released"


def test_a_killed_holder_is_replaced_at_once(make, start):
    m = make()
    holder = start(take_and_stop(m, "a"))
    token = holder.hear()

    async def wait() -> float:
        async with m.lock("a", timeout=30) as lock:
            assert lock.token > token
            return time.monotonic()

    async def main() -> list[float]:
        waiting = [asyncio.ensure_future(wait()) for _ in range(5)]
        await asyncio.sleep(0.05)
        holder.kill()
        killed = time.monotonic()
        return [at - killed for at in await asyncio.gather(*waiting)]

    assert max(asyncio.run(main())) < SOON_S


def test_a_timeout_names_the_holder(make, start):
    m = make()
    holder = start(take_and_stop(m, "report"))
    holder.hear()

    async def main() -> str:
        assert not await m.lock("report").aacquire(timeout=0.02)
        assert not await m.lock("report").aacquire(blocking=False)
        assert not await m.lock("report", timeout=0.02).aacquire()
        with pytest.raises(shmmap.LockTimeout) as caught:
            async with m.lock("report", timeout=0.05):
                pass
        return str(caught.value)

    assert f"process {holder.pid} (" in asyncio.run(main())


def test_what_could_not_end_is_refused_at_once(make):
    """A wait without await for another task of the loop would stop that task, and so itself."""
    m = make()
    began = time.monotonic()

    async def hold(until: asyncio.Event) -> None:
        async with m.lock("a"):
            await until.wait()

    async def main() -> None:
        until = asyncio.Event()
        holder = asyncio.ensure_future(hold(until))
        await asyncio.sleep(0)
        with pytest.raises(shmmap.Reentered, match=r"async with m\.lock"), m.lock("a"):
            pass
        with pytest.raises(shmmap.Reentered, match="aacquire"):
            m.lock("a").acquire()
        assert not m.lock("a").acquire(blocking=False)
        assert not m.lock("a").acquire(timeout=0)
        assert m.lock("a").locked() and not m.lock("b").locked()
        until.set()
        await holder
        with m.lock("a") as lock:  # and one that is free is taken
            assert lock.held
            with pytest.raises(shmmap.Reentered, match="this task holds lock 'a' already"):
                async with m.lock("a"):
                    pass

    asyncio.run(main())
    assert time.monotonic() - began < SOON_S and entries(m) == 0


def test_what_the_thread_took_before_its_loop_began_is_refused_too(make):
    m = make()

    async def main() -> None:
        async with m.lock("a"):
            pass

    with m.lock("a"), pytest.raises(shmmap.Reentered, match="outside of this task"):
        asyncio.run(main())
    asyncio.run(main())


def test_what_a_callback_took_can_be_waited_for(make):
    m = make()
    lock = m.lock("a")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(lock.acquire)
        await asyncio.sleep(0.01)
        loop.call_later(0.05, lock.release)
        async with m.lock("a", timeout=20):
            pass

    asyncio.run(main())
    assert entries(m) == 0


async def end_anyhow(task: asyncio.Future[Any]) -> None:
    """Wait for the end of a task that may have been cancelled."""
    await asyncio.wait((task,))


@pytest.mark.parametrize("kind", ["with", "acquire", "semaphore", "timeout"])
def test_a_task_that_is_cancelled_leaves_nothing_taken(make, kind):
    m = make()
    chance = random.Random(kind)
    taken = [0]

    async def block() -> None:
        if kind == "with":
            async with m.lock("a"):
                taken[0] += 1
                await asyncio.sleep(0.002)
        elif kind == "semaphore":
            async with m.semaphore("a", 2):
                taken[0] += 1
                await asyncio.sleep(0.002)
        else:
            lock = m.lock("a")
            if await lock.aacquire(timeout=0.01 if kind == "timeout" else 20):
                try:
                    taken[0] += 1
                    await asyncio.sleep(0.002)
                finally:
                    lock.release()

    async def main() -> None:
        for _ in range(40):
            tasks = [asyncio.ensure_future(block()) for _ in range(5)]
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            await asyncio.sleep(chance.random() * 0.004)
            for task in chance.sample(tasks, 3):
                task.cancel()
            await asyncio.gather(*map(end_anyhow, tasks))
        async with m.lock("a", timeout=20):
            pass
        if kind == "semaphore":
            async with m.semaphore("a", 2, timeout=20), m.semaphore("a", 2, timeout=20):
                pass

    asyncio.run(main())
    assert taken[0] > 40 and entries(m) == 0
    assert not m.attachment.locks.holds and not m.attachment.locks.loop_turns


def test_the_next_in_line_goes_on_when_the_first_is_cancelled(make):
    m = make()

    async def main() -> None:
        async with m.lock("a"):
            line = [asyncio.ensure_future(m.lock("a", timeout=20).aacquire()) for _ in range(4)]
            await asyncio.sleep(0.02)
            line[0].cancel()
            line[2].cancel()
        assert await line[1]
        assert not line[3].done()
        line[3].cancel()

    asyncio.run(main())


def test_a_loop_that_ends_with_tasks_inside_leaves_nothing_taken(make):
    m = make()

    async def block(lock: Any) -> None:
        async with lock:
            await asyncio.sleep(60)

    async def main() -> None:
        for _ in range(3):
            asyncio.ensure_future(block(m.lock("a")))  # noqa: RUF006  # one holds, two wait
        await asyncio.sleep(0.02)
        assert entries(m) == 1

    asyncio.run(main())
    assert entries(m) == 0


def test_loops_of_several_threads(make):
    m = make()
    counts = [0]

    async def count() -> None:
        for _ in range(10):
            async with m.lock("a", timeout=30):
                seen = counts[0]
                await asyncio.sleep(0)
                counts[0] = seen + 1

    async def main() -> None:
        await asyncio.gather(*[count() for _ in range(3)])

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [90] and entries(m) == 0


def test_the_lock_shards_own_lock_does_not_stop_a_loop(make):
    """Its holder is stopped, say: each look then would wait for 50 ms."""
    m = make()
    m.lock("b").acquire()
    shard = m.attachment.locks.shards[0]
    word = m.attachment.worker.fork_page.word | 0x3000

    async def wait() -> None:
        with pytest.raises(shmmap.LockTimeout):
            async with m.lock("b2", timeout=1.0):
                pass

    async def main() -> float:
        assert shard.lock.lock(word, 10**9) in (0, 1)
        try:
            return await watched(wait())
        finally:
            shard.lock.unlock()

    assert asyncio.run(main()) < STALL_S


def test_who_never_imports_asyncio_does_not_get_it(name):
    code = (
        "import shmmap, sys\n"
        "m = shmmap.ShmMap(sys.argv[1], size='1MB')\n"
        "with m.lock('a'), m.semaphore('b', 2), m.lock('c', lease=5, auto_renew=True): pass\n"
        "m.get_or_set('a', int)\n"
        "m.unlink()\n"
        "print({'asyncio', 'inspect', 'logging'} & sys.modules.keys())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True,
                          cwd="/")
    assert (done.stdout, done.stderr) == ("set()\n", "")


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run a coroutine function in a loop of its own."""

    async def main() -> Any:
        return await work()

    return asyncio.run(main())


def test_a_reentrant_lock_belongs_to_its_task(make):
    m = make()

    async def child() -> bool:
        taken: bool = await m.lock("a", reentrant=True).aacquire(timeout=0.02)
        return taken

    async def main() -> None:
        lock = m.lock("a", reentrant=True)
        async with lock, lock, m.lock("a", reentrant=True) as inner:
            token = inner.token
            assert token == lock.token and entries(m) == 1
            assert not await asyncio.ensure_future(child())
            with lock:  # without await too
                assert lock.token == token
        assert entries(m) == 0

    run(main)
