"""`shmmap ui`: serve a web page about the maps of this machine, until Ctrl+C.

The page shows live figures, the shards as a heat map, the workers; it finds keys by their
beginning, and shows one value. It changes nothing. Its address has a token, new each time: whoever
has it reads what the maps hold. By default only this machine reaches the page; from elsewhere, go
through ssh -L.
"""

from __future__ import annotations

import argparse
import signal
from typing import Any

from .. import findings, named
from ..listening import address, opened, serve
from ..top.command import seconds
from ..top.keyboard import ENDING, Ended
from .door import is_loopback

ADDRESS = ("127.0.0.1", 0)


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    command.description = __doc__
    command.add_argument("names", metavar="NAME", nargs="*", type=named.map_name,
                         help="which maps; none: all of this machine")
    command.add_argument("--listen", metavar="HOST:PORT", type=address, default=ADDRESS,
                         help="where the page is; default 127.0.0.1:0, a port that is free")
    command.add_argument("--interval", metavar="SECONDS", type=seconds, default=1.0,
                         help="between two looks (default: 1)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until a signal ends it; return the exit code."""
    from .server import Server

    named.say_missing(options.names)  # they may come
    host, port = options.listen
    server = opened(lambda: Server(host, port, options.names, options.interval), host, port)
    if server is None:
        return 1
    for ending in ENDING:
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(ending, _end)
    try:
        with server:
            if not is_loopback(host):
                findings.say(f"{host} is no address of this machine alone: whoever hears the "
                             "token on the network reads what the maps hold; ssh -L is safer")
            serve(server)
    except Ended as ended:
        return 128 + int(ended.args[0])
    return 0


def _end(number: int, frame: Any) -> None:
    raise Ended(number)


COMMANDS = (
    named.Command("ui", "show maps, their keys and values on a web page of this machine",
                  add_command, ("shmmap ui", "shmmap ui pages --listen 127.0.0.1:8080",
                                "shmmap ui --interval 5")),
)
