"""Deeds while an interpreter ends: a process of its own, not a fork, which would not be finalized.

    exits.start(...) in the runner's process > this module's `run` in the new one
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import deeds
from .world import DONE, Report, World, word_of

TOP = Path(__file__).resolve().parents[2]
# The installed package comes before the checkout's: see CONTRIBUTING.md.
SCRIPT = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import shmmap
sys.path.insert(0, sys.argv[1])
from tests.reentry import exits
exits.run(*sys.argv[2:])
"""


def start(how: str, deed: str, name: str, report: Report, said: int) -> int:
    """Start the process; return its pid."""
    command = [sys.executable, "-c", SCRIPT, str(TOP), how, deed, name, str(report.file)]
    process = subprocess.Popen(
        command, cwd="/", stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        pass_fds=(report.file,), start_new_session=True,
    )
    process.returncode = 0  # whoever asked for it reaps it
    return process.pid


class Last:
    """A global of the program: it goes as the interpreter clears its modules."""

    def __init__(self, act: Any) -> None:
        self.act = act

    def __del__(self) -> None:
        self.act()


def wait_for_children(w: World) -> None:
    """Let the children of a deed end; one that waits for this process to close must not."""
    w.report.set_flag()
    executed = w.things.get("executed")
    for pid in w.children:
        if pid == executed:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def run(how: str, deed: str, name: str, file: str) -> None:
    """Open a map, arrange for the deed, and come to the end of the program."""
    import __main__

    w = World(name, Report(int(file)))
    w.parameters = {"size": "400KB", "shards": 2, "sweep_interval": None, "lock_timeout": 1.0}

    def act() -> None:
        w.closed = how != "exit, early"  # by the map's own callback
        word = DONE
        try:
            w.fire(deeds.BY_NAME[deed].act)
        except (Exception, SystemExit) as error:
            word = word_of(error)
        wait_for_children(w)
        w.tell(word)

    if how == "exit, late":
        atexit.register(act)
    w.box.append(w.open())
    w.choose_keys()
    w.begin({}, False)
    if how == "exit, early":
        atexit.register(act)
    if how == "exit, global":
        __main__.last = Last(act)  # type: ignore[attr-defined]
