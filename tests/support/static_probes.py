"""Static probes (USDT): what a compiled file says of its own; gdb, to catch them as they fire."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from shmmap import _engine

from .programs import TOP

PROBES = {
    "lock__wait": ("operations._holding_cy", 4), "lock__timeout": ("operations._holding_cy", 4),
    "takeover": ("operations._holding_cy", 4), "repair": ("operations._holding_cy", 4),
    "evict": ("shard._removing_cy", 4), "sweep": ("operations._care_cy", 4),
}
"""By name: the module that a probe is in, and how many arguments it has."""
LIMIT_S = 60


class Note(NamedTuple):
    """A probe of an ELF file, with the address of its semaphore (0: none)."""

    provider: str
    name: str
    arguments: int
    semaphore: int


def file_of(module: str) -> Path:
    """Return the compiled file of a hot module."""
    source = Path(f"{_engine.path_of(module)}.py")
    return next(source.parent.glob(f"{source.stem}.*.so"))


def notes_of(file: Path) -> list[Note]:
    """List the probes of a 64-bit ELF file of this machine, by the notes in its `.note.stapsdt`."""
    data = file.read_bytes()
    assert data[:5] == b"\x7fELF\x02"
    table, size, count, names = struct.unpack_from("=Q10xHHH", data, 40)
    heads = [struct.unpack_from("=IIQQQQ", data, table + size * n) for n in range(count)]
    found: list[Note] = []
    for name, _, _, _, offset, length in heads:
        start = heads[names][4] + name
        if data[start:data.index(b"\0", start)] == b".note.stapsdt":
            found += _notes(data[offset:offset + length])
    return found


def _notes(section: bytes) -> list[Note]:
    found, at = [], 0
    while at < len(section):
        owner, length, kind = struct.unpack_from("=III", section, at)
        body = at + 12 + -(-owner // 4) * 4
        assert section[at + 12:at + 12 + owner] == b"stapsdt\0" and kind == 3
        semaphore = struct.unpack_from("=QQQ", section, body)[2]
        provider, name, arguments = section[body + 24:body + length].split(b"\0")[:3]
        found.append(Note(provider.decode(), name.decode(), arguments.count(b"@"), semaphore))
        at = body + -(-length // 4) * 4
    return found


def why_no_gdb() -> str:
    """Say why gdb can catch nothing here; "": it can."""
    if not shutil.which("gdb"):
        return "gdb is missing"
    done = subprocess.run(["gdb", "-nx", "-batch", "-ex", "run", "true"], capture_output=True,
                          text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL)
    return "" if "exited normally" in done.stdout else f"gdb may not trace: {done.stderr.strip()}"


def caught(code: str, where: Path, *arguments: str) -> tuple[dict[str, list[list[int]]], str]:
    """Run code in an interpreter under gdb, with this checkout's `tests` at the end of its path.

    Returns, of each probe, the arguments that it had each time it fired; and what was printed.
    """
    script = ["set pagination off", "set breakpoint pending on", "set confirm off"]
    for name, (_, count) in PROBES.items():
        values = ", ".join(f"(long long)$_probe_arg{n}" for n in range(count))
        script += [f"break -probe-stap shmmap:{name}", "commands", "silent",
                   f'printf "FIRED {name}{" %lld" * count}\\n", {values}', "continue", "end"]
    (where / "script.gdb").write_text("\n".join([*script, "run"]) + "\n")
    (where / "program.py").write_text(f"import sys; sys.path.append({str(TOP)!r})\n{code}")
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-x", str(where / "script.gdb"), "--args", sys.executable,
         "-P" if sys.version_info >= (3, 11) else "-s", str(where / "program.py"), *arguments],
        capture_output=True, text=True, timeout=LIMIT_S, cwd="/", stdin=subprocess.DEVNULL,
        env={**os.environ, "DEBUGINFOD_URLS": ""},
    )
    assert "exited normally" in done.stdout, done.stdout + done.stderr
    found: dict[str, list[list[int]]] = {name: [] for name in PROBES}
    for name, values in re.findall(r"FIRED (\w+) ([-\d ]+)$", done.stdout, re.M):
        found[name].append([int(value) for value in values.split()])
    return found, done.stdout
