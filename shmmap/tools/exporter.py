"""`shmmap metrics`: the figures of this machine's maps, printed, or for whoever asks over HTTP."""

from __future__ import annotations

import argparse

from . import metrics, named
from .listening import address, opened, serve


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
    from .metrics_server import Exporter

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
