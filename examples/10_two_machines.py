"""A web site on two machines, one redis, and a wire that is cut: what visitors see meanwhile.

    python examples/10_two_machines.py

Everything runs on this machine. Each of the two has a map of its own, two worker processes that
serve the same small site, and a wire to redis. Where this user is root a *machine* is a network
namespace with its own /dev/shm, and its wire a pair of virtual network cards; elsewhere the wire is
a small process that hands bytes on. To cut it is to take the card down, or to stop that process:
connections stay open, and nothing comes through, as when a cable is pulled.

A visitor of machine A sets a number ten times a second. Visitors of both ask for the page that
shows it, as fast as they can. The site reads with a bound of half a second. Each second a line
tells for each machine

    pages      how many pages there were
    oldest     how old the oldest number was: how long ago the next one had been acknowledged
    refused    how many visitors were told to come again (503) rather than shown something older

Machine B's wire is cut after 3 seconds and mended after 6. A never notices. B answers from its
copies within the bound, then refuses, and is back within a second of the mending.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import shmmap

BOUND_S = 0.5
CUT_S, MENDED_S, END_S = 3.0, 6.0, 9.0
START_S = 20.0  # for redis and both sites
PERIOD_S = 0.1  # of the writes
WORKERS = 2
VISITORS = 2  # at once, of each machine


# -- the site, as each machine has it -----------------------------------------------------------


def site(tier: shmmap.Tiered) -> Callable[..., Iterable[bytes]]:
    """Return a WSGI application: GET shows the number, POST sets it."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            if environ["REQUEST_METHOD"] == "POST":
                tier["number"] = int(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            page = b"%d" % tier.get("number", 0)
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [page]
        except shmmap.StoreUnavailable:
            start_response("503 Service Unavailable", [("Retry-After", "1")])
            return [b"come again\n"]

    return application


class Quiet(WSGIRequestHandler):
    """Writes no log, and takes a visitor who has no address."""

    def log_message(self, format: str, *args: object) -> None:
        """Do nothing."""

    def address_string(self) -> str:
        """Return a name."""
        return "visitor"


class Local(WSGIServer):
    """A server at a unix socket."""

    address_family = socket.AF_UNIX
    request_queue_size = 64

    def server_bind(self) -> None:
        """Bind, without looking up names."""
        self.socket.bind(self.server_address)  # type: ignore[arg-type]
        self.server_name, self.server_port = "local", 0
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Return a visitor."""
        return self.socket.accept()[0], ("visitor", 0)


def be_machine(path: str, store: str) -> None:
    """Serve the site at a path, by several workers that share a map, until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C ends the main program, and that stdin
    m = shmmap.ShmMap(f"example-two-{os.getpid()}", size="1MB", on_full="evict")
    tier = shmmap.Tiered(m, store, prefix="two:", max_staleness=BOUND_S, timeout=0.3)
    server = Local(path, Quiet)  # type: ignore[arg-type]
    server.set_app(site(tier))
    workers = []
    for _ in range(WORKERS):
        worker = os.fork()
        if not worker:
            run_to_the_end(server.serve_forever)
        workers.append(worker)
    sys.stdin.read()
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
    tier.close()
    m.unlink()


def run_to_the_end(work: Callable[..., None], *given: Any) -> NoReturn:
    """Do what a forked child is for. Nothing that its parent has begun ends with it."""
    try:
        work(*given)
    finally:
        os._exit(1)


# -- machines and wires --------------------------------------------------------------------------


class Namespace:
    """A machine that is a network namespace with a /dev/shm of its own; the wire is a network card.
    Redis is in a namespace of its own, too, so that it is nobody's else."""

    def __init__(self, number: int, hub: str, stack: contextlib.ExitStack) -> None:
        self.name = f"{hub}-{number}"
        self.hub = hub
        ip("netns", "add", self.name)
        stack.callback(self.close)
        ip("-n", self.name, "link", "add", "wire", "type", "veth", "peer", "name", f"to{number}",
           "netns", hub)
        ip("-n", hub, "address", "add", f"10.77.{number}.1/24", "dev", f"to{number}")
        ip("-n", hub, "link", "set", f"to{number}", "up")
        ip("-n", self.name, "address", "add", f"10.77.{number}.2/24", "dev", "wire")
        ip("-n", self.name, "link", "set", "wire", "up")
        self.store = f"redis://10.77.{number}.1:6379"
        self.inside = ["ip", "netns", "exec", self.name, "unshare", "--mount", "sh", "-c",
                       'mount -t tmpfs tmpfs /dev/shm; exec "$@"', "sh"]

    def cut(self) -> None:
        """Pull the cable."""
        ip("-n", self.name, "link", "set", "wire", "down")

    def mend(self) -> None:
        """Put it back."""
        ip("-n", self.name, "link", "set", "wire", "up")

    def close(self) -> None:
        """Remove the machine."""
        ip("netns", "delete", self.name)


def ip(*words: str) -> None:
    """Run a command that makes, changes or removes networks."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Pump:
    """A machine whose wire is a process that hands bytes on to redis."""

    inside: tuple[str, ...] = ()

    def __init__(self, number: int, redis: str, stack: contextlib.ExitStack) -> None:
        path = f"{redis}-wire{number}"
        self.store = f"unix://{path}"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            self.process = os.fork()
            if not self.process:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main program ends it
                run_to_the_end(carry, listening, redis)
        stack.callback(self.close)

    def cut(self) -> None:
        """Hand nothing on."""
        os.kill(self.process, signal.SIGSTOP)

    def mend(self) -> None:
        """Hand on what has come meanwhile, and all that follows."""
        os.kill(self.process, signal.SIGCONT)

    def close(self) -> None:
        """End the wire."""
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


def carry(listening: socket.socket, server: str) -> None:
    """Hand on what comes to the server, and back."""
    while True:
        near = listening.accept()[0]
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(server)
        except OSError:
            near.close()
            continue
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=pump, args=(one, other), daemon=True).start()


def pump(one: socket.socket, other: socket.socket) -> None:
    """Hand bytes on, one way."""
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_RDWR)


def wait_for(path: str, server: subprocess.Popen[bytes], log: str = os.devnull) -> None:
    """Wait until a server listens at a path, which is there a moment before that."""
    give_up = time.monotonic() + START_S
    with socket.socket(socket.AF_UNIX) as probe:
        while probe.connect_ex(path):
            if server.poll() is not None or time.monotonic() > give_up:
                with open(log) as lines:
                    said = lines.read()
                raise SystemExit(f"{said}{os.path.basename(path)} does not start: see above")
            time.sleep(0.01)


# -- visitors ------------------------------------------------------------------------------------


class Visit(http.client.HTTPConnection):
    """A connection to a site at a unix socket."""

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(self.host)


def visit(path: str, method: str = "GET", body: str | None = None) -> int | None:
    """Return the number that a page shows; None: come again."""
    connection = Visit(path)
    try:
        connection.request(method, "/", body)
        answer = connection.getresponse()
        return int(answer.read()) if answer.status == 200 else None
    finally:
        connection.close()


class Visitors:
    """The visitors of both machines, and what they have seen in each second."""

    def __init__(self, paths: list[str]) -> None:
        self.begin = time.monotonic()
        self.acked: dict[int, float] = {}  # when each number was acknowledged
        self.seen = [[Counter[str]() for _ in range(int(END_S) + 1)] for _ in paths]
        self.all: list[Future[None]] = []
        self.paths = paths

    def come(self, pool: ThreadPoolExecutor) -> None:
        """Begin, each in a thread."""
        self.all.append(pool.submit(self.set_numbers, self.paths[0]))
        for path, seen in zip(self.paths, self.seen, strict=True):
            self.all += [pool.submit(self.look, path, seen) for _ in range(VISITORS)]

    def leave(self) -> None:
        """Have them see that the time is over."""
        self.begin -= END_S

    def at(self) -> float:
        """Return the seconds since the beginning."""
        return time.monotonic() - self.begin

    def set_numbers(self, path: str) -> None:
        """Set the number again and again."""
        number = 0
        while self.at() < END_S:
            number += 1
            if visit(path, "POST", str(number)) is not None:
                self.acked[number] = self.at()
            time.sleep(PERIOD_S)

    def look(self, path: str, seen: list[Counter[str]]) -> None:
        """Ask for the page again and again."""
        while (began := self.at()) < END_S:
            number = visit(path)
            second = seen[int(began)]
            if number is None:
                second["refused"] += 1
                time.sleep(0.01)
                continue
            second["pages"] += 1
            age_ms = int((began - self.acked.get(number + 1, began)) * 1e3)
            second["oldest"] = max(second["oldest"], age_ms)


def watch(visitors: Visitors, wire: Namespace | Pump) -> int:
    """Print a line a second, cut and mend a wire; return how many seconds had too old a page."""
    print(f"{'second':>6}  {'wire of B':<10}" + "".join(
        f"{f'{name}: pages':>11}{'oldest':>9}{'refused':>9}   " for name in "AB"))
    is_cut, wrong = False, 0
    for second in range(int(END_S)):
        if is_cut is not (CUT_S <= second < MENDED_S):
            is_cut = not is_cut
            (wire.cut if is_cut else wire.mend)()
        while visitors.at() < second + 1:
            time.sleep(0.01)
        lines = [machine[second] for machine in visitors.seen]
        wrong += any(line["oldest"] > BOUND_S * 1e3 for line in lines)
        print(f"{second:>6}  {'cut' if is_cut else 'whole':<10}" + "".join(
            f"{line['pages']:>11,}{line['oldest']:>6} ms{line['refused']:>9,}   "
            for line in lines), flush=True)
    return wrong


# -- all of it -----------------------------------------------------------------------------------


def play(folder: str, program: str, stack: contextlib.ExitStack) -> int:
    """Start redis and both machines, and watch; return how many seconds had too old a page."""
    redis, hub = f"{folder}/redis", f"two{os.getpid()}"
    inside, listen = [], ["--port", "0"]
    add = ["ip", "netns", "add", hub]
    is_root = os.geteuid() == 0 and shutil.which("ip") and shutil.which("unshare")
    if is_root and subprocess.run(add, capture_output=True).returncode == 0:
        stack.callback(ip, "netns", "delete", hub)
        inside, listen = ["ip", "netns", "exec", hub], ["--protected-mode", "no"]
        machines: list[Namespace | Pump] = [Namespace(number, hub, stack) for number in (1, 2)]
        print("two network namespaces, and a third one for redis\n")
    else:
        machines = [Pump(number, redis, stack) for number in (1, 2)]
        print("two machines with a process as their wire (root has network namespaces)\n")
    log = f"{folder}/redis.log"
    with open(log, "w") as out:
        server = subprocess.Popen([*inside, program, *listen, "--unixsocket", redis, "--save", "",
                                   "--dir", folder], stdout=out, stderr=out)
    stack.callback(server.wait)
    stack.callback(server.kill)
    wait_for(redis, server, log)
    paths = [f"{folder}/site-{name}" for name in "AB"]
    sites = []
    for machine, path in zip(machines, paths, strict=True):
        site = subprocess.Popen([*machine.inside, sys.executable, __file__, "--machine", path,
                                 machine.store], stdin=subprocess.PIPE)
        stack.callback(site.communicate)  # it ends as its stdin does
        sites.append(site)
    for path, site in zip(paths, sites, strict=True):
        wait_for(path, site)
    visitors = Visitors(paths)
    with ThreadPoolExecutor(1 + VISITORS * len(paths)) as pool:
        try:
            visitors.come(pool)
            wrong = watch(visitors, machines[1])
        finally:
            visitors.leave()  # also where Ctrl+C has ended the watching
        for visitor in visitors.all:
            visitor.result()  # raises what ended a visitor before the end
    return wrong


def main() -> int:
    """Start a redis of our own, and play."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machine", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.machine:
        be_machine(*arguments.machine)
        return 0
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        print("this needs redis-server: apt-get install redis-server", file=sys.stderr)
        return 2
    try:
        import redis  # noqa: F401
    except ImportError:
        print("this needs redis's client: pip install redis", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            wrong = play(folder, program, stack)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    print(f"\npages older than the bound of {BOUND_S * 1e3:.0f} ms: "
          f"{'none' if not wrong else f'in {wrong} seconds'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
