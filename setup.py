"""What is compiled, and the switches; everything else is in pyproject.toml.

SHMMAP_BUILD=compiled  fail where the hot modules do not compile
SHMMAP_BUILD=pure      do not compile
(not set)              compile if a compiler is there, else install the pure engine
"""

import ast
import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent


def hot_modules():
    """Read the list of the package, without importing the package."""
    for node in ast.parse((HERE / "shmmap" / "_engine.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MODULES":
            return ast.literal_eval(node.value)
    raise LookupError("shmmap/_engine.py: no MODULES")


WANTED = os.environ.get("SHMMAP_BUILD", "")
if WANTED not in ("", "compiled", "pure"):
    sys.exit(f'SHMMAP_BUILD={WANTED!r} must be "compiled" or "pure"')


class BuildIfPossible(build_ext):
    """Build the extensions, all or none; none is an error only if they are required."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self):
        try:
            super().run()
        except Exception as error:
            if WANTED == "compiled":
                raise
            print(f"shmmap: not compiled ({error}); the pure engine is installed", file=sys.stderr)
            for output in self.get_outputs():
                Path(output).unlink(missing_ok=True)
            self.extensions = []


def extensions():
    if WANTED == "pure":
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if WANTED == "compiled":
            raise
        return []
    flags = ["-O3", "-fno-strict-aliasing", *os.environ.get("SHMMAP_CFLAGS", "").split()]
    return cythonize(
        [
            Extension(f"shmmap.{name}", [f"shmmap/{name.replace('.', '/')}.py"],
                      extra_compile_args=flags, extra_link_args=["-pthread"])
            for name in hot_modules()
        ],
        build_dir="build/cython",
        compiler_directives={
            "language_level": "3", "boundscheck": False, "wraparound": False,
            "cdivision": True, "initializedcheck": False, "annotation_typing": True,
        },
    )


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildIfPossible})
