"""How an interpreter may end, with maps open, locks held, and others waiting for them.

Scripts, each a whole interpreter: forked children of a test end without finalization.
"""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.children import Child
from ..support.shard0 import PURE

AT_ONCE_S = 1.0  # on a machine that has much else to do
LIMIT_S = 30.0

PROLOGUE = """
import atexit, os, signal, sys, threading, time
import shmmap
from shmmap.shard import _shard_cy
m = shmmap.ShmMap(sys.argv[1], lock_timeout=0.5)

def say(word):
    "Without the lock of sys.stdout: a daemon thread frozen inside it is fatal to any interpreter."
    os.write(1, f"{word}\\n".encode())

def hold():
    "Take shard 0's lock in the name of this thread, as an operation does."
    m.get("nothing")
    shard = m.attachment.shards[0]
    assert shard.lock.lock(m.attachment.worker.fork_page.word | 0x3000, 10**9) in (0, 1)

def hold_inside(act):
    "Pure engine: act in the middle of a change."
    original = _shard_cy.store
    def store(mem, at, value):
        original(mem, at, value)
        _shard_cy.store = original
        act()
    _shard_cy.store = store
    m["held"] = 2
"""


class Script:
    """A Python process outside the checkout; it says lines."""

    def __init__(self, text: str, name: str, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROLOGUE + text, name], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder,
        )

    def line(self) -> str:
        """Wait for the next line."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], LIMIT_S)[0], "no answer"
        return self.process.stdout.readline().strip()

    def end(self) -> tuple[int, str, str]:
        """Have it go on, and wait for its end: exit code, what it said last, its stderr."""
        said, errors = self.process.communicate("\n", timeout=LIMIT_S)
        return self.process.returncode, said.strip(), errors


@pytest.fixture
def script(name: str, tmp_path: Path) -> Iterator[Callable[[str], Script]]:
    """script(text): start a process that has the test's map open as `m`."""
    started: list[Script] = []

    def run(text: str) -> Script:
        started.append(Script(text, name, tmp_path))
        return started[-1]

    yield run
    for one in started:
        one.process.kill()
        one.process.communicate(timeout=LIMIT_S)


@pytest.fixture
def filled(make: Callable[..., Any]) -> Any:
    """The test's map: one shard, some entries."""
    m = make(size="600KB", shards=1, lock_timeout=20.0)
    m.update({f"k{i}": bytes(i) for i in range(50)}, held=1)
    return m


