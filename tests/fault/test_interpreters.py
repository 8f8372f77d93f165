"""Interpreters other than a process's main one are refused; and what a free-threaded build says.

Record locks belong to the process: a second interpreter would keep a registry of its own, open
the liveness file again, and drop the first one's locks as it closes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

import shmmap

LIMIT_S = 30.0

# Runs code in a new interpreter, as every version from 3.10 on has it, and prints its error.
RUN = """
import sys
try:
    import _interpreters as api
except ImportError:
    import _xxsubinterpreters as api

def run(code, isolated):
    "Give the error that the code raised, as text."
    try:
        made = api.create("isolated" if isolated else "legacy")
    except TypeError:
        made = api.create(isolated=isolated)
    try:
        failed = getattr(api, "exec", api.run_string)(made, code)
        return "" if failed is None else f"{failed.type.__name__}: {failed.msg}"
    except Exception as error:
        return str(error)
    finally:
        api.destroy(made)
"""

USE = """
import shmmap
with shmmap.ShmMap(NAME) as m:
    m["inner"] = 1
"""


@pytest.fixture
def script(name: str, tmp_path: Path) -> Any:
    """script(text): run a Python process outside the checkout to its end, give its output."""
    def run(text: str) -> str:
        made = subprocess.run(
            [sys.executable, "-c", RUN + text.replace("NAME", repr(name))], text=True,
            capture_output=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL, cwd=tmp_path,
        )
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    return run


@pytest.fixture(scope="module", autouse=True)
def has_interpreters() -> None:
    """Skip where this Python was built without the module."""
    for module in ("_interpreters", "_xxsubinterpreters"):
        try:
            __import__(module)
            return
        except ImportError:
            continue
    pytest.skip("this Python has no module for sub-interpreters")


def assert_refused(error: str) -> None:
    """It says what to do; where an extension of another package refuses first, that will do."""
    assert "ImportError" in error, error
    if "does not support loading in subinterpreters" not in error:
        assert "main interpreter" in error and "processes" in error, error
        assert "WSGIApplicationGroup %{GLOBAL}" in error


@pytest.mark.parametrize("isolated", [False, True], ids=["legacy", "isolated"])
@pytest.mark.parametrize("first", ["", "import shmmap\n"], ids=["alone", "after the main one"])
def test_a_sub_interpreter_is_refused(make, script, first, isolated):
    make(shards=1)
    code = USE.replace("\n", "\\n")
    assert_refused(script(f"{first}print(run('''{code}''', {isolated}))"))


def test_the_main_interpreter_is_as_it_was(make, name, script):
    """The refusal takes nothing along: the map that is open goes on, and its worker lives."""
    m = make(shards=1)
    found = script(
        "import shmmap\nm = shmmap.ShmMap(NAME); m['outer'] = 1\n"
        "for isolated in (False, True):\n    run('import shmmap', isolated)\n"
        "m['outer'] = 2\n"
        "import subprocess\n"
        "ask = 'import sys, shmmap; m = shmmap.ShmMap(sys.argv[1]); m.sweep(); '\\\n"
        "    'print(len(m.attachment.worker.rows_in_use()))'\n"
        "print(subprocess.check_output([sys.executable, '-c', ask, NAME], text=True).strip())"
    )
    assert found == "3" and m["outer"] == 2  # this process, the script, and the one that asks


def test_threads_of_the_main_interpreter_may_import(script):
    """The refusal is about interpreters, not about threads."""
    assert script(
        "import threading\n"
        "def work():\n    import shmmap; print(shmmap.ENGINE)\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()"
    ) == shmmap.ENGINE


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python always has its GIL"
)
def test_a_free_threaded_build_runs_with_the_gil(script):
    """No module of ours says that it does without: Python turns the GIL on, and warns."""
    assert "PYTHON_GIL" not in os.environ
    assert script("import shmmap\nprint(sys._is_gil_enabled())") == "True"
