"""What a run ran on: figures mean nothing without it."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from pathlib import Path
from typing import Any

from .source_tree import revision, same_sources

SHM = Path("/dev/shm")


def describe_machine() -> dict[str, Any]:
    """Return hardware, kernel and Python; nothing that names the machine or its owner."""
    shm = os.statvfs(SHM)
    return {
        "cpu": cpu_model(),
        "cores": len(own_cores()),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "shm_bytes": shm.f_frsize * shm.f_blocks,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()} "
                  f"({platform.python_compiler()})",
        "load_average": load_average(),
    }


def own_cores() -> list[int]:
    """List the cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def cpu_model() -> str:
    """Return the processor's name as the kernel has it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def load_average() -> list[float]:
    """Return the load averages of 1, 5 and 15 minutes: above 0.5 others were running."""
    return [round(load, 2) for load in os.getloadavg()]


def describe_engine() -> dict[str, Any]:
    """Return the engine under test, its file, and the sources it comes from."""
    import shmmap
    from shmmap.shard import _shard_cy

    package = Path(shmmap.__file__).parent
    return {
        "version": shmmap.__version__,
        "engine": shmmap.ENGINE,
        # Relative: a report that is published should not tell where its author keeps things.
        "file": str(Path(_shard_cy.__file__).relative_to(package.parent)),
        "revision": revision(),
        "sources_as_in_checkout": same_sources(package),
    }


def engine_file() -> str:
    """Return the whole path of the engine's file, for the screen."""
    from shmmap.shard import _shard_cy

    return str(_shard_cy.__file__)


def timestamp() -> str:
    """Return the time in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def python_command() -> list[str]:
    """Return the arguments this run was started with; of files the name only, whoever's."""
    return ["python", "-m", "bench", *(Path(each).name for each in sys.argv[1:])]
