"""Hooks of the application that use a map in a forked child, before and after ours: what they begin
is the child's, once."""

from __future__ import annotations

import pytest

from ..support.programs import run_code

HOOK = """
import os, sys
state = {}
def hook():
    if "m" in state:
        state["m"].incr("hooks")
        state["lock"] = state["m"].lock("L")
        state["lock"].acquire()
        state["word"] = state["m"].attachment.worker.fork_page.word
when = sys.argv[2]
if when == "before": os.register_at_fork(after_in_child=hook)
import shmmap
if when == "after": os.register_at_fork(after_in_child=hook)
m = state["m"] = shmmap.ShmMap(sys.argv[1])
m["n"] = 0
ready, go = os.pipe(), os.pipe()
if not os.fork():
    m.incr("n")
    is_one = m.attachment.worker.fork_page.word == state["word"]
    os.write(ready[1], b"1")
    os.read(go[0], 1)
    os._exit(0 if is_one and state["lock"].held else 7)
os.read(ready[0], 1)
if m.lock("L", timeout=0.2).acquire():
    print("the lock of a living child was taken over")
os.write(go[1], b"1")
print(os.wait()[1], m["n"], m["hooks"])
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hook_uses_the_map_in_a_child(make, when):
    m = make()
    ended = run_code(HOOK, m.name, when)
    assert ended.stdout == "0 1 1\n", ended.stdout + ended.stderr
