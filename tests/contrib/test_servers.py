"""Servers and pools that fork, spawn and reload workers: each shares a map, and counts exactly.

The real thing each time: the application says who answered and what the map has counted, and a
worker is killed in the middle. (Not hypercorn: it ends as a whole when a worker is killed.)
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import psutil
import pytest

import shmmap

from ..support.engines import once

pytestmark = once  # the same with either engine

LIMIT_S = 40.0
REQUESTS = 60
ASGI = """
import os, signal
import shmmap
m = shmmap.ShmMap(os.environ["MAP"], size="1MB")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    if scope["path"] == "/die":
        os.kill(os.getpid(), signal.SIGKILL)
    async with m.lock("report"):
        text = f"{os.getpid()} {m.incr('requests')}".encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", str(len(text)).encode())]})
    await send({"type": "http.response.body", "body": text})
"""
WSGI = """
import os, signal
import shmmap
m = shmmap.ShmMap(os.environ["MAP"], size="1MB")

def app(environ, start_response):
    if environ["PATH_INFO"] == "/die":
        os.kill(os.getpid(), signal.SIGKILL)
    with m.lock("report"):
        text = f"{os.getpid()} {m.incr('requests')}".encode()
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return [text]

application = app
"""
BIN = Path(sys.executable).parent
SERVERS: dict[str, tuple[str, str, list[str]]] = {  # what it needs, the application, the command
    "uvicorn": ("uvicorn", ASGI, [
        sys.executable, "-m", "uvicorn", "--workers", "2", "--host", "127.0.0.1",
        "--port", "{port}", "app:app"]),
    "granian": ("granian", ASGI, [
        sys.executable, "-m", "granian", "--workers", "2", "--respawn-failed-workers",
        "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "app:app"]),
    "gunicorn": ("gunicorn", WSGI, [
        sys.executable, "-m", "gunicorn", "-w", "2", "-b", "127.0.0.1:{port}", "app:app"]),
    "uwsgi": ("uwsgi", WSGI, [
        str(BIN / "uwsgi"), "--http-socket", "127.0.0.1:{port}", "--processes", "2", "--master",
        "--die-on-term", "--need-app", "--wsgi-file", "app.py", "-H", sys.prefix]),
    "uwsgi, lazy-apps": ("uwsgi", WSGI, [
        str(BIN / "uwsgi"), "--http-socket", "127.0.0.1:{port}", "--processes", "2", "--master",
        "--die-on-term", "--need-app", "--wsgi-file", "app.py", "-H", sys.prefix, "--lazy-apps"]),
}


@pytest.fixture
def name() -> Iterator[str]:
    name = f"served-{os.getpid()}"
    yield name
    shmmap.unlink(name, missing_ok=True)


def ask(port: int, path: str = "/") -> str:
    """Return an answer's text; "": there was none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until it is so."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_shares_a_map_and_survives_its_workers(
    kind: str, tmp_path: Path, name: str
) -> None:
    needs, app, command = SERVERS[kind]
    if not (find_spec(needs) or (BIN / needs).exists()):
        pytest.skip(f"{needs} is not installed")
    (tmp_path / "app.py").write_text(app)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    with open(tmp_path / "log", "w+") as log:
        server = subprocess.Popen(
            [part.format(port=port) for part in command], cwd=tmp_path, stdout=log,
            stderr=subprocess.STDOUT, env={**os.environ, "MAP": name}, start_new_session=True,
        )
        try:
            until(lambda: ask(port), f"{kind}: {(tmp_path / 'log').read_text()}")
            answered, pids = 0, set()
            with shmmap.ShmMap.attach(name) as m:
                before = m["requests"]
                deadline = time.monotonic() + LIMIT_S
                # one worker may answer all, until the one that follows the killed one is there
                while answered < REQUESTS or len(pids) < 2:
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                    if answered == REQUESTS // 2:
                        ask(port, "/die")
                    answer = until(lambda: ask(port), f"{kind} does not answer any more")
                    pids.add(int(answer.split()[0]))
                    answered += 1
                # a request whose answer was lost with its worker may have been counted, too
                assert before + answered <= m["requests"] <= before + answered + 2
        finally:
            end(server, 3)
    with shmmap.ShmMap.attach(name) as m:
        assert m.check() == [] and m.lock("report").acquire(blocking=False)


def end(leader: subprocess.Popen[Any], patience_s: float) -> None:
    """End a server that leads a session, and what is left of its workers."""
    leader.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        leader.wait(patience_s)
    for process in _session(leader.pid):
        process.kill()
    leader.kill()
    leader.wait()


def _session(leader: int) -> list[psutil.Process]:
    """List the processes of a session of ours: a killed master leaves its workers."""
    found = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == leader:
                found.append(process)
    return found


