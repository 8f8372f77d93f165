"""The server of the page: a thread for each question, and no more of them than it bears.

There is nothing here that changes anything: GET and HEAD are answered, all else is refused. Each
answer ends its connection, but for the stream of live figures, which goes on until the page is
closed. A client that does not read keeps neither a thread nor memory for long: what is sent to it
has to be taken within seconds, and of the figures it gets the newest only.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any

from ...memory._clock_cy import monotonic
from ..http_server import LocalServer
from . import page
from .answers import Asked
from .door import Door
from .looking import Looker

CONNECTIONS_AT_MOST = 48
STREAMS_AT_MOST = 16
SEARCHES_AT_MOST = 2
PATIENCE_S = 2.0  # with threads that are to end
_BUSY = (b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/plain\r\n"
         b"Cache-Control: no-store\r\nRetry-After: 5\r\n\r\ntoo many clients\n")


class Server(LocalServer):
    """Answers the questions of pages; `names`: about which maps, none: about all.

    Attributes:
        door: who is let in.
        page: what a browser gets.
        looker: the live figures.
        streams, searches: how many more there may be.
    """

    request_queue_size = 16

    def __init__(self, host: str, port: int, names: list[str], interval_s: float) -> None:
        """Listen there. Raises OSError: the address is taken, or not of this machine."""
        self.names = names
        self.page = page.load()
        self.looker = Looker(names, interval_s)
        self.streams = threading.Semaphore(STREAMS_AT_MOST)
        self.searches = threading.Semaphore(SEARCHES_AT_MOST)
        self._connections: set[socket.socket] = set()
        self._change = threading.Condition()
        super().__init__(host, port, Asked)
        self.door = Door(host, self.host)

    @property
    def url(self) -> str:
        """Where the page is, with the token."""
        return f"{super().url}?token={self.door.token}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Have a thread answer, unless there are too many."""
        with self._change:
            is_full = len(self._connections) >= CONNECTIONS_AT_MOST
            if not is_full:
                self._connections.add(request)
        if is_full:
            with suppress(OSError):
                request.setblocking(False)
                request.send(_BUSY)
                request.recv(1 << 16)  # what is left unread would have the kernel take back that
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._change:
            self._connections.discard(request)
            self._change.notify_all()
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Stop listening, and end what is being answered."""
        super().server_close()
        self.looker.end()
        until = monotonic() + PATIENCE_S
        with self._change:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            while self._connections and (left_s := until - monotonic()) > 0:
                self._change.wait(left_s)
