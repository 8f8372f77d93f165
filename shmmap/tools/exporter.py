"""`shmmap metrics`: the figures of this machine's maps, printed, sent, or for whoever asks."""

from __future__ import annotations

import argparse
import sys

from . import findings, metrics, named
from .keys_written import WrongUsage
from .listening import address, opened, serve
from .top.command import seconds


def add_command(command: argparse.ArgumentParser) -> None:
    """Add what `shmmap metrics` takes."""
    command.add_argument("names", metavar="NAME", nargs="*", type=named.map_name,
                         help="of which maps; none: of all of this machine")
    way = command.add_mutually_exclusive_group()
    way.add_argument("--listen", metavar="HOST:PORT", type=address,
                     help="answer GET /metrics there until Ctrl+C: 127.0.0.1:9177. Whoever "
                          "reaches that address sees the names and figures of the maps")
    way.add_argument("--statsd", metavar="HOST:PORT", type=address,
                     help="send them to a StatsD server until Ctrl+C: 127.0.0.1:8125")
    command.add_argument("--interval", metavar="SECONDS", type=seconds,
                         help="with --statsd: between two times (default: 10)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the figures, answer with them, or send them."""
    if options.statsd is not None:
        return _send(options, 10.0 if options.interval is None else options.interval)
    if options.interval is not None:
        raise WrongUsage("--interval goes with --statsd")
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


def _send(options: argparse.Namespace, interval_s: float) -> int:
    from .statsd import Sender, send_on

    named.say_missing(options.names)  # they may come
    host, port = options.statsd
    try:
        sender = Sender(host, port, options.names)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        return findings.say(f"--statsd {host}:{port}: {why}")
    print(f"sending to {host}:{port} every {interval_s:g} s (Ctrl+C ends it)",
          file=sys.stderr, flush=True)
    try:
        send_on(sender, interval_s)
    finally:
        sender.close()


COMMANDS = (
    named.Command("metrics", "figures of maps for a monitoring system: printed, over HTTP, sent",
                  add_command, ("shmmap metrics pages", "shmmap metrics --listen 127.0.0.1:9177",
                                "shmmap metrics --statsd 127.0.0.1:8125 --interval 10")),
)