# -- pools ---------------------------------------------------------------------------------

POOLS = """
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import shmmap


def count(name, number):
    with shmmap.ShmMap(name, size="1MB") as m:
        with m.lock("report"):
            m[number] = os.getpid()
        return m.incr("sum", number)


def main(kind, method, name):
    with shmmap.ShmMap(name, size="1MB") as m:
        if kind == "Pool":
            with get_context(method).Pool(2) as pool:
                pool.starmap(count, [(name, number) for number in range(30)])
        elif kind == "ProcessPoolExecutor":
            with ProcessPoolExecutor(2, get_context(method)) as executor:
                list(executor.map(count, [name] * 30, range(30)))
        elif kind == "joblib":
            import joblib
            joblib.Parallel(n_jobs=2)(joblib.delayed(count)(name, number) for number in range(30))
        else:  # a handle goes to a worker by pickle
            with get_context(method).Pool(2) as pool:
                pool.map(m.incr, ["sum"] * 435)
                assert sum(pool.map(m.__contains__, ["sum", "none"])) == 1
                assert pool.map(m.get, ["sum", "none"]) == [435, None]
            return
        assert len(m) == 31 and {m[number] for number in range(30)} - {os.getpid()}


if __name__ == "__main__":
    main(*sys.argv[1:])
"""
WAYS = [("joblib", "loky"), *((kind, method) for kind in ("Pool", "ProcessPoolExecutor", "handle")
                              for method in ("fork", "spawn", "forkserver"))]


@pytest.mark.parametrize(("kind", "method"), WAYS)
def test_pools(kind: str, method: str, tmp_path: Path, name: str) -> None:
    """As a program of its own: a spawned worker imports what it runs from there."""
    if kind == "joblib":
        pytest.importorskip("joblib")
    (tmp_path / "pools.py").write_text(POOLS)
    process = subprocess.Popen([sys.executable, "pools.py", kind, method, name], cwd=tmp_path,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        said = process.communicate(timeout=LIMIT_S)[1]
    finally:
        end(process, 0)
    assert process.returncode == 0, said
    with shmmap.ShmMap.attach(name) as m:
        assert m["sum"] == sum(range(30)) and m.check() == []


# -- queues --------------------------------------------------------------------------------

TASKS = """
import os
import celery
import shmmap

app = celery.Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
m = shmmap.ShmMap(os.environ["MAP"], size="1MB")

@app.task
def count(number):
    with m.lock("report"):
        m[number] = os.getpid()
    m.incr("sum", number)
"""


def test_celery_prefork(tmp_path: Path, name: str) -> None:
    pytest.importorskip("celery")
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "queue").mkdir()
    (tmp_path / "control").mkdir()
    environment = {**os.environ, "MAP": name}
    with open(tmp_path / "log", "w+") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool", "prefork",
             "-c", "2", "--without-mingle", "--without-gossip", "--without-heartbeat"],
            cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            send = "from tasks import count\nfor n in range(20): count.delay(n)"
            subprocess.run([sys.executable, "-c", send], cwd=tmp_path, env=environment, check=True,
                           timeout=LIMIT_S)
            with shmmap.ShmMap(name, size="1MB") as m:
                until(lambda: len(m) == 21, (tmp_path / "log").read_text())
                until(lambda: m["sum"] == sum(range(20)), "a task was not counted")
                assert {m[number] for number in range(20)} - {worker.pid, os.getpid()}
        finally:
            end(worker, 15)


def test_rq(tmp_path: Path, name: str) -> None:
    """RQ forks a work horse for each job: each is a worker of the map for a moment."""
    rq, redis = pytest.importorskip("rq"), pytest.importorskip("redis")
    program = which("redis-server") or which("valkey-server")
    if program is None:
        pytest.skip("there is no redis-server")
    path = tmp_path / "s"
    server = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        until(path.exists, "the server did not start")
        client = redis.Redis(unix_socket_path=str(path))
        queue = rq.Queue(connection=client)
        for number in range(6):
            queue.enqueue("jobs.count", name, number)
        (tmp_path / "jobs.py").write_text(
            "import os\nimport shmmap\n\ndef count(name, number):\n"
            "    m = shmmap.ShmMap(name, size='1MB')\n    m[number] = os.getpid()\n"
            "    return m.incr('sum', number)\n"
        )
        subprocess.run(
            [str(BIN / "rq"), "worker", "--burst", "--quiet", "--url", f"unix://{path}"],
            cwd=tmp_path, check=True, timeout=LIMIT_S, env={**os.environ, "PYTHONPATH": "."},
        )
        with shmmap.ShmMap(name, size="1MB") as m:
            assert m["sum"] == sum(range(6)) and len({m[number] for number in range(6)}) == 6
        client.close()
    finally:
        server.kill()
        server.wait()
