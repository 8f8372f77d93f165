"""The build backend: what it asks the index for, and what its wheels say that they are."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZipFile

import pytest

from ..support.engines import once

TOP = Path(__file__).resolve().parents[2]
pytestmark = once
setuptools = pytest.importorskip("setuptools", minversion="77", reason="building needs it")


@pytest.fixture
def backend() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shmmap_build", TOP / "building/shmmap_build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bare(backend: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The backend on a machine with Python's headers, and nothing else to compile with."""
    (tmp_path / "include").mkdir()
    (tmp_path / "include/Python.h").write_text("typedef struct { int x; } PyObject;\n")
    monkeypatch.setattr(backend, "include", lambda: [str(tmp_path / "include")])
    monkeypatch.setattr(backend.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(backend, "zig_binary", lambda: None)
    for variable in ("SHMMAP_BUILD", "SHMMAP_PROBES", "CFLAGS", "LDSHARED"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
    return backend


def compiler(path: Path, script: str) -> str:
    """Write a compiler that runs a shell script; its last argument is the library to make."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


WORKS = 'for last; do :; done; : > "$last"'


def test_nothing_is_asked_for_where_a_compiler_works(bare, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", compiler(tmp_path / "cc", WORKS))
    assert bare.compiler_from_index() == []
    assert bare.compiler() == {}


def test_the_index_is_asked_where_only_the_compiler_is_missing(bare, capsys):
    assert bare.compiler_from_index() == [bare.ZIG]
    assert "no-compiler" in capsys.readouterr().err


def test_elsewhere_than_on_linux_it_is_pure(bare, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert bare.compiler_from_index() == []
    assert bare.built(lambda: os.environ.get("SHMMAP_BUILD", "as it is")) == "as it is"
    monkeypatch.setenv("SHMMAP_BUILD", "compiled")
    with pytest.raises(SystemExit, match="runs on Linux only, and this is darwin"):
        bare.wanted()


def test_a_compiler_that_fails_is_none(bare, monkeypatch, tmp_path):
    """Such as one without the C library's headers."""
    monkeypatch.setenv("CC", compiler(tmp_path / "cc", "echo stdio.h: no such file >&2; exit 1"))
    with pytest.raises(bare.NotCompiled, match=r"does not work: stdio.h"):
        bare.try_compiler()
    assert bare.compiler_from_index() == [bare.ZIG]


def test_one_that_makes_nothing_is_none(bare, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", compiler(tmp_path / "cc", "exit 0"))
    assert bare.compiler_from_index() == [bare.ZIG]


def test_a_cc_that_cannot_be_read_is_none(bare, monkeypatch):
    monkeypatch.setenv("CC", "gcc 'unclosed")
    assert bare.compiler_from_index() == [bare.ZIG]


def test_headers_are_on_no_index(bare, tmp_path):
    """So nothing is asked for: it would not help. What to install is said."""
    (tmp_path / "include/Python.h").unlink()
    assert bare.compiler_from_index() == []
    with pytest.raises(bare.NotCompiled, match=r"apt-get install python3\.\d+-dev"):
        bare.compiler()


def test_a_pure_build_asks_for_nothing(bare, monkeypatch):
    monkeypatch.setenv("SHMMAP_BUILD", "pure")
    assert bare.compiler_from_index() == []


def test_nothing_is_asked_for_where_the_index_may_have_none(bare, monkeypatch):
    """It would fail the installation, and the pure engine would be lost with it."""
    monkeypatch.setattr(bare.platform, "machine", lambda: "s390x")
    assert bare.compiler_from_index() == []


def test_a_typo_is_refused_first(bare, monkeypatch):
    monkeypatch.setenv("SHMMAP_BUILD", "compield")
    for hook in (bare.get_requires_for_build_wheel, bare.get_requires_for_build_editable):
        with pytest.raises(SystemExit, match="compield"):
            hook()
    with pytest.raises(SystemExit, match="compield"):
        bare.build_wheel("nowhere")


def test_probes_that_are_asked_for_are_no_wish(bare, monkeypatch):
    """The pure engine would have none."""
    monkeypatch.setenv("SHMMAP_PROBES", "yes")
    with pytest.raises(bare.NotCompiled):
        bare.built(lambda: pytest.fail("built without a compiler"))
    monkeypatch.setenv("SHMMAP_BUILD", "pure")
    with pytest.raises(SystemExit, match="the pure engine has no probes"):
        bare.wanted()
    monkeypatch.setenv("SHMMAP_PROBES", "perhaps")
    with pytest.raises(SystemExit, match="perhaps"):
        bare.wanted()


def test_the_compiler_of_the_index_is_used(bare, monkeypatch, tmp_path):
    """Its target names an old glibc, which also keeps it from this very processor's features."""
    zig = tmp_path / "a folder" / "zig"
    zig.parent.mkdir()
    compiler(zig, f'echo "$@" > {tmp_path}/called; {WORKS}')
    monkeypatch.setattr(bare, "zig_binary", lambda: zig)
    monkeypatch.setattr(bare.os, "confstr", lambda _: "glibc 2.36")
    assert bare.compiler()["LDSHARED"].endswith("cc -target x86_64-linux-gnu.2.28 -shared")
    assert "cc -target x86_64-linux-gnu.2.28 -shared" in (tmp_path / "called").read_text()
    assert os.environ["CC"].endswith("no-compiler")  # it was set for the trial only


@pytest.mark.parametrize(
    ("libc", "target"),
    [("glibc 2.36", "gnu.2.28"), ("glibc 2.17", "gnu.2.17"), ("glibc 2.28", "gnu.2.28"),
     (None, "musl"), (ValueError(), "musl")],
)
def test_targets_no_newer_than_the_machine(bare, monkeypatch, libc, target):
    def confstr(name: str) -> Any:
        if isinstance(libc, Exception):
            raise libc
        return libc

    monkeypatch.setattr(bare.os, "confstr", confstr)
    assert bare.zig_target() == f"x86_64-linux-{target}"


def test_what_does_not_compile_is_built_pure_and_says_so(bare, capsys):
    built = []

    def build() -> str:
        built.append(os.environ.get("SHMMAP_BUILD"))
        return "a wheel"

    assert bare.built(build) == "a wheel"
    assert built == ["pure"] and "SHMMAP_BUILD" not in os.environ
    said = capsys.readouterr().err
    assert "NOT compiled" in said and "no-compiler" in said


def test_a_build_that_fails_late_is_built_pure(bare, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CC", compiler(tmp_path / "cc", WORKS))

    def build() -> str:
        if "SHMMAP_BUILD" not in os.environ:
            raise SystemExit("error: command failed")
        return "a wheel"

    assert bare.built(build) == "a wheel"
    assert "error: command failed" in capsys.readouterr().err


def test_compiled_or_nothing(bare, monkeypatch):
    monkeypatch.setenv("SHMMAP_BUILD", "compiled")
    with pytest.raises(bare.NotCompiled):
        bare.built(lambda: pytest.fail("built without a compiler"))


def tags_of(wheel: Path) -> tuple[str, str]:
    """Return what a wheel says of itself: its tag, and whether it is pure."""
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        lines = dict(line.split(": ") for line in archive.read(name).decode().splitlines() if line)
        compiled = any(name.endswith(".so") for name in archive.namelist())
    assert compiled == (lines["Root-Is-Purelib"] == "false")
    return lines["Tag"], lines["Root-Is-Purelib"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package as small as can be that is built by our setup.py and backend."""
    tree = tmp_path / "project"
    for name in ("setup.py", "building/shmmap_build.py"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((TOP / name).read_bytes())
    (tree / "shmmap").mkdir()
    (tree / "shmmap/__init__.py").touch()
    (tree / "shmmap/_engine.py").write_text('MODULES = ("_hot_cy",)\n')
    (tree / "shmmap/_hot_cy.py").write_text("import cython\ncompiled = cython.compiled\n")
    (tree / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'shmmap_build'\n"
        "backend-path = ['building']\n[project]\nname = 'shmmap'\nversion = '1'\n"
        "[tool.setuptools]\npackages = ['shmmap']\n"
    )
    return tree


def build(tree: Path, **variables: str) -> tuple[Path, str]:
    """Build a wheel as installers do: each hook in a process of its own."""
    program = (
        "import os, sys; sys.path.insert(0, 'building'); import shmmap_build as b; "
        "os.makedirs('made', exist_ok=True); print(b.build_wheel('made'))"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHMMAP_")}
    done = subprocess.run([sys.executable, "-c", program], cwd=tree, env={**kept, **variables},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tree / "made" / done.stdout.splitlines()[-1], done.stderr


def test_a_pure_wheel_is_tagged_so(project):
    wheel, _ = build(project, SHMMAP_BUILD="pure")
    assert wheel.name == "shmmap-1-py3-none-any.whl"
    assert tags_of(wheel) == ("py3-none-any", "true")


def test_a_wheel_that_could_not_be_compiled_is_tagged_pure(project):
    """Where a compiler seems to work, and only the build itself finds that it does not."""
    cc = compiler(project / "cc", f'case "$*" in *_hot_cy*) exit 1;; esac; {WORKS}')
    wheel, said = build(project, CC=cc)
    assert tags_of(wheel) == ("py3-none-any", "true")
    assert wheel.name == "shmmap-1-py3-none-any.whl"
    assert "NOT compiled" in said


def test_a_compiled_wheel_is_tagged_so(project, backend):
    pytest.importorskip("Cython")
    try:
        backend.try_compiler()
    except backend.NotCompiled as error:
        pytest.skip(str(error))
    wheel, said = build(project)
    abi = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    machine = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert tags_of(wheel) == (f"{abi}-{abi}-{machine}", "false")
    assert "NOT compiled" not in said


def test_the_source_distribution_carries_what_a_build_needs():
    """What `python -m build` leaves out fails at the user's, not here."""
    listed = (TOP / "MANIFEST.in").read_text().split()
    assert "building" in listed and "tests" in listed
    project = (TOP / "pyproject.toml").read_text()
    assert 'backend-path = ["building"]' in project and '"*.pxd", "*.html"' in project


def test_every_python_of_the_classifiers_has_a_wheel():
    project = (TOP / "pyproject.toml").read_text()
    for minor in range(10, 15):
        assert f'"Programming Language :: Python :: 3.{minor}"' in project
        assert f"cp3{minor}-*" in project


@pytest.mark.parametrize(
    ("platform", "tag", "fit"),
    [("manylinux_2_17_x86_64", "manylinux_2_28_x86_64", True),
     ("manylinux_2_28_x86_64", "manylinux_2_28_x86_64", True),
     ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", False),
     ("manylinux_2_17_x86_64", "manylinux_2_28_aarch64", False),
     ("musllinux_1_1_aarch64", "musllinux_1_2_aarch64", True),
     ("linux_x86_64", "manylinux_2_28_x86_64", False)],
)
def test_a_wheel_must_fit_its_tag(monkeypatch, platform, tag, fit):
    monkeypatch.syspath_prepend(TOP / "building")
    monkeypatch.delitem(sys.modules, "wheels", raising=False)
    monkeypatch.delitem(sys.modules, "shmmap_build", raising=False)
    assert importlib.import_module("wheels").fits(platform, tag) == fit


def test_a_pure_editable_build_leaves_nothing_compiled(backend, tmp_path, monkeypatch):
    """It would go on running, whatever the sources say by then."""
    suffix = EXTENSION_SUFFIXES[0]
    for name in (f"shmmap/_hot_cy{suffix}", "shmmap/_hot_cy.py", "shmmap/_hot_cy.other.so"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    backend.remove_compiled()
    assert sorted(file.name for file in tmp_path.rglob("_hot*")) == [
        "_hot_cy.other.so", "_hot_cy.py",
    ]
