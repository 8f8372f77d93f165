"""@cached coroutines: tasks share one computing, are cancelled, and never wait for themselves."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import pytest

import shmmap

from .functions import slow


def test_tasks_that_wait_for_what_cannot_be_kept_compute_side_by_side(make):
    m = make()
    inside, most = [0], [0]

    @shmmap.cached(m)
    async def big(n: int) -> int:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        await asyncio.sleep(0.05)
        inside[0] -= 1
        return len(bytes(10**7)) * 0 or threading.Lock()  # type: ignore[return-value]

    async def many() -> None:
        await asyncio.gather(*[big(1) for _ in range(6)])

    asyncio.run(many())
    assert most[0] == 5 and m.stats().uncached == {"not_picklable": 6}


def test_tasks_of_a_loop_share_one_computing(make):
    m = make()
    f, calls = slow(m)

    async def main() -> list[int]:
        return await asyncio.gather(*(f(n % 3) for n in range(60)))

    assert asyncio.run(main()) == [n % 3 * 2 for n in range(60)]
    assert sorted(calls) == [0, 1, 2]
    assert asyncio.run(f(1)) == 2
    assert len(calls) == 3 and m.attachment.locks.count() == 0


def test_an_error_reaches_who_computed_and_the_next_task_tries(make):
    f, calls = slow(make(), 0.01)

    async def main() -> list[Any]:
        return await asyncio.gather(*(f(-1) for _ in range(3)), return_exceptions=True)

    assert [type(result) for result in asyncio.run(main())] == [ArithmeticError] * 3
    assert len(calls) == 3


def test_a_cancelled_leader_is_replaced(make):
    m = make()
    f, calls = slow(m, 0.2)

    async def main() -> int:
        leader, follower = asyncio.ensure_future(f(1)), asyncio.ensure_future(f(1))
        await asyncio.sleep(0.05)
        leader.cancel()
        result: int = await follower
        assert leader.cancelled()
        return result

    assert asyncio.run(main()) == 2
    assert len(calls) == 2 and m.attachment.locks.count() == 0


def test_a_cancelled_follower_harms_nobody(make):
    f, calls = slow(make(), 0.1)

    async def main() -> list[int]:
        tasks = [asyncio.ensure_future(f(1)) for _ in range(3)]
        await asyncio.sleep(0.03)
        tasks[1].cancel()
        return [await tasks[0], await tasks[2]]

    assert asyncio.run(main()) == [2, 2] and len(calls) == 1


def test_a_task_that_waits_for_itself_is_told(make):
    m = make()

    @shmmap.cached(m)
    async def endless(n: int) -> Any:
        return await endless(n)

    async def main() -> None:
        with pytest.raises(shmmap.Reentered):
            await endless(1)

    asyncio.run(main())


@pytest.mark.parametrize("way", ["gather", "wait_for", "create_task", "to_thread", "other"])
def test_a_task_within_the_computing_that_waits_for_it_is_told(make, way):
    m = make()

    @shmmap.cached(m, key=lambda n: n)
    async def other(n: int) -> Any:
        return await endless(n)

    @shmmap.cached(m, key=lambda n: n)
    async def endless(n: int) -> Any:
        if way == "gather":
            return await asyncio.gather(endless(n))
        if way == "wait_for":
            return await asyncio.wait_for(endless(n), 100)
        if way == "create_task":
            return await asyncio.create_task(endless(n))
        if way == "to_thread":
            return await asyncio.to_thread(asyncio.run, endless(n))
        return await other(n)

    async def main() -> None:
        with pytest.raises(shmmap.Reentered, match="__wrapped__"):
            await asyncio.wait_for(endless(1), 20)

    asyncio.run(main())
    assert m.attachment.locks.count() == 0


def test_tasks_within_a_computing_may_need_other_keys(make):
    m = make()

    @shmmap.cached(m)
    async def fib(n: int) -> int:
        return n if n < 2 else sum(await asyncio.gather(fib(n - 1), fib(n - 2)))

    assert asyncio.run(fib(30)) == 832040


def test_a_task_that_outlives_the_computing_may_ask_for_its_key(make):
    m = make()
    later: list[asyncio.Task[int]] = []
    calls: list[int] = []

    @shmmap.cached(m)
    async def f(n: int) -> int:
        async def ask_again() -> int:
            await over.wait()
            return await f(n)

        calls.append(n)
        if not later:
            later.append(asyncio.create_task(ask_again()))
        await asyncio.sleep(0.05)
        return n

    async def main() -> None:
        assert await f(1) == 1
        f.invalidate(1)
        computing = asyncio.ensure_future(f(1))  # another one, which it may wait for
        await asyncio.sleep(0)
        over.set()
        assert await later[0] == await computing == 1
        f.invalidate(1)
        assert await asyncio.gather(f(1), f(1)) == [1, 1]

    over = asyncio.Event()
    asyncio.run(main())
    assert calls == [1, 1, 1]


def test_a_plain_call_in_the_computing_thread_is_told(make):
    """It would wait for a task that cannot go on while it waits."""
    m = make()

    @shmmap.cached(m, prefix="one key")
    def plain_one() -> int:
        return 1

    @shmmap.cached(m, prefix="one key")
    async def coroutine() -> int:
        with pytest.raises(shmmap.Reentered):
            plain_one()
        return 2

    assert asyncio.run(coroutine()) == 2


def test_the_loop_goes_on_while_another_process_computes(make, start):
    m = make()
    f, calls = slow(m, 0.0)

    def work(child: Any) -> Any:
        def factory() -> str:
            child.tell("computing")
            child.hear()
            return f"by {os.getpid()}"

        return m.get_or_set(f.key_for(7), factory)

    async def main() -> tuple[Any, int, float]:
        task = asyncio.ensure_future(f(7))
        ticks, longest, last = 0, 0.0, time.monotonic()
        end = last + 0.5
        while not task.done():
            await asyncio.sleep(0.005)
            now = time.monotonic()
            ticks, longest, last = ticks + 1, max(longest, now - last), now
            if end and now > end:
                child.tell("end")
                end = 0.0
        return await task, ticks, longest

    child = start(work)
    assert child.hear() == "computing"
    value, ticks, longest = asyncio.run(main())
    assert value == child.result() == f"by {child.pid}" and not calls
    assert ticks > 20 and longest < 0.3
    child.reap()


def test_stale_results_do_not_wait(make, freeze):
    m = make()
    f, calls = slow(m, 0.05, ttl=10, stale=5)
    freeze(m)
    asyncio.run(f(1))
    m.set(f.key_for(1), "old", ttl=4)  # past its time

    async def main() -> list[Any]:
        return await asyncio.gather(*(f(1) for _ in range(4)))

    assert asyncio.run(main()) == [2, "old", "old", "old"]
    assert len(calls) == 2


def test_a_coroutine_waits_for_another_process_no_longer_than_its_timeout(make, start):
    m = make()
    f, calls = slow(m, 0.0, timeout=0.2)

    def work(child: Any) -> Any:
        def factory() -> str:
            child.tell("computing")
            child.hear()
            return "computed"

        return m.get_or_set(f.key_for(7), factory)

    child = start(work)
    assert child.hear() == "computing"
    begin = time.monotonic()
    with pytest.raises(shmmap.LockTimeout, match=f"0.2 s; held by process {child.pid}"):
        asyncio.run(f(7))
    assert 0.2 <= time.monotonic() - begin < 5 and not calls
    child.tell("end")
    assert child.result() == asyncio.run(f(7)) == "computed"
    child.reap()


def test_coroutines_that_need_each_other_end_by_their_timeout(make):
    m = make()

    @shmmap.cached(m, timeout=0.2)
    async def needs_the_other(n: int) -> Any:
        await asyncio.sleep(0.01)
        return await needs_the_other(1 - n)

    async def main() -> list[Any]:
        return await asyncio.gather(
            needs_the_other(0), needs_the_other(1), return_exceptions=True
        )

    errors = asyncio.run(main())
    assert any(isinstance(error, shmmap.LockTimeout) for error in errors)
    assert any("the computing of" in str(error) and str(os.getpid()) in str(error)
               for error in errors)
    assert m.attachment.locks.count() == 0


def test_more_keys_at_once_than_the_lock_table_holds(make):
    m = make()
    f, calls = slow(m, 0.1)

    async def main() -> list[int]:
        return await asyncio.gather(*(f(n) for n in range(600)))

    assert asyncio.run(main()) == [n * 2 for n in range(600)]
    assert sorted(calls) == list(range(600))
    assert m.attachment.locks.count() == 0 and len(m) == 601  # one is the generation


def test_a_stale_result_is_given_if_the_lock_table_is_full(make):
    m = make()
    f, calls = slow(m, 0.1, ttl=10, stale=5)
    m.set(f.key_for(0), "old", ttl=4)  # past its time

    async def main() -> Any:
        others = [asyncio.ensure_future(f(n)) for n in range(1, 600)]
        await asyncio.sleep(0)
        result = await f(0)
        await asyncio.gather(*others)
        return result

    assert asyncio.run(main()) == "old" and 0 not in calls


def test_loops_in_several_threads(make):
    m = make()
    f, calls = slow(m, 0.1)
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(asyncio.run(f(1))))
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [2] * 4 and len(calls) == 1
