"""Sessions of ASGI applications, in a map; Starlette's own tests; a site with both."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.contrib import starlette as ours
from shmmap.contrib.starlette import CacheMiddleware, SessionMiddleware, rotate

from . import upstream
from .asgi import CLIENTS, answering, ask, needs_starlette

EXAMPLE = Path(__file__).parents[2] / "examples" / "07_starlette_sessions.py"
DAY = 86_400


# -- the tests of Starlette ---------------------------------------------------------------

SUITE = '''
import itertools, os, pytest, shmmap, warnings
from shmmap.contrib import starlette as ours
import starlette.middleware.sessions as theirs
from starlette.testclient import TestClient

name, numbers, init = f"suite-{os.getpid()}", itertools.count(), TestClient.__init__


class Ours(ours.SessionMiddleware):
    def __init__(self, app, secret_key, **options):
        super().__init__(app, name, size="1MB", **options)


def behind_a_cache(client, app, *args, **named):
    cached = ours.CacheMiddleware(app, shmmap.ShmMap(name, size="1MB"), prefix=next(numbers))
    init(client, cached, *args, **named)


theirs.SessionMiddleware = Ours
TestClient.__init__ = behind_a_cache


@pytest.fixture(autouse=True)
def map_of_its_own():
    yield
    shmmap.unlink(name, missing_ok=True)


@pytest.fixture(params=["asyncio"])
def anyio_backend(request):
    return request.param
'''
NEVER_KEPT = "asks for a max_age of which no session is left: ours refuses it"
DOES_NOT_APPLY = {
    "test_session.test_session_expires[asyncio]": NEVER_KEPT,
    "test_session.test_session_zero_max_age[asyncio]": NEVER_KEPT,
    "test_routing.test_lifespan_state_async_cm[asyncio]":
        "counts how often the same page is drawn, which our cache has",
    "test_staticfiles.test_staticfiles_cache_invalidation_for_deleted_file_html_mode[asyncio]":
        "removes a file, which our cache serves until its ttl is over",
}


@needs_starlette
@pytest.mark.skipif("httpx2" not in CLIENTS, reason="these tests of Starlette import httpx2")
def test_the_tests_of_starlette(tmp_path: Path) -> None:
    """Those of its sessions, on ours; and, all behind our cache, those of what is served."""
    plugin = tmp_path / "starlette_suite.py"
    plugin.write_text(SUITE)
    names = ["middleware/test_session", "middleware/test_gzip", "middleware/test_cors",
             "test_staticfiles", "test_routing"]
    found = upstream.run(
        upstream.fetch("starlette"), names, tmp_path / "report.xml", plugin,
        "-k", "not invalid_dir_permissions",  # fails for root, whom none keeps out, without us, too
    )
    upstream.compare(found, DOES_NOT_APPLY, passed=172)


# -- sessions -----------------------------------------------------------------------------


@pytest.fixture
def m(make: Any) -> Any:
    return make(on_full="evict")


def sessions(m: Any, work: Callable[[Any], Any], **options: Any) -> Any:
    """Serve with sessions; `work` gets the session."""
    return SessionMiddleware(answering(lambda scope: work(scope["session"])), m, **options)


def count(session: Any) -> int:
    session["n"] = session.get("n", 0) + 1
    return int(session["n"])


def test_a_session_is_that_of_all_processes(m: Any, start: Any) -> None:
    app = sessions(m, count)
    first = ask(app)
    cookie = f"other=1; session={first.cookie}"
    child = start(lambda child: ask(app, cookie=cookie).body)
    assert (first.body, child.result()) == (b"1", b"2")
    assert ask(app, cookie=cookie).body == b"3" and ask(app).body == b"1"
    assert first["set-cookie"] == (
        f"session={first.cookie}; path=/; Max-Age=1209600; httponly; samesite=lax")
    assert first.cookie is not None and len(first.cookie) == 43 and first["vary"] == "Cookie"
    assert not any(first.cookie in str(key) for key in m)


def test_the_cookie_is_what_was_asked_for(m: Any) -> None:
    app = sessions(m, count, cookie="id", max_age=60, path="/a%20b", domain="example.com",
                   same_site="none", https_only=True, partitioned=True)
    answer = ask(app)
    assert answer["set-cookie"] == (
        f"id={answer.cookie}; path=/a%20b; Max-Age=60; httponly; samesite=none; secure; "
        "domain=example.com; partitioned")
    assert ask(app, cookie=f'id="{answer.cookie}"').body == b"2"
    with pytest.raises(ValueError, match="max_age=0"):
        sessions(m, count, max_age=0)


def test_without_max_age_the_cookie_ends_with_the_browser(m: Any, freeze: Any) -> None:
    clock = freeze(m)
    app = sessions(m, count, max_age=None)
    answer = ask(app)
    assert "Max-Age" not in answer["set-cookie"]
    clock.advance(13 * DAY)
    assert ask(app, cookie=f"session={answer.cookie}").body == b"2"
    clock.advance(14 * DAY)
    assert ask(app, cookie=f"session={answer.cookie}").body == b"1"


def test_what_changes_within_is_stored_and_nothing_else_is(m: Any) -> None:
    new = ask(sessions(m, lambda session: session.update(cart={"items": [1]}, seen={1})))
    cookie = f"session={new.cookie}"
    (key,) = m
    version = m.get_versioned(key)[1]
    read = ask(sessions(m, lambda session: session["cart"]["items"]), cookie=cookie)
    assert (read.body, read.cookie, read["vary"]) == (b"[1]", None, "Cookie")
    ignored = ask(sessions(m, lambda session: "no"), cookie=cookie)
    assert (ignored.cookie, ignored["vary"], m.get_versioned(key)[1]) == (None, None, version)
    changed = ask(sessions(m, lambda session: session["cart"]["items"].append(2)), cookie=cookie)
    assert changed.cookie == new.cookie
    assert m[key] == {"cart": {"items": [1, 2]}, "seen": {1}} and type(m[key]) is dict


def test_a_session_that_is_read_lives_on(m: Any, freeze: Any) -> None:
    clock = freeze(m)
    cookie = f"session={ask(sessions(m, count)).cookie}"
    reads = sessions(m, lambda session: dict(session))
    clock.advance(DAY)
    assert ask(reads, cookie=cookie).cookie is None  # young: it is not written
    clock.advance(DAY)
    assert f"session={ask(reads, cookie=cookie).cookie}" == cookie
    assert m.ttl(next(iter(m))) == 14 * DAY
    clock.advance(15 * DAY)
    assert ask(reads, cookie=cookie).body == b"{}"


def test_an_emptied_session_is_gone(m: Any) -> None:
    cookie = f"session={ask(sessions(m, count)).cookie}"
    out = ask(sessions(m, lambda session: session.clear()), cookie=cookie)
    assert out["set-cookie"] == (
        "session=null; path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT; httponly; samesite=lax")
    assert len(m) == 0 and ask(sessions(m, len), cookie=cookie).cookie is None


def test_an_id_of_the_client_is_never_taken_over(m: Any) -> None:
    app = sessions(m, count)
    for sent in ("x" * 43, "null", "", "x" * 5000, "é" * 43, "../session"):
        answer = ask(app, cookie=f"session={sent}")
        assert answer.body == b"1" and answer.cookie not in (sent, None)
    good = answer.cookie  # one that a neighbour planted comes beside it
    assert ask(app, cookie=f"session={'y' * 43}; session={good}").body == b"2"


def test_rotate(m: Any) -> None:
    old = ask(sessions(m, count)).cookie

    def log_in(scope: Any) -> None:
        scope["session"]["user"] = "ada"
        rotate(scope)

    new = ask(SessionMiddleware(answering(log_in), m), cookie=f"session={old}").cookie
    assert new not in (old, None) and len(m) == 1
    shown = sessions(m, lambda session: sorted(session))
    assert ask(shown, cookie=f"session={old}").body == b"[]"
    assert ask(shown, cookie=f"session={new}").body == b"['n', 'user']"

    again = ask(SessionMiddleware(answering(rotate), m), cookie=f"session={new}").cookie
    assert again not in (new, None) and ask(shown, cookie=f"session={new}").body == b"[]"

    async def too_late(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        rotate(scope)

    with pytest.raises(RuntimeError, match="has begun"):
        ask(SessionMiddleware(too_late, m))


def test_the_last_writer_wins_but_nobody_brings_back_what_was_ended(m: Any) -> None:
    cookie = f"session={ask(sessions(m, count)).cookie}"

    def meanwhile(work: Any) -> Any:
        def both(session: Any) -> Any:
            session["a"] = session.get("a", 0) + 1
            with ThreadPoolExecutor(1) as other:  # this thread has an event loop that runs
                other.submit(ask, sessions(m, work), cookie=cookie).result()

        return sessions(m, both)

    ask(meanwhile(lambda session: session.update(b=1)), cookie=cookie)
    assert m[next(iter(m))] == {"n": 1, "a": 1}
    late = ask(meanwhile(lambda session: session.clear()), cookie=cookie)
    assert len(m) == 0 and late.cookie is None


def test_what_changes_after_the_start_is_stored_at_the_end(m: Any) -> None:
    cookie = f"session={ask(sessions(m, count)).cookie}"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        scope["session"]["late"] = 1

    ask(SessionMiddleware(app, m), cookie=cookie)
    assert m[next(iter(m))] == {"n": 1, "late": 1}
    ask(SessionMiddleware(app, m))  # one that nobody knows the id of
    assert len(m) == 1

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["wrong"] = 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(SessionMiddleware(fails, m), cookie=cookie)
    assert "wrong" not in m[next(iter(m))]


def test_a_map_in_the_way_fails_no_request(
    m: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise shmmap.LockTimeout("a process that holds the shard was stopped")

    app = sessions(m, count)
    cookie = f"session={ask(app).cookie}"
    for name in ("set", "replace", "delete", "touch", "ttl"):
        monkeypatch.setattr(m, name, refuse, raising=False)
    assert [ask(app).cookie, ask(app, cookie=cookie).body] == [None, b"2"]
    monkeypatch.undo()
    monkeypatch.setattr(m, "get", refuse, raising=False)
    answer = ask(app, cookie=cookie)
    assert (answer.body, answer.cookie) == (b"1", None)  # an empty one, which is not kept
    monkeypatch.undo()
    assert ask(app, cookie=cookie).body == b"2" and set(m.stats().uncached) == {"busy"}
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        ask(sessions(m, lambda session: session.update(no=lambda: 1)), cookie=cookie)


def test_a_session_that_is_too_large_is_not_kept(make: Any) -> None:
    m = make(size="300KB", shards=1)
    grows = sessions(m, lambda session: session.update(x="x" * 10**6))
    assert ask(grows).cookie is None
    cookie = f"session={ask(sessions(m, count)).cookie}"
    assert ask(grows, cookie=cookie).cookie is None and len(m) == 0
    assert m.stats().uncached == {"too_large": 2}
    with pytest.raises(shmmap.EntryTooLarge):
        ask(sessions(m, lambda session: session.update(x="x" * 10**6), strict=True))


def test_other_scopes_pass(m: Any) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        assert "session" not in scope

    for kind in (SessionMiddleware(app, m), CacheMiddleware(app, m)):
        asyncio.run(kind({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"] * 2


@pytest.fixture
def client_of() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of httpx, where there is no httpx2
        from starlette.testclient import TestClient
    return TestClient


@needs_starlette
def test_starlette_serves_with_both(m: Any, name: str, client_of: Any) -> None:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route, WebSocketRoute

    drawn: list[int] = []

    async def login(request: Any) -> Any:
        request.session["user"] = "ada"
        rotate(request)
        return PlainTextResponse("welcome")

    def page(request: Any) -> Any:
        drawn.append(1)
        return PlainTextResponse(request.session.get("user", "nobody"))

    async def echo(websocket: Any) -> None:
        await websocket.accept()
        websocket.session["seen"] = websocket.session.get("seen", 0) + 1
        await websocket.send_text(websocket.session["user"])
        await websocket.close()

    app = Starlette(routes=[Route("/login", login, methods=["POST"]), Route("/page", page),
                            WebSocketRoute("/socket", echo)])
    app.add_middleware(SessionMiddleware, m=m)
    app.add_middleware(CacheMiddleware, m=name)
    client, other = client_of(app), client_of(app)
    assert [other.get("/page").headers["x-cache"] for _ in range(2)] == ["MISS", "HIT"]
    client.post("/login")
    assert [client.get("/page").text for _ in range(2)] == ["ada"] * 2
    assert other.get("/page").text == "nobody" and len(drawn) == 3
    with client.websocket_connect("/socket") as socket:
        assert socket.receive_text() == "ada"
    assert any(isinstance(value, dict) and value.get("seen") == 1 for value in m.values())


@needs_starlette
def test_the_example_runs_as_it_says() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr


def test_the_module_needs_nothing_of_starlette() -> None:
    assert "import starlette" not in Path(ours.__file__).read_text()
