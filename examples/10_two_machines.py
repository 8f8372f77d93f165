"""Two machines, one redis, and a wire that is cut: what each of them reads meanwhile.

    python examples/10_two_machines.py

Everything runs on this machine. A *machine* is a map of its own and two worker processes, whose
connections to redis go through a *wire*: a small process that hands bytes on. To cut the wire of
one machine is to stop that process: connections stay open, and nothing comes through, as when a
cable is pulled.

On machine A a number is written ten times a second, and when each was acknowledged is noted beside
redis. All workers read it as fast as they can, with a bound of half a second. Each second a line
tells for each machine

    reads      how many answers there were, and how many of them came from the store
    oldest     how old the oldest answer was: how long ago what replaced it had been acknowledged
    refused    how many reads raised StoreUnavailable rather than answer with something older

Machine B's wire is cut after 3 seconds and mended after 6. A never notices. B answers from its
copies within the bound, then refuses, and is back within a second of the mending.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
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
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import shmmap

BOUND_S = 0.5
CUT_S, MENDED_S, END_S = 3.0, 6.0, 9.0
PERIOD_S = 0.1  # of the writes


def carry(path: str, server: str) -> None:
    """Be a wire: hand on what comes to `path` to the server, and back."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    while True:
        near = listening.accept()[0]
        far = socket.socket(socket.AF_UNIX)
        far.connect(server)
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=pump, args=(one, other), daemon=True).start()


def pump(one: socket.socket, other: socket.socket) -> None:
    """Hand bytes on, one way."""
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_RDWR)


def work(machine: str, wire: str, begin: float, told: Queue[Any], acked: Any) -> None:
    """Read until the end; tell of each second."""
    m = shmmap.ShmMap(machine, size="1MB")
    with shmmap.Tiered(m, f"unix://{wire}", prefix="two:", max_staleness=BOUND_S,
                       timeout=0.3) as tier:
        second, seen, asked = 0, Counter[str](), 0
        oldest = 0.0
        while (now := time.monotonic() - begin) < END_S:
            if int(now) != second:
                seen["asked"] = tier.report().asked - asked
                told.put((machine, second, dict(seen), oldest))
                second, seen, oldest = int(now), Counter(), 0.0
                asked = tier.report().asked
            try:
                began = time.monotonic()
                number = tier.get("number", 0)
                seen["reads"] += 1
                if acked[number + 1]:
                    oldest = max(oldest, began - acked[number + 1])
            except shmmap.StoreUnavailable:
                seen["refused"] += 1
                time.sleep(0.01)
        told.put((machine, second, dict(seen), oldest))


def write(machine: str, wire: str, begin: float, acked: Any) -> None:
    """Write a number ten times a second."""
    m = shmmap.ShmMap(machine, size="1MB")
    with shmmap.Tiered(m, f"unix://{wire}", prefix="two:") as tier:
        number = 0
        while time.monotonic() - begin < END_S:
            number += 1
            tier["number"] = number
            acked[number] = time.monotonic()
            time.sleep(PERIOD_S)


def play(server: str, folder: Path) -> int:
    """Run it; return how many answers were older than the bound."""
    fork = multiprocessing.get_context("fork")
    names = {machine: f"example-two-{machine}-{os.getpid()}" for machine in "AB"}
    wires = {machine: str(folder / f"wire-{machine}") for machine in "AB"}
    told: Queue[Any] = fork.Queue()
    carriers = {
        machine: fork.Process(target=carry, args=(wires[machine], server), daemon=True)
        for machine in "AB"
    }
    for carrier in carriers.values():
        carrier.start()
    while not all(os.path.exists(wire) for wire in wires.values()):
        time.sleep(0.01)
    acked = fork.RawArray("d", int(END_S / PERIOD_S) + 10)  # when each number was acknowledged
    begin = time.monotonic()
    workers = [fork.Process(target=write, args=(names["A"], wires["A"], begin, acked))]
    workers += [fork.Process(target=work, args=(names[machine], wires[machine], begin, told, acked))
                for machine in "AABB"]
    for worker in workers:
        worker.start()
    try:
        print(f"{'second':>6}  {'wire of B':<10}{'A: reads':>11}{'asked':>7}{'oldest':>9}"
              f"{'refused':>9}   {'B: reads':>11}{'asked':>7}{'oldest':>9}{'refused':>9}")
        wrong = tell(names, told, begin, carriers["B"].pid)
    finally:
        os.kill(carriers["B"].pid, signal.SIGCONT)  # type: ignore[arg-type]
        for process in workers:
            process.join(10)
        for process in (*workers, *carriers.values()):
            process.kill()
            process.join()
        for name in names.values():
            shmmap.unlink(name, missing_ok=True)
    return wrong


def tell(names: dict[str, str], told: Queue[Any], begin: float, wire: int | None) -> int:
    """Print a line a second, and cut and mend the wire; return how many answers were too old."""
    is_cut, wrong = False, 0
    lines: dict[int, dict[str, list[Any]]] = {}
    for second in range(int(END_S)):
        while sum(len(one) for one in lines.get(second, {}).values()) < 4:
            with contextlib.suppress(Exception):  # nothing yet
                machine, at, seen, oldest = told.get(timeout=0.02)
                lines.setdefault(at, {}).setdefault(machine, []).append((seen, oldest))
            now = time.monotonic() - begin
            if is_cut is not (CUT_S <= now < MENDED_S):
                is_cut = not is_cut
                os.kill(wire, signal.SIGSTOP if is_cut else signal.SIGCONT)  # type: ignore[arg-type]
        text = f"{second:>6}  {'cut' if CUT_S <= second < MENDED_S else 'whole':<10}"
        for machine in "AB":
            both = lines[second][names[machine]]
            total = Counter[str]()
            for seen, _ in both:
                total.update(seen)
            oldest = max(oldest for _, oldest in both)
            wrong += oldest > BOUND_S
            text += (f"{total['reads']:>11,}{total['asked']:>7,}{oldest * 1e3:>6.0f} ms"
                     f"{total['refused']:>9,}   ")
        print(text.rstrip(), flush=True)
    return wrong


def main() -> int:
    """Start a redis of our own, and play."""
    argparse.ArgumentParser(description=__doc__,
                            formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        print("this needs redis-server: apt-get install redis-server", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/redis"
        server = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            while not os.path.exists(path):
                time.sleep(0.01)
            wrong = play(path, Path(folder))
        finally:
            server.kill()
            server.wait()
    print(f"\nanswers older than the bound of {BOUND_S * 1e3:.0f} ms: "
          f"{'none' if not wrong else f'in {wrong} lines'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
