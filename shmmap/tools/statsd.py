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
from typing import Any, NamedTuple, NoReturn

from ..lifecycle.control import ENGINE
from ..lifecycle.timings import Histogram, grown
from ..memory.layout import LAYOUT_VERSION
from . import findings, inspection, metrics
from .metrics import Sample

_DATAGRAM_BYTES = 1400
_PERCENTILES = (50, 99)
_OF_THE_MAP = ("map", "engine", "layout", "owner")
_RESERVED = re.compile(r"[^A-Za-z0-9_-]")


class Former(NamedTuple):
    """What a map had counted, and timed, as it was looked at the last time: by a figure's name."""

    counted: dict[str, int]
    timed: dict[str, Histogram]


class Sender:
    """Sends the figures of maps, all of them where no names are said. Raises OSError, UnicodeError:
    the host is not known."""

    def __init__(self, host: str, port: int, names: Iterable[str]) -> None:
        self._host, self._port, self._names = host, port, list(names)
        self._resolve()
        self._maps: dict[tuple[str, int], Former] = {}  # by name and nonce
        self._unread: set[str] | None = None  # which could not be read the last time
        self._has_said = False
        self._socket: Any = None
        self._where: Any = None  # it leads to

    def close(self) -> None:
        """Send no more."""
        if self._socket is not None:
            self._socket.close()

    def _resolve(self) -> tuple[Any, ...]:
        return socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]

    def _connect(self) -> None:
        """Lead to where the host is; of one socket, it is known what came back to a datagram."""
        family, kind, protocol, _, where = self._resolve()
        if self._socket is None or self._where != where:
            self.close()
            made = socket.socket(family, kind, protocol)
            try:
                made.connect(where)
            except BaseException:
                made.close()
                raise
            self._socket, self._where = made, where

    def send(self) -> None:
        """Send what is to be told now, to where the host is by now."""
        datagrams = list(_packed(self.lines()))
        try:
            self._connect()
            for datagram in datagrams:
                self._socket.send(datagram)
            self._has_said = False
        except OSError as error:  # nobody listens there just now
            if not self._has_said:
                findings.say(f"--statsd: {error.strerror or error}; it is tried again")
                self._has_said = True

    def lines(self) -> Iterator[str]:
        """Yield the figures, and what has come since the last time. Of maps that were there at the
        first time nothing is known to have come before; others have begun at 0."""
        before, self._maps = self._maps, {}
        unread_before, self._unread = self._unread, set()
        for seen in inspection.find_named(self._names):
            samples = list(metrics.samples_of(seen))
            name = _map_part(samples[0].labels)
            former = now = None
            if seen.control is None or "shmmap_reads" not in {one.family for one in samples}:
                self._unread.add(name)
                self._maps |= {key: one for key, one in before.items() if key[0] == name}
            else:
                key = name, seen.control.NONCE
                former = before.get(key)
                if former is None and unread_before is not None and name not in unread_before:
                    former = Former({}, {})
                now = self._maps[key] = Former({}, {})
            for line in _lines(samples, former, now):
                yield f"shmmap.{name}.{line}"


def _lines(samples: list[Sample], former: Former | None, now: Former | None) -> Iterator[str]:
    """Yield what stands behind a map's name; `now` is filled. `former` None: nothing is known."""
    sums: dict[str, list[int]] = {}
    for sample in samples:
        kind, name = metrics.FAMILIES[sample.family].kind, _figure_part(sample)
        if sample.family == "shmmap_state":
            continue  # the server would keep a former one
        if kind == "gauge":
            yield f"{name}:{sample.value}|g"
        elif now is None:
            continue
        elif kind == "counter":
            now.counted[name] = value = int(sample.value)
            more = 0 if former is None else grown(value, former.counted.get(name, 0))
            if more:
                yield f"{name}:{more}|c"
        elif sample.suffix == "_bucket":
            sums.setdefault(name, []).append(int(sample.value))
    for name, ones in sums.items():
        whole = Histogram(tuple(map(sub, ones, [0, *ones])))
        assert now is not None
        now.timed[name] = whole
        if former is not None:
            since = whole.since(former.timed[name]) if name in former.timed else whole
            for percent in _PERCENTILES if since.total else ():
                yield f"{name}.p{percent}:{1e3 * since.percentile(percent):.6g}|g"


def _map_part(labels: dict[str, str]) -> str:
    whose = [labels["map"]]
    if (labels["engine"], labels["layout"]) != (ENGINE, str(LAYOUT_VERSION)):
        whose += [labels["engine"], labels["layout"]]
    return _joined(whose)


def _figure_part(sample: Sample) -> str:
    rest = [text for name, text in sample.labels.items() if name not in (*_OF_THE_MAP, "le")]
    return _joined([sample.family.removeprefix("shmmap_").removesuffix("_seconds"), *rest])


def _joined(parts: Iterable[str]) -> str:
    return ".".join(_RESERVED.sub("_", part) for part in parts)


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
