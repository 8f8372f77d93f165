"""Check one map from outside, and repair its shards: `python -m shmmap fsck NAME`.

First what can be seen without touching anything: the control segment, and that every object is
there with its size, owner and mode. Then, as one more worker of the map, each shard under its
lock: by the code of `ShmMap.check`, and, if asked to, that of `ShmMap.repair`. Other workers go on
meanwhile, and wait for one shard at a time.

A shard can be repaired, since all but its slots is derived from them. A control segment, or an
object that is missing or has another size, cannot.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import LockTimeout, MapCorrupted, ShmMapError
from ..lifecycle import checking, control, stats
from ..lifecycle.names import namespace_of
from ..lifecycle.parameters import check_mode
from ..map import ShmMap
from ..memory import geometry
from ..memory.words import ShardWords, Word
from ..printable import printable_lines
from ..system import segment
from . import findings, inspection, named
from .inspection import SeenMap

if TYPE_CHECKING:
    from ..shard._shard_cy import Shard

# what the exit code is the sum of; as those of fsck(8)
CLEAN, REPAIRED, LEFT, FAILED = 0, 1, 4, 8
EXIT_CODES = (
    "exit codes: 0 clean; 1 problems were found and repaired; 4 problems are left; 8 something "
    "could not be looked at; the sum where several are true; 2 wrong usage"
)
SHOWN = 10  # problems of one shard
LOCK_TIMEOUT_S = 5.0


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    command.description = __doc__
    command.epilog = EXIT_CODES
    named.add_name(command)
    command.add_argument("--repair", action="store_true", help="rebuild damaged shards; asks first")
    command.add_argument("--yes", action="store_true", help="with --repair: do not ask")
    command.set_defaults(run=lambda options: run(options.name, options.repair, options.yes))


def run(name: str, repairs: bool, yes: bool) -> int:
    """Check a map and, if asked to, repair it; print what was found; return the exit code."""
    seen = next(iter(inspection.find_maps(name)), None)
    if seen is None:
        return _fail(findings.no_map(name))
    obstacle = _obstacle(seen)
    if obstacle:
        code, text = obstacle
        return _fail(f"map {name!r} {text}", code)
    problems = list(object_problems(seen))
    for problem in problems:
        print(problem)
    if problems:
        return _fail(f"map {name!r} cannot be repaired as it is. {_advice(seen)}", LEFT)
    lives = f"{len(seen.workers)} live worker(s)" if seen.workers is not None else (
        f"live workers not known ({seen.unknown})")
    print(f"map {name}: control segment sound, {len(seen.objects):,} objects as they should be, "
          f"{lives}")
    assert seen.control is not None
    try:
        with ShmMap.attach(
            name, namespace=namespace_of(name), lock_timeout=LOCK_TIMEOUT_S,
            **inspection.attach_options(seen)
        ) as m:
            return check_shards(m, repairs, yes)
    except MapCorrupted as error:
        return _fail(f"{error}. {_advice(seen)}", LEFT)
    except ShmMapError as error:
        return _fail(str(error))


def _fail(text: str, code: int = FAILED) -> int:
    print(f"shmmap: {printable_lines(text)}", file=sys.stderr)
    return code


def _advice(seen: SeenMap) -> str:
    return ("Save what its workers still can read, then remove it (this asks where they live): "
            f"{findings.unlink_command([seen], yes=False)}")


def _obstacle(seen: SeenMap) -> tuple[int, str] | None:
    """Say why a map cannot even be attached to; None: it can, as far as this can be seen."""
    if seen.leftover:
        remove = findings.unlink_command([seen])
        return LEFT, f"is {seen.state}: {seen.problem}; nothing can use it. Remove it: {remove}"
    if seen.state == "garbage":
        return LEFT, f"has a damaged control segment: {seen.problem}. {_advice(seen)}"
    if seen.state not in ("ready", inspection.LINGERS) or seen.control is None:
        return FAILED, f"is {seen.state}: {seen.problem}"
    if os.geteuid() not in (0, seen.owner):
        owner = findings.user_name(seen.owner)
        return FAILED, f"belongs to {owner}: run this as {owner}, or as root"
    mode = seen.control.MODE
    try:
        check_mode(mode)
    except ValueError:
        return LEFT, f"has a damaged control segment: no map has mode {mode:o}. {_advice(seen)}"
    theirs = control.ENGINES[seen.control.ENGINE]
    if theirs != control.ENGINE:
        how = (f"SHMMAP_ENGINE=pure python -m shmmap fsck {seen.name}" if theirs == "pure" else
               "unset SHMMAP_ENGINE, and see python -m shmmap doctor if it is not compiled here")
        return FAILED, (f"was made by the {theirs} engine, and this is the {control.ENGINE} one, "
                        f"which must not take its locks. Check it with the other: {how}")
    return None


# -- objects ------------------------------------------------------------------------------


def object_problems(seen: SeenMap) -> Iterator[str]:
    """List what is wrong with the files behind a map whose control segment is sound."""
    assert seen.control is not None
    nonce = seen.control.NONCE
    mode = seen.control.MODE
    yield from _file_problems(seen, segment.liveness_name(seen.name, nonce), mode, None)
    for shard in inspection.shards_of(seen):
        yield from _file_problems(seen, shard.label, mode, shard.shape.areas.end)
        yield from _file_problems(seen, shard.semaphore, mode, None)
    label, size = segment.locks_name(seen.name, nonce), geometry.lock_geometry().areas.end
    yield from _file_problems(seen, label, mode, size)
    yield from _file_problems(seen, segment.semaphore_file(label), mode, None)


def _file_problems(seen: SeenMap, label: str, mode: int, size: int | None) -> Iterator[str]:
    """List what is wrong with one file; `size` None: any but none at all."""
    try:
        found = os.lstat(segment.SHM_DIRECTORY + label)
    except FileNotFoundError:
        yield f"{label}: is missing"
        return
    if not stat.S_ISREG(found.st_mode):
        yield f"{label}: is not a shared-memory object"
    if found.st_uid != seen.owner:
        yield f"{label}: belongs to {findings.user_name(found.st_uid)}, the map does not"
    if stat.S_IMODE(found.st_mode) & ~mode:
        yield f"{label}: has mode {stat.S_IMODE(found.st_mode):o}, the map has {mode:o}"
    if found.st_size != size if size is not None else not found.st_size:
        belong = f"{size:,} belong" if size is not None else "some belong"
        yield f"{label}: has {found.st_size:,} bytes where {belong}"


# -- shards -------------------------------------------------------------------------------


def check_shards(m: ShmMap, repairs: bool, yes: bool) -> int:
    """Check each shard under its lock, and repair those that need it if that is wanted."""
    code = CLEAN
    clean = shards = 0

    def look(shard: Shard | None) -> None:  # None: that of the named locks
        nonlocal code, clean, shards
        was_clean = False
        try:
            found = _check_shard(m, shard)
            was_clean = found == CLEAN
            if found & LEFT and repairs and _agreed(_label(m, shard), yes):
                found = found & ~LEFT | _repair_shard(m, shard)
        except LockTimeout as error:
            print(f"{_label(m, shard)}: could not be looked at: {error}")
            found = FAILED
        code |= found
        shards += shard is not None
        clean += was_clean and shard is not None

    checking.in_turn(m.attachment, look)
    print(f"{clean:,} of {shards:,} shard(s) were clean")
    if code & LEFT and not repairs:
        print(f"repair with: python -m shmmap fsck --repair {m.name}")
    return code


def _label(m: ShmMap, shard: Shard | None) -> str:
    return checking.label(m.attachment, shard)


def _check_shard(m: ShmMap, shard: Shard | None) -> int:
    """Check one shard; print what was found; return what it adds to the exit code."""
    before = _word(m, shard, ShardWords.REPAIRS)
    problems = _problems(m, shard)
    code = CLEAN
    if _word(m, shard, ShardWords.REPAIRS) != before:
        print(f"{_label(m, shard)}: a change that a dead worker had broken off was repaired, as "
              "any worker does that takes its lock")
        code = REPAIRED
    if not problems:
        return code
    print(f"{_label(m, shard)}: {len(problems):,} problem(s)")
    for problem in problems[:SHOWN]:
        print(f"  {printable_lines(problem)}")
    if len(problems) > SHOWN:
        print(f"  ... and {len(problems) - SHOWN:,} more")
    return code | LEFT


def _problems(m: ShmMap, shard: Shard | None) -> list[str]:
    with m._inside() as attached:
        return checking.check_shard(m, attached, shard)


def _word(m: ShmMap, shard: Shard | None, word: Word) -> int:
    with m._inside() as attached:
        mappings = attached.lock_mappings if shard is None else [
            checking.place_of(attached, shard).mapping
        ]
        return stats.summed(mappings, word)


def _agreed(label: str, yes: bool) -> bool:
    if yes:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        print(f"{label}: not repaired: say --yes, since there is nobody to ask")
        return False
    try:
        answer = input(f"{label}: rebuild it from its slots? Entries that are damaged "
                       "themselves are dropped. [y/N] ")
    except EOFError:
        print()
        return False
    return answer.strip().lower() in ("y", "yes")


def _repair_shard(m: ShmMap, shard: Shard | None) -> int:
    """Repair one shard and check it again; return what that adds to the exit code."""
    with m._inside() as attached:
        checking.repair_shard(m, attached, shard)
    left = _problems(m, shard)
    if left:
        first = printable_lines(left[0])
        print(f"{_label(m, shard)}: still has {len(left):,} problem(s), the first: {first}")
        return LEFT
    print(f"{_label(m, shard)}: repaired, {_word(m, shard, ShardWords.ENTRIES):,} entries kept")
    return REPAIRED


COMMANDS = (
    named.Command("fsck", "check one map under its locks, and repair its shards", add_command,
                  ("shmmap fsck pages --repair",)),
)
