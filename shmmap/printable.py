"""Text of other users and processes, made safe to print.

A process chooses its name, a user the names of files, and whoever writes a dump all that is in
its head. Printed as it is, such a text speaks to the terminal of the person who looks: it sets
titles, moves the cursor, fills the clipboard, turns the direction of what follows. It can also
hold what an encoding cannot say. Whatever comes from others goes through here before it gets into
an error or onto a terminal.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

MOST = 200  # characters of one text; more would bury what is said around it


def printable(text: str | bytes | os.PathLike[str], most: int = MOST) -> str:
    r"""Write all that does not print as escapes, and cut what is too long. Idempotent.

    >>> printable("\x1b]0;title\x07"), printable(b"caf\xc3\xa9 \xff"), printable("x" * 9, most=4)
    ('\\x1b]0;title\\x07', 'café \\udcff', 'xxxx...')
    """
    text = os.fsdecode(text)
    if len(text) > most and text != text[:most] + "...":
        text = text[:most] + "..."
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def printable_lines(text: str) -> str:
    """Make a text of several lines printable, whatever its length; its line ends stay."""
    return "\n".join(printable(line, len(line)) for line in text.split("\n"))


def _escaped(character: str) -> str:
    return ascii(character)[1:-1]  # the codec of that name is a module, not imported before


def never_fail_to_print() -> None:
    """Have stdout and stderr write what their encoding lacks as escapes, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # none, or not a file's
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def human(count: int) -> str:
    """Write a number of bytes in decimal units, as size= reads them.

    >>> human(999), human(64_000_000)
    ('999 B', '64.0 MB')
    """
    if count < 1000:
        return f"{count} B"
    size = float(count)
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"
