"""Sessions and cached responses for Starlette, FastAPI, and any other ASGI application.

    app.add_middleware(SessionMiddleware, m="sessions", size="64MB")
    app.add_middleware(CacheMiddleware, m="responses", size="256MB", ttl=60)

Plain ASGI: nothing of Starlette is imported. The map is not awaited: it takes microseconds.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from typing import Any, NamedTuple

from ..checks import Key, seconds
from ..errors import EntryTooLarge, MapFull, ShmMapError, ValueUnreadable
from ..lifecycle.parameters import UNSAID
from ..map import ShmMap
from ..memory.geometry import parse_size
from .asgi_session import Session
from .asgi_session import rotate as rotate
from .part import OPTIONS, Part, check_options, instead_of_ttl

_TWO_WEEKS, _YEAR = 14 * 24 * 60 * 60, 365 * 24 * 60 * 60
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]
Headers = dict[bytes, bytes]  # by their names in small letters; those of one name as one
_STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")


def _lower(headers: Iterable[Iterable[bytes]]) -> Iterable[Header]:
    return ((bytes(name).lower(), bytes(value)) for name, value in headers)


def _joined(headers: Iterable[Iterable[bytes]]) -> Headers:
    found: Headers = {}
    for name, value in _lower(headers):
        found[name] = found[name] + b", " + value if name in found else value
    return found


def _digest(data: bytes | str) -> str:
    data = data.encode("utf-8") if isinstance(data, str) else data
    return blake2b(data, digest_size=24).hexdigest()


# -- sessions -----------------------------------------------------------------------------

_SAME_SITE = ("lax", "strict", "none")
_INSTEAD = {  # of Starlette's own middleware
    **instead_of_ttl("say max_age"), "session_cookie": "here it is cookie",
    "secret_key": "leave it out: there is nothing to sign, since the cookie has a random id only",
}
_RENEWED_AT = 0.9  # of its time is left: a session that is only read is touched ten times in it


class SessionMiddleware:
    """Keeps sessions in a map; the cookie has nothing but a random id.

    Args:
        app: the ASGI application.
        m: the map's name, or a handle on it.
        cookie: the cookie's name.
        max_age: seconds that a session lives after it was used last, and the cookie with it. None:
            the cookie ends with the browser, the session two weeks after its last use.
        path, domain, same_site, https_only, partitioned: of the cookie.
        prefix: shares the map with what has other prefixes.
        options: those of ShmMap, where `m` is a name; `strict=True`: raise what the map raises.

    `request.session` is read when the request begins, and written where it, or anything in it, has
    changed: before the first byte of the response goes out, and once more at the end. Of two
    requests that change one session at once, the later one overwrites what the other wrote. An id
    that is not in the map is never taken over from a client.
    """

    def __init__(
        self, app: App, m: ShmMap | str = UNSAID, cookie: str = "session",
        max_age: float | None = _TWO_WEEKS, path: str = "/", domain: str | None = None,
        same_site: str = "lax", https_only: bool = False, prefix: Key = "session", *,
        partitioned: bool = False, **options: Any,
    ) -> None:
        check_options("SessionMiddleware", options, OPTIONS - {"ttl"}, instead=_INSTEAD)
        if max_age is not None and not (max_age := seconds(max_age, "max_age", " or None")) >= 1:
            raise ValueError(f"max_age={max_age}: give the seconds that a session lives, or None")
        if not isinstance(same_site, str) or same_site.lower() not in _SAME_SITE:
            raise ValueError(f"same_site={same_site!r} must be one of {', '.join(_SAME_SITE)}")
        self.app, self.cookie = app, cookie
        self.part = Part(m, prefix, **options)
        self.map = self.part.map
        self.ttl = _TWO_WEEKS if max_age is None else max_age
        # what token_urlsafe(32) makes; a comma: where cookies came in several headers
        self._ids = re.compile(rf'(?:^|[;,])\s*{re.escape(cookie)}="?([\w-]{{43}})"?(?![^;,\s])')
        lives = "" if max_age is None else f"; Max-Age={int(max_age)}"
        flags = f"; httponly; samesite={same_site}" + "; secure" * https_only + (
            f"; domain={domain}" if domain else "") + "; partitioned" * partitioned
        self._to_set = f"; path={path}{lives}{flags}"
        self._to_clear = f"; path={path}; expires=Thu, 01 Jan 1970 00:00:00 GMT{flags}"

    def __repr__(self) -> str:
        return self.part.described(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        visit = _Visit(self, scope)

        async def send_with_cookie(message: Message) -> None:
            if message["type"] in _STARTS:
                message = {**message, "headers": [*message.get("headers", ()), *visit.begin()]}
            await send(message)

        await self.app(scope, receive, send_with_cookie)
        visit.end()

    def _cookie(self, token: str | None) -> list[Header]:
        """Return the header that sets the cookie, or, without an id, takes it back."""
        rest = self._to_set if token else self._to_clear
        return [(b"set-cookie", f"{self.cookie}={token or 'null'}{rest}".encode("latin-1"))]


class _Visit:
    """A request's way to its session, and back."""

    def __init__(self, of: SessionMiddleware, scope: Scope) -> None:
        self._of = of
        self._token: str | None = None  # the id of the session that is there
        self._is_reachable = True
        self.session = scope["session"] = Session()
        cookies = _joined(scope["headers"]).get(b"cookie", b"").decode("latin-1")
        for token in of._ids.findall(cookies):  # several where cookies have several paths
            found = self._find(_digest(token))  # so that nobody logs in with a dump of the map
            if isinstance(found, dict):
                self._token = token
                dict.update(self.session, found)
                break

    def _find(self, key: str) -> Any:
        part = self._of.part
        try:
            return part.map.get(part.key(key))
        except ShmMapError as error:
            # What cannot be unpickled is lost. All else may be there the next time, so what this
            # request makes of its empty session does not take its place.
            self._is_reachable = isinstance(error, ValueUnreadable)
            return part.missed(error, "a session", None)

    def begin(self) -> list[Header]:
        """Store the session; return the headers that the response needs for it."""
        self.session._is_told = True
        more = self._store() if self._is_reachable else []
        return [(b"vary", b"Cookie")] * self.session.accessed + more

    def end(self) -> None:
        """Store what has changed since; a session that the client knows no id of cannot be."""
        if self._token is not None:
            self._store()

    def _store(self) -> list[Header]:
        of, session, token = self._of, self.session, self._token
        after = session._pickled() if session.accessed else b""
        if after == session._before and not session._is_rotated:
            return of._cookie(token) if token is not None and self._renew(_digest(token)) else []
        if token is not None and (session._is_rotated or not session):
            of.part.delete(_digest(token))
            self._token = None
        if session and self._token is None:
            new = secrets.token_urlsafe(32)
            if of.part.set(_digest(new), dict.copy(session), of.ttl):
                self._token = new
        elif session and not self._replace(_digest(str(token)), dict.copy(session)):
            self._token = token = None  # another request has ended it, and told the client so
        session._before, session._is_rotated = after, False
        return of._cookie(self._token) if self._token or token else []

    def _replace(self, key: str, value: dict[str, Any]) -> bool:
        """Write over a session; not where another request has ended it: it logged out, say."""
        part = self._of.part
        try:
            return part.map.replace(part.key(key), value, self._of.ttl)
        except ShmMapError as error:
            if isinstance(error, (EntryTooLarge, MapFull)):
                part.delete(key)  # as Part.set does: no rights stay that were to be taken away
            return bool(part.missed(error, "a session", False))

    def _renew(self, key: str) -> bool:
        """Have a session that is only read live on; not at each request."""
        part, ttl = self._of.part, self._of.ttl
        try:
            left = part.map.ttl(part.key(key))
        except (ShmMapError, KeyError):  # the next request will do
            return False
        return left is not None and left < ttl * _RENEWED_AT and part.touch(key, ttl)


