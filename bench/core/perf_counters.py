"""Processor counters of this process, where `perf stat` can read them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import cache

EVENTS = ("cycles", "cache-misses", "task-clock")  # the last in milliseconds of processor time
SETTLE_S = 0.3  # perf attaches meanwhile; this process sleeps, so nothing is counted
PATIENCE_S = 10.0
SEEN = 0.9  # of this process's time perf must have seen, or it came too late


def parse(text: str) -> dict[str, float]:
    """Read what `perf stat -x,` says; events that it cannot count are left out.

    >>> parse("123,,cycles,10,100.00,,\\n<not supported>,,cache-misses,0,100.00,,")
    {'cycles': 123.0}
    """
    lines = re.findall(r"^([0-9.]+),[^,]*,([a-z-]+)", text, re.MULTILINE)
    return {event: float(number) for number, event in lines}


def _perf() -> list[str]:
    return ["perf", "stat", "-x", ",", "-e", ",".join(EVENTS)]


@cache
def why_not() -> str:
    """Say why there are no counters; "": there are."""
    if shutil.which("perf") is None:
        return "no `perf` is installed"
    done = subprocess.run(
        [*_perf(), "true"], capture_output=True, text=True, timeout=PATIENCE_S,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode == 0 and set(EVENTS) <= parse(done.stderr).keys():
        return ""
    return "`perf stat` counts no cycles or cache misses on this machine"


def counted(work: Callable[[], object]) -> dict[str, float]:
    """Do some work of this thread; return its cycles and cache misses. {}: perf came too late."""
    with subprocess.Popen(
        [*_perf(), "-p", str(os.getpid())], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "LC_ALL": "C"},
    ) as perf:
        try:
            time.sleep(SETTLE_S)
            begin = time.process_time_ns()
            work()
            took_ms = (time.process_time_ns() - begin) / 1e6
            perf.send_signal(signal.SIGINT)
            found = parse(perf.communicate(timeout=PATIENCE_S)[1])
        finally:
            perf.kill()
    if found.pop("task-clock", 0.0) < SEEN * took_ms:
        return {}
    return found
