"""The build backend: that of setuptools, and a C compiler where the machine has none.

In this order:

1. The machine compiles C for this Python: setuptools does the rest.
2. It does not, but has Python's headers: the package index brings a compiler, `ziglang`. It is
   asked for in this case only.
3. Neither, or the build fails all the same: the pure engine. The build says so loudly, and so does
   the tag of its wheel, `py3-none-any`. With SHMMAP_BUILD=compiled this is an error instead.

SHMMAP_PROBES=yes asks for static probes, and so for the compiled engine: to have none is an error,
too. With SHMMAP_BUILD=pure nothing is compiled or looked for. Elsewhere than on Linux there is no
other engine, so it is the same there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable", "build_sdist", "build_wheel", "get_requires_for_build_editable",
    "get_requires_for_build_sdist", "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable", "prepare_metadata_for_build_wheel",
]

Settings = dict[str, Any] | None
VARIABLE = "SHMMAP_BUILD"
PROBES = "SHMMAP_PROBES"
ZIG = "ziglang>=0.13"
ZIG_MACHINES = ("x86_64", "aarch64")
"""Where the engine is tried with this compiler. Elsewhere asking for it could fail the whole
installation, where the index has none for the machine."""
OLDEST_GLIBC = (2, 28)
"""That wheels are built for: manylinux_2_28."""


class NotCompiled(Exception):
    """Why the machine compiles nothing for this Python."""


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """Ask for a compiler if the machine has none that works."""
    wanted()
    return [*build_meta.get_requires_for_build_wheel(config_settings), *compiler_from_index()]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """Ask for a compiler if the machine has none that works."""
    wanted()
    return [*build_meta.get_requires_for_build_editable(config_settings), *compiler_from_index()]


def build_wheel(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """Build a wheel, compiled or pure."""
    return built(lambda: build_meta.build_wheel(
        wheel_directory, config_settings, metadata_directory
    ))


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """Build an editable wheel, with compiled modules beside the sources if it can be."""
    def build() -> str:
        if wanted() == "pure":
            remove_compiled()
        return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)

    return built(build)


def remove_compiled() -> None:
    """Remove what an earlier build for this Python has left beside the sources: it would still run,
    whatever the sources say now."""
    for suffix in EXTENSION_SUFFIXES:
        for file in Path("shmmap").rglob(f"_*_cy{suffix}"):
            file.unlink()


def wanted() -> str:
    """Return which engine must be built: "compiled", "pure" or, as it comes, ""."""
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "compiled", "pure"):
        sys.exit(f'{VARIABLE}={value!r} must be "compiled" or "pure"')
    probes = os.environ.get(PROBES, "")
    if probes not in ("", "yes", "no"):
        sys.exit(f'{PROBES}={probes!r} must be "yes" or "no"')
    if value == "pure" and probes == "yes":
        sys.exit(f"{PROBES}=yes, but the pure engine has no probes: take {VARIABLE}=pure away")
    if sys.platform != "linux":
        if value == "compiled":
            sys.exit(f"{VARIABLE}=compiled: that engine runs on Linux only, and this is "
                     f"{sys.platform}. The pure one is built without that variable")
        return "pure"
    return value


def compiler_from_index() -> list[str]:
    """List what to install so that the package can be compiled: often nothing."""
    if wanted() == "pure":
        return []
    try:
        try_compiler()
    except NotCompiled as error:
        if headers() and can_use_zig():
            print(f"shmmap: {error}; asking the package index for a compiler", file=sys.stderr)
            return [ZIG]
    return []


def built(build: Callable[[], str]) -> str:
    """Build it compiled; where that fails, pure, unless it must be compiled."""
    choice = wanted()
    if choice == "pure":
        return build()
    try:
        with environment(**compiler()):
            return build()
    except (Exception, SystemExit) as error:
        if choice == "compiled" or os.environ.get(PROBES) == "yes":
            raise
        why = str(error) or type(error).__name__
    bar = "=" * 79
    print(f"\n{bar}\nshmmap is NOT compiled: {why}\nThe pure engine is built instead, about"
          f" 30 times slower. {VARIABLE}=compiled makes this an error.\n{bar}\n",
          file=sys.stderr, flush=True)
    with environment(**{VARIABLE: "pure"}):
        return build()


def compiler() -> dict[str, str]:
    """Return the variables that lead setuptools to a compiler that works: none if its own does.

    Raise NotCompiled if there is none.
    """
    try:
        try_compiler()
    except NotCompiled:
        zig = zig_binary()
        if not headers() or zig is None:
            raise
        variables = zig_variables(zig, zig_target(), include())
        with environment(**variables):
            try_compiler()
        print(f"shmmap: compiled by {zig}", file=sys.stderr)
        return variables
    return {}


def headers() -> bool:
    """Tell whether this Python's headers are there. No compiler can do without."""
    return any(Path(directory, "Python.h").exists() for directory in include())


