"""A small web app whose workers share one cache, and one exact count of its requests.

    cd examples && gunicorn -w 4 03_gunicorn_app:app
    curl -i http://127.0.0.1:8000/page/7        # twice: "X-Cache: hit" from whichever worker
    curl -i -H "X-Client: me" -H "X-Number: 1" http://127.0.0.1:8000/page/7      # counted
    curl http://127.0.0.1:8000/status

Two maps, because they must not share a fate: a full cache evicts what it needs least; a counter
is never evicted. Both outlive gunicorn: restart it, and it goes on counting.

How the count stays exact. A worker may be killed at any moment: before it counts a request,
between counting and answering, or after. The client then got no answer and asks again; if the
first attempt was counted, the second must not be. So a client numbers its requests 1, 2, 3, ...
and repeats one, with the same number, until it is answered. The map holds the last number
counted for each client; counting a request is one `cas` from n-1 to n, before the answer is
sent. Hence, however often any worker dies:

    a client's entry == the number of its distinct requests that were counted,
    which, once the client has its answer, are exactly those acknowledged.

("served", pid) is the simpler thing, one `incr` for each attempt that a worker began. It loses
none either, but a request that was attempted twice is in it twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import shmmap

NAME = os.environ.get("SHMMAP_EXAMPLE", "gunicorn-example")
PAGE_TTL_S = 5.0

pages = shmmap.ShmMap(f"{NAME}-pages", size="8MB", value_size=2000, on_full="evict", ttl=PAGE_TTL_S)
counts = shmmap.ShmMap(f"{NAME}-counts", capacity=10_000, value_size=8)


class Refused(Exception):
    """A request that is answered with an error: (status line, explanation)."""


def count_once(client: str, number: int) -> bool:
    """Count request `number` of a client; False: it was counted before.

    Raises:
        Refused: the client has skipped a number, so some request of its would never be counted.
    """
    while True:
        last, version = counts.get_versioned(("client", client), 0)
        if number <= last:
            return False
        if number != last + 1:
            raise Refused("409 Conflict", f"the next number of {client} is {last + 1}")
        if counts.cas(("client", client), number, version):
            return True


def render(number: int) -> str:
    """Draw a Mandelbrot set, nearer with each number: slow enough to be worth caching."""
    zoom = 0.9**number
    rows = []
    for y in range(24):
        row = ""
        for x in range(72):
            c = complex(-0.7436 + (x - 36) / 24 * zoom, 0.1318 + (y - 12) / 10 * zoom)
            z, steps = 0j, 0
            while abs(z) < 2 and steps < 300:
                z, steps = z * z + c, steps + 1
            row += " " if steps == 300 else ".,:;!/>)|&IH%*#@"[steps % 16]
        rows.append(row.rstrip())
    return "\n".join(rows) + "\n"


def page(number: int) -> tuple[str, str]:
    """Return a page and whether it was a hit in the cache that all workers share."""
    text = pages.get(number)
    if text is not None:
        return text, "hit"
    text = render(number)
    pages.set(number, text)
    return text, "miss"


def status() -> str:
    """Describe what all workers together have done."""
    found: dict[str, dict[str, int]] = {"client": {}, "served": {}}
    for (kind, which), value in counts.items():
        found[kind][str(which)] = value
    return json.dumps({
        "requests": sum(found["client"].values()),
        "clients": found["client"],
        "served": found["served"],
        "pages_cached": len(pages),
    }, indent=2) + "\n"


def whole(text: str, status_line: str, what: str) -> int:
    """Read a number that a client sent."""
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10):
        raise Refused(status_line, f"{what} must be a whole number, not {text!r}")
    return int(text)


def answer(environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """Return a request's answer and its headers."""
    path = environ.get("PATH_INFO", "/")
    if path == "/status":
        return status(), []
    if not path.startswith("/page/"):
        raise Refused("404 Not Found", "there are /page/N and /status")
    wanted = whole(path.removeprefix("/page/"), "404 Not Found", "the page")
    headers = [("X-Worker", str(os.getpid()))]
    counts.incr(("served", os.getpid()))
    if client := environ.get("HTTP_X_CLIENT"):
        number = whole(environ.get("HTTP_X_NUMBER", ""), "400 Bad Request", "X-Number")
        headers.append(("X-Counted", "now" if count_once(client, number) else "before"))
    text, cache = page(wanted)
    return text, [*headers, ("X-Cache", cache)]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Serve one request."""
    line = "200 OK"
    headers: list[tuple[str, str]] = []
    try:
        text, headers = answer(environ)
    except Refused as refusal:
        line, text = refusal.args[0], f"{refusal.args[1]}\n"
    except shmmap.ShmMapError as error:  # counts are full, say: not counted, so no good answer
        line, text = "503 Service Unavailable", f"{error}\n"
    body = text.encode()
    start_response(line, [
        ("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *headers,
    ])
    return [body]
