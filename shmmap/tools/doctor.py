"""`python -m shmmap doctor`: is this machine, and this installation, fit for shmmap?

Each check tries the thing itself where that can be done, and gives lines of OK, WARN (works,
but slower or weaker) or FAIL (does not work), each with what to do.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import _engine
from ..lifecycle import control, siblings
from ..memory import _hash_cy
from ..memory._clock_cy import Clock
from ..operations import _care_cy
from ..printable import printable_lines
from ..system import segment
from ..system.flavours import OWN
from . import inspection, json_out, named
from .allowances import (
    check_creators,
    check_limits,
    check_logind,
    check_namespaces,
    check_proc,
)
from .findings import Line, human, python, unlink_command
from .inspection import SeenMap
from .machine import PATIENCE_S, check_record_locks, check_shm, check_wipe_on_fork

if TYPE_CHECKING:
    from importlib.metadata import Distribution

PACKAGE = Path(__file__).resolve().parents[1]
SHOWN = 20  # maps of one line
OVERDUE_NS = 10 * 10**9  # beside some intervals, in which a sweep may fail or be late
_TEST_RUN = re.compile(r"t(\d+)-\d+")  # how the tests name their maps: t<pid>-<number>


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    json_out.add_option(command)
    command.set_defaults(run=lambda options: run(inspection.find_maps, options.as_json))


def run(find_maps: Callable[[], Sequence[SeenMap]], as_json: bool = False) -> int:
    """Print every check's lines; return 1 if any failed."""
    failed = False
    if as_json:
        lines = list(_findings(find_maps))
        failed = any(line.status == "FAIL" for line in lines)
        json_out.show("doctor", is_fit=not failed, findings=[line._asdict() for line in lines])
        return int(failed)
    for line in _findings(find_maps):
        print(printable_lines(f"{line.status:<5} {line.about:<13} {line.text}"))
        for part in line.todo.splitlines():
            print(printable_lines(f"{'':<20}-> {part}"))
        failed = failed or line.status == "FAIL"
    return int(failed)


def _findings(find_maps: Callable[[], Sequence[SeenMap]]) -> Iterator[Line]:
    """Run every check; one that breaks is a finding too, and does not stop the others."""
    for about, check in (
        ("versions", check_versions), ("engine", check_engine), ("probes", check_probes),
        ("package", check_copies),
        ("compiler", check_compiler), ("hash", check_hash), (segment.SHM_DIRECTORY, check_shm),
        ("record locks", check_record_locks), ("wipe on fork", check_wipe_on_fork),
        ("proc", check_proc), ("limits", check_limits), ("namespaces", check_namespaces),
        ("creators", check_creators), ("logout", check_logind),
        ("leftovers", lambda: check_leftovers(find_maps())),
        ("flavours", lambda: check_flavours(find_maps())),
        ("sweeping", lambda: check_sweeping(find_maps())),
    ):
        try:
            yield from check()
        except OSError as error:
            yield Line("FAIL", about, f"could not be looked at: {error}")
        except subprocess.TimeoutExpired as error:
            yield Line("FAIL", about, f"no answer within {error.timeout:g} s of: {error.cmd}")
        except Exception as error:
            yield Line("FAIL", about, f"the check itself failed: {type(error).__name__}: {error}")


# -- this installation --------------------------------------------------------------------


def check_versions() -> list[Line]:
    """Python, the C library, the kernel and the packages this one rests on."""
    from importlib.metadata import version as version_of

    library, version = platform.libc_ver()
    packages = ", ".join(
        f"{name} {version_of(name)}"
        for name in ("posix-ipc", "xxhash", "numpy", "psutil")
    )
    text = (
        f"Python {platform.python_version()}, {library or 'C library'} {version or 'unknown'}, "
        f"Linux {platform.release()}, {packages}"
    )
    if library == "glibc" and tuple(map(int, version.split(".")[:2])) < (2, 30):
        return [Line("WARN", "versions", text, "before glibc 2.30 waits for a lock follow the wall "
                     "clock: setting it back makes them longer")]
    return [Line("OK", "versions", text)]


