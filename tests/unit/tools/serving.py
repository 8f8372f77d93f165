"""The server of `shmmap ui` in a test's own process, and questions to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from shmmap.tools.ui.server import Server

from .maps import LIMIT_S

INTERVAL_S = 0.1


class Answer(NamedTuple):
    """What a server has answered."""

    status: int
    headers: dict[str, str]
    data: bytes

    def json(self) -> Any:
        """Read it as JSON."""
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.data)


class Serving:
    """A server that serves in a thread."""

    def __init__(self, *names: str, host: str = "127.0.0.1") -> None:
        self.server = Server(host, 0, list(names), INTERVAL_S)
        self.address = self.server.server_address[:2]
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self._thread.start()

    def path(self, path: str, **fields: str) -> str:
        """Write a path with the token."""
        return f"{path}?{urlencode({'token': self.server.door.token, **fields})}"

    def ask(self, path: str, method: str = "GET", headers: dict[str, str] | None = None,
            **fields: str) -> Answer:
        """Ask with the token."""
        return self.ask_as_it_is(self.path(path, **fields), method, headers)

    def ask_as_it_is(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> Answer:
        """Ask, and take the answer to its end."""
        connection = HTTPConnection(*self.address, timeout=LIMIT_S)
        try:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            named = {name.lower(): text for name, text in answer.headers.items()}
            return Answer(answer.status, named, answer.read())
        finally:
            connection.close()

    def stream(self, **fields: str) -> Stream:
        """Open the stream of live figures."""
        return Stream(self, **fields)

    def close(self) -> None:
        """End it."""
        self.server.shutdown()
        self._thread.join(LIMIT_S)
        self.server.server_close()


class Stream:
    """The live figures, as a page takes them."""

    def __init__(self, serving: Serving, **fields: str) -> None:
        self.connection = HTTPConnection(*serving.address, timeout=LIMIT_S)
        self.connection.request("GET", serving.path("/figures", **fields))
        self.answer: HTTPResponse = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()

    def next(self, kind: str = "maps") -> dict[str, Any]:
        """Return the next document of a kind."""
        event = ""
        while True:
            line = self.answer.readline().decode()
            assert line, "the stream has ended"
            if line.startswith("event: "):
                event = line[7:].strip()
            if line.startswith("data: ") and event == kind:
                document: dict[str, Any] = json.loads(line[6:])
                return document

    def until(self, wanted: Callable[[dict[str, Any]], bool], kind: str = "maps") -> dict[str, Any]:
        """Return the first document that is as wanted."""
        while True:
            document = self.next(kind)
            if wanted(document):
                return document

    def close(self) -> None:
        """Close it, as a page that is closed."""
        self.answer.close()
        self.connection.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Serving]]:
    """Serve in this process; ended after the test."""
    started: list[Serving] = []

    def start(*names: str, **more: str) -> Serving:
        started.append(Serving(*names, **more))
        return started[-1]

    yield start
    for one in started:
        one.close()