# -- responses ----------------------------------------------------------------------------

_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE", "QUERY")
_NOT_KEPT = {b"connection", b"keep-alive", b"proxy-connection", b"trailer",
             b"transfer-encoding", b"upgrade", b"age", b"x-cache"}
_NOT_IN_304 = {b"content-length", b"content-type", b"content-encoding", b"content-language"}
_TAG = re.compile(rb'(?:W/)?("[^"]*")|(\*)')


def url_of(scope: Scope) -> Key:
    """Return the key of a request: its scheme, host, path and query."""
    path = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
    return (scope.get("scheme", "http"), _joined(scope["headers"]).get(b"host", b""),
            scope.get("root_path", ""), path, scope.get("query_string", b""))


def _short(part: Any) -> Any:
    """Return a digest, which is a str, in place of long bytes."""
    return _digest(part) if isinstance(part, bytes) and len(part) > 200 else part


def _rules(text: bytes) -> dict[str, str]:
    """Read a Cache-Control header."""
    found = (one.partition("=") for one in text.decode("latin-1").lower().split(","))
    return {name.strip(): value.strip(' "') for name, _, value in found}


def _number(text: str | None, otherwise: float) -> float:
    return float(text) if text and text.isdecimal() else otherwise


def _form(key: Key, mark: bytes, asked: Headers) -> Key:
    """Return the key of the form of a response that a request asks for."""
    return key, mark, *(_short(asked.get(name, b"")) for name in mark.split(b",")[1:])


