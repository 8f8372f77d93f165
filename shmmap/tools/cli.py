"""The command line: `python -m shmmap ls | info NAME | fsck NAME | unlink NAME... | prune |
dump NAME FILE | load FILE NAME | resize NAME | migrate NAME | gates [NAME] | metrics | top |
size | torture | doctor`.

Exit codes: 0 all is well, 1 a problem (said on stderr, or a FAIL line of doctor), 2 wrong usage;
fsck has its own (see its --help).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Sequence

from .. import __version__
from ..copies import merging
from ..errors import MapMismatchWarning, ShmMapError
from ..lifecycle import control
from ..lifecycle.names import check_name, namespace_of
from ..lifecycle.parameters import Options, argument, as_text, check_mode
from ..map import ShmMap
from ..memory.layout import LAYOUT_VERSION, constants
from ..memory.words import ShardWords
from ..operations.messages import state_of
from ..printable import never_fail_to_print, printable
from ..system import elsewhere, segment
from ..system.descriptors import fill_standard
from ..torture import command as torture
from . import (
    doctor,
    exporter,
    findings,
    fsck,
    gating,
    inspection,
    migrating,
    overview,
    pruning,
    reshaping,
    resizing,
    sizing,
    unlinking,
)
from .inspection import SeenMap, SeenWorker
from .top import command as top

K = constants()
SHOWN = 4  # of what could not be removed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    if arguments is None:  # run as a program: what a program has is ours
        fill_standard()
    never_fail_to_print()
    options = _parser().parse_args(arguments)
    try:
        if options.command != "size":  # that one only counts
            elsewhere.refuse(options.command)
        with warnings.catch_warnings():  # of another flavour of a name: `ls` shows them all
            warnings.simplefilter("ignore", MapMismatchWarning)
            code: int = options.run(options)
        if sys.stdout is not None:  # `>&-`: there is none, and nobody wants to know
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # `... | head` has seen enough; Python would complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (ShmMapError, OSError) as error:
        return findings.say(str(error))
    except MemoryError:
        return findings.say("this process got no more memory (ulimit -v, or a limit of its "
                            "container)")


def _parser() -> argparse.ArgumentParser:
    as_module = os.path.basename(sys.argv[0]) in ("__main__.py", "-m", "-c")
    parser = argparse.ArgumentParser(
        prog="python -m shmmap" if as_module else "shmmap",
        description="Look at, and clean up, the maps of this machine.",
    )
    parser.add_argument("--version", action="version", version=f"shmmap {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    command = commands.add_parser("ls", help="list every map, and what dead processes left")
    command.set_defaults(run=_ls)
    command = commands.add_parser("info", help="show one map: parameters, sizes, workers, balance")
    command.add_argument("name", metavar="NAME", type=_name)
    unlinking.add_flavour(command)
    command.set_defaults(run=_info)
    command = commands.add_parser(
        "fsck", help="check one map, and repair its shards", description=fsck.__doc__,
        epilog=fsck.EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("name", metavar="NAME", type=_name)
    command.add_argument("--repair", action="store_true", help="rebuild damaged shards; asks first")
    command.add_argument("--yes", action="store_true", help="with --repair: do not ask")
    command.set_defaults(run=lambda options: fsck.run(options.name, options.repair, options.yes))
    command = commands.add_parser("unlink", help="remove maps, or what is left of them")
    unlinking.add_command(command, _name)
    command = commands.add_parser("prune", help="remove maps that nobody uses any more")
    pruning.add_command(command)
    command = commands.add_parser("top", help="watch maps: operations, memory, workers")
    top.add_command(command, _name)
    command = commands.add_parser(
        "metrics", help="figures of maps for a monitoring system, printed or over HTTP"
    )
    exporter.add_command(command, _name)
    command = commands.add_parser("dump", help="write a map's entries to a file")
    command.add_argument("name", metavar="NAME", type=_name)
    command.add_argument("file", metavar="FILE")
    command.set_defaults(run=_dump)
    command = commands.add_parser(
        "load", help="merge a dump into a map, or into a new one: the newer entry of a key stays"
    )
    command.add_argument("file", metavar="FILE")
    command.add_argument("name", metavar="NAME", type=_name)
    command.add_argument("--size", help="of the new map, not the dumped one's")
    command.set_defaults(run=_load)
    command = commands.add_parser("resize", help="change a map's shape while all go on using it")
    resizing.add_command(command, _name)
    command.set_defaults(run=lambda options: resizing.run(options, _trusted))
    command = commands.add_parser("replace", help="give a map another shape; entries come along")
    reshaping.add_command(command, _name)
    command.set_defaults(run=lambda options: reshaping.run(options, _trusted(options.name)))
    command = commands.add_parser(
        "migrate", help="bring over the entries of a map that another version or engine made"
    )
    migrating.add_command(command, _name, _load)
    command = commands.add_parser("gates", help="show a map's feature gates, or switch one")
    gating.add_command(command, _name)
    command.set_defaults(run=lambda options: gating.run(options, _trusted))
    command = commands.add_parser("size", help="recommend size= and value_size= for your entries")
    sizing.add_command(command)
    command = commands.add_parser(
        "torture", help="kill, stop and fork workers of a map of its own: nothing may get lost"
    )
    torture.add_command(command)
    command = commands.add_parser("doctor", help="check engine, compiler, kernel, leftovers")
    command.set_defaults(run=lambda options: doctor.run(inspection.find_maps))
    return parser


def _name(text: str) -> str:
    try:
        return check_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# -- ls ---------------------------------------------------------------------------------


def _ls(options: argparse.Namespace) -> int:
    seen = inspection.find_maps()
    if not seen:
        print("no maps")
        return 0
    heads = ("NAME", "STATE", "ENGINE", "LAYOUT", "ENTRIES", "SIZE", "ALLOCATED", "WORKERS",
             "OWNER")
    hidden: list[str] = []
    table = [heads, *(_row(one, hidden) for one in seen)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    namespace = None  # maps of one are together, between empty lines
    for row in table:
        if row is not heads and namespace_of(row[0]) != namespace:
            if namespace is not None:
                print()
            namespace = namespace_of(row[0])
        cells = [
            cell.rjust(width) if 3 <= place <= 7 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    for one in seen:
        if one.problem:
            print(f"{one.label}: {one.problem}")
    for line in hidden:
        print(line)
    left = [one for one in seen if one.leftover and os.geteuid() in (0, one.owner)]
    if left:
        print(f"remove the leftovers with: {findings.unlink_command(left)}")
    return 0


def _row(one: SeenMap, hidden: list[str]) -> tuple[str, ...]:
    """Return the cells of a map; add a line to `hidden` where not all of them can be told."""
    state = f"{one.state} (leftover)" if one.leftover else one.state
    entries = size = "-"
    engine, layout = overview.engine_of(one) or "-", str(overview.layout_of(one) or "-")
    if one.state in ("ready", inspection.LINGERS, "abandoned") and one.control:
        shards = inspection.shards_of(one)
        entries = f"{sum(shard.entries for shard in shards):,}"
        if bad := [shard for shard in shards if shard.header is None]:
            entries = "?"
            hidden.append(f"{one.label}: {len(bad):,} of {len(shards):,} shards not readable, the "
                          f"first: {bad[0].problem}")
        size = findings.human(control.geometry_of(one.control).total_bytes)
        if moving := inspection.move_in_words(one.control):
            hidden.append(f"{one.label}: moving {moving}")
    count = "-" if one.workers is None else str(len(one.workers))
    return (
        one.name, state, engine, layout, entries, size, findings.human(one.allocated), count,
        findings.user_name(one.owner),
    )


# -- info -------------------------------------------------------------------------------


def _info(options: argparse.Namespace) -> int:
    seen = inspection.find_maps(options.name)
    if options.engine or options.layout is not None:
        seen = unlinking.chosen(seen, options.engine, options.layout)
    if not seen:
        return findings.say(f"no map {options.name!r}")
    one = seen[0]
    if one.state not in ("ready", inspection.LINGERS):
        return findings.say(f"map {one.label!r} is {one.state}: {one.problem}")
    for other in seen[1:]:
        print(f"there is another map of that name: {other.label}")
    for title, lines in (
        (f"map {one.name}", _about(one)), ("parameters", _parameters(one)),
        ("layout", _layout(one)), ("operations by all workers", _operations(one)),
        ("shards", _balance(one)), ("workers", _workers(one)),
    ):
        print(title)
        for name, value in lines:
            print(f"  {name:<16}{value}".rstrip())
    return 0


_Lines = list[tuple[str, object]]


def _about(one: SeenMap) -> _Lines:
    assert one.control is not None
    return [
        ("owner", findings.user_name(one.owner)),
        ("engine", control.ENGINES[one.control.ENGINE]),
        ("nonce", f"{one.control.NONCE:016x}"),
        ("objects", f"{len(one.objects):,} in {segment.SHM_DIRECTORY}"),
        ("size", f"{control.geometry_of(one.control).total_bytes:,} bytes at most"),
        ("allocated", f"{one.allocated:,} bytes now"),
    ]


def _parameters(one: SeenMap) -> _Lines:
    assert one.control is not None
    lines: _Lines = []
    for field, value in inspection.parameters_of(one.control)._asdict().items():
        if field not in ("shards", "hash_seed"):
            text = as_text(field, value)
            without = "none" if field.endswith("_ns") else "not said"
            lines.append((argument(field), without if text is None else text))
    return lines


def _layout(one: SeenMap) -> _Lines:
    assert one.control is not None
    shape = control.geometry_of(one.control)
    moving = inspection.move_in_words(one.control)
    return [
        ("version", LAYOUT_VERSION), ("shards", f"{shape.shards:,}"),
        *([("moving", moving)] if moving else []),
        ("slots a shard", f"{shape.slots:,} of {shape.slot_size:,} bytes"),
        ("buckets a shard", f"{shape.buckets:,}"),
        ("largest entry", f"{shape.max_entry_bytes:,} bytes of key and value"),
    ]


def _operations(one: SeenMap) -> _Lines:
    assert one.control is not None
    lines: _Lines = [
        (name.replace("_", " "), f"{count:,}")
        for name, count in inspection.counters_of(one.control).items()
    ]
    return [*lines, ("sweeps", f"{one.control.SWEEP_EPOCH:,}")]


def _balance(one: SeenMap) -> _Lines:
    assert one.control is not None
    shards = inspection.shards_of(one)
    headers = [shard.header for shard in shards if shard.header]
    entries = sorted((shard.entries, shard.generation, shard.number) for shard in shards)
    used = sum(max(0, shard.shape.slots - shard.header.FREE_SLOTS)
               for shard in shards if shard.header)
    total = sum(shard.shape.slots for shard in shards)
    bad = [shard for shard in shards if shard.header is None]
    is_moving = len({shard.generation for shard in shards}) > 1

    def label(generation: int, number: int) -> str:
        return f"{generation}.{number}" if is_moving else str(number)

    (least, *lowest), (most, *highest) = entries[0], entries[-1]
    live_bytes, evicted, expired, aged, repairs = (
        sum(header[word] for header in headers)
        for word in (ShardWords.LIVE_BYTES, ShardWords.EVICTED, ShardWords.EXPIRED,
                     ShardWords.AGED, ShardWords.REPAIRS)
    )
    return [
        ("entries", f"{sum(count for count, _, _ in entries):,}"),
        ("live bytes", f"{live_bytes:,} of keys and values, expired ones included"),
        ("slots used", f"{used:,} of {total:,} ({used / total:.1%})"),
        ("balance", f"least {least:,} (shard {label(*lowest)}), "
                    f"median {entries[len(entries) // 2][0]:,}, "
                    f"most {most:,} (shard {label(*highest)})"),
        ("removed", f"{evicted:,} evicted, {expired:,} expired, "
                    f"{aged:,} by age"),
        ("repairs", f"{repairs:,}"),
        *([("not readable", ", ".join(f"{label(one.generation, one.number)} ({one.problem})"
                                      for one in bad))] if bad else []),
    ]


def _workers(one: SeenMap) -> _Lines:
    if one.workers is None:
        return [("not known", printable(one.unknown))]
    if not one.workers:
        return [("none", "")]
    return [(f"row {worker.row}", _describe(worker)) for worker in one.workers]


def _describe(worker: SeenWorker) -> str:
    if not worker.namespace_is_ours:
        return f"pid {worker.pid} of another pid namespace"
    name, found, state = state_of(worker.pid).rpartition(", ")
    return f"pid {worker.pid}  {name}  {state}" if found else f"pid {worker.pid}  ({state})"


# -- dump and load ---------------------------------------------------------------------


def _dump(options: argparse.Namespace) -> int:
    with ShmMap.attach(options.name, **_trusted(options.name)) as m:
        report = m.dump(options.file)
    print(f"{report.entries:,} entries in {report.bytes:,} bytes ({report.seconds:.2f} s)")
    return 0


def _trusted(name: str) -> Options:
    """Return what has to be said to attach to a map that its owner shares, or that root looks into.
    Nothing is unpickled here, so nobody has to be trusted for more than the bytes."""
    said: Options = {"namespace": namespace_of(name)}  # a full name, whatever the environment says
    seen = inspection.find_map(name)
    if seen is None or seen.state not in ("ready", inspection.LINGERS) or not seen.control:
        return said
    try:
        check_mode(seen.control.MODE)
    except ValueError:
        return said
    said |= inspection.attach_options(seen)
    if os.geteuid() not in (0, seen.owner):
        del said["owner_uid"]
    return said


def _load(options: argparse.Namespace) -> int:
    said = _trusted(options.name)
    if options.size:
        said |= {"size": options.size, "on_mismatch": "raise"}
    try:
        m, report = merging.load(ShmMap, options.file, options.name, said)
    except (TypeError, ValueError) as error:  # pickles for a safe map; no size
        return findings.say(str(error))
    m.close()
    print(
        f"{report.written:,} entries written to {options.name}; {report.older:,} were older, "
        f"{report.expired:,} expired ({report.seconds:.2f} s)"
    )
    return 0
