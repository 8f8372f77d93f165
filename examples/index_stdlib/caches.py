"""Where results can be kept: the peers that example 1 measures beside a shared map.

Each is used as its own documentation advises. All have the same few methods, and each worker gets
a cache with them: see `Cache`.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

Key = tuple[str, str]  # a module, and what of it
LEASE_S = 30.0  # of redis's locks: it cannot see that a holder died
PATIENCE_S = 20.0


class Unavailable(Exception):
    """A peer is not on this machine; says what is missing."""


class Cache:
    """Keeps results; made by the parent, sent to each worker.

    Attributes:
        name: what the table calls it.
        heals: True: a worker may die; those that live compute what it left undone.
        server: the process that has the results, if another one does.
    """

    name = ""
    heals = False
    server: int | None = None

    def open(self) -> None:
        """Begin to use it in a worker."""

    def take(self) -> int:
        """Return the number of the next piece of work: 0, 1, 2, ...; no worker gets the same."""
        raise NotImplementedError

    def get(self, key: Key) -> Any:
        """Return a result, or None."""
        raise NotImplementedError

    def get_or_set(self, key: Key, compute: Callable[[], Any]) -> Any:
        """Return a result; compute and keep it first where it is not there."""
        value = self.get(key)
        if value is None:  # another worker may be computing it: nobody knows
            value = compute()
            self.put({key: value})
        return value

    def put(self, results: dict[Key, Any]) -> None:
        """Keep results."""
        raise NotImplementedError

    def shared_bytes(self) -> int:
        """Count the memory that belongs to no process."""
        return 0

    def reports(self, keys: list[Key]) -> dict[Key, Any]:
        """Return those of these results that this process has, or can read."""
        return {key: value for key in keys if (value := self.get(key)) is not None}

    def remark(self) -> str:
        """Say what else is worth to know."""
        return ""

    def end(self) -> None:
        """Remove all of it; called by the parent."""


class Private(Cache):
    """A dict in each worker: what one computes, the others do not see."""

    name = "a cache per process"

    def __init__(self) -> None:
        self._results: dict[Key, Any] = {}
        self._taken = multiprocessing.Value("q", 0)
        self.get = self._results.get
        self.put = self._results.update

    def __reduce__(self) -> Any:
        return _private_of, (self._taken,)

    def take(self) -> int:
        return take(self._taken)


def _private_of(taken: Any) -> Private:
    made = Private()
    made._taken = taken
    return made


def take(taken: Any) -> int:
    """Count up. A worker killed in here would keep the lock; workers of these caches are not."""
    with taken.get_lock():
        taken.value += 1
        return int(taken.value) - 1


class ManagerDict(Cache):
    """A dict in a process of multiprocessing's, which answers one question after the other."""

    name = "Manager().dict()"

    def __init__(self) -> None:
        self._manager = multiprocessing.Manager()
        self.server = self._manager._process.pid
        self._results = self._manager.dict()
        self._taken = multiprocessing.Value("q", 0)

    def __getstate__(self) -> Any:
        return {**vars(self), "_manager": None}

    def take(self) -> int:
        return take(self._taken)

    def get(self, key: Key) -> Any:
        return self._results.get(key)

    def put(self, results: dict[Key, Any]) -> None:
        self._results.update(results)

    def end(self) -> None:
        self._manager.shutdown()


class Redis(Cache):
    """A server of redis's on a unix socket, without persistence; redis-py's lock, so that one
    worker computes a result."""

    name = "redis"

    def __init__(self) -> None:
        try:
            import redis
        except ImportError:
            raise Unavailable("its client is not installed: pip install redis") from None
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            raise Unavailable("no redis-server on the PATH: apt-get install redis-server")
        self._client: redis.Redis | None = None
        self._folder = tempfile.mkdtemp(prefix="index-stdlib-")
        self._socket = os.path.join(self._folder, "socket")
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start(program)
        except BaseException:
            self.end()
            raise

    def _start(self, program: str) -> None:
        command = [program, "--port", "0", "--unixsocket", self._socket, "--save", "",
                   "--appendonly", "no", "--daemonize", "no", "--dir", self._folder]
        if setpriv := shutil.which("setpriv"):  # so that it ends should this process be killed
            command = [setpriv, "--pdeathsig", "TERM", *command]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )
        self.server = self._process.pid
        give_up = time.monotonic() + PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise Unavailable(f"{program} does not start")
            time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self._socket) == 0

    def __getstate__(self) -> Any:
        return {**vars(self), "_process": None, "_client": None}

    def open(self) -> None:
        import redis

        self._client = redis.Redis(unix_socket_path=self._socket)

    def _connected(self) -> Any:
        if self._client is None:
            self.open()
        return self._client

    def take(self) -> int:
        return int(self._connected().incr("taken")) - 1

    def get(self, key: Key) -> Any:
        found = self._connected().get(":".join(key))
        return None if found is None else pickle.loads(found)

    def get_or_set(self, key: Key, compute: Callable[[], Any]) -> Any:
        value = self.get(key)
        if value is None:
            name = f"lock:{':'.join(key)}"
            with self._connected().lock(name, timeout=LEASE_S, sleep=0.005):
                value = super().get_or_set(key, compute)
        return value

    def put(self, results: dict[Key, Any]) -> None:
        self._connected().mset(
            {":".join(key): pickle.dumps(value, 5) for key, value in results.items()}
        )

    def end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
