"""Greenlets of gevent and eventlet, patched before the import, after it, after the opening, and
in a forked child.

Each way of patching has a process of its own, since patches last; the programs run in it one after
the other. `worst` says for how long the hub was stopped at worst, without the time in which the
machine was busy otherwise: waiting must let the other greenlets go on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.engines import once

TESTS = Path(__file__).parents[1]

START = {
    "gevent": """
import gevent, sys, time
from gevent import monkey
def patch(): monkey.patch_all()
spawn, pause = gevent.spawn, gevent.sleep
def wait_all(tasks): gevent.joinall(tasks, raise_error=True)
""",
    "eventlet": """
import warnings; warnings.simplefilter("ignore")
import eventlet, sys, time
def patch(): eventlet.monkey_patch()
spawn, pause = eventlet.spawn, eventlet.sleep
def wait_all(tasks):
    for task in tasks: task.wait()
""",
}
BEGIN = """
when, name = sys.argv[1:3]
if when == "first": patch()
import shmmap
if when == "imported": patch()
options = dict(size="1MB", shards=1, sweep_interval=0.05, ttl=60, lock_timeout=2)
m = shmmap.ShmMap(name, **options)
m["opened"] = 1  # starts the sweeper
if when == "opened": patch()
if when == "forked":  # as a worker of gunicorn with --preload
    import os
    with m.lock("before", lease=30, auto_renew=True): m.get_or_set("before", int)
    del m["before"]
    pid = os.fork()
    if pid: os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    patch()
    m["opened"] = 1
clock = shmmap.memory._clock_cy.monotonic
sys.path.append(sys.argv[3])
from support.clocks import delayed_s
worst = [0.0]
def tick():
    before, delay = clock(), delayed_s()
    while ticking:
        pause(0.002)
        worst[0] = max(worst[0], clock() - before - (delayed_s() - delay))
        before, delay = clock(), delayed_s()
ticking = [1]
ticker = spawn(tick)
"""
END = """
import json
for label, program in json.loads(sys.argv[4]).items():
    m.clear(); m["opened"] = 1
    exec(compile(program, label, "exec"), dict(globals()))
    assert worst[0] < 1.0, f"{label}: the hub stood still for {worst[0]} s"
    print(label, flush=True)
ticking.clear(); wait_all([ticker])
m.unlink(); m.close()
"""
PROGRAMS = {
    "one computes and the others wait": """
calls, got = [], []
def page():
    calls.append(1); pause(0.1); return "page"
def request(): got.append(m.get_or_set("page", page, timeout=20))
wait_all([spawn(request) for _ in range(8)])
assert got == ["page"] * 8 and len(calls) == 1, (got, calls)
@shmmap.cached(m)
def square(n):
    calls.append(n); pause(0.1); return n * n
wait_all([spawn(lambda: got.append(square(3))) for _ in range(8)])
assert got[8:] == [9] * 8 and calls == [1, 3]
""",
    "a lock across greenlets": """
inside = []
def guarded(lock):
    for _ in range(3):
        with lock:
            assert lock.held and not inside
            inside.append(1); pause(0.01); inside.clear()
shared = m.lock("a", timeout=20)
wait_all([spawn(guarded, shared) for _ in range(4)]
         + [spawn(guarded, m.lock("a", timeout=20)) for _ in range(4)])
assert not shared.held and m.attachment.locks.count() == 0
""",
    "permits": """
inside, most = [0], [0]
def few(semaphore):
    for _ in range(3):
        with semaphore:
            inside[0] += 1; most[0] = max(most[0], inside[0]); pause(0.01); inside[0] -= 1
shared = m.semaphore("a", 2, timeout=20)
wait_all([spawn(few, shared) for _ in range(4)]
         + [spawn(few, m.semaphore("a", 2, timeout=20)) for _ in range(3)])
assert most == [2] and shared.held == 0 and m.attachment.locks.count() == 0, most
""",
    "a lock taken again, and a lease that is renewed": """
order, done = [], []
def again(number):
    with m.lock("a", timeout=20, lease=0.3, auto_renew=True, reentrant=True) as outer:
        order.append(number)
        with m.lock("a", timeout=20, reentrant=True) as inner:
            pause(0.5); assert inner.token == outer.token and inner.held
        assert order[-1] == number
    done.append(number)
