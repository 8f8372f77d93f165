"""How a key, a value and a ttl are written on the command line.

A KEY is a str as it stands. `--int`: a whole number; `--literal`: a Python literal, for numbers,
bytes, None and tuples, such as "('user', 7)"; `--hex`: bytes. A VALUE is a str as well, or what
`--json`, `--int` or `--literal` make of it; `-` is what stdin has, as bytes unless one of them
says otherwise.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import sys
from typing import Any

from ..checks import Key
from ..values._keys_cy import pack

NEVER = "never"


class WrongUsage(Exception):
    """What was written on the command line makes no sense: exit code 2."""


def add_key(
    command: argparse.ArgumentParser, nargs: str | None = None, beside_value: bool = False
) -> None:
    """Have a command take a KEY, or several; `beside_value`: it takes a VALUE too, and `--int` and
    `--literal` are about that."""
    command.add_argument("key", metavar="KEY", nargs=nargs, help="a str, unless an option says "
                         "otherwise; write -- before one that begins with -")
    add_key_kinds(command, beside_value)


def add_key_kinds(command: argparse.ArgumentParser, beside_value: bool = False) -> None:
    """Have a command take the options that say what a KEY is."""
    kinds = command.add_mutually_exclusive_group()
    for kind, said in (("int", "a whole number"), ("hex", "bytes, in hexadecimal digits"),
                       ("literal", "a Python literal, such as \"('user', 7)\" or \"b'x'\"")):
        short = [] if beside_value else [f"--{kind}"]
        kinds.add_argument(*short, f"--key-{kind}", dest="key_kind", action="store_const",
                           const=kind, default="text", help=f"KEY is {said}")


def read_key(options: argparse.Namespace, text: str) -> Key:
    """Return the key that was written. Raises WrongUsage; EntryTooLarge for a Decimal that is."""
    key: Key = _READERS[options.key_kind](text, "KEY")
    try:
        pack(key)
    except (TypeError, RecursionError) as error:
        raise WrongUsage(f"KEY {text!r}: {error}") from None
    return key


def add_value(command: argparse.ArgumentParser) -> None:
    """Have a command take a VALUE."""
    command.add_argument("value", metavar="VALUE", help="a str, unless an option says otherwise; "
                         "-: what stdin has")
    kinds = command.add_mutually_exclusive_group()
    for kind, said in (("text", "a str (as it is without any of these)"),
                       ("json", "JSON"), ("int", "a whole number"),
                       ("literal", "a Python literal")):
        kinds.add_argument(f"--{kind}", dest="value_kind", action="store_const", const=kind,
                           help=f"VALUE is {said}")


def read_value(options: argparse.Namespace) -> Any:
    """Return the value that was written. Raises WrongUsage, OSError."""
    kind: str | None = options.value_kind
    if options.value != "-":
        return _READERS[kind or "text"](options.value, "VALUE")
    if sys.stdin is None:
        raise WrongUsage("VALUE - is what stdin has, and stdin is closed")
    data = sys.stdin.buffer.read()
    if kind is None:
        return data
    try:
        return _READERS[kind](data.decode(), "VALUE")
    except UnicodeDecodeError as error:
        raise WrongUsage(f"stdin is not UTF-8: {error}; without --{kind} it is bytes") from None


def ttl(text: str) -> float | None:
    """Read a ttl, for argparse: seconds, or never."""
    if text == NEVER:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < 1e11:
        raise argparse.ArgumentTypeError(f"{text!r} is no ttl: write seconds, such as 60 or 0.5, "
                                         f"or {NEVER}")
    return seconds


def count(text: str) -> int:
    """Read how many, for argparse."""
    if not text.isdecimal() or len(text) > 18 or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of entries: write 1 or more")
    return int(text)


def _int(text: str, what: str) -> int:
    try:
        return int(text)
    except ValueError:  # also more digits than Python reads
        raise WrongUsage(f"{what} {text!r:.60} is no whole number") from None


def _literal(text: str, what: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise WrongUsage(f"{what} {text!r:.60} is no Python literal: write 7, None, b'x' or "
                         "('user', 7), in quotes for the shell") from None


def _hex(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise WrongUsage(f"{what} {text!r:.60} is not of hexadecimal digits, two a byte") from None


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"{what} {text!r:.60} is no JSON: {error}") from None


_READERS: dict[str, Any] = {
    "text": lambda text, what: text, "int": _int, "literal": _literal, "hex": _hex, "json": _json,
}
