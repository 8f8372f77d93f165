"""The command line: `python -m shmmap COMMAND`, or just `shmmap COMMAND`.

Each module of COMMANDS has commands of its own: what they are called, what they take, what runs
them, and examples.

Exit codes: 0 all is well, or found; 1 a problem (said on stderr, or a FAIL line of doctor), or not
found; 2 wrong usage; 128 + 2 after Ctrl+C. fsck has its own (see its --help).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Sequence

from .. import __version__
from ..errors import MapMismatchWarning, ShmMapError
from ..printable import never_fail_to_print
from ..system import elsewhere
from ..system.descriptors import fill_standard
from ..torture import command as torture
from . import (
    changing,
    completion,
    copying,
    describing,
    doctor,
    entries,
    exporter,
    figures,
    findings,
    fsck,
    gating,
    happenings,
    listing,
    lock_list,
    migrating,
    pruning,
    reshaping,
    resizing,
    sizing,
    soundness,
    tier_seen,
    unlinking,
    watching,
)
from . import inspection as inspection
from .keys_written import WrongUsage
from .named import Command
from .top import command as top
from .ui import command as ui
from .usage import Parser, no_command

COMMANDS: tuple[Command, ...] = (
    *listing.COMMANDS, *describing.COMMANDS, *figures.COMMANDS, *entries.COMMANDS,
    *top.COMMANDS, *ui.COMMANDS, *watching.COMMANDS, *happenings.COMMANDS,
    *lock_list.COMMANDS, *tier_seen.COMMANDS,
    *exporter.COMMANDS, *soundness.COMMANDS, *fsck.COMMANDS,
    *changing.COMMANDS, *unlinking.COMMANDS, *pruning.COMMANDS, *copying.COMMANDS,
    *resizing.COMMANDS, *reshaping.COMMANDS, *migrating.COMMANDS, *gating.COMMANDS,
    Command("size", "recommend size= and value_size= for your entries", sizing.add_command,
            ("shmmap size --entries 100000 --value-bytes 500",)),
    Command("torture", "kill, stop and fork workers of a map of its own: nothing may get lost",
            torture.add_command, ("shmmap torture --minutes 1",)),
    *doctor.COMMANDS, *completion.COMMANDS,
)
ANYWHERE = ("size", "completion")  # need no shared memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    if arguments is None:  # run as a program: what a program has is ours
        fill_standard()
    never_fail_to_print()
    given = sys.argv[1:] if arguments is None else arguments
    parser = make_parser()
    if given and not given[0].startswith("-") and given[0] not in (known := names()):
        parser.error(no_command(given[0], known))
    options = parser.parse_args(given)
    try:
        if options.command not in ANYWHERE:
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
    except WrongUsage as error:
        findings.say(str(error))
        return 2
    except (ShmMapError, OSError) as error:
        return findings.say(str(error))
    except MemoryError:
        return findings.say("this process got no more memory (ulimit -v, or a limit of its "
                            "container)")


def names() -> list[str]:
    """Return the names of all commands."""
    return [one.name for one in COMMANDS]


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    as_module = os.path.basename(sys.argv[0]) in ("__main__.py", "-m", "-c")
    parser = Parser(
        prog="python -m shmmap" if as_module else "shmmap",
        description="Look at the maps of this machine, change them, and clean up.",
        epilog="NAME is a map's, as `ls` prints it; a KEY is a str unless an option says so.",
    )
    parser.add_argument("--version", action="version", version=f"shmmap {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for one in COMMANDS:
        _add(commands.add_parser(one.name, help=one.help), one)
    return parser


def _add(command: argparse.ArgumentParser, one: Command) -> None:
    """Say to a command's parser what it takes, and how that looks."""
    one.add(command)
    command.description = command.description or f"{one.help[0].upper()}{one.help[1:]}."
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    examples = "\n".join(["examples:", *(f"  {line}" for line in one.examples)])
    command.epilog = "\n\n".join(filter(None, (command.epilog, examples)))
