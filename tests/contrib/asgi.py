"""Asking ASGI applications as a server does, without one."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

CLIENTS = [one for one in ("httpx2", "httpx") if importlib.util.find_spec(one)]
# starlette.testclient raises RuntimeError where it finds no client, which importorskip lets pass
needs_starlette = pytest.mark.skipif(
    not (CLIENTS and importlib.util.find_spec("starlette")),
    reason="starlette, or httpx2 for its client, is not installed",
)


class Answer(NamedTuple):
    """What an application sent."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: Any) -> Any:
        """Return a header; None: there is none."""
        return ", ".join(value for mine, value in self.headers if mine == name) or None

    @property
    def cookie(self) -> str | None:
        """The id that the cookie is set to; "null": it is cleared; None: it is left alone."""
        told = self["set-cookie"]
        return told and told.partition(";")[0].partition("=")[2]


def ask(
    app: Any, path: str = "/", method: str = "GET", kind: str = "http", /, **headers: str | None
) -> Answer:
    """Send a request as a server does."""
    sent: list[Any] = []
    path, _, query = path.partition("?")
    told = [(name.replace("_", "-").encode(), value.encode("latin-1"))
            for name, value in headers.items() if value is not None]
    scope = {"type": kind, "method": method, "path": path, "query_string": query.encode(),
             "headers": [(b"host", b"here"), *told], "scheme": "http"}

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    starts = [message for message in sent if "headers" in message]
    body = b"".join(bytes(message.get("body", b"")) for message in sent)
    found = [(bytes(name).decode().lower(), value.decode()) for name, value in starts[0]["headers"]]
    return Answer(starts[0].get("status", 0), found, body)


def answering(
    work: Callable[[Any], Any], status: int = 200, /, parts: int = 1, **headers: str
) -> Any:
    """Make an application whose body is what `work` returns of the scope."""
    told = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = str(work(scope)).encode()
        await send({"type": "http.response.start", "status": status, "headers": told})
        for _ in range(parts - 1):
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": body})

    return app
