"""A small HTTP server of a command, on an address that the user has said."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, TypeVar

from . import findings

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


Made = TypeVar("Made", bound=LocalServer)


def opened(make: Callable[[], Made], host: str, port: int) -> Made | None:
    """Return a server; None: it cannot listen there, and why was said."""
    try:
        return make()
    except OSError as error:
        findings.say(f"--listen {host}:{port}: {error.strerror or error}")
        return None


def serve(server: LocalServer) -> None:
    """Say where it is asked, and answer until something ends it."""
    print(server.url, flush=True)
    print("(Ctrl+C ends it)", file=sys.stderr, flush=True)
    server.serve_forever()


def address(text: str) -> tuple[str, int]:
    """Read HOST:PORT; an address of IPv6 is in brackets."""
    host, separator, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} must be HOST:PORT, like 127.0.0.1:9177")
    return host, int(port)
