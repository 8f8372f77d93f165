"""A command that serves something at an address which the user has said.

The server's own modules are imported as it is made: what they need takes longer to import than
most commands run.
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from . import findings

if TYPE_CHECKING:
    from .http_server import LocalServer

_WHAT_NEXT = {
    errno.EADDRINUSE: "; say another port, or 0 for one that is free",
    errno.EADDRNOTAVAIL: "; `ip addr` lists the addresses of this machine",
    errno.EACCES: "; ports from 1024 on are for everybody",
}
Made = TypeVar("Made", bound="LocalServer")


def opened(make: Callable[[], Made], host: str, port: int) -> Made | None:
    """Return a server; None: it cannot listen there, and why was said."""
    try:
        return make()
    except OSError as error:
        findings.say(f"--listen {host}:{port}: {error.strerror or error}"
                     f"{_WHAT_NEXT.get(error.errno or 0, '')}")
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
