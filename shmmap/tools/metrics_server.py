"""Figures of this machine's maps, for whoever asks over HTTP."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler

from ..printable import printable
from . import metrics
from .http_server import SLOWEST_S, LocalServer


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
