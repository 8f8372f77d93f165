"""requests-cache on a map, with an HTTP server of the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import shmmap

from ..support.children import Child, Children
from . import upstream

pytest.importorskip("requests_cache")

from requests_cache import CachedSession

from shmmap.contrib.requests_cache import ShmMapCache

PLUGIN = Path(__file__).parent / "plugins" / "requests_cache_suite.py"
SUBCLASSES = """
from requests_cache_suite import OurStorage, Ours
from tests.integration.base_cache_test import BaseCacheTest
from tests.integration.base_storage_test import BaseStorageTest

class TestStorage(BaseStorageTest):
    storage_class = OurStorage

class TestCache(BaseCacheTest):
    backend_class = Ours
"""
Make = Callable[..., Any]


class Server:
    """Counts what it is asked, and answers with the count."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                body = f"{self.path} {len(server.asked)}".encode()
                if self.path.startswith("/large"):
                    body = bytes(int(self.path[7:]))
                self.send_response(302 if self.path == "/moved" else server.code)
                if self.path == "/moved":
                    self.send_header("Location", "/there")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.code = 200
        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._httpd.daemon_threads = True
        self._thread = threading.Thread(target=self._httpd.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._httpd.server_port}{path}"

    def close(self) -> None:
        self._httpd.shutdown()
        self._thread.join()
        self._httpd.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def session(name: str) -> Iterator[Make]:
    """Make a session on the test's map, as each process would."""
    made: list[Any] = []

    def make(expire_after: Any = 60, m: Any = name, settings: Any = (), **options: Any) -> Any:
        if isinstance(m, str):
            options = {"size": "1MB", **options}
        made.append(CachedSession(backend=ShmMapCache(m, **options), expire_after=expire_after,
                                  **dict(settings)))
        return made[-1]

    yield make
    for one in made:
        one.close()
        one.cache.map.close()


def test_the_tests_of_requests_cache(tmp_path: Path) -> None:
    """Those of the cache, of sessions, and those for each backend; ours stands for SQLite's."""
    for needed in ("requests_mock", "time_machine"):
        pytest.importorskip(needed)
    (tmp_path / "test_ours.py").write_text(SUBCLASSES)
    found = upstream.run(
        upstream.fetch("requests-cache"), ["unit/test_base_cache", "unit/test_session"],
        tmp_path / "report.xml", PLUGIN, str(tmp_path / "test_ours.py"),
    )
    upstream.compare(found, {
        "test_session.test_response_defaults": "with SQLite's backend it fails, too",
    }, passed=336)


def test_processes_share_responses(session: Make, server: Server, start: Children) -> None:
    def work(child: Child) -> Any:
        mine = session()
        answers = [mine.get(server.url("/a")) for _ in range(2)]
        return [(answer.text, answer.from_cache) for answer in answers]

    assert start(work).result() == [("/a 1", False), ("/a 1", True)]
    assert start(work).result() == [("/a 1", True)] * 2
    mine = session()
    assert mine.get(server.url("/a")).from_cache and not mine.get(server.url("/b")).from_cache
    assert server.asked == ["/a", "/b"]
    assert mine.cache.urls() == [server.url("/a"), server.url("/b")]


def test_a_redirect_is_found_by_both_names(session: Make, server: Server) -> None:
    mine = session()
    assert mine.get(server.url("/moved")).text == "/there 2"
    other = session()
    assert [other.get(server.url(path)).text for path in ("/moved", "/there")] == ["/there 2"] * 2
    assert server.asked == ["/moved", "/there"]
    assert len(mine.cache.redirects) == 1
    other.cache.delete(urls=[server.url(path) for path in ("/there", "/moved")])
    assert len(mine.cache.responses) == len(mine.cache.redirects) == 0


def test_how_long_a_response_stays(session: Make, server: Server) -> None:
    """Longer than it is valid, so that it can be served where the server fails."""
    url = server.url("/a")
    for expire_after, offset, low, high in ((60, 3600, 3659, 3661), (60, 5, 64, 66)):
        mine = session(expire_after, ttl_offset=offset)
        mine.get(url)
        (key,) = mine.cache.map
        assert low <= mine.cache.map.ttl(key) <= high
        mine.cache.clear()
    for never in ({"expire_after": -1}, {"ttl_offset": None}):
        mine = session(**never)
        mine.get(url)
        (key,) = mine.cache.map
        assert mine.cache.map.ttl(key) is None
        mine.cache.clear()
    mine = session(-1, ttl=30)
    mine.get(url)
    (key,) = mine.cache.map
    assert 29 < mine.cache.map.ttl(key) <= 30


