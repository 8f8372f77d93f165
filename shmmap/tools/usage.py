"""What is said of a command line that makes no sense: what is meant, and what to do instead."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Collection
from typing import NoReturn

from ..printable import printable

_NO_RENAME = "no map can be renamed while in use: `dump` it, and `load` it under another name"
_REMOVED = "`del` removes entries, `unlink` removes maps"
INSTEAD = {
    "bench": "the benchmarks are no part of the package: `python -m bench` in a checkout",
    "cp": "`dump` a map, and `load` it under another name",
    "create": "a map is made by the program that opens it first, or by `load`",
    "delete": _REMOVED,
    "flush": "`clear` removes all entries",
    "gc": "`prune` removes maps that nobody uses, `sweep` removes entries that have expired",
    "help": "it is --help",
    "list": "`ls` lists maps, `keys` and `scan` list entries",
    "mv": _NO_RENAME,
    "put": "`set` writes an entry",
    "remove": _REMOVED,
    "rename": _NO_RENAME,
    "repair": "`fsck` repairs a map",
    "restore": "`load` merges a dump into a map",
    "rm": _REMOVED,
    "show": "`info` shows a map, `get` shows an entry",
    "unlock": "`locks --break` frees a named lock",
    "version": "it is --version",
}
"""Commands that there are not, and what whoever writes one may look for."""
_ALIKE = 0.75  # at least: `create` is not `replace`


class Parser(argparse.ArgumentParser):
    """An argparse.ArgumentParser whose errors say what to do next."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end the process with 2."""
        message = printable(message, most=2000)
        end = "" if message.endswith((".", "?")) else "."
        super().error(f"{message}{end} For help: {self.prog} --help")


def no_command(word: str, commands: Collection[str]) -> str:
    """Say that there is no such command, and which may be meant."""
    said = f"there is no command '{printable(word, most=60)}'"
    alike = difflib.get_close_matches(word[:60].lower(), [*commands, *INSTEAD], cutoff=_ALIKE)
    known = [one for one in alike if one in commands]
    if alike and alike[0] in INSTEAD:
        return f"{said}: {INSTEAD[alike[0]]}"
    return said + (f": is it {' or '.join(map(repr, known))}?" if known else "")
