"""The web app under real gunicorn: workers are killed under load, and the count stays exact."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import shmmap

from ..support.engines import once

pytestmark = once  # the same with either engine

EXAMPLES = Path(__file__).parents[2] / "examples"
ATTEMPT_S = 10.0  # an attempt without an answer for so long hangs
START_S = 30.0
LOAD_S = 60.0
WORKERS = 4
VARIANTS = [
    pytest.param(kind, preload, id=f"{kind}{'-preload' if preload else ''}")
    for kind in ("sync", "gthread") for preload in (False, True)
]
# with --preload the app, and shmmap, are imported before the worker patches
GREEN = [
    pytest.param(kind, preload, id=f"{kind}{'-preload' if preload else ''}")
    for kind in ("gevent",) for preload in (False, True)
]
SHARING_APP = """
import os, time
import shmmap

m = shmmap.ShmMap(os.environ["SHMMAP_EXAMPLE"] + "-pages", size="1MB", ttl=60, sweep_interval=0.1)

def app(environ, start_response):
    def draw():
        time.sleep(0.3)
        return str(m.incr("drawn"))
    text = m.get_or_set("page", draw, timeout=20)
    with m.lock("report", timeout=20):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
"""


# The map is opened, used and swept before the worker is forked, and patches.
USED_APP = """
import os, time
import shmmap

m = shmmap.ShmMap(os.environ["SHMMAP_EXAMPLE"] + "-pages", size="1MB", ttl=60, sweep_interval=0.05)
m["started"] = 1
with m.lock("start", lease=30, auto_renew=True):
    m.get_or_set("settings", lambda: "read")
time.sleep(0.2)
every = m.lock("every", timeout=20)

@shmmap.cached(m)
def square(n):
    time.sleep(0.1)
    m.incr("squared")
    return n * n

def app(environ, start_response):
    with m.semaphore("few", 2, timeout=20):
        time.sleep(0.02)
    with every, m.lock("again", timeout=20, reentrant=True):
        with m.lock("again", timeout=20, reentrant=True):
            time.sleep(0.005)
    with m.lock("leased", timeout=20, lease=5, auto_renew=True):
        m.snapshot()
    text = f"{m.get_or_set('settings', str)} {square(4)} {m.incr('requests') > 0}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
