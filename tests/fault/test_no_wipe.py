"""A kernel, or an emulator of one, that takes MADV_WIPEONFORK and does nothing: forks by Python
are noticed all the same, and nobody takes itself for its parent."""

from __future__ import annotations

from ..support.programs import run_code

FORKS = """
import mmap, os, sys

class Deaf(mmap.mmap):
    def madvise(self, *advice):
        pass

mmap.mmap = Deaf
import shmmap
m = shmmap.ShmMap(sys.argv[1])
m["a"] = 1
mine = m.attachment.worker.fork_page.word
early = []
os.register_at_fork(after_in_child=lambda: early.append(m.get("a")))
for number in range(20):
    child = os.fork()
    if not child:
        m.incr("n")
        if number % 2:
            m.lock("l").acquire()
        rows = len(m.attachment.worker.rows_in_use())
        os._exit(m.attachment.worker.fork_page.word == mine or rows != 2)
    assert os.waitpid(child, 0)[1] == 0
assert m["n"] == 20 and m.check() == []
print("whole")
"""


def test_children_of_python_are_noticed_without_it(make):
    m = make(sweep_interval=None)
    name = m.name
    m.close()
    ran = run_code(FORKS, name)
    assert ran.stdout == "whole\n", ran.stdout + ran.stderr