wait_all([spawn(again, number) for number in range(3)])
assert sorted(done) == [0, 1, 2]
""",
    "timeouts and re-entry": """
said, held = [], []
def holder():
    with m.lock("a"):
        held.append(1)
        while "LockTimeout" not in said: pause(0.01)
def waiter():
    while not held: pause(0.01)
    began = clock()
    try: m.lock("a", timeout=0.1).__enter__()
    except shmmap.LockTimeout: said.append("LockTimeout")
    assert 0.1 <= clock() - began < 5, clock() - began
def nested():
    with m.lock("b"):
        try: m.lock("b").acquire()
        except shmmap.Reentered: said.append("Reentered")
        with m.lock("c", timeout=5): pause(0.01)
def own():
    try: m.get_or_set("k", lambda: m.get_or_set("k", lambda: 1))
    except shmmap.Reentered: said.append("Reentered")
wait_all([spawn(holder), spawn(waiter), spawn(nested), spawn(own)])
assert sorted(said) == ["LockTimeout", "Reentered", "Reentered"], said
""",
    "a test replaces time.sleep": """
from unittest import mock
held, done = [], []
def holder():
    with m.lock("a"):
        held.append(1); pause(0.2)
def waiter():
    while not held: pause(0.01)
    with m.lock("a", timeout=20): done.append(1)
with mock.patch("time.sleep", side_effect=AssertionError("no sleeping in tests")):
    wait_all([spawn(holder)] + [spawn(waiter) for _ in range(3)])
assert len(done) == 3
""",
    "a greenlet releases what another took, and one is killed in the block": """
lock = m.lock("a")
wait_all([spawn(lock.acquire)])
assert lock.held
lock.release()
def block():
    with m.lock("a"): pause(60)
one = spawn(block)
pause(0.05)
assert m.attachment.locks.count() == 1
one.kill()
pause(0.01)
with m.lock("a", timeout=5): pass
""",
    "snapshots, and opening and closing": """
seen = []
for number in range(200): m[number] = number
def shot():
    for _ in range(5): seen.append(len(m.snapshot())); pause(0)
def open_it():
    for _ in range(10):
        with shmmap.ShmMap(name) as other:
            pause(0.001); assert other["opened"] == 1
wait_all([spawn(shot) for _ in range(2)] + [spawn(open_it) for _ in range(3)])
assert seen == [201] * 10, seen
""",
    "sweeps go on": """
background = m.attachment.sweeper._background
until = clock() + 20
while not m.attachment.sweeper.is_running():  # a greenlet starts with the next turn
    assert clock() < until; pause(0.01)
m.attachment.clock.frozen_ns = m.attachment.clock.now_ns() + 61 * 10**9
while m.stats().expired < 1:
    assert clock() < until, m.attachment.sweeper.trouble; pause(0.01)
assert m.attachment.sweeper.trouble is None
m.attachment.clock.frozen_ns = -1
began = clock()
other = shmmap.ShmMap(name + "-x", size="1MB", max_age=60, sweep_interval=3000)
pause(0.05)
other.unlink(); other.close()
assert clock() - began < 1.0, "closing waited for the sweeper's interval"
""",
    "threads beside greenlets": """
import os
child = os.fork()
if child == 0:
    m2 = shmmap.ShmMap(name)
    with m2.lock("t", timeout=20): time.sleep(0.3)
    os._exit(0)
while m.attachment.locks.count() == 0: pause(0.005)
with m.lock("t", timeout=20): pass
assert os.waitpid(child, 0)[1] == 0
""",
}


@pytest.mark.parametrize("when", [
    "first", pytest.param("imported", marks=once), pytest.param("opened", marks=once), "forked"])
@pytest.mark.parametrize("kind", sorted(START))
def test_greenlets(name, kind, when, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", START[kind] + BEGIN + END, when, name, str(TESTS),
         json.dumps(PROGRAMS)], capture_output=True, text=True, timeout=110, cwd=tmp_path,
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, list(PROGRAMS)), done.stderr[-3000:]