"""


def eventually(condition: Callable[[], Any], what: str, limit_s: float = START_S) -> Any:
    """Poll until a condition is true, and give it; fail when the time is up."""
    end = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {limit_s} s: {what}"
        time.sleep(0.005)
    return value


class Server:
    """A gunicorn with four workers on a loopback port of its own."""

    def __init__(
        self, name: str, kind: str, preload: bool, log: Path, app: str = "03_gunicorn_app:app",
        folder: Path = EXAMPLES,
    ) -> None:
        self.name = name
        self.log = log
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, log.open("wb") as out:
            self.port = listener.getsockname()[1]
            number = listener.fileno()
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "gunicorn", "-w", str(WORKERS), "-k", kind,
                    *(["--threads", "4"] if kind == "gthread" else []),
                    *(["--preload"] if preload else []),
                    "--bind", f"fd://{number}", "--graceful-timeout", "5",
                    "--worker-tmp-dir", str(log.parent), app,
                ],
                cwd=folder, env={**os.environ, "SHMMAP_EXAMPLE": name}, pass_fds=[number],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            )
        self.counts: Any = None

    def wait_until_up(self) -> None:
        """Wait for the app's first answer and for all workers."""
        try:
            eventually(lambda: self.process.poll() is not None or self.is_up(), "an answer")
            eventually(lambda: len(self.workers()) == WORKERS, "four workers", 10.0)
        except AssertionError as error:
            raise AssertionError(f"{error}; gunicorn said:\n{self.log.read_text()}") from None
        self.counts = shmmap.ShmMap.attach(f"{self.name}-counts")

    def is_up(self) -> bool:
        """Tell whether the app answers."""
        try:
            return self.get("/status").status == 200
        except OSError:
            return False

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection whose every wait has a limit."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=ATTEMPT_S)

    def get(self, path: str, client: str = "", number: Any = 1) -> Any:
        """Ask over a connection of its own, again if a dying worker drops it; the answer has its
        text as `text`."""
        for patience in (True, True, False):
            connection = self.connect()
            try:
                return ask(connection, path, client, number)
            except (ConnectionError, http.client.HTTPException):
                if not patience:
                    raise
            finally:
                connection.close()

    def workers(self) -> list[int]:
        """List the pids of the workers that live."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children()
            return [c.pid for c in children if c.status() != psutil.STATUS_ZOMBIE]
        return []

    def kill(self, pid: int) -> None:
        """Kill a worker: a child of this gunicorn, and nothing else."""
        child = psutil.Process(pid)
        assert child.ppid() == self.process.pid
        child.kill()
        eventually(lambda: pid not in self.workers(), f"the end of worker {pid}")

    def served(self) -> dict[int, int]:
        """Read how many attempts each worker began."""
        return {key[1]: n for key, n in self.counts.items() if key[0] == "served"}

    def stop(self) -> None:
        """End gunicorn by its pid, then whatever of it is left; remove the maps."""
        children = [psutil.Process(pid) for pid in self.workers() if psutil.pid_exists(pid)]
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        _, left = psutil.wait_procs(children, timeout=5)
        for child in left:
            child.kill()
        psutil.wait_procs(left, timeout=5)
        if self.counts is not None:
            self.counts.close()
        for part in ("pages", "counts"):
            with contextlib.suppress(shmmap.MapNotFound), \
                    shmmap.ShmMap.attach(f"{self.name}-{part}") as m:
                m.unlink()


def ask(connection: http.client.HTTPConnection, path: str, client: str, number: Any) -> Any:
    """Ask once and read the whole answer."""
    connection.request(
        "GET", path, headers={"X-Client": client, "X-Number": str(number)} if client else {}
    )
    answer: Any = connection.getresponse()
    answer.text = answer.read().decode()
    return answer


class Client(threading.Thread):
    """Sends its requests 1, 2, 3, ... and repeats each until it is acknowledged."""

    def __init__(self, server: Server, name: str, requests: int, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.server, self.requests = server, requests
        self.chance = random.Random(f"{seed} {name}")
        self.acknowledged = self.attempts = self.lost = self.counted_before = 0
        self.slowest_s = 0.0
        self.pages: dict[int, set[str]] = {}
        self.failure: BaseException | None = None
        self.must_end = threading.Event()

    def run(self) -> None:
        """Send them all."""
        connection = self.server.connect()
        try:
            for number in range(1, self.requests + 1):
                while not self.try_once(connection, number):
                    if self.must_end.is_set():
                        return
        except BaseException as error:
            self.failure = error
        finally:
            connection.close()

    def try_once(self, connection: http.client.HTTPConnection, number: int) -> bool:
        """Make one attempt; tell whether it was acknowledged. A lost connection is no answer;
        silence is a failure."""
        page = self.chance.randrange(8)
        self.attempts += 1
        began = time.monotonic()
        try:
            answer = ask(connection, f"/page/{page}", self.name, number)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException):
            self.lost += 1
            connection.close()
            return False
        finally:
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        assert answer.status == 200, answer.text
        self.pages.setdefault(page, set()).add(answer.text)
        self.counted_before += answer.headers["X-Counted"] == "before"
        self.acknowledged += 1
        return True


@pytest.fixture
def serve(name: str, tmp_path: Path) -> Iterator[Callable[[str, bool], Server]]:
    """Start the app: serve(kind, preload)."""
    started: list[Server] = []

    def start(kind: str, preload: bool) -> Server:
        started.append(Server(name, kind, preload, tmp_path / "gunicorn.log"))
        started[-1].wait_until_up()
        return started[-1]

    yield start
    for server in started:
        server.stop()


def load(server: Server, clients: int, requests: int, kills: int, seed: int) -> list[Client]:
    """Send requests from many clients at once, kill workers meanwhile, and wait for all."""
    print(f"load(clients={clients}, requests={requests}, kills={kills}, seed={seed})")
    chance = random.Random(seed)
    crowd = [Client(server, f"client-{n}", requests, seed) for n in range(clients)]
    total = clients * requests
    moments = sorted(chance.randrange(total // 10, total * 8 // 10) for _ in range(kills))
    end = time.monotonic() + LOAD_S
    for client in crowd:
        client.start()
    try:
        for moment in moments:
            while sum(c.acknowledged for c in crowd) < moment and any(c.is_alive() for c in crowd):
                assert time.monotonic() < end, "the load makes no progress"
                time.sleep(0.0005)
            workers = eventually(server.workers, "a living worker")
            server.kill(chance.choice(workers))
        for client in crowd:
            client.join(max(0.1, end - time.monotonic()))
    finally:
        for client in crowd:
            client.must_end.set()
    assert not [c.name for c in crowd if c.is_alive()], "requests hang"
    assert [c.failure for c in crowd if c.failure] == []
    return crowd


def check_counts(server: Server, crowd: list[Client]) -> None:
    """Compare the map with what the clients know."""
    for client in crowd:
        assert client.acknowledged == client.requests
        assert server.counts["client", client.name] == client.acknowledged
    acknowledged = sum(client.acknowledged for client in crowd)
    attempts = sum(client.attempts for client in crowd)
    state = json.loads(server.get("/status").text)
    assert state["requests"] == acknowledged
    # An attempt that got its answer was begun by a worker; one that got none may have been.
    assert acknowledged <= sum(server.served().values()) <= attempts
    assert attempts == acknowledged + sum(client.lost for client in crowd)
    assert max(client.slowest_s for client in crowd) < ATTEMPT_S
    assert server.counts.check() == []
    print(f"{attempts} attempts, {acknowledged} acknowledged, "
          f"{sum(client.counted_before for client in crowd)} of them counted by an earlier attempt")


@pytest.mark.parametrize(("kind", "preload"), VARIANTS)
def test_the_count_is_exact_with_workers_killed_under_load(
    serve: Callable[[str, bool], Server], kind: str, preload: bool
) -> None:
    server = serve(kind, preload)
    before = set(server.workers())
    crowd = load(server, clients=8, requests=40, kills=3, seed=random.randrange(10**6))
    check_counts(server, crowd)
    eventually(lambda: len(server.workers()) == WORKERS, "gunicorn replaces the dead")
    assert len(before - set(server.workers())) >= 1
    again = load_more(server, crowd)
    assert again["requests"] == sum(c.acknowledged for c in crowd) + len(crowd)


def load_more(server: Server, crowd: list[Client]) -> Any:
    """Count one more request of each client, by whichever workers there are now."""
    for client in crowd:
        answer = server.get("/page/1", client.name, client.requests + 1)
        assert (answer.status, answer.headers["X-Counted"]) == (200, "now")
    return json.loads(server.get("/status").text)


@pytest.mark.parametrize(("kind", "preload"), [*VARIANTS, *GREEN])
def test_undisturbed_the_plain_counter_is_exact_too(
    serve: Callable[[str, bool], Server], kind: str, preload: bool
) -> None:
    server = serve(kind, preload)
    crowd = load(server, clients=8, requests=25, kills=0, seed=1)
    check_counts(server, crowd)
    assert sum(c.lost + c.counted_before for c in crowd) == 0
    assert sum(server.served().values()) == 8 * 25
    for page in range(8):
        texts = set().union(*(c.pages.get(page, set()) for c in crowd))
        assert len(texts) == 1, f"page {page} came in {len(texts)} forms"


@pytest.mark.parametrize(("kind", "preload"), GREEN)
def test_greenlets_of_a_worker_wait_for_each_other(
    name: str, tmp_path: Path, kind: str, preload: bool
) -> None:
    """Requests that miss one page at once: it is drawn once, and nobody gets an error."""
    (tmp_path / "sharing.py").write_text(SHARING_APP)
    server = Server(name, kind, preload, tmp_path / "log", "sharing:app", tmp_path)
    try:
        eventually(lambda: len(server.workers()) == WORKERS, "four workers")
        answers: list[Any] = []
        crowd = [
            threading.Thread(target=lambda: answers.append(server.get("/"))) for _ in range(24)
        ]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        assert [(answer.status, answer.text) for answer in answers] == [(200, "1")] * 24, (
            server.log.read_text()
        )
    finally:
        server.stop()


@pytest.mark.parametrize(("kind", "preload"), GREEN)
def test_nobody_is_refused_where_the_map_was_used_before_the_patches(
    name: str, tmp_path: Path, kind: str, preload: bool
) -> None:
    (tmp_path / "used.py").write_text(USED_APP)
    server = Server(name, kind, preload, tmp_path / "log", "used:app", tmp_path)
    try:
        eventually(lambda: len(server.workers()) == WORKERS, "four workers")
        answers: list[Any] = []
        crowd = [
            threading.Thread(target=lambda: answers.append(server.get("/"))) for _ in range(24)
        ]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        assert [(answer.status, answer.text) for answer in answers] == (
            [(200, "read 16 True")] * 24
        ), server.log.read_text()
        with shmmap.ShmMap.attach(f"{name}-pages") as m:
            assert (m["squared"], m["requests"]) == (1, 24)
    finally:
        server.stop()


@pytest.mark.parametrize(("kind", "preload"), VARIANTS)
def test_the_cache_is_one_for_all_workers(
    serve: Callable[[str, bool], Server], kind: str, preload: bool
) -> None:
    """The worker that drew a page is killed, so that certainly another one serves it next.

    Which worker takes a connection is the kernel's choice: waiting for two would be luck.
    """
    server = serve(kind, preload)
    for page in range(5):  # a page expires after seconds, which a busy machine may take
        drawn = server.get(f"/page/{page}")
        assert drawn.headers["X-Cache"] == "miss"
        server.kill(int(drawn.headers["X-Worker"]))
        again = server.get(f"/page/{page}")
        assert again.headers["X-Worker"] != drawn.headers["X-Worker"]
        assert again.text == drawn.text
        if again.headers["X-Cache"] == "hit":
            return
    pytest.fail("no page outlived the worker that drew it")


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_a_request_counted_but_not_answered_is_not_counted_twice(
    serve: Callable[[str, bool], Server], kind: str
) -> None:
    """The worker is killed when the map shows the count, while it still draws the page."""
    server = serve(kind, False)
    landed = 0
    for number in range(1, 21):
        served = server.served()
        client = Client(server, "one", 1, number)
        connection = server.connect()
        client.chance.randrange = lambda _, page=number: page + 100  # type: ignore[assignment]
        acknowledged: list[bool] = []
        asking = threading.Thread(
            target=lambda c, k, n, a: a.append(c.try_once(k, n)),
            args=(client, connection, number, acknowledged), daemon=True,
        )
        asking.start()
        while server.counts.get(("client", "one"), 0) < number and asking.is_alive():
            time.sleep(0.0002)
        handler = [pid for pid, n in server.served().items() if n != served.get(pid, 0)]
        assert len(handler) == 1
        server.kill(handler[0])
        asking.join(2 * ATTEMPT_S)
        connection.close()
        assert acknowledged, "the request hangs, or failed otherwise than by a lost connection"
        answer = server.get("/page/1", "one", number)
        assert (answer.status, answer.headers["X-Counted"]) == (200, "before")
        assert server.counts["client", "one"] == number
        landed += not acknowledged[0]
        eventually(lambda: len(server.workers()) == WORKERS, "gunicorn replaces the dead")
        if landed == 3:
            return
    pytest.fail(f"only {landed} of 20 kills came between the count and the answer")


def test_wrong_requests_get_clear_answers_and_are_not_counted(
    serve: Callable[[str, bool], Server],
) -> None:
    server = serve("gthread", False)
    assert server.get("/page/1", "me", 1).headers["X-Counted"] == "now"
    for path, client, number, status, says in (
        ("/page/1", "me", 3, 409, "the next number of me is 2"),
        ("/page/1", "me", "-1", 400, "X-Number must be a whole number"),
        ("/page/1", "me", "", 400, "X-Number must be a whole number"),
        ("/page/one", "me", 2, 404, "the page must be a whole number"),
        ("/other", "me", 2, 404, "there are /page/N and /status"),
        ("/page/1", "k" * 3000, 1, 200, ""),
    ):
        answer = server.get(path, client, number)
        assert answer.status == status and says in answer.text
    assert server.counts["client", "me"] == 1


def test_the_counters_outlive_gunicorn(name: str, tmp_path: Path) -> None:
    """A second gunicorn goes on where the first one ended."""
    servers = []
    try:
        for number in (1, 2):
            servers.append(Server(name, "sync", False, tmp_path / f"{number}.log"))
            servers[-1].wait_until_up()
            assert servers[-1].get("/page/1", "me", number).headers["X-Counted"] == "now"
            if number == 1:
                servers[-1].process.terminate()
                assert servers[-1].process.wait(15) == 0
        assert servers[-1].counts["client", "me"] == 2
    finally:
        for server in servers:
            server.stop()