WAYS = {
    "os._exit": ("os._exit(3)", 3),
    "sys.exit": ("sys.exit(3)", 3),
    "end of script": ("", 0),
    "unhandled": ("raise RuntimeError('unhandled')", 1),
    "os.abort": ("os.abort()", -signal.SIGABRT),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "SIGSEGV": ("os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
    "in a thread": ("threading.Thread(target=os._exit, args=(3,)).start(); time.sleep(9)", 3),
}


def wait_for_lock(child: Child, m: Any) -> tuple[float, float]:
    """Write once; tell when it began and when it was done."""
    m.get("nothing")
    child.tell("waiting")
    m["after"] = 1
    return time.monotonic(), m["after"]


@pytest.mark.parametrize("way", WAYS)
def test_an_exit_with_the_lock_while_others_wait(filled, script, start, way):
    """However it ends, two waiters go on at once, and nothing is left of it."""
    act, code = WAYS[way]
    holder = script(f"hold(); say('held'); sys.stdin.readline(); say(time.monotonic()); {act}")
    assert holder.line() == "held"
    waiters = [start(lambda child: wait_for_lock(child, filled)) for _ in range(2)]
    for waiter in waiters:
        waiter.hear()
    time.sleep(0.05)  # let them wait in earnest
    ended, said, errors = holder.end()
    assert ended == code and "Fatal" not in errors, errors
    for waiter in waiters:
        done, _ = waiter.result()
        # finalization of an interpreter takes a while of its own
        assert done - float(said) < AT_ONCE_S + 0.5
        waiter.reap()
    assert filled.check() == [] and filled.stats().takeovers == 1
    filled.sweep()
    rows = filled.attachment.worker.rows_in_use()
    assert [row for row, _ in rows if row == filled.attachment.worker.row] and len(rows) == 1


@pytest.mark.skipif(not PURE, reason="only the pure engine runs Python code inside a change")
@pytest.mark.parametrize("way", WAYS)
def test_an_exit_inside_a_change(filled, script, way):
    """A handler or a traced line ends the process between two stores of a write."""
    act, code = WAYS[way]
    if way == "end of script":
        pytest.skip("nothing ends a script in the middle of a line")
    lines = f"def act():\n    say('inside'); {act}\nhold_inside(act)"
    ended, said, _ = script(lines).end()
    assert (ended, said) == (code, "inside")
    began = time.monotonic()
    filled["after"] = 1
    assert time.monotonic() - began < AT_ONCE_S
    assert filled["held"] in (1, 2) and filled.check() == []
    assert len(filled) == 52


@pytest.mark.parametrize("seed", range(3))
def test_death_by_a_timer_at_random(filled, script, seed):
    """A signal that nobody handles ends the process at any instruction."""
    text = (
        f"import random; rng = random.Random({seed}); say('ready')\n"
        "signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.01, 0.1))\n"
        "while True:\n    m['held'] = 2; m.incr('n'); m['big'] = bytes(50_000); m.delete('big')\n"
    )
    code, said, _ = script(text).end()
    assert (code, said) == (-signal.SIGALRM, "ready"), seed
    began = time.monotonic()
    filled["after"] = 1
    assert time.monotonic() - began < AT_ONCE_S, seed
    assert filled.check() == [] and filled["held"] in (1, 2), seed
    assert filled.get("big") in (None, bytes(50_000)), seed


# -- threads that are still at it ----------------------------------------------------------------


BUSY = """
def work():
    while True:
        m["big"] = bytes(50_000); m.incr("n"); m.get("k3"); list(m.items()); m.delete("big")

threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
threading.excepthook = lambda a: say(a.exc_type.__name__) if a.exc_type is not shmmap.MapClosed \
    else None
for thread in threads: thread.start()
time.sleep(0.1)
say("busy"); sys.stdin.readline()
"""


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("act", ["", "sys.exit(0)", "m.close()"])
def test_daemon_threads_in_the_middle_of_operations(filled, script, act, number):
    """The interpreter freezes them wherever they are: with a lock, or waiting for one."""
    process = script(BUSY + act)
    assert process.line() == "busy"
    began = time.monotonic()
    code, said, errors = process.end()
    assert (code, said) == (0, ""), errors
    assert "Fatal" not in errors and "Traceback" not in errors, errors
    assert time.monotonic() - began < 3
    began = time.monotonic()
    filled["after"] = 1
    assert time.monotonic() - began < AT_ONCE_S and filled.check() == []
    assert filled.get("big") in (None, bytes(50_000))


STUCK = {
    "with the lock": "hold()\n    say('stuck'); time.sleep(60)",
    "inside a change": "hold_inside(lambda: (say('stuck'), time.sleep(60)))",
    "waiting": "say('stuck'); m.incr('n')",
}


@pytest.mark.parametrize("where", STUCK)
def test_a_daemon_thread_that_is_stuck(filled, script, start, where):
    """An exit waits for it as long as `close` does: lock_timeout and a second; then its death
    frees what it had."""
    if where == "inside a change" and not PURE:
        pytest.skip("only the pure engine runs Python code inside a change")
    holder = None
    if where == "waiting":  # for a lock that a live process keeps
        holder = start(lambda child: hold_for_a_while(child, filled))
        holder.hear()
    process = script(
        f"def work():\n    {STUCK[where]}\n"
        "threading.excepthook = lambda a: None\n"
        "threading.Thread(target=work, daemon=True).start()\nsys.stdin.readline()"
    )
    assert process.line() == "stuck"
    began = time.monotonic()
    code, _, errors = process.end()
    assert code == 0 and "Fatal" not in errors, errors
    assert time.monotonic() - began < 0.5 + 1 + 1.5
    if holder is not None:
        holder.tell("enough")
        holder.result()
    began = time.monotonic()
    filled["after"] = 1
    assert time.monotonic() - began < AT_ONCE_S and filled.check() == []
    assert filled.stats().takeovers == (holder is None)


def hold_for_a_while(child: Child, m: Any) -> None:
    """Keep shard 0's lock until told."""
    m.get("nothing")
    lock = m.attachment.shards[0].lock
    assert lock.lock(m.attachment.worker.fork_page.word | 0x3000, 10**9) in (0, 1)
    child.tell("held")
    child.hear()
    lock.unlock()


# -- the order at exit ---------------------------------------------------------------------------


def test_atexit_callbacks_before_and_after_ours(filled, script):
    """What was registered before the first opening runs after our own, and can still write, as
    what was registered later can; nothing is left of a map that is opened there."""
    process = script(
        "def late():\n"
        "    m['late'] = 1; say('late')\n"
        "def early():\n"
        "    m['early'] = 1; say('early')\n"
        "    again = shmmap.ShmMap(sys.argv[1]); again['again'] = 1; say('again')\n"
        "atexit.register(late)\n"
        "atexit._run_exitfuncs() if 'now' in sys.argv else None\n"
        "atexit.unregister(shmmap.lifecycle.opening.leave_all)\n"
        "atexit.unregister(late)\n"
        "atexit.register(early)\n"
        "atexit.register(shmmap.lifecycle.opening.leave_all)\n"
        "atexit.register(late)\n"
    )
    code, said, errors = process.end()
    assert (code, said.split()) == (0, ["late", "early", "again"]), errors
    assert "Traceback" not in errors
    assert filled["late"] == filled["early"] == filled["again"] == 1
    filled.sweep()
    assert len(filled.attachment.worker.rows_in_use()) == 1


def test_maps_in_reference_cycles_and_globals_at_exit(filled, script):
    """Finalizers that use a map while the interpreter goes down do so, or get an error, but
    neither a crash nor a damaged map."""
    process = script(
        "import gc; gc.set_threshold(1 << 30)  # all of them end at exit, none before\n"
        "class Last:\n"
        "    def __init__(self): self.m, self.me = m, self\n"
        "    def __del__(self):\n"
        "        try: self.m['last'] = 1\n"
        "        except shmmap.MapClosed: pass\n"
        "keep = Last(); sys.keep = Last(); Last()\n"
    )
    code, said, errors = process.end()
    assert (code, said) == (0, ""), (said, errors)
    assert "Fatal" not in errors and "Traceback" not in errors, errors
    assert filled["last"] == 1 and filled.check() == []


LOGGING = """
import logging, sys, shmmap
m = shmmap.ShmMap(sys.argv[1])
class Keep(logging.Handler):
    def emit(self, record): self.last = record.getMessage()
    def close(self):
        m["last words"] = self.last
        super().close()
logging.getLogger().addHandler(Keep())
logging.warning("bye")
"""


def test_a_logging_handler_may_write_as_it_is_closed(make, name, tmp_path):
    """logging registered its end when it was imported, and swallows every ValueError there."""
    m = make()
    done = subprocess.run(
        [sys.executable, "-c", LOGGING, name], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "") and m["last words"] == "bye"
    assert m.sweep().dead_workers == 1