def test_an_expired_response_is_served_where_the_server_fails(
    session: Make, server: Server
) -> None:
    mine = session(settings={"stale_if_error": True})
    old = mine.get(server.url("/a"))
    mine.cache.reset_expiration(-1e-6)
    server.code = 500
    again = mine.get(server.url("/a"))
    assert again.text == old.text and again.is_expired and len(server.asked) == 2


def refuse(*_: Any, **__: Any) -> Any:
    """Stand for an operation of a map that is in the way."""
    raise shmmap.LockTimeout("a process that holds the shard was stopped")


def test_a_map_in_the_way_fails_no_request(
    session: Make, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, large = session(), server.url("/large/2000000")
    assert [len(mine.get(large).content) == 2_000_000 for _ in range(2)] == [True] * 2
    assert len(server.asked) == 2
    assert mine.cache.map.stats().uncached == {"too_large": 2}
    mine.get(server.url("/a"))
    with monkeypatch.context() as context:
        for method in ("get", "set", "__contains__", "delete"):
            context.setattr(mine.cache.map, method, refuse, raising=False)
        assert mine.get(server.url("/a")).text == "/a 4"
        mine.cache.delete(urls=[server.url("/a")])
    assert mine.cache.map.stats().uncached["busy"] >= 2
    assert mine.get(server.url("/a")).text == "/a 3"
    with pytest.raises(shmmap.EntryTooLarge):
        session(strict=True).get(large)


def test_what_cannot_be_read_is_asked_for_again(session: Make, server: Server) -> None:
    mine = session()
    mine.get(server.url("/a"))
    (key,) = mine.cache.responses
    mine.cache.responses.part.set(key, b"garbage")
    assert mine.get(server.url("/a")).text == "/a 2" == mine.get(server.url("/a")).text


def test_what_is_removed_while_it_is_listed_is_left_out(
    session: Make, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = session().cache.responses
    storage["a"], storage["b"] = "A", "B"
    monkeypatch.setattr(storage.part, "keys", lambda: iter(["a", "gone", "b"]))
    assert dict(storage.items()) == {"a": "A", "b": "B"} and list(storage.values()) == ["A", "B"]
    with pytest.raises(KeyError):
        storage["gone"]


def test_prefixes_set_caches_apart(session: Make, server: Server) -> None:
    one = session(prefix="a")
    other = session(m=one.cache.map, prefix="b")
    for mine in (one, other):
        mine.get(server.url("/moved"))
    assert len(server.asked) == 4 and len(one.cache.redirects) == len(other.cache.redirects) == 1
    one.cache.clear()
    assert len(one.cache.responses) == len(one.cache.redirects) == 0
    assert other.get(server.url("/moved")).from_cache


def test_options(session: Make, server: Server, name: str) -> None:
    with pytest.raises(TypeError, match="arbitrary"):
        session(arbitrary=1)
    with CachedSession(name, backend="shmmap", size="1MB", expire_after=60) as by_name:
        by_name.get(server.url("/a"))
    assert by_name.get(server.url("/a")).from_cache and by_name.cache.cache_name == name
    by_name.cache.map.close()  # type: ignore[attr-defined]
    with shmmap.ShmMap(f"{name}-safe", size="1MB", codec="safe", ephemeral=True) as safe:
        for serializer in ("json", "pickle"):
            mine = session(m=safe, serializer=serializer, prefix=serializer)
            assert mine.get(server.url("/b")).text == mine.get(server.url("/b")).text
        assert {type(value) for value in safe.values()} == {str, bytes}


def test_a_session_hands_its_own_settings_on(name: str) -> None:
    """With `backend="shmmap"` whatever the session is told comes to the backend, too."""
    with CachedSession(name, backend="shmmap", size="1MB", stale_while_revalidate=5,
                       only_if_cached=True, disabled=True) as one:
        assert one.settings.stale_while_revalidate == 5 and one.settings.disabled
        one.cache.map.close()
    with pytest.raises(TypeError, match="size"):
        CachedSession(name, backend="shmmap", sizes="1MB")
