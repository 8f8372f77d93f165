"""Maps of other processes, and what the command line says of them."""

from __future__ import annotations

import os
import re
import select
import struct
import subprocess
from pathlib import Path

import pytest

import shmmap
from shmmap import _engine
from shmmap.memory import layout
from shmmap.system import segment

K = layout.constants()
LIMIT_S = 60.0
OTHER = "pure" if shmmap.ENGINE == "compiled" else "compiled"
# A process that has the map open: tells what it sees after each line it is sent.
HOLDER = """
import sys, shmmap
m = shmmap.ShmMap(sys.argv[1], sweep_interval=None, **eval(sys.argv[2]))
m["held"] = 1
print("open", flush=True)
for line in sys.stdin:
    try:
        print(m.get(line.strip()), flush=True)
    except shmmap.ShmMapError as error:
        print(type(error).__name__, flush=True)
"""


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], LIMIT_S)[0], "no answer"
    return process.stdout.readline().strip()


def objects(name: str) -> list[Path]:
    """List every file of a map."""
    pattern = re.compile(rf"(sem\.)?shmmap\.{name}(\..*)?")
    return [p for p in Path(segment.SHM_DIRECTORY).iterdir() if pattern.fullmatch(p.name)]


def control_file(name: str) -> Path:
    return Path(segment.SHM_DIRECTORY + segment.control_name(name))


def poke(name: str, field: str, value: int, beyond: int = 0) -> None:
    """Overwrite one word of a control segment."""
    with control_file(name).open("r+b") as file:
        os.pwrite(file.fileno(), struct.pack("=Q", value), K[f"C_{field}"] + beyond)


def row_of(output: str, name: str) -> list[str]:
    return next(line for line in output.splitlines() if line.startswith(f"{name} ")).split()


needs_other_engine = pytest.mark.skipif(
    OTHER == "compiled" and len(_engine.compiled_modules()) < len(_engine.MODULES),
    reason="the compiled engine is not installed",
)
