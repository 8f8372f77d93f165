"""gunicorn serves pages that are cached in a map, whatever becomes of the map: no answer is 500."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmmap

APP = """
import os, shmmap

m = shmmap.ShmMap(NAME, size="400KB", shards=1, lock_timeout=0.2)

@shmmap.cached(m, ttl=60)
def page(number):
    return f"page {number} " * 100

def app(environ, start_response):
    kind, _, rest = environ["PATH_INFO"].strip("/").partition("/")
    if kind == "page":
        text = page(rest)
    elif kind == "session":
        text = m.get_or_set(rest, lambda: "a new session")
    elif kind == "clear":
        text = str(page.cache_clear())
    else:
        text = f"{os.getpid()} {page.cache_info().misses}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
"""
LIMIT_S = 30.0
Ask = Callable[[str], str]


@pytest.fixture
def ask(name: str, tmp_path: Path) -> Iterator[Ask]:
    """Have two workers of gunicorn serve the app, and return what asks them."""
    pytest.importorskip("gunicorn")
    (tmp_path / "served.py").write_text(APP.replace("NAME", repr(name)))
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{one.getsockname()[1]}"
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-w", "2", "-b", at, "served:app"],
            cwd=tmp_path, stdout=log, stderr=log,
            env={**os.environ, "PYTHONWARNINGS": "error:::shmmap"},
        )
        end = time.monotonic() + LIMIT_S

        def asked(path: str) -> str:
            while True:
                try:
                    with urllib.request.urlopen(f"http://{at}/{path}", timeout=LIMIT_S) as answer:
                        return str(answer.read().decode())
                except urllib.error.HTTPError as error:
                    raise AssertionError((tmp_path / "log").read_text()) from error
                except OSError:  # it does not listen yet
                    assert time.monotonic() < end, (tmp_path / "log").read_text()
                    time.sleep(0.1)

        try:
            yield asked
        finally:
            server.terminate()
            server.wait(LIMIT_S)


def right(ask: Ask, number: int) -> bool:
    """Tell whether a page is as it should be, whoever answers."""
    return all(ask(f"page/{number}") == f"page {number} " * 100 for _ in range(4))


def misses(ask: Ask) -> int:
    """Add up what the two workers have computed."""
    found: dict[str, int] = {}
    while len(found) < 2:
        pid, _, computed = ask("info").partition(" ")
        found[pid] = int(computed)
    return sum(found.values())


def test_no_answer_is_an_error(ask: Ask, name: str, start: Any) -> None:
    assert right(ask, 1) and misses(ask) == 1
    with shmmap.ShmMap.attach(name) as m:
        ask("clear")  # one worker is told, both know
        assert right(ask, 1) and misses(ask) == 2

        code = (
            "import sys, types, shmmap\n"
            "old = sys.modules['old'] = types.ModuleType('old')\n"
            "exec('class Session: pass', old.__dict__)\n"
            f"shmmap.ShmMap.attach({name!r})['ada'] = old.Session()"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd="/")
        assert {ask("session/ada") for _ in range(4)} == {"a new session"} == {m["ada"]}

        with pytest.raises(shmmap.MapFull):
            for number in range(10**5):
                m[number] = bytes(100)
        before = misses(ask)
        assert right(ask, 2) and misses(ask) == before + 4, "there was no room for it"
        m.clear()

        def hold(child: Any) -> None:
            lock = m.attachment.shards[0].lock
            m.get("nothing")
            assert lock.lock(m.attachment.worker.fork_page.word | 0x1234, 10**9) in (0, 1, 2)
            child.tell("held")
            time.sleep(1000)

        child = start(hold)
        assert child.hear() == "held"
        child.stop()
        assert right(ask, 3)
        child.kill()
        assert right(ask, 3)
        m.unlink()
    assert right(ask, 3) and right(ask, 4)
