"""One dict in two terminals. Run this in both at once, and watch each see the other:

    python examples/02_two_terminals.py [--seconds S] [--name NAME]

Each ticks five times a second: it counts up one shared counter, and renews a sign of life that
expires after two seconds. Kill one (Ctrl-C, or kill -9): it goes from the other's line, and
every tick that it counted stays. From a third terminal, in another directory:

    python -c "import shmmap; shmmap.ShmMap.attach('two-terminals')['note'] = 'hello'"

It ends by itself; the last one out removes the map.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

import shmmap

TICK_S = 0.2
SIGN_OF_LIFE_S = 2.0


def tick(m: Any, mine: int) -> str:
    """Count one tick, show a sign of life, and describe what is in the map."""
    total = m.incr("ticks")
    m.set(("here", os.getpid()), mine, ttl=SIGN_OF_LIFE_S)
    here = {
        key[1]: ticks for key, ticks in m.items() if isinstance(key, tuple) and key[0] == "here"
    }
    others = [f"{pid}: {ticks}" for pid, ticks in sorted(here.items()) if pid != os.getpid()]
    return (f"ticks {total:4} | me, {os.getpid()}: {mine} | "
            f"{', '.join(others) or 'nobody else yet'} | note: {m.get('note', '-')}")


def main() -> int:
    """Tick until the time is up."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="(default: %(default)g)")
    parser.add_argument("--name", default="two-terminals", help="of the map (default: %(default)s)")
    chosen = parser.parse_args()
    end = time.monotonic() + chosen.seconds
    mine = 0
    with shmmap.ShmMap(chosen.name, size="1MB", ephemeral=True) as m:
        try:
            while time.monotonic() < end:
                mine += 1
                print(tick(m, mine), flush=True)
                time.sleep(TICK_S)
        except KeyboardInterrupt:
            pass
        m.delete(("here", os.getpid()))
        print(f"I counted {mine}; the map has {m.get('ticks', 0)} in all", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
