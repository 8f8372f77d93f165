"""Build manylinux wheels on one machine: `python building/wheels.py SDIST PYTHON [PYTHON ...]`.

For each interpreter and target one wheel, compiled by zig, which has the headers and symbols of
glibc 2.28, of other machines too. Then `auditwheel` must find that the wheel fits its
tag. This needs no container. `cibuildwheel` (see pyproject.toml) builds these wheels, and
those for musllinux, in their images, and tries each where it runs.

Needs `pip install auditwheel ziglang`, and of each PYTHON its headers and pip. The wheels for other
targets are compiled with the headers of that x86-64 Python, whose pyconfig.h is true of them as far
as CPython's interface depends on it. Debian's is split by machine, and not for aarch64.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

import shmmap_build

TARGETS = {
    "manylinux_2_28_x86_64": "x86_64-linux-gnu.2.28",
    "manylinux_2_28_aarch64": "aarch64-linux-gnu.2.28",
}
"""The tags of wheels, and what zig calls the machine and its C library. Not musllinux: auditwheel
refuses a wheel that needs `libc.so`, which is what zig calls musl."""


def main() -> None:
    """Build them."""
    parser = argparse.ArgumentParser(description="Build wheels for many targets with zig.")
    parser.add_argument("sdist", type=Path)
    parser.add_argument("python", nargs="+", help="an interpreter, with its headers and pip")
    parser.add_argument("--output", type=Path, default=Path("dist"))
    parser.add_argument("--target", action="append", choices=TARGETS, help="default: all")
    wish = parser.parse_args()
    output = wish.output.absolute()
    with tempfile.TemporaryDirectory(prefix="shmmap-wheels-") as directory:
        with tarfile.open(wish.sdist) as archive:
            archive.extractall(directory)
        (tree,) = Path(directory).iterdir()
        for python in wish.python:
            for tag in wish.target or TARGETS:
                wheel = build(tree, python, tag, output)
                print(f"{wheel.name}: {audited(wheel)}", flush=True)


def build(tree: Path, python: str, tag: str, output: Path) -> Path:
    """Build one wheel, with folders of its own for what depends on the target."""
    zig = shmmap_build.zig_binary()
    if zig is None:
        sys.exit("zig is needed: pip install ziglang")
    abi = subprocess.run(
        [python, "-c", "import sys; print('%d%d' % sys.version_info[:2])"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()
    machine, _, libc = TARGETS[tag].split("-")
    settings = tree / f"{tag}.cfg"
    settings.write_text(
        f"[build]\nbuild_base = build/{tag}\n[bdist_wheel]\nplat_name = {tag}\n"
    )
    variables = {
        **os.environ,
        **shmmap_build.zig_variables(zig, TARGETS[tag], headers_of(python)),
        "SHMMAP_BUILD": "compiled",
        "DIST_EXTRA_CONFIG": str(settings),
        "SETUPTOOLS_EXT_SUFFIX": f".cpython-{abi}-{machine}-linux-{libc.partition('.')[0]}.so",
    }
    with tempfile.TemporaryDirectory(prefix="shmmap-wheel-") as made:
        command = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel",
                   "--no-deps", "--no-cache-dir", "--wheel-dir", made, str(tree)]
        subprocess.run(command, env=variables, check=True)
        (wheel,) = Path(made).iterdir()
        assert wheel.name.endswith(f"-cp{abi}-cp{abi}-{tag}.whl"), wheel.name
        output.mkdir(parents=True, exist_ok=True)
        (output / wheel.name).write_bytes(wheel.read_bytes())
    return output / wheel.name


def headers_of(python: str) -> list[str]:
    """List the directories of an interpreter's headers."""
    program = "from sysconfig import get_path as p; print(p('include')); print(p('platinclude'))"
    done = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True)
    return sorted(set(done.stdout.splitlines()))


def audited(wheel: Path) -> str:
    """Return the oldest platform that auditwheel finds a wheel fit for. Refuse one that needs a
    newer platform than its tag says, or a library that is not of the platform."""
    command = [str(Path(sysconfig.get_path("scripts"), "auditwheel")), "show", str(wheel)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    said = " ".join(done.stdout.split())
    found = re.search(r'consistent with the following platform tag: "(\w+)"', said)
    tag = wheel.stem.rpartition("-")[2]
    if not found or not fits(found[1], tag):  # with any other library it says linux_x86_64
        sys.exit(f"{wheel.name} does not fit its tag:\n{done.stdout}{done.stderr}")
    return found[1]


def fits(platform: str, tag: str) -> bool:
    """Tell whether what runs on a platform runs wherever a tag promises: manylinux_2_17_x86_64 does
    for manylinux_2_28_x86_64."""
    form = re.compile(r"(manylinux|musllinux)_(\d+)_(\d+)_(\w+)")
    one, other = form.fullmatch(platform), form.fullmatch(tag)
    if not one or not other:
        return False
    return (one[1], one[4]) == (other[1], other[4]) and (
        (int(one[2]), int(one[3])) <= (int(other[2]), int(other[3]))
    )


if __name__ == "__main__":
    main()