def check_engine() -> list[Line]:
    """Which engine runs, and why."""
    present = _engine.compiled_modules()
    total = len(_engine.MODULES)
    wanted = os.environ.get(_engine.VARIABLE, "")
    if control.ENGINE == "compiled":
        stale = _compiled_before_source()
        if stale:
            return [Line("WARN", "engine", "compiled, but before these changed: "
                         + ", ".join(stale), reinstall_command())]
        why = f"{_engine.VARIABLE}=compiled" if wanted else "it is there and nothing forbids it"
        return [Line("OK", "engine", f"compiled, all {total} modules, because {why}: {PACKAGE}")]
    hidden = [directory for directory, _ in installations() if directory != PACKAGE]
    if hidden and _is_checkout(PACKAGE) and not wanted:
        return [Line("WARN", "engine", f"pure, because the source tree {PACKAGE} hides the "
                     f"installed {hidden[0]}", "cd elsewhere and run doctor again")]
    if wanted == "pure" and len(present) == total:
        return [Line("WARN", "engine", f"pure, because {_engine.VARIABLE}=pure is set; all {total} "
                     f"modules are compiled: {PACKAGE}", f"unset {_engine.VARIABLE}")]
    missing = sorted(set(_engine.MODULES) - set(present))
    some = f" ({', '.join(missing)})" if present else ""
    return [Line(
        "WARN", "engine",
        f"pure, because {len(missing)} of {total} modules are not compiled{some}: {PACKAGE}",
        f"with a compiler (see below), reinstall: {reinstall_command()}\n"
        "then bring over what maps of the pure engine hold: python -m shmmap migrate NAME",
    )]


def check_probes() -> list[Line]:
    """Whether a tracer such as bpftrace finds static probes in this engine."""
    if _care_cy.HAS_PROBES:
        return [Line("OK", "probes", f"yes: usdt:{PACKAGE}/*/*.so:shmmap:*")]
    why = ("they were turned off, or the compiler had no <sys/sdt.h>"
           if control.ENGINE == "compiled" else "the pure engine has none")
    return [Line("OK", "probes", f"no: {why}")]


def _compiled_before_source() -> list[str]:
    """List modules built in place whose source is newer: the old compiled file wins."""
    if not _is_checkout(PACKAGE):
        return []  # an installer writes files in any order
    found = []
    for name in _engine.MODULES:
        source = Path(f"{_engine.path_of(name)}.py")
        built = max(file.stat().st_mtime for file in source.parent.glob(f"{source.stem}.*.so"))
        if built < source.stat().st_mtime:
            found.append(name)
    return found


def _is_checkout(package: Path) -> bool:
    return (package.parent / "setup.py").exists() and (package.parent / "pyproject.toml").exists()


def installations() -> list[tuple[Path, Distribution]]:
    """List where shmmap is installed: the package's directory, and its metadata."""
    from importlib.metadata import distributions

    found = []
    for one in distributions(name="shmmap"):
        source = _editable_directory(one)
        directory = Path(source) / "shmmap" if source else Path(str(one.locate_file("shmmap")))
        directory = directory.resolve()
        # A build leaves shmmap.egg-info in the checkout: that is no installation.
        if source or not _is_checkout(directory):
            found.append((directory, one))
    return found


def _direct_url(one: Distribution) -> dict[str, object]:
    """Read where an installer got a distribution from (PEP 610); {}: from an index."""
    try:
        found = json.loads(one.read_text("direct_url.json") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _editable_directory(one: Distribution) -> str:
    found = _direct_url(one)
    info = found.get("dir_info")
    if isinstance(info, dict) and info.get("editable"):
        return _path_of(str(found.get("url", "")))
    return ""


def _path_of(url: str) -> str:
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path)


