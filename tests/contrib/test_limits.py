"""limits, Flask-Limiter and slowapi on a map."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import shmmap

from . import upstream
from .asgi import needs_starlette

limits = pytest.importorskip("limits")

from limits.errors import ConfigurationError, StorageError  # noqa: E402
from limits.storage import storage_from_string  # noqa: E402
from limits.strategies import STRATEGIES  # noqa: E402

from shmmap.contrib import limits as ours  # noqa: E402

EXAMPLE = Path(__file__).parents[2] / "examples" / "05_flask_limiter.py"
MINUTE = 60.0
KILLS = 8


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`time.time`, standing still at `clock.now`."""
    clock = SimpleNamespace(now=1.8e9)
    monkeypatch.setattr(time, "time", lambda: clock.now)
    return clock


@pytest.fixture
def storage(name: str) -> Any:
    return storage_from_string(f"shmmap://{name}?size=4MB&sweep_interval=none")


def acquire(storage: ours.ShmMapStorage, strategy: str, key: str, limit: int, per: int) -> bool:
    """Count one hit as a strategy does."""
    if strategy == "fixed-window":
        return storage.incr(key, per) <= limit
    if strategy == "moving-window":
        return storage.acquire_entry(key, limit, per)
    return storage.acquire_sliding_window_entry(key, limit, per)


@pytest.mark.parametrize(("modules", "passed"), [
    (["test_strategy", "test_storage", "storage/test_memory", "integration/test_concurrency"], 34),
    (["aio/test_strategy", "aio/test_storage", "aio/storage/test_memory"], 29),
], ids=["sync", "async"])
def test_the_tests_of_limits(tmp_path: Path, modules: list[str], passed: int) -> None:
    """All of those of the memory storages; `-k` leaves out those of servers, and those of no
    storage at all."""
    plugin = Path(__file__).parent / "plugins" / "limits_suite.py"
    found = upstream.run(upstream.fetch("limits"), modules, tmp_path / "report.xml", plugin,
                         "-k", "in-memory or Serialization")
    upstream.compare(found, {}, passed)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_four_processes_let_through_just_the_limit(
    strategy: str, storage: ours.ShmMapStorage, start: Any
) -> None:
    limit, tries = 1500, 1000

    def hammer(child: Any) -> int:
        mine = storage_from_string(f"shmmap://{storage.map.name}")
        child.tell("ready")
        while "go" not in mine.map:
            pass
        return sum(acquire(mine, strategy, "k", limit, 3600) for _ in range(tries))

    children = [start(hammer) for _ in range(4)]
    for child in children:
        child.hear()
    storage.map["go"] = True
    assert sum(child.end() for child in children) == limit
    assert not acquire(storage, strategy, "k", limit, 3600)


