"""A site under gunicorn, loaded by wrk: what it answers, what that costs, and what it counted."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psutil

from ..core.machine import SHM
from ..core.results import Row
from ..peers.gunicorn_stash import ARBITER
from ..peers.server import PREFIX, Server

WORKERS, AT_ONCE, PAGES, VISITORS = 4, 16, 2_000, 500
THREADS = 4  # of a gthread worker: as many in all as requests come at once
OPTIONS = {"sync": [], "gthread": ["--threads", str(THREADS)], "gevent": []}  # by worker class
EXACT = ("redis", "diskcache.Cache", "diskcache.FanoutCache", "shmmap")  # none loses a count
START_S = 30.0
FAREWELL_S = 5.0
ASK = """
request = function()
  local page = math.random({pages})
  local visitor = string.format("sessionid=visitor%06d", page % {visitors})
  return wrk.format("GET", "/" .. page, {["Cookie"] = visitor})
end
"""
_LINE = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)$", re.M)
_TOTAL = re.compile(r"(\d+) requests in")
_NS = {"us": 1e3, "ms": 1e6, "s": 1e9}


class Served(NamedTuple):
    """What is served: the file of the site, gunicorn's worker class, and the cache.

    Attributes:
        scenario: whose rows these are.
        source: the site's file.
        worker_class: one of OPTIONS.
        kind: the cache, by its peer's name.
        seconds: one load.
    """

    scenario: str
    source: Path
    worker_class: str
    kind: str
    seconds: int


class Site:
    """One site, its server running. Its first load warms it up, and counts for nothing.

    One that does not start ends its part only: `problem` says why.
    """

    def __init__(self, served: Served) -> None:
        self.served = served
        self.samples: dict[str, list[float]] = {}
        self.facts: dict[str, object] = {"workers": WORKERS, "at_once": AT_ONCE, "pages": PAGES}
        self.counted: list[float] = []  # of each request that was answered
        self.problem = ""
        self._exits = ExitStack()
        self._store: Server | None = None
        self.broken = False
        try:
            self._start()
        except Exception as error:
            self.broken, self.problem = True, f"{type(error).__name__}: {error}"
            self.close()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=SHM))
        self._exits.callback(shutil.rmtree, self.folder, ignore_errors=True)
        shutil.copy(self.served.source, self.folder / "site_app.py")
        script = ASK.replace("{pages}", str(PAGES)).replace("{visitors}", str(VISITORS))
        (self.folder / "ask.lua").write_text(script)
        where = self._open_store()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        path = os.pathsep.join(entry for entry in sys.path if entry and Path(entry).name != "bench")
        kind = self.served.worker_class
        with (self.folder / "log").open("wb") as log:
            self.server = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-w", str(WORKERS), "-k", kind, *OPTIONS[kind],
                 "--log-level", "error", "--graceful-timeout", "1", "-b", f"127.0.0.1:{self.port}",
                 "site_app:app"],
                cwd=self.folder, stdout=log, stderr=log,
                env={**os.environ, "SITE_CACHE": self.served.kind, "SITE_WHERE": where,
                     "PYTHONPATH": path},
            )
        self._exits.callback(self._end_server)
        give_up = time.monotonic() + START_S
        while self._ask("/count") is None:
            if self.server.poll() is not None or time.monotonic() > give_up:
                said = " ".join((self.folder / "log").read_text().split())[-300:]
                raise RuntimeError(f"the site does not start: {said}")
            time.sleep(0.05)
        self._load()  # every worker has its imports and most pages

    def _open_store(self) -> str:
        """Start what the cache needs, and return where it is."""
        if self.served.kind == "redis":
            self._store = Server(lambda path: [
                "redis-server", "--port", "0", "--unixsocket", path, "--save", "",
            ])
        elif self.served.kind == "gunicorn stash":
            self._store = Server(lambda path: [sys.executable, "-c", ARBITER, path])
        elif self.served.kind == "shmmap":
            import shmmap

            self._exits.callback(shmmap.unlink, self.folder.name, missing_ok=True)
            return self.folder.name
        if self._store is None:
            return str(self.folder / "cache")
        self._exits.callback(self._store.stop)
        return self._store.socket

    def _ask(self, path: str) -> str | None:
        """Return what the site answers; None: it does not, or not well."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.read().decode() if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _load(self) -> str:
        seconds = self.served.seconds
        done = subprocess.run(
            ["wrk", "--latency", "--timeout", "20s", "-t1", f"-c{AT_ONCE}", f"-d{seconds}s", "-s",
             str(self.folder / "ask.lua"), f"http://127.0.0.1:{self.port}"],
            capture_output=True, text=True, timeout=seconds + START_S,
        )
        return done.stdout

    def _processes(self) -> list[psutil.Process]:
        """List the workers, and the store's server."""
        found: list[psutil.Process] = psutil.Process(self.server.pid).children()
        if self._store is not None and self._store.pid is not None:
            found.append(psutil.Process(self._store.pid))
        return found

    def repeat(self, number: int) -> None:
        """Load it for a while."""
        if self.broken:
            return
        processes = self._processes()
        before, count = _used(processes), self._count()
        said = self._load()
        used = _used(processes) - before
        matched = _TOTAL.search(said)
        total = int(matched[1]) if matched else 0
        waits = {percent: float(value) * _NS[unit] for percent, value, unit in _LINE.findall(said)}
        if total == 0 or len(waits) < 2:
            self.problem = f"wrk got no answers: {' '.join(said.split())[-200:]}"
            return
        for line in said.splitlines():
            if "Non-2xx" in line or "Socket errors" in line:
                self.problem = line.strip()
        self._compare(self._count() - count, total)
        workers = psutil.Process(self.server.pid).children()
        memory = sum(worker.memory_full_info().uss for worker in workers) / len(workers)
        figures = {
            "per_s": total / self.served.seconds, "p50_ns": waits["50"], "p99_ns": waits["99"],
            "cpu_us": used / total * 1e6, "bytes": memory,
        }
        for figure, value in figures.items():
            self.samples.setdefault(figure, []).append(round(value, 1))

    def _count(self) -> int:
        """Return how many requests the site has counted; of what is not shared, one worker's."""
        return int(self._ask("/count") or 0)

    def _compare(self, counted: int, answered: int) -> None:
        """Compare what was counted with what wrk got, which leaves a few without waiting for
        them: they are counted, too."""
        self.counted.append(min(100.0, 100.0 * counted / answered))
        right = answered <= counted <= answered + 2 * AT_ONCE
        if self.served.kind in EXACT and not right:
            self.problem = self.problem or f"counted {counted} of {answered} requests"

    def row(self) -> Row:
        """Return what was found."""
        facts = dict(self.facts)
        if self.served.kind != "dict" and self.counted:  # of that, each worker has its own
            facts["counted_percent"] = round(min(self.counted), 1)
        return Row.of(
            self.served.scenario, self.served.kind, self.samples, self.problem, facts=facts
        )

    def _end_server(self) -> None:
        self.server.terminate()
        try:
            self.server.wait(FAREWELL_S)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()

    def close(self) -> None:
        """End the server, remove the store."""
        self._exits.close()


def _used(processes: list[psutil.Process]) -> float:
    """Return the processor time that these have used, in seconds."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)
