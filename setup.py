"""The list of compiled modules, and the switches; everything else is in pyproject.toml.

SHMMAP_BUILD=compiled  fail where the hot modules do not compile
SHMMAP_BUILD=pure      do not compile
(not set)              compile if a compiler is there, else install the pure engine
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

MODULES = (
    "_clock_cy", "_guard_cy", "_hash_cy", "_lock_cy", "_index_cy", "_slots_cy", "_expiry_cy",
    "_eviction_cy", "_look_cy", "_room_cy", "_shard_cy", "_repair_cy", "_copy_cy", "_keys_cy",
    "_codecs_cy", "_near_cy", "_handle_cy", "_decoding_cy", "_reads_cy", "_writes_cy", "_takes_cy",
    "_raw_cy", "_scans_cy", "_snapshots_cy",
)
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
            Extension(f"shmmap.{name}", [f"shmmap/{name}.py"], extra_compile_args=flags,
                      extra_link_args=["-pthread"])
            for name in MODULES
        ],
        build_dir="build/cython",
        compiler_directives={
            "language_level": "3", "boundscheck": False, "wraparound": False,
            "cdivision": True, "initializedcheck": False, "annotation_typing": True,
        },
    )


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildIfPossible})
