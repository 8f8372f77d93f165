"""SHMMAP_PROBES: there are static probes where the compiler finds <sys/sdt.h>, or as it says."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.engines import once
from ..support.static_probes import notes_of

TOP = Path(__file__).resolve().parents[2]
pytestmark = once
pytest.importorskip("Cython")
if importlib.util.find_spec("setuptools") is None:
    pytest.skip("building needs setuptools", allow_module_level=True)
HOT = """
import cython
def fire(buffer):
    probe_lock_timeout(memory(buffer), 0, 0)
    return PROBES_BUILT
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A package as small as can be that is built by our setup.py, with our probes."""
    memory = tmp_path / "shmmap/memory"
    memory.mkdir(parents=True)
    for name in ("setup.py", "shmmap/memory/_atomics.pxd", "shmmap/memory/_layout.pxd",
                 "shmmap/memory/_probes.pxd"):
        (tmp_path / name).write_bytes((TOP / name).read_bytes())
    for name in ("shmmap/__init__.py", "shmmap/memory/__init__.py"):
        (tmp_path / name).touch()
    (tmp_path / "shmmap/_engine.py").write_text('MODULES = ("memory._hot_cy",)\n')
    (memory / "_hot_cy.py").write_text(HOT)
    (memory / "_hot_cy.pxd").write_text(
        "from ._layout cimport *\nfrom ._atomics cimport *\n"
        "from ._probes cimport PROBES_BUILT, probe_lock_timeout\n"
    )
    return tmp_path


def build(tree: Path, header: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Compile it in place, with a <sys/sdt.h> that reads so; `#error`: with none."""
    (tree / "include/sys").mkdir(parents=True, exist_ok=True)
    (tree / "include/sys/sdt.h").write_text(header)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHMMAP_")}
    flags = f"{kept.get('CFLAGS', '')} -I{shlex.quote(str(tree / 'include'))}"
    return subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"], cwd=tree, capture_output=True,
        text=True, env={**kept, "CFLAGS": flags, **variables},
    )


def names(tree: Path) -> list[str]:
    """List the probes of what was compiled."""
    (file,) = (tree / "shmmap/memory").glob("_hot_cy.*.so")
    return [note.name for note in notes_of(file)]


# The part of SystemTap's header that we use, for a machine that does not have it.
HEADER = r"""
#define STAP_NOTE(provider, name, arguments) __asm__ volatile( \
    "990: nop\n.pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n" \
    ".4byte 992f-991f,994f-993f,3\n991: .asciz \"stapsdt\"\n992: .balign 4\n" \
    "993: .8byte 990b\n.8byte 0\n" \
    ".8byte shmmap_" #name "_semaphore\n.asciz \"" #provider "\"\n.asciz \"" #name "\"\n" \
    ".asciz \"" arguments "\"\n994: .balign 4\n.popsection\n")
#define STAP_PROBE(provider, name) (void)0
#define STAP_PROBE4(provider, name, a, b, c, d) \
    (void)a, (void)b, (void)c, (void)d; STAP_NOTE(provider, name, "8@$0 8@$0 8@$0 8@$0")
"""


def test_they_are_there_where_the_header_is(tree):
    done = build(tree, HEADER)
    assert done.returncode == 0, done.stderr
    assert names(tree) == ["lock__timeout"]


def test_without_the_header_it_is_built_all_the_same(tree):
    done = build(tree, "#error none\n")
    assert done.returncode == 0, done.stderr
    assert names(tree) == []


def test_no_leaves_them_out_and_another_answer_compiles_anew(tree):
    for answer, found in (("no", []), ("yes", ["lock__timeout"]), ("no", [])):
        done = build(tree, HEADER, SHMMAP_PROBES=answer)
        assert done.returncode == 0, done.stderr
        assert names(tree) == found


def test_yes_makes_a_missing_header_an_error(tree):
    done = build(tree, "#error none\n", SHMMAP_PROBES="yes")
    assert done.returncode and "apt-get install systemtap-sdt-dev" in done.stderr
    assert not list(tree.rglob("*.so"))


def test_a_typo_is_refused(tree):
    done = build(tree, HEADER, SHMMAP_PROBES="on")
    assert done.returncode and """SHMMAP_PROBES='on' must be "yes" or "no\"""" in done.stderr
