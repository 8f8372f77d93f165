"""What is said of a command line that makes no sense: what is meant, and what to do instead."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Collection
from typing import NoReturn

INSTEAD = {
    "bench": "the benchmarks are no part of the package: `python -m bench` in a checkout",
    "delete": "`del` removes entries, `unlink` removes maps",
    "flush": "`clear` removes all entries",
    "gc": "`prune` removes maps that nobody uses, `sweep` removes entries that have expired",
    "help": "it is --help",
    "list": "`ls` lists maps, `keys` and `scan` list entries",
    "remove": "`del` removes entries, `unlink` removes maps",
    "rename": "no map can be renamed while others use it: `dump` it, and `load` it under another "
              "name",
    "repair": "`fsck` repairs a map",
    "rm": "`del` removes entries, `unlink` removes maps",
    "show": "`info` shows a map, `get` shows an entry",
    "version": "it is --version",
}
"""Commands that there are not, and what whoever writes one may look for."""


class Parser(argparse.ArgumentParser):
    """An argparse.ArgumentParser whose errors say what to do next."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end the process with 2."""
        end = "" if message.endswith((".", "?")) else "."
        super().error(f"{message}{end} For help: {self.prog} --help")


def no_command(word: str, commands: Collection[str]) -> str:
    """Say that there is no such command, and which may be meant."""
    if word in INSTEAD:
        return f"there is no command {word!r}: {INSTEAD[word]}"
    alike = difflib.get_close_matches(word, commands)
    meant = " or ".join(map(repr, alike))
    return f"there is no command {word!r}" + (f": is it {meant}?" if alike else "")