class _Stored(NamedTuple):
    """A response as it lies in the map."""

    at: float  # of time.time()
    status: int
    is_public: bool
    headers: list[Header]
    body: bytes

    def pack(self) -> bytes:
        """Return it as bytes, which every codec stores as they are, and nobody unpickles."""
        texts = [part.decode("latin-1") for header in self.headers for part in header]
        head = json.dumps([self.at, self.status, self.is_public, texts])
        return b"R" + head.encode("ascii") + b"\n" + self.body

    @classmethod
    def unpack(cls, data: bytes) -> _Stored:
        head, _, body = data[1:].partition(b"\n")
        at, status, is_public, texts = json.loads(head)
        parts = [text.encode("latin-1") for text in texts]
        return cls(at, status, is_public, list(zip(parts[::2], parts[1::2], strict=True)), body)

    async def send(self, send: Send, asked: Headers, method: str, age: float) -> None:
        """Answer with it, or with 304 where the client has it."""
        headers, status, body = self.headers, self.status, self.body
        told, since = _joined(headers), asked.get(b"if-modified-since", b"-")
        mine = _TAG.match(told.get(b"etag", b""))
        tags = _TAG.findall(asked.get(b"if-none-match", b""))
        is_had = since == told.get(b"last-modified")
        if tags:
            is_had = any(star or (mine and tag == mine[1]) for tag, star in tags)
        if is_had and status == 200:
            headers = [header for header in headers if header[0] not in _NOT_IN_304]
            status, body = 304, b""
        headers = [*headers, (b"age", b"%d" % age), (b"x-cache", b"HIT")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


class CacheMiddleware:
    """Keeps whole responses in a map, for all workers.

    Args:
        app: the ASGI application.
        m: the map's name, or a handle on it.
        ttl: seconds that a response is good for which does not say so itself (Cache-Control:
            s-maxage, max-age; Expires). None: such a response is not kept.
        key: makes a key of an ASGI scope, or None for what is not to be cached; default: `url_of`.
        prefix: shares the map with what has other prefixes.
        max_body: a longer body is not kept, in bytes or as "256KB".
        options: those of ShmMap, where `m` is a name; `strict=True`: raise what the map raises.

    Kept are answers to GET that neither side forbids to keep; where the request has a Cookie or
    Authorization, only those that say "public". HEAD is answered from them too.
    """

    def __init__(
        self, app: App, m: ShmMap | str = UNSAID, ttl: float | None = 60,
        key: Callable[[Scope], Key] = url_of, prefix: Key = "response",
        max_body: float | str = "256KB", **options: Any,
    ) -> None:
        check_options("CacheMiddleware", options)
        if ttl is not None and not 0 <= (ttl := seconds(ttl, "ttl", " or None")):
            raise ValueError(f"ttl={ttl}: give 0 seconds or more, or None")
        self.app, self.ttl, self._key = app, ttl, key
        self.max_body = parse_size(max_body)
        self.part = Part(m, prefix, **options)
        self.map = self.part.map

    def __repr__(self) -> str:
        return self.part.described(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        key = self._key(scope) if scope["type"] == "http" else None
        if key is None:
            await self.app(scope, receive, send)
            return
        key = tuple(map(_short, key)) if isinstance(key, tuple) else key
        asked, method = _joined(scope["headers"]), scope["method"]
        rules = _rules(asked.get(b"cache-control", asked.get(b"pragma", b"")))
        exchange = _Exchange(self, key, method, asked, send)
        if method not in ("GET", "HEAD") or "no-store" in rules or b"range" in asked:
            exchange.is_cached = False
        elif "no-cache" not in rules:
            found = self._find(key, asked)
            age = max(0.0, time.time() - found.at) if found else 0.0  # 0: the clock was set back
            if found and (found.is_public or not exchange.is_of_a_user) and (
                age <= _number(rules.get("max-age"), _YEAR)
            ):
                await found.send(send, asked, method, age)
                return
        await self.app(scope, receive, exchange)

    def _find(self, key: Key, asked: Headers) -> _Stored | None:
        data = self.part.get(key, b"")
        if data[:1] == b"V":
            data = self.part.get(_form(key, data, asked), b"")
        return _Stored.unpack(data) if data[:1] == b"R" else None

    def _lifetime(self, status: int, told: Headers, is_of_a_user: bool) -> float:
        """Return for how many seconds a response can be kept; 0: not at all."""
        rules = _rules(told.get(b"cache-control", b""))
        if (status not in (200, 203, 301, 404) or b"set-cookie" in told
                or b"*" in told.get(b"vary", b"") or (is_of_a_user and "public" not in rules)
                or rules.keys() & {"no-store", "private", "no-cache"}):
            return 0
        left = self.ttl or 0
        try:
            if b"expires" in told:
                left = parsedate_to_datetime(told[b"expires"].decode()).timestamp() - time.time()
        except (ValueError, OverflowError):  # "0", say: it is over
            left = 0
        for name in ("max-age", "s-maxage"):  # this one goes before that, and both before Expires
            left = _number(rules[name], 0) if name in rules else left
        return min(max(left, 0), _YEAR)

    def _store(self, key: Key, asked: Headers, stored: _Stored, ttl: float) -> None:
        names = _joined(stored.headers).get(b"vary", b"").lower().replace(b" ", b"").split(b",")
        if any(names):
            mark = self.part.get(key, b"")  # V, an id, names: in place of what has several forms
            if mark[:1] != b"V" or not set(names) <= set(mark.split(b",")):
                # another id: forms that were told apart by less are not found any more
                mark = b",".join([b"V" + secrets.token_hex(8).encode(), *sorted(set(names))])
            self.part.set(key, mark, ttl)
            key = _form(key, mark, asked)
        self.part.set(key, stored.pack(), ttl)


class _Exchange:
    """Sends a response on as it comes, and keeps it when it was whole."""
    _ttl = 0.0  # 0: it is not kept

    def __init__(
        self, cache: CacheMiddleware, key: Key, method: str, asked: Headers, send: Send
    ) -> None:
        self._cache, self._key, self._method, self._asked = cache, key, method, asked
        self._send, self.is_cached = send, True
        self.is_of_a_user = b"authorization" in asked or b"cookie" in asked
        self._start: Message = {}
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            message = self._begin(message)
        elif self._start:
            self._body += message.get("body", b"") if self._ttl else b""
            if kind != "http.response.body" or len(self._body) > self._cache.max_body:
                self._ttl, self._body = 0.0, bytearray()  # a file that the server sends by itself
            elif self._ttl and not message.get("more_body", False):
                self._end()
        await self._send(message)

    def _begin(self, message: Message) -> Message:
        self._start, status = message, message["status"]
        headers = [*message.get("headers", ())]
        if self.is_cached:
            if self._method == "GET" and not message.get("trailers", False):
                self._ttl = self._cache._lifetime(status, _joined(headers), self.is_of_a_user)
            message = {**message, "headers": [*headers, (b"x-cache", b"MISS")]}
        elif self._method not in _SAFE and status < 400:  # it may have changed what is there
            self._cache.part.delete(self._key)
        return message

    def _end(self) -> None:
        headers, body = list(_lower(self._start.get("headers", ()))), bytes(self._body)
        told, length = _joined(headers), b"%d" % len(body)
        if told.get(b"content-length", length) != length:  # cut off
            return
        kept = [header for header in headers if header[0] not in _NOT_KEPT]
        if b"content-length" not in told:
            kept.append((b"content-length", length))
        if b"etag" not in told:  # a weak one: others may compress the body
            kept.append((b"etag", b'W/"%s"' % _digest(body).encode()))
        is_public = "public" in _rules(told.get(b"cache-control", b""))
        stored = _Stored(time.time(), self._start["status"], is_public, kept, body)
        self._cache._store(self._key, self._asked, stored, self._ttl)
