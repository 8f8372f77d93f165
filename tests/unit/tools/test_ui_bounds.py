"""What clients of `shmmap ui` cannot do: be too many, take for ever, keep it from ending."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

import pytest

from shmmap.tools.ui import answers, head, server

from ...support.engines import once
from ...support.waiting import until
from .maps import LIMIT_S
from .serving import serve as serve

pytestmark = once


def threads_of_clients() -> int:
    """Count the threads that answer."""
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def test_too_many_clients(serve, monkeypatch):
    monkeypatch.setattr(server, "CONNECTIONS_AT_MOST", 4)
    serving = serve()
    silent = [socket.create_connection(serving.address) for _ in range(4)]
    until(lambda: len(serving.server._connections) == 4)
    before = threads_of_clients()
    for _ in range(10):
        with socket.create_connection(serving.address, timeout=LIMIT_S) as one, suppress(
            ConnectionError
        ):
            assert one.recv(1000).startswith(b"HTTP/1.0 503")
    assert threads_of_clients() <= before <= 4
    for one in silent:
        one.close()
    until(lambda: not serving.server._connections)
    assert serving.ask("/").status == 200


def test_too_many_pages(serve, make):
    serving = serve(make().name)
    streams = [serving.stream() for _ in range(server.STREAMS_AT_MOST)]
    answer = serving.ask("/figures")
    assert answer.status == 503 and answer.json() == {"problem": "too many pages are open"}
    assert serving.ask("/").status == 200  # all else goes on
    for stream in streams:
        stream.close()

    def is_let_in() -> bool:
        with suppress(AssertionError):
            serving.stream().close()
            return True
        return False

    until(is_let_in)


def test_a_page_that_is_closed_is_forgotten_between_two_looks(serve, make):
    serving = serve(make().name)
    serving.server.looker._interval_s = 3600.0
    for _ in range(3):
        stream = serving.stream()
        stream.next()
        stream.close()
    until(lambda: not serving.server._connections)


def test_one_who_says_nothing_keeps_nobody_waiting(serve, monkeypatch):
    monkeypatch.setattr(head, "SECONDS_AT_MOST", 0.3)
    serving = serve()
    with socket.create_connection(serving.address, timeout=LIMIT_S) as silent:
        silent.sendall(b"GET / HTTP/1.0\r\n")
        assert serving.ask("/").status == 200
        assert silent.recv(1000).startswith(b"HTTP/1.0 403") or silent.recv(1) == b""
    until(lambda: not serving.server._connections)


def test_one_who_says_a_byte_now_and_then(serve, monkeypatch):
    """The time is for all that it says, not for each byte."""
    monkeypatch.setattr(head, "SECONDS_AT_MOST", 0.5)
    serving = serve()
    began = time.monotonic()
    with socket.create_connection(serving.address, timeout=LIMIT_S) as slow, suppress(OSError):
        while time.monotonic() < began + LIMIT_S:
            slow.sendall(b"G")
            slow.settimeout(0.05)
            with suppress(TimeoutError):
                if not slow.recv(1000):
                    break
    assert time.monotonic() - began < 10
    until(lambda: not serving.server._connections)


def test_one_who_says_very_much(serve):
    serving = serve()
    with socket.create_connection(serving.address, timeout=LIMIT_S) as long, suppress(OSError):
        long.sendall(b"GET / HTTP/1.0\r\n")
        for _ in range(2000):
            long.sendall(b"a: " + b"x" * 1000 + b"\r\n")
    until(lambda: not serving.server._connections)
    assert serving.ask("/").status == 200


def test_one_who_does_not_read(serve, make, monkeypatch):
    """Its thread ends, and what it was not sent is not kept."""
    monkeypatch.setattr(answers, "SLOWEST_S", 0.3)
    monkeypatch.setattr(head, "SECONDS_AT_MOST", 3 * LIMIT_S)  # the time for a question is another
    serving = serve(make(shards=64).name)
    serving.server.looker._interval_s = 0.0
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    slow.connect(serving.address)
    with slow:
        path = serving.path("/figures", map=serving.server.names[0])
        slow.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        until(lambda: serving.server._connections)
        until(lambda: not serving.server._connections)
    stream = serving.stream()
    assert stream.next()["maps"]
    stream.close()


@pytest.mark.parametrize("doing", ["streams", "silent"])
def test_it_ends_whatever_its_clients_do(serve, make, doing):
    serving = serve(make().name)
    serving.server.looker._interval_s = 3600.0
    clients = [socket.create_connection(serving.address, timeout=LIMIT_S) for _ in range(5)]
    for client in clients:
        said = f"GET {serving.path('/figures')} HTTP/1.0\r\nHost: localhost\r\n\r\n"
        client.sendall(said[:None if doing == "streams" else 10].encode())
    until(lambda: len(serving.server._connections) == 5)
    began = time.monotonic()
    serving.close()
    assert time.monotonic() - began < 2 and not serving.server._connections
    until(lambda: not threads_of_clients())
    for client in clients:
        client.close()
