"""What is asked of the server, and what it answers."""

from __future__ import annotations

import io
import socket
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from ...errors import ShmMapError
from ...printable import printable
from ..http_server import SLOWEST_S
from . import documents, page, searching
from .head import Head
from .looking import find

if TYPE_CHECKING:
    from .server import Server

UNREAD_AT_MOST = 1 << 17  # bytes that the kernel keeps for a client
FIELDS_AT_MOST = 8
_GLANCE_S = 0.25  # between two looks whether a client is still there
_TEXT, _JSON = "text/plain; charset=utf-8", "application/json"
_WHO = ("the address lacks the token, or has that of an earlier start: take the one that "
        "`shmmap ui` has printed\n")
_WHERE = "this server is not asked for by that name\n"


class Asked(BaseHTTPRequestHandler):
    """One question."""

    server: Server
    server_version = "shmmap"
    sys_version = ""

    def setup(self) -> None:
        """Read no more of it than a question has; have the kernel keep little that is unread."""
        super().setup()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_AT_MOST)
        self.rfile.close()
        self.rfile = io.BufferedReader(Head(self.connection))

    def parse_request(self) -> bool:
        """Read it; refuse whoever has no business here, whatever is asked."""
        if not super().parse_request():
            return False
        hosts = self.headers.get_all("Host") or [""]
        if len(hosts) > 1 or not self.server.door.is_asked_for(hosts[0].strip()):
            self._answer(403, _TEXT, _WHERE.encode())
            return False
        self._path, _, query = self.path.partition("?")
        try:
            asked = parse_qs(query, keep_blank_values=True, max_num_fields=FIELDS_AT_MOST)
        except ValueError:  # too many
            asked = {}
        self._fields = {name: values[-1] for name, values in asked.items()}
        if not self.server.door.knows(self._fields.get("token", "")):
            self._answer(403, _TEXT, _WHO.encode())
            return False
        return True

    def do_GET(self) -> None:
        """Answer it."""
        if self._path == "/":
            self._answer(200, page.CONTENT_TYPE, self.server.page.data, self.server.page.policy)
        elif self._path == "/figures":
            self._stream()
        elif self._path in ("/keys", "/value"):
            self._search()
        else:
            self._answer(404, _TEXT, b"there is nothing here\n")

    do_HEAD = do_GET

    # -- keys and values --------------------------------------------------------------------

    def _search(self) -> None:
        if not self.server.searches.acquire(timeout=2 * searching.SECONDS_AT_MOST):
            self._tell(503, {"problem": "others are searching: try again"})
            return
        try:
            status, document = self._found()
        finally:
            self.server.searches.release()
        self._tell(status, document)

    def _found(self) -> tuple[int, dict[str, Any]]:
        try:
            reader = searching.open_reader(find(self._fields.get("map", ""), self.server.names))
            if self._path == "/keys":
                return 200, searching.keys(reader, self._fields.get("prefix", ""))
            return 200, searching.value(reader, self._fields.get("key", ""))
        except (ShmMapError, OSError) as error:
            return 404, {"problem": printable(str(error), 500)}
        except (ValueError, TypeError) as error:
            return 400, {"problem": printable(str(error), 500)}

    def _tell(self, status: int, document: dict[str, Any]) -> None:
        self._answer(status, _JSON, documents.encoded(document))

    # -- live figures -----------------------------------------------------------------------

    def _stream(self) -> None:
        """Send the figures of all maps, and of the one that is asked for, whenever they are new."""
        if not self.server.streams.acquire(blocking=False):
            self._tell(503, {"problem": "too many pages are open"})
            return
        try:
            self._head(200, "text/event-stream", page.NOTHING)
            if self.command != "HEAD":
                self._send_figures(self._fields.get("map", ""))
        finally:
            self.server.streams.release()

    def _send_figures(self, label: str) -> None:
        number, looker = 0, self.server.looker
        while not looker.is_over:
            look = looker.newest(number, _GLANCE_S)
            if look is not None:
                number = look.number
                text = b"retry: 2000\nevent: maps\ndata: " + look.maps + b"\n\n"
                if label:
                    text += b"event: map\ndata: " + looker.about(look, label) + b"\n\n"
                self.wfile.write(text)
            elif self._has_hung_up():
                return

    def _has_hung_up(self) -> bool:
        """Tell whether the client has closed its end. What else it says is not read."""
        self.connection.settimeout(0)
        try:
            with suppress(BlockingIOError):
                return not self.connection.recv(4096)
            return False
        finally:
            self.connection.settimeout(SLOWEST_S)

    # -- answers ----------------------------------------------------------------------------

    def _answer(self, status: int, kind: str, data: bytes, policy: str = page.NOTHING) -> None:
        self._head(status, kind, policy, len(data))
        if self.command != "HEAD":
            self.wfile.write(data)

    def _head(self, status: int, kind: str, policy: str, length: int | None = None) -> None:
        self.connection.settimeout(SLOWEST_S)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", policy)
        for name, text in page.HEADERS.items():
            self.send_header(name, text)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what the base class has not understood, or has no method for."""
        self._path, self._fields = "", {}
        self.close_connection = True
        if not hasattr(self, "request_version") or self.request_version == "HTTP/0.9":
            self.request_version = "HTTP/1.0"
        self._answer(code, _TEXT, b"that is not answered here: only GET and HEAD are\n")

    def log_message(self, format: str, *args: object) -> None:
        """Write no log: addresses have the token."""
