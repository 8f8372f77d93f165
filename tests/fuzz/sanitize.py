"""Build the compiled engine with AddressSanitizer and UBSan, then run the fuzz and tests with it.

    .venv-test/bin/python tests/fuzz/sanitize.py
    .venv-test/bin/python tests/fuzz/sanitize.py --states 100000 --tests

Needs gcc with its sanitizer libraries, and a Python that has what the tests need (tests/run.py
makes one). Everything is built in a temporary directory, which is removed at the end. Before
anything else is run, an access behind the end of a buffer is planted, which must be reported.

What it sees: accesses outside of any buffer of this process, to the padding between the areas of
a segment, and before or behind a segment; signed overflow, misaligned words, bad shifts. What it
does not: an access that lands in another area of the same segment, and leaks (Python itself is
not built for that). The exit code is 1 if anything was reported or failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import run as checks
from support.programs import command as program

TOP = checks.TOP
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1"
TESTS = ("tests/contract", "tests/unit", "tests/protocol", "tests/house/test_layout.py")
# Whose subject is not memory, but the installation or the time that something takes.
LEFT_OUT = ("tests/unit/tools/test_doctor.py",)
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1:"
                    "max_allocation_size_mb=1024:detect_stack_use_after_return=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:abort_on_error=1",
    "PYTHONMALLOC": "malloc",  # else small objects share arenas that nobody guards
    "SHMMAP_ENGINE": "compiled",
}  # fmt: skip

PLANTED = """
from shmmap.shard import _checking_cy, _shard_cy; from shmmap.memory import geometry
from shmmap.memory._clock_cy import Clock
from shmmap.shard._lock_cy import ShardLock
shape = geometry.plan_capacity(50, 1, None, 16, False)
short = bytearray(shape.areas.slots + (shape.slots - 1) * shape.slot_size)  # lacks the last slot
_checking_cy.Checker(_shard_cy.Shard(
    short, 0, shape.slots, shape.slot_size, shape.buckets, 0, 0, 0,
    ShardLock(short, None, None), Clock())).problems()
"""

# A test run that cannot import the package from the checkout, where it may be built otherwise.
PYTEST = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def build(target: Path) -> None:
    """Build and install the package into a directory of its own."""
    tree = target / "tree"
    for path in checks.sources():
        copy = tree / path.relative_to(TOP)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    environment = checks.clean_environment(
        SHMMAP_BUILD="compiled", SHMMAP_CFLAGS=FLAGS, LDFLAGS=FLAGS
    )
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install",
               "--no-deps", "--target", str(target / "site"), str(tree)]
    if importlib.util.find_spec("Cython") and importlib.util.find_spec("setuptools"):
        command.append("--no-build-isolation")
    subprocess.run(command, env=environment, check=True)


def environment(target: Path) -> dict[str, str]:
    """Return the environment in which Python loads the sanitizers before anything else."""
    libraries = []
    for name in ("libasan.so", "libubsan.so"):
        found = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True,
                               check=True).stdout.strip()
        if not os.path.isabs(found):
            sys.exit(f"gcc has no {name}: install its sanitizer libraries")
        libraries.append(os.path.realpath(found))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return checks.clean_environment(
        LD_PRELOAD=" ".join(libraries), PYTHONPATH=str(target / "site"), PATH=path, **OPTIONS
    )


def prove_alarm(target: Path) -> None:
    """Plant an access behind the end of a buffer: it must be reported."""
    done = subprocess.run([sys.executable, "-c", PLANTED], env=environment(target), cwd=target,
                          capture_output=True, text=True)
    if "AddressSanitizer: heap-buffer-overflow" not in done.stderr:
        sys.exit(f"a planted overflow was not reported ({done.returncode}):\n{done.stderr[-3000:]}")
    print("a planted overflow is reported", flush=True)


def main(arguments: list[str]) -> int:
    """Build, then run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--states", type=int, default=5000, help="damaged states; 0: no fuzz")
    parser.add_argument("--seed", type=int, default=1, help="of the first state")
    parser.add_argument("--inputs", type=int, default=20_000,
                        help="bytes of containers that nobody wrote; 0: none")
    parser.add_argument("--keep", metavar="DIRECTORY", help="build there, and do not remove it")
    parser.add_argument("--tests", nargs=argparse.REMAINDER, metavar="ARGUMENT",
                        help="run tests, too; whatever follows is for pytest (default: "
                             f"{' '.join(TESTS)})")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="shmmap-sanitize-") as temporary:
        target = Path(options.keep or temporary).resolve()
        if not (target / "site").exists():
            build(target)
        prove_alarm(target)
        failed = 0
        if options.states:
            command = program("tests.fuzz", "--hang", "20", "--states", str(options.states),
                              "--seed", str(options.seed))
            failed += bool(subprocess.run(command, env=environment(target), cwd=target).returncode)
        if options.inputs:
            command = program("tests.fuzz.items", "--inputs", str(options.inputs))
            failed += bool(subprocess.run(command, env=environment(target), cwd=target).returncode)
        if options.tests is not None:
            left_out = [f"--ignore-glob={name}" for name in LEFT_OUT]
            command = [sys.executable, "-c", PYTEST, "-p", "no:faulthandler", *left_out,
                       *(options.tests or TESTS)]
            failed += bool(subprocess.run(command, env=environment(target), cwd=TOP).returncode)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