def check_copies() -> list[Line]:
    """Whether the package that runs is the one that is installed."""
    installed = installations()
    here = [one for directory, one in installed if directory == PACKAGE]
    others = [directory for directory, _ in installed if directory != PACKAGE]
    if here or not others:
        how = "editable, from its checkout" if here and _editable_directory(here[0]) else (
            "as installed" if here else "from a directory that no installer made"
        )
        return [Line("OK", "package", f"runs {how}: {PACKAGE}")]
    return [Line("WARN", "package", f"runs from {PACKAGE}, while another copy is installed in "
                 f"{others[0]}", "Python prefers a package in the current directory: cd elsewhere "
                 "to run the installed one")]


def install_source() -> tuple[str, str]:
    """Return what pip must be told to install the same again, and a caveat ("" for none)."""
    if _is_checkout(PACKAGE):
        editable = any(d == PACKAGE and _editable_directory(one) for d, one in installations())
        return ("-e " if editable else "") + shlex.quote(str(PACKAGE.parent)), ""
    for directory, one in installations():
        if directory != PACKAGE:
            continue
        found = _direct_url(one)
        url = str(found.get("url", ""))
        vcs = found.get("vcs_info")
        if isinstance(vcs, dict):
            at = f"{vcs.get('vcs')}+{url}@{vcs.get('commit_id')}"
            folder = found.get("subdirectory")
            return shlex.quote(at + (f"#subdirectory={folder}" if folder else "")), ""
        if url.startswith("file:"):
            path = _path_of(url)
            gone = "" if os.path.exists(path) else f"{path} is gone: give the path of a new copy"
            return shlex.quote(path), gone
        return (shlex.quote(url) if url else f"shmmap=={one.version}"), ""
    return "shmmap", ""


def reinstall_command() -> str:
    """Return the command that compiles this package anew, whatever pip has in its cache.

    --no-binary alone still takes a wheel that pip built and cached before (since pip 23.1),
    --no-cache-dir alone still takes a wheel from the index: it takes both.
    """
    source, caveat = install_source()
    command = (
        f"SHMMAP_BUILD=compiled {python()} -m pip install --force-reinstall --no-deps "
        f"--no-cache-dir --no-binary shmmap {source}"
    )
    if importlib.machinery.PathFinder.find_spec("pip") is None:  # setuptools' hook may warn
        command = f"{python()} -m ensurepip && {command}"
    return command + (f"\n{caveat}" if caveat else "")


def check_compiler() -> list[Line]:
    """Whether C that uses Python's headers compiles: tried."""
    chosen = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    try:
        words = shlex.split(str(chosen)) or ["cc"]
    except ValueError as error:
        return [Line("WARN", "compiler", f"CC={chosen!r} cannot be read: {error}", "unset CC")]
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-dev"
    install = f"on Debian or Ubuntu: apt-get install gcc libc6-dev {package}"
    if not shutil.which(words[0]):
        # Without a compiler a compiled engine goes on working: only a rebuild would not.
        status = "OK" if control.ENGINE == "compiled" else "WARN"
        return [Line(status, "compiler", f"none ({words[0]} is not there)",
                     "" if status == "OK" else install)]
    include = sysconfig.get_path("include")
    made = subprocess.run(
        [*words, "-fsyntax-only", f"-I{include}", "-x", "c", "-"], input=b"#include <Python.h>\n",
        capture_output=True, timeout=PATIENCE_S, check=False,
    )
    if made.returncode:
        status = "OK" if control.ENGINE == "compiled" else "WARN"
        return [Line(status, "compiler", f"{words[0]} is there, but does not compile Python.h "
                     f"(looked in {include})", "" if status == "OK" else install)]
    return [Line("OK", "compiler", f"{shutil.which(words[0])} compiles against Python.h")]


def check_hash() -> list[Line]:
    """Whether xxhash's C function can be called directly, as the compiled engine likes to."""
    if _hash_cy._c_function_address():
        return [Line("OK", "hash", "the C function of the xxhash package can be called")]
    return [Line("WARN", "hash", "the xxhash package does not export its C function: each key is "
                 "hashed through Python, a little slower", "install xxhash as a wheel")]


