"""Cached responses of ASGI applications, in a map."""

from __future__ import annotations

import time
from typing import Any

import pytest

from shmmap.contrib.starlette import CacheMiddleware

from .asgi import answering, ask


@pytest.fixture
def m(make: Any) -> Any:
    return make(on_full="evict")


def cached(m: Any, status: int = 200, /, parts: int = 1, ttl: Any = 60, **headers: str) -> Any:
    """Serve from a cache an application whose answers are numbered."""
    numbers = iter(range(100))
    return CacheMiddleware(
        answering(lambda _: next(numbers), status, parts, **headers), m, ttl=ttl, max_body=2000
    )


def test_a_response_is_that_of_all_processes(m: Any, start: Any) -> None:
    app = cached(m, content_type="text/plain")
    child = start(lambda child: ask(app, "/a?b=1"))
    first, second = child.result(), ask(app, "/a?b=1")
    assert (first["x-cache"], second["x-cache"], second["age"]) == ("MISS", "HIT", "0")
    assert second.body == first.body == b"0" and second["content-type"] == "text/plain"
    assert ask(app, "/a?b=2").body == b"0" and ask(app, "/a").body == b"1"  # this process's numbers
    assert ask(app, "/c", "HEAD")["x-cache"] == ask(app, "/c")["x-cache"] == "MISS"
    head = ask(app, "/a?b=1", "HEAD")
    assert (head["x-cache"], head["content-length"], head.body) == ("HIT", "1", b"")


KEPT: list[tuple[int, dict[str, str], dict[str, str]]] = [
    (200, {}, {}), (203, {}, {}), (301, {}, {"location": "/b"}), (404, {}, {}),
    (200, {}, {"cache_control": "max-age=5"}), (200, {}, {"cache_control": "public"}),
    (200, {}, {"expires": "Fri, 01 Jan 2100 00:00:00 GMT"}),
    (200, {}, {"expires": "0", "cache_control": 's-maxage="5", max-age=0'}),
    (200, {"cookie": "a=1"}, {"cache_control": "Public, max-age=5"}),
    (200, {"authorization": "Basic x"}, {"cache_control": "public"}),
    (200, {"cache_control": "max-age=5"}, {}), (200, {}, {"vary": "Accept, Cookie"}),
]
NOT_KEPT: list[tuple[int, dict[str, str], dict[str, str]]] = [
    *((status, {}, {}) for status in (201, 206, 302, 304, 410, 500, 503)),
    *((200, {}, {"cache_control": rule}) for rule in (
        "no-store", "private", "no-cache", "max-age=0", "public, s-maxage=0, max-age=5",
        "max-age=x", 'private="set-cookie"', "NO-STORE")),
    (200, {}, {"set_cookie": "a=1"}), (200, {}, {"vary": "*"}), (200, {}, {"vary": "Accept, *"}),
    (200, {}, {"expires": "0"}), (200, {}, {"expires": "Fri, 01 Jan 2010 00:00:00 GMT"}),
    (200, {"cookie": "a=1"}, {}), (200, {"authorization": "Basic x"}, {}),
    (200, {"cookie": "a=1"}, {"cache_control": "max-age=5"}),
    (200, {"cache_control": "no-store"}, {}), (200, {"cache_control": "no-cache"}, {}),
    (200, {"pragma": "no-cache"}, {}), (200, {"cache_control": "max-age=0"}, {}),
    (200, {"range": "bytes=0-1"}, {}), (200, {}, {"content_length": "77"}),
]


@pytest.mark.parametrize(("cases", "again"), [(KEPT, b"0"), (NOT_KEPT, b"1")], ids=["kept", "not"])
def test_what_is_kept(m: Any, cases: Any, again: bytes) -> None:
    for status, asked, told in cases:
        m.clear()
        app = cached(m, status, **told)
        first = ask(app, **asked)
        time.sleep(0.001)
        assert (first.status, first.body, ask(app, **asked).body) == (status, b"0", again), (
            status, asked, told)


def test_what_was_kept_for_nobody_is_not_for_a_user(m: Any) -> None:
    app = cached(m)
    assert [ask(app).body, ask(app, cookie="a=1").body, ask(app).body] == [b"0", b"1", b"0"]
    public = cached(m, cache_control="public")
    assert [ask(public, "/p", cookie="a=1").body, ask(public, "/p").body] == [b"0", b"0"]


def test_a_reload_brings_a_new_one(m: Any) -> None:
    app = cached(m)
    assert [ask(app).body, ask(app, cache_control="no-cache").body, ask(app).body] == [
        b"0", b"1", b"1"]
    assert ask(app, cache_control="no-store").body == b"2" and ask(app).body == b"1"
    assert ask(app, cache_control="no-store")["x-cache"] is None


