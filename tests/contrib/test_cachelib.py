"""cachelib, Flask-Caching and Flask-Session on a map."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmmap

from . import upstream

cachelib = pytest.importorskip("cachelib")
flask = pytest.importorskip("flask")

from shmmap.contrib.cachelib import ShmMapCache  # noqa: E402

PLUGINS = Path(__file__).parent / "plugins"
BY_NUMBER = "bounds the number of entries; a map is bounded in bytes"
NAMES_SIMPLE = "asks for SimpleCache by its name"


@pytest.fixture
def name() -> Iterator[str]:
    name = f"contrib-{os.getpid()}"
    yield name
    shmmap.unlink(name, missing_ok=True)


def test_the_tests_of_cachelib(tmp_path: Path) -> None:
    folder = upstream.fetch("cachelib")
    found = upstream.run(
        folder, ["test_simple_cache"], tmp_path / "report.xml", PLUGINS / "cachelib_suite.py",
        "-k", "not CustomCache",
    )
    upstream.compare(found, {
        "TestSimpleCache.test_threshold[SimpleCache]": BY_NUMBER,
        "TestSimpleCache.test_threshold_zero_defaults_to_500[SimpleCache]": BY_NUMBER,
    }, passed=28)


def test_the_tests_of_flask_caching(tmp_path: Path) -> None:
    folder = upstream.fetch("Flask-Caching")
    parts = ("cache", "memoize", "view", "templates", "signals")
    found = upstream.run(
        folder, [f"test_{part}" for part in parts], tmp_path / "report.xml",
        PLUGINS / "flask_caching_suite.py",
    )
    upstream.compare(found, {
        "test_cache.test_cache_unlink_if_not": NAMES_SIMPLE,
        "test_cache.test_cache_delete_many_ignored": NAMES_SIMPLE,
        "test_cache.test_cache_unlink": "asks for a server of Redis",
    }, passed=123)


def test_processes_share_it(name: str) -> None:
    """A forked child writes, counts and adds; the parent sees it."""
    cache = ShmMapCache(name, size="1MB")
    pid = os.fork()
    if pid == 0:
        cache.set("page", "<p>")
        os._exit(0 if cache.inc("hits", 2) == 2 and cache.add("once", 1) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert cache.get("page") == "<p>" and cache.dec("hits") == 1 and not cache.add("once", 2)


def test_timeouts(name: str) -> None:
    cache = ShmMapCache(name, default_timeout=60, size="1MB")
    lives = {"default": None, "span": datetime.timedelta(minutes=5), "never": 0, "before": -1}
    for key, timeout in lives.items():
        assert cache.set(key, 1, timeout)
    left = {key: cache.map.ttl(key) for key in lives}
    assert 59 < left["default"] <= 60 and 299 < left["span"] <= 300
    assert left["never"] is None and left["before"] is None


def test_clear_spares_another_prefix(name: str) -> None:
    pages, users = (ShmMapCache(name, key_prefix=part, size="1MB") for part in ("page", "user"))
    pages.set("a", 1), users.set("a", 2)
    assert pages.clear() and not pages.has("a") and users.get("a") == 2
    assert pages.get_many("a", "b") == [None, None] and pages.delete("a") is False


def test_a_full_map_fails_no_request(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be stored is told by False, counted and logged once, and nothing old stays."""
    cache = ShmMapCache(name, size="300KB", shards=1)
    assert cache.set("big", "small")
    assert cache.set("big", "x" * 1_000_000) is False and cache.get("big") is None
    assert cache.set("big", "x" * 1_000_000) is False
    assert cache.map.stats().uncached == {"too_large": 2}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    with pytest.raises((TypeError, AttributeError), match="pickle"):
        cache.set("never", (one for one in ()))
    strict = ShmMapCache(cache.map, strict=True)
    with pytest.raises(shmmap.EntryTooLarge):
        strict.set("big", "x" * 1_000_000)
    with pytest.raises(TypeError, match="size"):
        ShmMapCache(cache.map, size="1MB")


