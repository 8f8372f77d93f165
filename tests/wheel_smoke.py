"""What every wheel must do where it is installed: `python tests/wheel_smoke.py`.

Needs the installed package and nothing else, no pytest. It leaves nothing in /dev/shm.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import shmmap
from shmmap.tools.ui import page

NAME = f"wheel-{os.getpid()}"
PATIENCE_S = 120.0  # an emulated processor is slow

OTHER = """
import sys, shmmap
m = shmmap.ShmMap.attach(sys.argv[1])
assert m["from first"] == {"n": [1, 2.5, "three", None]}
m["from other"] = ("tuple", b"bytes", 2**70)
m.incr("visits", 10)
"""

VICTIM = """
import sys, shmmap
m = shmmap.ShmMap.attach(sys.argv[1])
while True:
    m.incr("endless")
    m["long"] = bytes(10_000)
"""


def run(program: str) -> subprocess.Popen[bytes]:
    """Start another Python that knows the map's name."""
    return subprocess.Popen([sys.executable, "-c", program, NAME], cwd="/")


def other_process(m: shmmap.ShmMap) -> None:
    """Exchange values with a process that was started, not forked."""
    m["from first"] = {"n": [1, 2.5, "three", None]}
    m.incr("visits")
    assert run(OTHER).wait(PATIENCE_S) == 0
    assert m["from other"] == ("tuple", b"bytes", 2**70)
    assert m["visits"] == 11


def forked(m: shmmap.ShmMap) -> None:
    """Write with several processes that inherited the map, all at once."""
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for _ in range(500):
                    m.incr("forked")
                m[number] = os.getpid()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0, 0, 0, 0], codes
    assert [m[number] for number in range(4)] == children
    assert m["forked"] == 2000


def killed(m: shmmap.ShmMap) -> None:
    """Kill writers in the midst of it: the others go on, and the map is sound."""
    for _ in range(3):
        before = m.get("endless", 0)
        victim = run(VICTIM)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while m.get("endless", 0) < before + 20:
                assert victim.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            victim.kill()
        assert victim.wait(PATIENCE_S) == -signal.SIGKILL
        m["after"] = m.incr("endless")
        assert m["after"] > before and m["long"] == bytes(10_000)
    assert m.check() == []


def main() -> None:
    """Run all of it."""
    wanted = os.environ.get("SHMMAP_ENGINE") or "compiled"
    assert wanted == shmmap.ENGINE, f"{shmmap.ENGINE} engine from {shmmap.__file__}"
    with shmmap.ShmMap(NAME, size="4MB") as m:
        try:
            other_process(m)
            forked(m)
            killed(m)
            with m.lock("a lock", timeout=1) as lock:
                assert lock.held
        finally:
            m.unlink()
    assert page.load().data.startswith(b"<!doctype html>")  # a file that is no module
    left = [file.name for file in Path("/dev/shm").iterdir() if NAME in file.name]
    assert not left, left
    print(f"shmmap {shmmap.__version__}, {shmmap.ENGINE}: works with Python "
          f"{sys.version.split()[0]} on {os.uname().machine}")


if __name__ == "__main__":
    main()
