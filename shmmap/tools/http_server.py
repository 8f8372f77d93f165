"""A small HTTP server of a command, on an address that the user has said."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

SLOWEST_S = 5.0  # that a client may take for its question, and for what it is sent at once


class LocalServer(ThreadingHTTPServer):
    """Listens at a host and port, of IPv4 or IPv6; a thread for each question."""

    daemon_threads = True
    allow_reuse_address = True
    place = "/"

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        """Listen there. Raises OSError: the address is taken, or not of this machine."""
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        """Bind, without asking any name server who this is, as http.server would."""
        TCPServer.server_bind(self)

    @property
    def host(self) -> str:
        """The address that it listens at."""
        host = self.server_address[0]
        return host.decode() if isinstance(host, bytes) else str(host)

    @property
    def url(self) -> str:
        """Where it is asked."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}{self.place}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away."""
