"""What is compiled; everything else is in pyproject.toml.

SHMMAP_BUILD=pure compiles nothing; nor is anything compiled elsewhere than on Linux. Otherwise all
hot modules are compiled, or the command fails: what an installation does then is up to
building/shmmap_build.py.

The compiled engine has static probes for tracers (docs/guide/probes.md) where the compiler finds
<sys/sdt.h>. SHMMAP_PROBES=no leaves them out all the same; with SHMMAP_PROBES=yes the command fails
where the header is missing.
"""

import ast
import os
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

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


def has_probes(compiler):
    """Tell whether the engine is to have static probes: 1 or 0."""
    wanted = os.environ.get("SHMMAP_PROBES", "")
    if wanted not in ("", "yes", "no"):
        sys.exit(f'SHMMAP_PROBES={wanted!r} must be "yes" or "no"')
    if wanted == "no":
        return 0
    with tempfile.TemporaryDirectory(prefix="shmmap-build-") as directory:
        source = Path(directory, "probe.c")
        source.write_text("#include <sys/sdt.h>\nvoid f(void) { STAP_PROBE(shmmap, try); }\n")
        try:
            compiler.compile([str(source)], output_dir=directory)
        except CompileError as error:
            if wanted == "yes":
                sys.exit(f"SHMMAP_PROBES=yes, but the compiler cannot use <sys/sdt.h> ({error}). "
                         "On Debian and Ubuntu: apt-get install systemtap-sdt-dev")
            return 0
    return 1


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

    def build_extensions(self):
        """Compile them, with probes or without; all of them anew if that has changed."""
        probes = str(has_probes(self.compiler))
        known = Path("build", "probes")
        if not known.exists() or known.read_text() != probes:
            known.parent.mkdir(exist_ok=True)
            known.write_text(probes)
        for module in self.extensions:
            module.define_macros.append(("SHM_PROBES", probes))
            module.depends.append(str(known))
        super().build_extensions()


setup(ext_modules=extensions(), cmdclass={"build_ext": Cythonized})
