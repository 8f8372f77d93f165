"""`shmmap.contrib.gunicorn` under a real gunicorn: the dead leave nothing, HUP keeps all."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmmap

pytest.importorskip("gunicorn")

LIMIT_S = 30.0
CONF = """
import os
workers = 2
{preload}
def child_exit(server, worker):
    print("my child_exit", flush=True)

from shmmap.contrib.gunicorn import share
share(globals(), os.environ["MAP"], size="1MB", sweep_interval=None, {options})
assert on_exit.__code__.co_argcount == 1 and child_exit.__code__.co_argcount == 2
"""
APP = """
import os, signal, time
import shmmap

m = shmmap.ShmMap(os.environ["MAP"])

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/die":
        m.lock("report").acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    text = f"{os.getpid()} {m.incr('requests')} {m.lock('report').locked()}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
"""


class Server:
    """A gunicorn on a unix socket, its master's pid known."""

    def __init__(self, folder: Path, name: str, preload: str, options: str) -> None:
        self.socket = folder / "g.sock"
        (folder / "app.py").write_text(APP)
        (folder / "gunicorn.conf.py").write_text(CONF.format(preload=preload, options=options))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-b", f"unix:{self.socket}", "app:app"],
            cwd=folder, env={**os.environ, "MAP": name}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )

    def get(self, path: str) -> str:
        """Return an answer's text; "" if there was none."""
        import socket

        connection = http.client.HTTPConnection("localhost", timeout=LIMIT_S)
        try:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(LIMIT_S)
            connection.sock.connect(str(self.socket))
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()

    def stop(self) -> str:
        """End it; return what it said."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.communicate(timeout=LIMIT_S)[0]
        finally:
            self.process.kill()
            self.process.wait()


def until(condition: Callable[[], Any]) -> Any:
    """Wait until it is so."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


@pytest.fixture
def name() -> Iterator[str]:
    name = f"hooks-{os.getpid()}"
    yield name
    shmmap.unlink(name, missing_ok=True)


@pytest.mark.parametrize("preload", ["", "preload_app = True"], ids=["forked", "preload"])
def test_a_killed_worker_is_cleaned_up_at_once_and_hup_keeps_all(
    tmp_path: Path, name: str, preload: str
) -> None:
    server = Server(tmp_path, name, preload, "ephemeral=True")
    said = ""
    try:
        until(lambda: server.get("/"))
        with shmmap.ShmMap.attach(name, sweep_interval=None) as m:
            server.get("/die")
            until(lambda: m.attachment.locks.count() == 0)  # nobody here has asked for the lock
            before = m["requests"]
            workers = set(m.stats().workers) - {server.process.pid, os.getpid()}
            server.process.send_signal(signal.SIGHUP)
            until(lambda: not workers & set(m.stats().workers))
        answer = until(lambda: server.get("/")).split()
        assert int(answer[1]) > before and answer[2] == "False"
        with shmmap.ShmMap.attach(name) as m:
            assert server.process.pid in m.stats().workers  # the master has it open
    finally:
        said = server.stop()
    assert "my child_exit" in said and "Traceback" not in said, said
    assert not [one for one in shmmap.maps() if one.name == name], said  # ephemeral: gone


def test_it_outlives_the_server_unless_told_otherwise(tmp_path: Path, name: str) -> None:
    server = Server(tmp_path, name, "", "")
    try:
        until(lambda: server.get("/"))
    finally:
        said = server.stop()
    with shmmap.ShmMap.attach(name) as m:
        assert m["requests"] >= 1 and m.stats().workers == (os.getpid(),), said


def test_without_a_map_gunicorn_does_not_start(tmp_path: Path, name: str) -> None:
    server = Server(tmp_path, name, "", 'shards=3')
    said, _ = server.process.communicate(timeout=LIMIT_S)
    assert server.process.returncode and "shards" in said
