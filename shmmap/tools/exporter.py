"""`shmmap metrics`: the figures of this machine's maps, printed, or for whoever asks over HTTP."""

from __future__ import annotations

import argparse
from http.server import BaseHTTPRequestHandler

from ..printable import printable
from . import metrics, named
from .http_server import SLOWEST_S, LocalServer, address, opened, serve


class Exporter(LocalServer):
    """Answers GET /metrics with the figures of maps; `names`: of which, none: of all."""

    place = "/metrics"

    def __init__(self, host: str, port: int, names: list[str]) -> None:
        self.names = names
        super().__init__(host, port, Asked)


class Asked(BaseHTTPRequestHandler):
    """One question."""

    server: Exporter
    server_version = "shmmap"
    sys_version = ""
    timeout = SLOWEST_S

    def do_GET(self) -> None:
        """Answer it."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            try:
                self._answer(200, metrics.CONTENT_TYPE, metrics.openmetrics(*self.server.names))
            except OSError as error:  # /dev/shm cannot be listed, say
                self._answer(503, "text/plain; charset=utf-8", f"{printable(str(error))}\n")
        elif path == "/":
            self._answer(200, "text/plain; charset=utf-8", "shmmap: see /metrics\n")
        else:
            self._answer(404, "text/plain; charset=utf-8", "there is /metrics\n")

    do_HEAD = do_GET

    def _answer(self, status: int, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Write no log."""


def add_command(command: argparse.ArgumentParser) -> None:
    """Add what `shmmap metrics` takes."""
    command.add_argument("names", metavar="NAME", nargs="*", type=named.map_name,
                         help="of which maps; none: of all of this machine")
    command.add_argument("--listen", metavar="HOST:PORT", type=address,
                         help="answer GET /metrics there until Ctrl+C: 127.0.0.1:9177. Whoever "
                              "reaches that address sees the names and figures of the maps")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the figures, or answer with them."""
    if options.listen is None:
        print(metrics.openmetrics(*options.names), end="")
        return named.say_missing(options.names)
    host, port = options.listen
    server = opened(lambda: Exporter(host, port, options.names), host, port)
    if server is None:
        return 1
    with server:
        serve(server)
    return 0


COMMANDS = (
    named.Command("metrics", "figures of maps for a monitoring system, printed or over HTTP",
                  add_command, ("shmmap metrics pages", "shmmap metrics --listen 127.0.0.1:9177")),
)