# -- maps -----------------------------------------------------------------------------------


def check_leftovers(maps: Sequence[SeenMap]) -> list[Line]:
    """What the dead left in /dev/shm, test runs included."""
    mine = [one for one in maps if os.geteuid() in (0, one.owner)]
    dead = [one for one in mine if one.leftover]
    tests = [one for one in mine if one not in dead and _is_of_a_dead_test_run(one)]
    lines = []
    for found, whose in ((dead, "of dead or half-made maps"), (tests, "of test runs that died")):
        if found:
            more = f", and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
            lines.append(Line(
                "WARN", "leftovers", f"{human(sum(one.allocated for one in found))} {whose}: "
                + ", ".join(f"{one.name} ({one.state})" for one in found[:SHOWN]) + more,
                unlink_command(found),
            ))
    others = [one for one in maps if one.leftover and one not in mine]
    if others:
        lines.append(Line(
            "WARN", "leftovers", f"{len(others):,} of other users, the first: {others[0].name} "
            f"({others[0].state})", "their users, and root, can look at them and remove them",
        ))
    lines += [  # asks, since nobody can know whether it is in use
        Line("WARN", "leftovers", f"{one.name}: {one.problem}",
             unlink_command([one], yes=False))
        for one in mine if one.state == "garbage"
    ][:SHOWN]
    return lines or [Line("OK", "leftovers", f"none; {len(maps)} map(s) in use or kept")]


def check_flavours(maps: Sequence[SeenMap]) -> list[Line]:
    """Whether a name has several maps, one for each version or engine that opened it."""
    mine = [one for one in maps if os.geteuid() in (0, one.owner) and not one.leftover]
    lines = []
    for one in mine:
        if one.flavour == OWN or one.state not in ("ready", "foreign"):
            continue
        has_own = any(each.name == one.name and each.flavour == OWN for each in mine)
        if has_own or one.state == "foreign":
            beside = " beside this one's" if has_own else ""
            lines.append(Line(
                "WARN", "flavours", f"{one.name} is there of the {one.actual}{beside}: "
                "processes of this version and engine do not see its entries",
                siblings.advice(one.name, one.actual),
            ))
    return lines[:SHOWN] or [Line("OK", "flavours", "no name has maps of several versions or "
                                  "engines")]


def check_sweeping(maps: Sequence[SeenMap]) -> list[Line]:
    """Whether somebody sweeps the maps in use: a thread of their processes, which may fail."""
    lines = []
    now_ns = Clock().now_ns()
    for one in maps:
        if one.state != "ready" or not one.control or not one.workers:
            continue
        said = inspection.parameters_of(one.control)
        since_ns = now_ns - 4 * (said.sweep_ns or 0) - OVERDUE_NS
        if not said.sweep_ns or one.control.SWEPT_NS > since_ns:
            continue
        headers = [shard.header for shard in inspection.shards_of(one) if shard.header]
        if any(0 < header.EARLIEST_NS < since_ns for header in headers):
            lines.append(Line(
                "WARN", "sweeping", f"{one.name}: entries are past their ttl, and none of its "
                f"{len(one.workers)} process(es) has swept them. One that has set no ttl does not "
                "sweep; of the others the thread may fail",
                "in each process see m.attachment.sweeper.trouble; m.sweep() does it at once",
            ))
    return lines[:SHOWN]


def _is_of_a_dead_test_run(one: SeenMap) -> bool:
    match = _TEST_RUN.fullmatch(one.name)
    return match is not None and one.workers == () and not os.path.exists(f"/proc/{match[1]}")


COMMANDS = (
    named.Command("doctor", "check engine, compiler, kernel, leftovers", add_command,
                  ("shmmap doctor", "shmmap doctor --json | jq '.findings[] | select(.status != "
                   "\"OK\")'")),
)