def include() -> list[str]:
    """List the directories of this Python's headers."""
    return sorted({sysconfig.get_path("include"), sysconfig.get_path("platinclude")})


def try_compiler() -> None:
    """Compile and link a small file with the compiler that setuptools would take.

    Raise NotCompiled if there is none, or if it fails.
    """
    if not headers():
        raise NotCompiled(
            f"Python's headers are missing, there is no {include()[0]}/Python.h. They belong to "
            "Python and no package on the index has them. On Debian and Ubuntu: apt-get install "
            f"python{sys.version_info.major}.{sys.version_info.minor}-dev"
        )
    chosen = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    flags = [*shlex.split(os.environ.get("CFLAGS", "")), *(f"-I{path}" for path in include())]
    with tempfile.TemporaryDirectory(prefix="shmmap-build-") as directory:
        source, library = Path(directory, "try.c"), Path(directory, "try.so")
        source.write_text("#include <Python.h>\nPyObject *shmmap_try(void) { return 0; }\n")
        try:
            command = [*shlex.split(chosen), "-shared", "-fPIC", *flags, str(source), "-o",
                       str(library)]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        except (OSError, ValueError) as error:
            raise NotCompiled(f"the C compiler {chosen!r} does not start: {error}") from None
        if done.returncode or not library.exists():
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise NotCompiled(f"the C compiler {chosen!r} does not work: {last}")


def can_use_zig() -> bool:
    """Tell whether zig compiles for this machine. A 32-bit Python runs on a 64-bit machine too."""
    return sys.maxsize > 2**32 and platform.machine() in ZIG_MACHINES


def zig_binary() -> Path | None:
    """Return the compiler of the package `ziglang`, or None."""
    found = importlib.util.find_spec("ziglang")
    binary = Path(found.origin or "").with_name("zig") if found else None
    return binary if binary and binary.exists() and can_use_zig() else None


def zig_target() -> str:
    """Name this machine and its C library, as old a one as wheels are built for."""
    try:
        version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()[-1].split(".")
    except (ValueError, OSError, IndexError):  # musl knows no such name
        return f"{platform.machine()}-linux-musl"
    oldest = min(OLDEST_GLIBC, (int(version[0]), int(version[1])))
    return f"{platform.machine()}-linux-gnu.{oldest[0]}.{oldest[1]}"


def zig_variables(zig: Path, target: str, headers: list[str]) -> dict[str, str]:
    """Return the variables that make setuptools compile with zig, for a target as zig names it and
    a Python with these directories of headers.

    A named target has the processor of its baseline. Without one zig takes what this very processor
    can do, and pip keeps the wheel, perhaps for another machine.
    """
    command = f"{shlex.quote(str(zig))} cc -target {target}"
    # Debian's Python.h includes a file of /usr/include, where zig, given a target, does not look.
    around = " ".join(f"-idirafter {shlex.quote(os.path.dirname(path))}" for path in headers)
    cache = str(Path("build", "zig").absolute())
    return {
        "CC": command,
        "LDSHARED": f"{command} -shared",
        # Not those that this Python was built with: they are for another compiler.
        "CFLAGS": f"-DNDEBUG -fwrapv -fPIC -fno-sanitize=undefined {around}",
        "LDFLAGS": "-Wl,-s",
        "ZIG_GLOBAL_CACHE_DIR": os.environ.get("ZIG_GLOBAL_CACHE_DIR", cache),
        "ZIG_LOCAL_CACHE_DIR": os.environ.get("ZIG_LOCAL_CACHE_DIR", cache),
    }


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set these environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
