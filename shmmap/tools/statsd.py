"""Figures of this machine's maps, sent to a StatsD server.

A figure's name is `shmmap.`, the map's, and what `metrics` calls it, with the values of its labels
behind it: `shmmap.pages.reads.yes`. Of a map of another engine or layout these two follow the map's
name. Counters are sent as what has come since the time before; of how long operations took, the
50th and the 99th percentile of that time in milliseconds.

Source of the format: github.com/statsd/statsd, its page on metric types. A datagram has several
lines, and no more bytes than one packet of Ethernet takes.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Iterator
from operator import sub
from typing import NoReturn

from ..lifecycle.control import ENGINE
from ..lifecycle.timings import Histogram, grown
from ..memory.layout import LAYOUT_VERSION
from . import findings, metrics

_DATAGRAM_BYTES = 1400
_PERCENTILES = (50, 99)
_OF_THE_MAP = ("map", "engine", "layout", "owner")
_RESERVED = re.compile(r"[^A-Za-z0-9_-]")
Place = tuple[str, str]
"""A map's part of a figure's name, and the rest."""


class Sender:
    """Sends the figures of maps, all of them where no names are said. Raises OSError: the host is
    not known."""

    def __init__(self, host: str, port: int, names: Iterable[str]) -> None:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(family, kind, protocol)
        try:
            self._socket.connect(where)
        except BaseException:
            self._socket.close()
            raise
        self._names = list(names)
        self._counted: dict[Place, int] = {}
        self._timed: dict[Place, Histogram] = {}
        self._has_said = False

    def close(self) -> None:
        """Send no more."""
        self._socket.close()

    def send(self) -> None:
        """Send what is to be told now."""
        for datagram in _packed(self.lines()):
            try:
                self._socket.send(datagram)
            except OSError as error:  # nobody listens there just now
                if not self._has_said:
                    findings.say(f"--statsd: {error.strerror or error}; it is tried again")
                    self._has_said = True

    def lines(self) -> Iterator[str]:
        """Yield the figures; from the second time on also what has come since."""
        sums: dict[Place, list[int]] = {}
        for sample in metrics.samples(self._names):
            family = metrics.FAMILIES[sample.family]
            place = _place_of(sample)
            if family.name == "shmmap_state":
                continue  # the server would keep a former one
            if family.kind == "gauge":
                yield _line(place, sample.value, "g")
            elif family.kind == "counter":
                value = int(sample.value)
                if more := grown(value, self._counted.get(place, value)):
                    yield _line(place, more, "c")
                self._counted[place] = value
            elif sample.suffix == "_bucket":
                sums.setdefault(place, []).append(int(sample.value))
        for place, ones in sums.items():
            whole = Histogram(tuple(map(sub, ones, [0, *ones])))
            since = whole.since(self._timed.get(place, whole))
            for percent in _PERCENTILES if since.total else ():
                map_name, name = place
                yield _line((map_name, f"{name}.p{percent}"), 1e3 * since.percentile(percent), "g")
            self._timed[place] = whole


def _place_of(sample: metrics.Sample) -> Place:
    labels = sample.labels
    whose = [labels["map"]]
    if (labels["engine"], labels["layout"]) != (ENGINE, str(LAYOUT_VERSION)):
        whose += [labels["engine"], labels["layout"]]
    rest = [labels[name] for name in labels if name not in (*_OF_THE_MAP, "le")]
    name = sample.family.removeprefix("shmmap_").removesuffix("_seconds")
    return _joined(whose), _joined([name, *rest])


def _joined(parts: Iterable[str]) -> str:
    return ".".join(_RESERVED.sub("_", part) for part in parts)


def _line(place: Place, value: float, kind: str) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"shmmap.{place[0]}.{place[1]}:{text}|{kind}"


def _packed(lines: Iterable[str]) -> Iterator[bytes]:
    """Put lines together, as many as one datagram has room for."""
    held = b""
    for line in lines:
        data = line.encode()
        if held and len(held) + 1 + len(data) > _DATAGRAM_BYTES:
            yield held
            held = b""
        held = held + b"\n" + data if held else data
    if held:
        yield held


def send_on(sender: Sender, interval_s: float) -> NoReturn:
    """Send again and again, until something ends it."""
    due = time.monotonic()
    while True:
        sender.send()
        due = max(due + interval_s, now := time.monotonic())
        time.sleep(due - now)