def test_flask_session_keeps_its_sessions_in_it(name: str) -> None:
    session = pytest.importorskip("flask_session")
    app = flask.Flask(__name__)
    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=ShmMapCache(name, size="1MB"))
    session.Session(app)

    @app.get("/count")
    def count() -> str:
        flask.session["n"] = flask.session.get("n", 0) + 1
        return str(flask.session["n"])

    client = app.test_client()
    assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]
    assert app.test_client().get("/count").text == "1"
    assert len(app.config["SESSION_CACHELIB"].map) == 2


@pytest.mark.parametrize("on_full", ["evict", "raise"])
def test_of_a_full_map_new_sessions_and_those_in_use_stay(name: str, on_full: str) -> None:
    """With "evict", as the pages of Flask, Django and Starlette recommend; not with "raise"."""
    session = pytest.importorskip("flask_session")
    app = flask.Flask(__name__)
    store = ShmMapCache(name, size="300KB", shards=1, on_full=on_full)
    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=store)
    session.Session(app)

    @app.get("/login/<user>")
    def login(user: str) -> str:
        flask.session["user"] = user
        return "welcome"

    @app.get("/")
    def home() -> str:
        return str(flask.session.get("user", "nobody"))

    @app.get("/buy")
    def buy() -> str:
        flask.session["cart"] = "tea" * 100
        return home()

    ada, bob = app.test_client(), app.test_client()
    ada.get("/login/ada")
    for number in range(2000):  # of a robot that keeps no cookies
        app.test_client().get(f"/login/robot-{number}")
        if number % 20 == 0:
            assert ada.get("/").text == "ada"
    assert bob.get("/login/bob").text == "welcome"
    is_kept = on_full == "evict"
    assert bob.get("/").text == ("bob" if is_kept else "nobody")
    assert ada.get("/buy").text == "ada" and ada.get("/").text == ("ada" if is_kept else "nobody")
    stats = store.map.stats()
    assert (stats.evicted > 100) is is_kept and ("full" in stats.uncached) is not is_kept


def test_the_pages_program_is_served_as_a_module(name: str, tmp_path: Path) -> None:
    """`gunicorn after:app` imports it: all that a view needs is there then."""
    pytest.importorskip("flask_limiter")
    page = Path(__file__).parents[2] / "docs" / "contrib" / "flask.md"
    program = page.read_text().split('```python title="after.py"\n')[1].split("```")[0]
    assert 'NAME = "demo"' in program
    (tmp_path / "after.py").write_text(program.replace('"demo"', repr(name)))
    asked = ("import after; client = after.app.test_client(); "
             "print([client.get('/report').text for _ in range(2)], client.get('/me').text)")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", asked], cwd=tmp_path, timeout=60,
                          env={**os.environ, "PYTHONPATH": str(tmp_path)}, text=True,
                          capture_output=True)
    assert done.stdout == "['report 0', 'report 0'] nobody\n", done.stderr


def test_a_cache_of_flask_caching_without_a_name_opens_the_one_that_the_page_says() -> None:
    """Another's may be there on this machine: it is looked at by a stand-in for opening."""
    caching = pytest.importorskip("flask_caching")
    from shmmap.contrib import part

    asked: list[str] = []

    def refuse(name: str, options: dict[str, object]) -> shmmap.ShmMap:
        asked.append(name)
        raise shmmap.ShmMapError("not here")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(shmmap.ShmMapError):
        patch.setattr(part, "open_to_evict", refuse)
        caching.Cache(flask.Flask(__name__), config={
            "CACHE_TYPE": "shmmap.contrib.flask_caching.ShmMapCache"})
    assert asked == ["flask-caching"]
    page = Path(__file__).parents[2] / "docs" / "contrib" / "flask.md"
    assert 'Without one it is "flask-caching"' in page.read_text()


def test_flask_caching_caches_a_view_for_all_processes(name: str) -> None:
    caching = pytest.importorskip("flask_caching")
    app = flask.Flask(__name__)
    app.config.update(CACHE_TYPE="shmmap.contrib.flask_caching.ShmMapCache",
                      CACHE_OPTIONS={"name": name, "size": "1MB"})
    cache = caching.Cache(app)

    @app.get("/page")
    @cache.cached(timeout=60)
    def page() -> str:
        return str(os.getpid())

    pid = os.fork()
    if pid == 0:
        app.test_client().get("/page")
        os._exit(0)
    os.waitpid(pid, 0)
    assert app.test_client().get("/page").text == str(pid)
