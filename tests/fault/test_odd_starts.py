"""Starts and ends that an application may bring about: imports that race, sources that are not
there, names that are taken, exits of greenlets. Each in a process of its own."""

from __future__ import annotations

import compileall
import os
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest

import shmmap

from ..support.programs import run_code

PACKAGE = Path(shmmap.__file__).parent
RACE = """
import pickle, sys, threading
blob = bytes.fromhex(sys.argv[1])
wrong, start = [], threading.Barrier(8)
def first(number):
    start.wait()
    try:
        if number % 2:
            import shmmap
            from shmmap import cached
        else:
            assert pickle.loads(blob)["a"] == 1
    except BaseException as error:
        wrong.append(repr(error))
threads = [threading.Thread(target=first, args=(number,)) for number in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*wrong)
"""
GREENLET = """
from gevent import monkey
monkey.patch_all()
import gevent, sys, shmmap
m = shmmap.ShmMap(sys.argv[1])
gevent.spawn(m.incr, "a").join()
"""


def test_threads_unpickle_a_map_before_anything_else_is_imported(make):
    """An import of `shmmap.map` would not wait for that of `shmmap` by another thread."""
    m = make()
    m["a"] = 1
    for _ in range(3):
        ended = run_code(RACE, pickle.dumps(m).hex())
        assert ended.stdout.strip() == "" and ended.returncode == 0, ended.stdout + ended.stderr


def test_a_map_of_a_program_with_greenlets_ends_without_a_word(make):
    pytest.importorskip("gevent")
    ended = run_code(GREENLET, make().name)
    assert (ended.returncode, ended.stderr) == (0, "")


def copy_of_sources(folder: Path) -> None:
    shutil.copytree(PACKAGE, folder / "shmmap",
                    ignore=shutil.ignore_patterns("*.so", "__pycache__", "torture"))


def engine_of(path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Import the package that lies at a path; its output is the engine."""
    environment = {**os.environ, "PYTHONPATH": str(path), **variables}
    return run_code("import shmmap; print(shmmap.ENGINE, shmmap.__file__)", env=environment)


@pytest.mark.parametrize("packed", ["zip", "compiled to bytecode"])
def test_the_pure_engine_needs_no_sources(tmp_path, packed):
    copy_of_sources(tmp_path)
    path = tmp_path
    if packed == "zip":
        path = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "shmmap"))
        shutil.rmtree(tmp_path / "shmmap")
    else:
        compileall.compile_dir(tmp_path, quiet=1, legacy=True)
        for source in tmp_path.rglob("*.py"):
            source.unlink()
    ended = engine_of(path, SHMMAP_ENGINE="pure")
    assert ended.stdout.startswith(f"pure {path}"), ended.stderr


def test_a_lack_of_sources_is_told(tmp_path):
    copy_of_sources(tmp_path)
    (tmp_path / f"shmmap/memory/_clock_cy{suffix()}").write_bytes(b"")
    (tmp_path / "shmmap/memory/_clock_cy.py").unlink()
    ended = engine_of(tmp_path, SHMMAP_ENGINE="pure")
    assert "ImportError: shmmap's pure engine needs" in ended.stderr


def suffix() -> str:
    from importlib.machinery import EXTENSION_SUFFIXES

    return EXTENSION_SUFFIXES[0]


def test_a_folder_named_cython_is_told(tmp_path):
    copy_of_sources(tmp_path / "package")
    (tmp_path / "cython").mkdir()
    environment = {**os.environ, "SHMMAP_ENGINE": "pure",
                   "PYTHONPATH": f"{tmp_path}:{tmp_path / 'package'}"}
    ended = run_code("import importlib.util\n"
                "has = importlib.util.find_spec('Cython') is not None\n"
                "print(has)\nimport shmmap", env=environment)
    if ended.stdout.strip() == "False":
        assert f"{tmp_path}/cython is another one" in ended.stderr
    else:  # Cython's own module comes before a folder without __init__.py
        assert ended.returncode == 0


def test_the_figures_beside_a_handle_that_is_just_being_opened(make):
    m = make()
    half = shmmap.ShmMap.__new__(shmmap.ShmMap)
    m.attachment.handles[-1] = half
    assert m.stats().entries == 0
    assert m.attachment.handles.pop(-1) is half
