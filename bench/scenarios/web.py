"""What does a web application get from its cache: requests a second, waits, processor time, memory?

A Flask site (`load/flask_site.py`) under `gunicorn -w 4`: each request reads and writes a session,
reads a page of 2 kB (drawn in a millisecond where it is missing, and kept for a minute), and
counts. wrk asks for pages by chance, 16 at a time. "dict" is cachelib's SimpleCache, one in each
worker: what is not shared draws each page four times, and counts wrongly. The others are shared.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import psutil

from ..core.progress import Progress
from ..core.results import Row
from ..core.scenario import Plot, Scenario, Setup, take_turns
from ..peers.server import PREFIX, Server
from .families import WEB

KINDS = {"dict": "cachelib", "diskcache.Cache": "diskcache", "redis": "redis", "shmmap": "shmmap"}
WORKERS, AT_ONCE, PAGES = 4, 16, 2_000
START_S = 30.0
ASK = """
request = function()
  return wrk.format("GET", "/" .. math.random({pages}))
end
"""
_LINE = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)$", re.M)
_NS = {"us": 1e3, "ms": 1e6, "s": 1e9}


class Web(NamedTuple):
    """A site under load, with one cache after the other."""

    name: str = "web"
    title: str = "a Flask site under gunicorn -w 4: requests, waits, CPU and memory by cache"
    quick: bool = False
    family: str = WEB
    plots: tuple[Plot, ...] = (Plot("", "requests a second", "", "per_s"),)

    def able(self, setup: Setup) -> list[str]:
        """List the caches that are asked for and can be had."""
        needed = ("flask", "gunicorn", "cachelib")
        if shutil.which("wrk") is None or not all(map(find_spec, needed)):
            return []
        asked = {peer.name for peer in setup.peers}
        return [kind for kind, module in KINDS.items() if kind in asked and find_spec(module)
                and (kind != "redis" or shutil.which("redis-server"))]

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return setup.scale.experiment_repetitions * len(self.able(setup))

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Load each site in turn."""
        seconds = 4 if setup.scale.patient else 1
        lanes = (Site(self.name, kind, seconds) for kind in self.able(setup))
        return take_turns(lanes, setup.scale.experiment_repetitions, progress)


class Site:
    """One site, its server running."""

    def __init__(self, scenario: str, kind: str, seconds: int) -> None:
        self.scenario, self.kind, self.seconds = scenario, kind, seconds
        self.samples: dict[str, list[float]] = {}
        self.facts: dict[str, object] = {"workers": WORKERS, "at_once": AT_ONCE, "pages": PAGES}
        self.problem = ""
        self._exits = ExitStack()
        self._store: Server | None = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/dev/shm"))
        self._exits.callback(shutil.rmtree, folder, ignore_errors=True)
        source = Path(__file__).parent.parent / "load" / "flask_site.py"
        shutil.copy(source, folder / "site_app.py")
        (folder / "ask.lua").write_text(ASK.replace("{pages}", str(PAGES)))
        where = str(folder / "cache")
        if self.kind == "redis":
            self._store = Server(lambda path: [
                "redis-server", "--port", "0", "--unixsocket", path, "--save", "",
            ])
            self._exits.callback(self._store.stop)
            where = self._store.socket
        elif self.kind == "shmmap":
            import shmmap

            where = folder.name
            self._exits.callback(shmmap.unlink, where, missing_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        path = os.pathsep.join(entry for entry in sys.path if entry and Path(entry).name != "bench")
        self.server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-w", str(WORKERS), "--log-level", "error", "-b",
             f"127.0.0.1:{self.port}", "site_app:app"],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "SITE_CACHE": self.kind, "SITE_WHERE": where, "PYTHONPATH": path},
        )
        self._exits.callback(self._end_server)
        give_up = time.monotonic() + START_S
        while not self._answers():
            if self.server.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"the site with {self.kind} does not start")
            time.sleep(0.05)
        self._load(self.seconds)  # every worker has its imports and most pages

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _load(self, seconds: int) -> str:
        done = subprocess.run(
            ["wrk", "--latency", "-t1", f"-c{AT_ONCE}", f"-d{seconds}s", "-s",
             str(self.folder / "ask.lua"), f"http://127.0.0.1:{self.port}"],
            capture_output=True, text=True, timeout=seconds + START_S,
        )
        return done.stdout

    def _processes(self) -> list[psutil.Process]:
        """List the workers, and the store's server."""
        found = psutil.Process(self.server.pid).children()
        if self._store is not None and self._store.pid is not None:
            found.append(psutil.Process(self._store.pid))
        return found

    def repeat(self, number: int) -> None:
        """Load it for a while."""
        processes = self._processes()
        before = sum(sum(process.cpu_times()[:2]) for process in processes)
        said = self._load(self.seconds)
        used = sum(sum(process.cpu_times()[:2]) for process in processes) - before
        total = int(re.search(r"(\d+) requests in", said)[1])  # type: ignore[index]
        if "Non-2xx" in said or "Socket errors" in said:
            self.problem = next(line.strip() for line in said.splitlines()
                                if "Non-2xx" in line or "Socket errors" in line)
        waits = {percent: float(value) * _NS[unit] for percent, value, unit in _LINE.findall(said)}
        workers = psutil.Process(self.server.pid).children()
        memory = sum(worker.memory_full_info().uss for worker in workers) / len(workers)
        figures = {
            "per_s": total / self.seconds, "p50_ns": waits["50"], "p99_ns": waits["99"],
            "cpu_us": used / total * 1e6, "bytes": memory,
        }
        for figure, value in figures.items():
            self.samples.setdefault(figure, []).append(round(value, 1))

    def row(self) -> Row:
        """Return what was found."""
        return Row.of(self.scenario, self.kind, self.samples, self.problem, facts=self.facts)

    def _end_server(self) -> None:
        self.server.terminate()
        try:
            self.server.wait(5)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()

    def close(self) -> None:
        """End the server, remove the store."""
        self._exits.close()


SCENARIOS: tuple[Scenario, ...] = (Web(),)
