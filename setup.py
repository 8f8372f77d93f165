"""What is compiled; everything else is in pyproject.toml.

SHMMAP_BUILD=pure compiles nothing; nor is anything compiled elsewhere than on Linux. Otherwise all
hot modules are compiled, or the command fails: what an installation does then is up to
building/shmmap_build.py.
"""

import ast
import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
DIRECTIVES = {
    "language_level": "3", "boundscheck": False, "wraparound": False,
    "cdivision": True, "initializedcheck": False, "annotation_typing": True,
}


def hot_modules():
    """Read the list of the package, without importing the package."""
    for node in ast.parse((HERE / "shmmap" / "_engine.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MODULES":
            return ast.literal_eval(node.value)
    raise LookupError("shmmap/_engine.py: no MODULES")


def extensions():
    """List what to compile."""
    if os.environ.get("SHMMAP_BUILD") == "pure" or sys.platform != "linux":
        return []
    # Aligned: where functions of many modules happen to lie made a `set` of 130 ns one of 150.
    flags = ["-O3", "-fno-strict-aliasing", "-falign-functions=64",
             *os.environ.get("SHMMAP_CFLAGS", "").split()]
    return [
        Extension(f"shmmap.{name}", [f"shmmap/{name.replace('.', '/')}.py"],
                  extra_compile_args=flags, extra_link_args=["-pthread"])
        for name in hot_modules()
    ]


class Cythonized(build_ext):
    """Write the C when it is about to be compiled: metadata and source distributions need none."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self):
        if self.extensions:
            from Cython.Build import cythonize

            translated = cythonize(
                [Extension(module.name, module.sources) for module in self.extensions],
                build_dir="build/cython", compiler_directives=DIRECTIVES,
            )
            sources = {module.name: module.sources for module in translated}
            for module in self.extensions:
                module.sources = sources[module.name]
        super().run()


setup(ext_modules=extensions(), cmdclass={"build_ext": Cythonized})
