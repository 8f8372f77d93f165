"""A process that ends leaves its maps open, and ends at once: as the interpreter goes down its
threads stand still, and to wait for one of them is in vain."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import shmmap

AT_ONCE_S = 1.5  # of a wait, where one was: 3 s for each map; an interpreter ends within 0.1 s
OPEN = "import shmmap, sys, threading, time\nm = shmmap.ShmMap(sys.argv[1], '1MB', shards=1)\n"
PROGRAMS = {
    "the sweeper waits": "m.set('a', 1, ttl=5)\ntime.sleep(0.6)\n",
    "so it does in two maps":
        "n = shmmap.ShmMap(sys.argv[1] + '-n', '1MB', shards=1)\n"
        "for each in (m, n): each.set('a', 1, ttl=5)\ntime.sleep(0.6)\n"
        "shmmap.ShmMap.attach(n.name).unlink()\nn = shmmap.ShmMap(sys.argv[1])\n",
    "in a cycle":
        "m.set('a', 1, ttl=5)\ntime.sleep(0.6)\nbox = [m]\nbox.append(box)\ndel m, box\n",
    "of a function that is cached":
        "@shmmap.cached(lambda: m, ttl=5)\ndef square(n): return n * n\n"
        "square(3)\ntime.sleep(0.6)\n",
    "a daemon computes a value":
        "def slow():\n    ready.set()\n    time.sleep(60)\nready = threading.Event()\n"
        "threading.Thread(target=m.get_or_set, args=('a', slow), daemon=True).start()\n"
        "ready.wait()\n",
    "a finalizer closes it":
        "class Closes:\n    def __del__(self): self.m.close()\n"
        "last = Closes()\nlast.m = m\nm.set('a', 1, ttl=5)\ntime.sleep(0.6)\n",
    "a daemon opens and closes it":
        "def again():\n    while True: shmmap.ShmMap(sys.argv[1]).close()\n"
        "threading.Thread(target=again, daemon=True).start()\ntime.sleep(0.1)\n",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_process_ends_at_once(name, program):
    code = OPEN + PROGRAMS[program] + "print('over', flush=True)\n"
    child = subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, cwd="/")
    try:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.readline() == "over\n", child.stderr.read()
        began = time.monotonic()
        assert child.wait(30) == 0
        took = time.monotonic() - began
    finally:
        child.kill()
        child.communicate()
        with shmmap.ShmMap(name) as m:
            m.unlink()
    assert took < AT_ONCE_S, took
