"""The long run: `python -m tests.foreign [part of a line ...]`, as root.

Every object of ours x every deed of another user x the modes of a map, names taken beforehand,
processes, and a /dev/shm that is full. Prints counts, and every surprise; 1 if there is any.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from . import deeds, world


def encounters() -> Iterator[tuple[int, str, str, Any, bool]]:
    """List them all: mode, object, deed, what is done, and whether before ours comes."""
    roles = world.roles()
    names = [role for role in roles if "NONCE" not in role]  # what can be foretold
    for mode in (0o600, 0o660, 0o666):
        for role in roles:
            for deed, work in deeds.FILE_DEEDS.items():
                yield mode, role, deed, work, False
        for name in names:
            for deed, work in deeds.NAME_DEEDS.items():
                yield mode, name, deed, work, True
        for deed, work in deeds.PROCESS_DEEDS.items():
            yield mode, "process", deed, work, False
        yield mode, "folder", "fill", deeds.fill, False


def main(wanted: list[str]) -> int:
    """Have every encounter whose line holds all that is wanted."""
    started, counts = time.monotonic(), Counter[str]()
    tried, found = world.try_everything_closed()
    print("".join(f"SURPRISE {one}\n" for one in found), end="", flush=True)
    for mode, about, deed, work, before in encounters():
        line = f"0o{mode:o} {about} {deed}"
        if not all(part in line for part in wanted):
            continue
        done, surprises = world.meet(mode, about, deed, work, before)
        counts["done" if done == "done" else "refused"] += 1
        for one in surprises:
            print(f"SURPRISE {one}", flush=True)
        found += surprises
    print(f"{counts.total() + tried:,} encounters ({tried:,} of them with a private map at once), "
          f"{counts['done']:,} deeds done, {counts['refused']:,} refused; {len(found)} surprises; "
          f"{time.monotonic() - started:.0f} s")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
