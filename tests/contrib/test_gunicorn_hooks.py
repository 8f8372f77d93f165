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

from ..support.engines import once

pytestmark = once  # the same with either engine

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
CHECKED = """
import os, pathlib, time
import shmmap

m = shmmap.ShmMap(os.environ["MAP"])   # of the size that the configuration says
assert m.stats().size_bytes < 2e6, m.stats()
m["checked"] = True
pathlib.Path("imported").touch()
while not os.path.exists("go"):
    time.sleep(0.02)

def app(environ, start_response):
    raise NotImplementedError
"""
DAEMON = """
import ctypes, os, pathlib, signal, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1)   # PR_SET_CHILD_SUBREAPER: the daemon is ours to wait for
subprocess.run([sys.executable, "-m", "gunicorn", "--daemon", "--pid", "pid", *sys.argv[1:]],
               check=True)
sys.stdin.read()
os.kill(int(pathlib.Path("pid").read_text()), signal.SIGTERM)
try:
    while True:
        os.waitpid(-1, 0)
except ChildProcessError:
    pass
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


def check(folder: Path, name: str, options: str, app: str, how: str) -> subprocess.Popen[str]:
    """Start gunicorn to check or print its configuration."""
    (folder / "app.py").write_text(app)
    (folder / "gunicorn.conf.py").write_text(CONF.format(preload="", options=options))
    return subprocess.Popen(
        [sys.executable, "-m", "gunicorn", how, "app:app"], cwd=folder,
        env={**os.environ, "MAP": name}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )


def is_there(name: str) -> bool:
    return any(one.name == name for one in shmmap.maps())


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
    assert not is_there(name), said  # ephemeral: gone


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


@pytest.mark.parametrize("how", ["--check-config", "--print-config"])
@pytest.mark.parametrize("options", ["", "fresh=True", "ephemeral=True, linger=600"])
def test_a_check_leaves_no_map(tmp_path: Path, name: str, how: str, options: str) -> None:
    """Though its application has one that the configuration was to make."""
    (tmp_path / "go").touch()
    process = check(tmp_path, name, options, CHECKED, how)
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0 and (tmp_path / "imported").exists(), said
    assert not is_there(name), said


def test_a_check_that_fails_leaves_no_map(tmp_path: Path, name: str) -> None:
    process = check(tmp_path, name, "", "1 / 0", "--check-config")
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1 and "ZeroDivisionError" in said and not is_there(name), said


@pytest.mark.parametrize("options", [
    "fresh=True", 'shards=8, on_mismatch="replace"', 'shards=8, on_mismatch="resize"', "shards=8"])
def test_a_check_leaves_a_map_that_is_there_as_it_is(
    tmp_path: Path, name: str, options: str
) -> None:
    (tmp_path / "go").touch()
    with shmmap.ShmMap(name, size="1MB", shards=4) as m:
        m["n"] = 1
        process = check(tmp_path, name, options, CHECKED, "--check-config")
        said, _ = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, said
        with shmmap.ShmMap.attach(name) as same:
            assert dict(m) == dict(same) == {"n": 1, "checked": True}
            assert same.attachment.geometry.shards == 4
            assert same.attachment.nonce == m.attachment.nonce


def test_a_check_leaves_a_map_that_another_process_has_opened_meanwhile(
    tmp_path: Path, name: str
) -> None:
    process = check(tmp_path, name, "", CHECKED, "--check-config")
    try:
        until((tmp_path / "imported").exists)
        with shmmap.ShmMap.attach(name) as m:
            (tmp_path / "go").touch()
            said, _ = process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0, said
            assert m.incr("n") == 1 and is_there(name)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("preload", ["", "preload_app = True"], ids=["forked", "preload"])
def test_a_fresh_map_is_new_for_a_master_and_kept_by_a_hup(
    tmp_path: Path, name: str, preload: str
) -> None:
    with shmmap.ShmMap(name, size="1MB") as former:
        former["requests"] = 1000
    server = Server(tmp_path, name, preload, "fresh=True")
    try:
        until(lambda: server.get("/"))
        with shmmap.ShmMap.attach(name) as m:
            assert 1 <= m["requests"] < 1000
            m["requests"] = 5000
            workers = set(m.stats().workers) - {server.process.pid, os.getpid()}
            server.process.send_signal(signal.SIGHUP)
            until(lambda: not workers & set(m.stats().workers))
            assert int(until(lambda: server.get("/")).split()[1]) > 5000
    finally:
        said = server.stop()
    assert "Traceback" not in said, said


def test_a_daemons_master_has_the_map_open(tmp_path: Path, name: str) -> None:
    """Not only the process that has read the configuration, which has ended long ago."""
    (tmp_path / "app.py").write_text("def app(environ, start_response): pass\n")  # opens none
    (tmp_path / "gunicorn.conf.py").write_text(CONF.format(preload="", options="ephemeral=True"))
    (tmp_path / "daemon.py").write_text(DAEMON)
    process = subprocess.Popen(
        [sys.executable, "daemon.py", "-b", f"unix:{tmp_path / 'd.sock'}", "app:app"],
        cwd=tmp_path, env={**os.environ, "MAP": name}, stdin=subprocess.PIPE,
    )
    try:
        until((tmp_path / "d.sock").exists)
        for n in range(2):  # of an ephemeral map, the first of these would have been the last
            with shmmap.ShmMap.attach(name) as m:
                assert m.incr("n") == 1 + n
                assert int((tmp_path / "pid").read_text()) in m.stats().workers
    finally:
        process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0 and not is_there(name)


def test_maps_of_one_name_in_two_namespaces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is looked after; the second one was once taken for the first."""
    from shmmap.contrib import gunicorn as hooks

    monkeypatch.setattr(hooks, "_shared", {})
    config: dict[str, Any] = {}
    try:
        for namespace in ("one", "two"):
            hooks.share(config, name, size="1MB", sweep_interval=None, namespace=namespace)
        config["nworkers_changed"](None, 1, None)
        assert {found.map.name for found in hooks._shared.values() if found.map is not None} == {
            f"one@{name}", f"two@{name}"}
        config["on_exit"](None)
        assert not hooks._shared
    finally:
        for namespace in ("one", "two"):
            shmmap.unlink(name, missing_ok=True, namespace=namespace)