@pytest.mark.parametrize("strategy", ["moving-window", "sliding-window-counter"])
def test_a_hit_in_the_middle_of_another_is_seen(
    strategy: str, storage: ours.ShmMapStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is asked for when the entry was read, and nothing was written yet."""
    passed: list[bool] = []

    def while_another_hits() -> float:
        monkeypatch.undo()
        passed.append(acquire(storage, strategy, "k", 1, 60))
        return time.time()

    monkeypatch.setattr(time, "time", while_another_hits)
    assert not acquire(storage, strategy, "k", 1, 60) and passed == [True]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_killed_process_holds_nothing(
    strategy: str, storage: ours.ShmMapStorage, start: Any
) -> None:
    """Each hit is told after it was counted, so that the map has as many, or one more."""
    told, tells = os.pipe()

    def hammer(child: Any) -> None:
        for n in count():
            acquire(storage, strategy, "k", 10**6, 3600)
            os.write(tells, b".")
            if n == 20:
                child.tell("busy")

    heard = 0
    for n in range(KILLS):
        child = start(hammer)
        child.hear()
        time.sleep(n / 2000)
        child.kill()
        heard += len(os.read(told, 1 << 20))
        begun = time.monotonic()
        assert acquire(storage, strategy, "k", 10**6, 3600)
        assert time.monotonic() - begun < 2  # lock_timeout is 5
        heard += 1
    os.close(told), os.close(tells)
    counted = {
        "fixed-window": lambda: storage.get("k"),
        "moving-window": lambda: storage.get_moving_window("k", 10**6, 3600)[1],
        "sliding-window-counter": lambda: storage.get_sliding_window("k", 3600)[2],
    }[strategy]()
    assert heard <= counted <= heard + KILLS
    storage.map.check()


def test_all_processes_tell_the_same_times(storage: ours.ShmMapStorage, start: Any) -> None:
    item = limits.parse("5/minute")
    limiters = {name: strategy(storage) for name, strategy in STRATEGIES.items()}

    def stats(child: Any) -> dict[str, tuple[float, int]]:
        mine = storage_from_string(f"shmmap://{storage.map.name}")
        return {name: tuple(strategy(mine).get_window_stats(item, "k"))
                for name, strategy in STRATEGIES.items()}

    assert all(limiter.hit(item, "k", cost=2) for limiter in limiters.values())
    theirs = start(stats).end()
    for name, limiter in limiters.items():
        reset, remaining = limiter.get_window_stats(item, "k")
        assert remaining == theirs[name][1] == 3
        assert reset == pytest.approx(theirs[name][0], abs=1)
        assert 50 < reset - time.time() <= MINUTE


def test_the_log_lets_through_what_a_plain_list_would(
    storage: ours.ShmMapStorage, clock: SimpleNamespace
) -> None:
    """Up to EXACT hits: compared with a list of all times."""
    passed: list[float] = []
    for n in range(600):
        clock.now += (n * 7919 % 100) / 50
        amount = n * 31 % 4 + 1
        within = [hit for hit in passed if hit > clock.now - MINUTE]
        fits = len(within) + amount <= 20
        assert storage.acquire_entry("k", 20, 60, amount) is fits
        passed += [clock.now] * (amount if fits else 0)
        within += [clock.now] * (amount if fits else 0)
        assert storage.get_moving_window("k", 20, 60) == (min(within, default=clock.now),
                                                          len(within))


def test_a_long_log_stays_short_and_exact(
    storage: ours.ShmMapStorage, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond EXACT hits: no window has too many, and none is refused longer than a grain."""
    monkeypatch.setattr(ours, "EXACT", 16)
    passed: list[float] = []
    grain, longest = 60 / 16, 0
    for n in range(2000):
        clock.now += (n * 7919 % 100) / 200
        within = [hit for hit in passed if hit > clock.now - MINUTE]
        if storage.acquire_entry("k", 100, 60):
            assert len(within) < 100
            passed.append(clock.now)
        else:
            assert len([hit for hit in passed if hit > clock.now - MINUTE - grain]) >= 100
        longest = max(longest, len(storage.map["LIMITS", "log:k"]))
    assert len(passed) > 700 and longest <= 8 + 16 * (2 * 16 + 1)


def test_the_sliding_counter_weighs_the_window_before(
    storage: ours.ShmMapStorage, clock: SimpleNamespace
) -> None:
    def passed() -> int:
        return sum(storage.acquire_sliding_window_entry("k", 10, 100) for _ in range(20))

    assert passed() == 10 and storage.get_sliding_window("k", 100) == (0, 0, 10, 200)
    clock.now += 99.9
    assert passed() == 0
    clock.now += 25.1
    assert storage.get_sliding_window("k", 100) == (10, 75, 0, 0)  # and 7.5 counts as 7
    assert passed() == 3 and storage.get_sliding_window("k", 100) == (10, 75, 3, 175)
    clock.now += 300
    assert storage.get_sliding_window("k", 100) == (0, 0, 0, 0) and passed() == 10
    assert not storage.acquire_sliding_window_entry("other", 10, 100, amount=11)


@pytest.mark.parametrize("strategy", ["moving-window", "sliding-window-counter"])
def test_a_clock_that_is_set_back_blocks_for_no_longer_than_by_how_much(
    strategy: str, storage: ours.ShmMapStorage, clock: SimpleNamespace
) -> None:
    def passed() -> int:
        return sum(acquire(storage, strategy, "k", 3, 60) for _ in range(5))

    assert acquire(storage, strategy, "k", 3, 60)
    clock.now -= 30
    assert passed() == 2
    clock.now += 60 + 30 + 60.1
    assert passed() == 3
    clock.now -= 86_400  # more than a window: it begins anew
    assert passed() == 3
    clock.now += 120.1
    assert passed() == 3


def test_windows_leave_nothing_behind(
    storage: ours.ShmMapStorage, freeze: Callable[[Any], Any]
) -> None:
    m, frozen = storage.map, freeze(storage.map)
    for strategy in STRATEGIES:
        acquire(storage, strategy, "k", 3, 60)
    assert len(m) == 3
    assert storage.get_expiry("k") == pytest.approx(time.time() + 60, abs=0.5)
    frozen.advance(30)
    storage.incr("k", 60)
    assert storage.get_expiry("k") == pytest.approx(time.time() + 30, abs=0.5)
    frozen.advance(30.1)
    m.sweep()
    assert [key for _, key in m] == ["slide:k"] and storage.get("k") == 0
    assert storage.get_expiry("k") == pytest.approx(time.time(), abs=0.5)
    frozen.advance(60)
    m.sweep()
    assert len(m) == 0


def test_clear_and_reset_spare_all_else(storage: ours.ShmMapStorage) -> None:
    m = storage.map
    other = ours.ShmMapStorage(m, key_prefix="OTHER")
    m["mine"] = 1
    for each in (storage, other):
        for key in ("a", "b"):
            for strategy in STRATEGIES:
                acquire(each, strategy, key, 3, 60)
    storage.clear("a")
    storage.clear_sliding_window("b", 60)
    assert (storage.get("a"), storage.get("b"), other.get("a")) == (0, 1, 1)
    assert storage.reset() == 2 and storage.reset() == 0
    assert len(m) == 7 and other.reset() == 6 and m["mine"] == 1
    assert storage.check() and len(m) == 1


def test_the_async_twin_shares_the_windows(storage: ours.ShmMapStorage) -> None:
    twin: Any = storage_from_string(f"async+shmmap://{storage.map.name}")
    storage.incr("k", 60), storage.acquire_entry("k", 9, 60)

    async def hits() -> list[Any]:
        return [await twin.incr("k", 60), await twin.acquire_entry("k", 1, 60), await twin.check(),
                await twin.acquire_sliding_window_entry("k", 1, 60), await twin.reset()]

    assert asyncio.run(hits()) == [2, False, True, True, 3]


def test_options_are_those_of_the_uri_and_then_those_given(name: str) -> None:
    uri = f"shmmap://{name}/?size=2MB&shards=4&lock_timeout=0.5&mode=0o660&key_prefix=A&codec=json"
    storage: Any = storage_from_string(uri, key_prefix="B", size="1MB")
    m = storage.map
    assert (m.parameters["shards"], m.lock_timeout, m.mode) == (4, 0.5, 0o660)
    assert m.size < 1_500_000 and (m.codec, m.on_full) == ("json", "evict")
    assert all(acquire(storage, strategy, "k", 3, 60) for strategy in STRATEGIES)
    assert {prefix for prefix, _ in m} == {"B"}
    m.unlink()  # here: with another mode only those can open it who say it


@pytest.mark.parametrize(("uri", "error", "says"), [
    ("shmmap://", ConfigurationError, "must name a map"),
    ("shmmap:///limits", ConfigurationError, "must name a map"),
    ("shmmap://limits/path", ConfigurationError, "must name a map"),
    ("shmmap://limits?shard=4", TypeError, "'shard'"),
])
def test_a_wrong_uri_is_refused(uri: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        storage_from_string(uri)


@pytest.fixture
def full(name: str) -> str:
    """The URI of a map that has room for nothing."""
    uri = f"shmmap://{name}?size=300KB&shards=1&on_full=raise&sweep_interval=none"
    with shmmap.ShmMap(name, size="300KB", shards=1, on_full="raise", sweep_interval=None) as m:
        for size in (10_000, 100, 1):
            with pytest.raises(shmmap.MapFull):
                for n in count():
                    m.set((size, n), bytes(size))
    return uri


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_errors_of_a_map_are_those_of_a_storage(full: str, strategy: str) -> None:
    with pytest.raises(shmmap.MapFull):
        acquire(ours.ShmMapStorage(full), strategy, "k", 3, 60)
    wrapping = storage_from_string(full, wrap_exceptions=True)
    with pytest.raises(StorageError) as caught:
        acquire(wrapping, strategy, "k", 3, 60)
    assert isinstance(caught.value.storage_error, shmmap.MapFull)
    twin: Any = storage_from_string(f"async+{full}", wrap_exceptions=True)
    with pytest.raises(StorageError):
        asyncio.run(twin.acquire_entry("k", 3, 60))
    assert not wrapping.check() and not asyncio.run(twin.check())
    wrapping.map.clear()
    assert wrapping.check() and acquire(wrapping, strategy, "k", 3, 60)


def app_of(uri: str, **options: Any) -> Any:
    """Return a client of an app that lets three requests through."""
    flask, flask_limiter = map(pytest.importorskip, ("flask", "flask_limiter"))
    app = flask.Flask(__name__)
    flask_limiter.Limiter(lambda: "me", app=app, default_limits=["3/minute"], storage_uri=uri,
                          headers_enabled=True, **options)
    app.get("/")(lambda: "page")
    return app.test_client()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_flask_limiter_counts_for_all_workers(strategy: str, name: str) -> None:
    uri, options = f"shmmap://{name}", {"storage_options": {"size": "1MB"}, "strategy": strategy}
    workers = [app_of(uri, **options) for _ in range(2)]
    answers = [workers[n % 2].get("/") for n in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == list("21000")


@needs_starlette
@pytest.mark.filterwarnings("ignore:Using `httpx`")  # where there is no httpx2
def test_slowapi_counts_for_all_workers(name: str) -> None:
    slowapi = pytest.importorskip("slowapi")
    from starlette import applications, responses, testclient

    def worker() -> Any:
        app = applications.Starlette()
        app.state.limiter = slowapi.Limiter(lambda: "me", storage_uri=f"shmmap://{name}?size=1MB")
        app.add_exception_handler(slowapi.errors.RateLimitExceeded,
                                  slowapi._rate_limit_exceeded_handler)

        @app.state.limiter.limit("3/minute")
        async def page(request: Any) -> Any:
            return responses.PlainTextResponse("page")

        app.add_route("/", page)
        return testclient.TestClient(app)

    workers = [worker() for _ in range(2)]
    answers = [workers[n % 2].get("/").status_code for n in range(5)]
    assert answers == [200, 200, 200, 429, 429]


def test_flask_limiter_goes_on_without_the_map(full: str) -> None:
    """It falls back on its memory, or lets pass, as it was told to."""
    falls_back = app_of(full, in_memory_fallback=["1/minute"])
    assert [falls_back.get("/").status_code for _ in range(2)] == [200, 429]
    swallows = app_of(full, swallow_errors=True)
    assert [swallows.get("/").status_code for _ in range(5)] == [200] * 5


def test_the_example_runs_as_it_says() -> None:
    pytest.importorskip("flask_limiter")
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "400 passed, 0 refused" in done.stdout and "100 passed, 300 refused" in done.stdout
