"""What a start costs: `import shmmap` loads what a map needs, and no more."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("asyncio", "inspect", "ssl", "numpy", "psutil", "logging", "hashlib", "subprocess",
         "secrets", "traceback", "tempfile", "pathlib", "concurrent.futures", "random")
USED = """
import sys
known = set(sys.modules)
import shmmap
m = shmmap.ShmMap(sys.argv[1], size="1MB", sweep_interval=None)
m["a"] = 1, "b", 2.5
m.incr("n"), m.get("a"), list(m), m.stats()
m.unlink()
m.close()
print(*sorted(set(sys.modules) - known))
"""


def loaded(code: str, *arguments: str) -> set[str]:
    """Run code in a new interpreter; return which modules it has loaded."""
    ran = subprocess.run([sys.executable, "-I", "-c", code, *arguments], capture_output=True,
                         text=True, timeout=60, check=True)
    return set(ran.stdout.split())


def test_a_map_in_use_loads_nothing_heavy(name):
    found = loaded(USED, name)
    assert "shmmap.map" in found
    assert not found & {*HEAVY, "shmmap.decorator"}


def test_the_command_line_loads_nothing_that_its_command_does_not_need():
    code = ("import sys\nfrom shmmap.tools import cli\n"
            "try:\n    cli.main(['--version'])\nfinally:\n    print(*sys.modules)")
    found = loaded(code)
    assert "shmmap.tools.cli" in found
    assert not found & {"numpy", "importlib.metadata", "http.server", "email", "rich", "asyncio",
                        "shmmap.torture.run", "shmmap.tools.ui.server"}


def test_what_is_imported_later_is_where_it_always_was():
    assert loaded("import shmmap; print(shmmap.cached.__name__)") == {"cached"}
    assert loaded("import shmmap; print(*dir(shmmap))") >= {"ShmMap", "cached", "Snapshot"}
