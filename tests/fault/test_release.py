"""A new release of a service asks for another map: gunicorn is told to load it (HUP), and no
answer is an error."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import shmmap

APP = """
import os, shmmap

RELEASE = 1
m = shmmap.ShmMap(NAME, size="1MB", ttl=500)

def app(environ, start_response):
    text = f"{RELEASE} {m.incr('visits')} {m.size} {m.default_ttl} {os.getpid()}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
"""
LIMIT_S = 30.0
Answer = tuple[int, int, int, float]  # release, visits, size, ttl
Ask = Callable[[], Answer]


class Service:
    """gunicorn with two workers."""

    def __init__(self, name: str, folder: Path) -> None:
        self._file = folder / "served.py"
        self._log = folder / "log"
        self._name = name
        self.release("")
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self._at = f"127.0.0.1:{one.getsockname()[1]}"
        with self._log.open("w") as log:
            self.server = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-w", "2", "-b", self._at, "served:app"],
                cwd=folder, stdout=log, stderr=log,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        self._number = 1

    def release(self, old: str, new: str = "") -> None:
        """Write a release."""
        text = APP.replace("NAME", repr(self._name))
        self._file.write_text(text.replace(old, new) if old else text)

    def deploy(self, old: str, new: str) -> None:
        """Have the workers replaced by those of a new release, and wait for it."""
        self._number += 1
        text = self._file.read_text()
        assert old in text
        self._file.write_text(text.replace(old, new).replace(
            f"RELEASE = {self._number - 1}", f"RELEASE = {self._number}"
        ))
        self.server.send_signal(signal.SIGHUP)
        end = time.monotonic() + LIMIT_S
        while [self.ask()[0] for _ in range(8)] != [self._number] * 8:
            assert time.monotonic() < end, self._log.read_text()
            time.sleep(0.05)

    def ask(self) -> Answer:
        """Ask once: any error is one of the test."""
        end = time.monotonic() + LIMIT_S
        while True:
            try:
                with urllib.request.urlopen(f"http://{self._at}/", timeout=LIMIT_S) as answer:
                    release, visits, size, ttl, _ = answer.read().decode().split()
                    return int(release), int(visits), int(size), float(ttl)
            except urllib.error.HTTPError as error:
                raise AssertionError(self._log.read_text()) from error
            except OSError:  # it does not listen yet
                assert time.monotonic() < end and self.server.poll() is None, self._log.read_text()
                time.sleep(0.05)

    def end(self) -> str:
        """End it; return its log."""
        self.server.terminate()
        self.server.wait(LIMIT_S)
        return self._log.read_text()


@pytest.fixture
def service(name: str, tmp_path: Path) -> Iterator[Service]:
    pytest.importorskip("gunicorn")
    served = Service(name, tmp_path)
    try:
        yield served
    finally:
        served.end()


def test_a_release_with_other_parameters(service, name):
    visits = service.ask()[1]
    assert service.ask() == (1, visits + 1, 10**6, 500.0)
    service.deploy('size="1MB", ttl=500', 'size="2MB", ttl=60')
    _, later, size, ttl = service.ask()
    assert later > visits + 2 and (size, ttl) == (10**6, 60.0), "the map as it is; its own ttl"
    service.deploy('size="2MB"', 'size="2MB", on_mismatch="replace"')
    _, last, size, _ = service.ask()
    assert last > later and size == 2 * 10**6
    assert service.ask()[1] == last + 1
    assert shmmap.ShmMap(name)["visits"] == last + 1
    assert "MapMismatchWarning" in service.end()


def test_a_map_that_is_unlinked_while_it_serves(service, name):
    assert service.ask()[1] >= 1
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-m", "shmmap", "unlink", name, "--yes"], capture_output=True,
            cwd="/", text=True, timeout=LIMIT_S, check=False,
        )
        assert done.returncode == 0, done.stderr
        assert [service.ask()[1] for _ in range(4)] == [1, 2, 3, 4]
    log = service.end()
    assert "goes on with the map that has the name now" in log