def test_times(m: Any, freeze: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, now = freeze(m), time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    app, own = cached(m, ttl=10), cached(m, ttl=None, cache_control="max-age=20")
    never = cached(m, ttl=None)
    for one, path in ((app, "/app"), (own, "/own"), (never, "/never")):
        ask(one, path)
    clock.advance(9)
    monkeypatch.setattr(time, "time", lambda: now + 9)
    assert (ask(app, "/app")["age"], ask(own, "/own")["age"]) == ("9", "9")
    assert ask(app, "/app", cache_control="max-age=5")["x-cache"] == "MISS"
    clock.advance(10.5)
    assert [ask(app, "/app").body, ask(own, "/own").body] == [b"2", b"0"]
    assert ask(never, "/never").body == b"1"
    monkeypatch.setattr(time, "time", lambda: now - 100)
    assert ask(own, "/own")["age"] == "0"


def test_each_form_is_kept_for_itself(m: Any) -> None:
    app = cached(m, vary="Accept-Language, Accept")
    asked = ("de", "en", "de", None, "x" * 3000, "en", None, "x" * 3000)
    answers = [ask(app, accept_language=one).body for one in asked]
    assert answers == [b"0", b"1", b"0", b"2", b"3", b"1", b"2", b"3"]
    more = cached(m, vary="Accept")  # told apart by less, which is no harm
    assert ask(more, accept_language="fr").body == b"0" and ask(app, accept_language="en")["age"]
    most = cached(m, vary="Accept, Accept-Language, X")  # by more: the others are forgotten
    assert ask(most, accept_language="it", x="1").body == b"0"
    assert ask(app, accept_language="en", x="1")["x-cache"] == "MISS"
    assert ask(app, accept_language="en", x="1")["x-cache"] == "HIT"


def test_a_change_of_the_page_is_seen(m: Any) -> None:
    for vary in ({}, {"vary": "Accept"}):
        app = cached(m, **vary)
        ask(app), ask(app, "/other")
        assert ask(CacheMiddleware(answering(str, 500), m), "/", "POST").status == 500
        assert [ask(app, "/", "OPTIONS")["x-cache"], ask(app)["x-cache"]] == [None, "HIT"]
        ask(app, "/", "DELETE")
        assert [ask(app)["x-cache"], ask(app, "/other")["x-cache"]] == ["MISS", "HIT"]
        m.clear()
    app = cached(m, vary="Accept")
    ask(app, accept="a"), ask(app, accept="b"), ask(app, "/", "POST"), ask(app, accept="a")
    assert ask(app, accept="b")["x-cache"] == "MISS"


def test_etags(m: Any) -> None:
    made = cached(m)
    ask(made)
    tag = ask(made)["etag"]
    assert tag.startswith('W/"')
    for sent in (tag, tag[2:], f'"x", {tag}', "*"):
        again = ask(made, if_none_match=sent)
        assert (again.status, again.body, again["etag"]) == (304, b"", tag)
        assert again["content-length"] is None and again["x-cache"] == "HIT"
    assert ask(made, if_none_match='"x"').status == 200
    date = "Fri, 01 Jan 2010 00:00:00 GMT"
    own = cached(m, etag='"v1"', last_modified=date, content_type="text/plain")
    assert ask(own, "/own", if_none_match='"v1"').status == 200  # the application's own answer
    for asked in ({"if_none_match": 'W/"v1"'}, {"if_modified_since": date}):
        again = ask(own, "/own", **asked)
        assert (again.status, again["etag"], again["content-type"]) == (304, '"v1"', None)
    assert ask(own, "/own", if_none_match='"v0"', if_modified_since=date).status == 200


def test_streams(m: Any) -> None:
    """They are sent on part by part, and kept if they are not too long."""
    long = cached(m, parts=3000)
    assert [len(ask(long, "/long").body) for _ in range(2)] == [3000, 3000]
    assert ask(long, "/long")["x-cache"] == "MISS"
    short = cached(m, parts=3)
    first, second = ask(short), ask(short)
    assert first.body == second.body == b"000" and second["content-length"] == "3"
    told: list[str] = []

    async def events(scope: Any, receive: Any, send: Any) -> None:
        async def tell(message: Any) -> None:
            await send(message)
            told.append(message["type"])

        await tell({"type": "http.response.start", "status": 200, "headers": []})
        told.append("waiting")
        await tell({"type": "http.response.body", "body": b"1", "more_body": True})
        raise ConnectionResetError

    app = CacheMiddleware(events, m)
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            ask(app, "/events")
    assert told == ["http.response.start", "waiting", "http.response.body"] * 2

    async def file(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.debug"})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": "/x"})

    async def trailing(scope: Any, receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": [], "trailers": True}
        for message in (start, {"type": "http.response.body", "body": b"1"}):
            await send(message)

    for path, app in (("/file", file), ("/trailing", trailing)):
        assert [ask(CacheMiddleware(app, m), path)["x-cache"] for _ in range(2)] == ["MISS"] * 2
    of_one_hop = cached(m, connection="close", x_cache="theirs", age="7")
    ask(of_one_hop, "/hop")
    hit = ask(of_one_hop, "/hop")
    assert (hit["connection"], hit["x-cache"], hit["age"]) == (None, "HIT", "0")


def test_keys(m: Any) -> None:
    app = answering(lambda scope: scope["path"])
    by_path = CacheMiddleware(app, m, key=lambda scope: scope["path"] if len(scope["path"]) > 1
                              else None)
    assert [ask(by_path, "/a?b=1")["x-cache"], ask(by_path, "/a?b=2")["x-cache"]] == ["MISS", "HIT"]
    assert ask(by_path, "/")["x-cache"] is None
    plain = CacheMiddleware(app, m)
    long = "/" + "x" * 100_000
    assert [ask(plain, long)["x-cache"] for _ in range(2)] == ["MISS", "HIT"]
    assert ask(plain, f"{long}y")["x-cache"] == ask(plain, "/a", x="1")["x-cache"] == "MISS"
    assert all(len(str(key)) < 500 for key in m)
    with pytest.raises(TypeError, match="list"):
        ask(CacheMiddleware(app, m, key=lambda scope: [1]))


def test_a_map_in_the_way_is_no_cache(make: Any) -> None:
    m = make(size="300KB", shards=1, codec="safe")
    app = CacheMiddleware(answering(lambda _: "x" * 500_000), m, max_body="1MB")
    assert [(ask(app).status, ask(app)["x-cache"]) for _ in range(2)] == [(200, "MISS")] * 2
    assert m.stats().uncached == {"too_large": 4}
    small = CacheMiddleware(answering(str), m)  # as bytes, whatever the codec
    assert [ask(small, "/s")["x-cache"] for _ in range(2)] == ["MISS", "HIT"]
