"""The table "what happens x where x which engine", computed from runs.

A cell has the words that came out, over all points tried: how the operation ended, if not as
always; how the deed did; and where a process was forked, the other side. `docs/reentry.md` is
written by a long run; a short one compares what it sees with it, word by word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import deeds, places
from .world import DONE, PURE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reentry.md"
ENGINE = "pure" if PURE else "compiled"
NEVER = "no Python runs there"
Cell = tuple[str, ...]


def words_of(found: Any) -> set[str]:
    """Return the words of a series: `goes on`, or what was raised and to whom."""
    said = {word for word in found.words if word != DONE}
    said |= {f"deed: {word}" for word in found.deed_words if word not in (DONE, *said)}
    other = "daemon" if found.series.deed == "daemon" else "child"
    said |= {f"{other}: {word}" for word in found.child_words}
    if DONE in found.words:
        said.add(DONE)
    return said


def table_of(results: Iterable[Any]) -> dict[tuple[str, str], set[str]]:
    """Put the words of all series into cells, by deed and place."""
    cells: dict[tuple[str, str], set[str]] = {}
    for found in results:
        place, deed, _ = found.series
        cells.setdefault((deed, place), set()).update(words_of(found))
    return cells


def sorted_words(words: Iterable[str]) -> list[str]:
    """Order words: how it goes on first, then errors, then those of others."""
    return sorted(words, key=lambda word: (word != DONE, ":" in word, word))


def page_of(cells: dict[tuple[str, str], set[str]]) -> str:
    """Write the tables of one engine: one for each place, a line for each deed."""
    lines = []
    for place in places.ALL:
        lines += [f"### {place.name}", ""]
        if place not in places.places():
            lines += [f"{NEVER.capitalize()}.", ""]
            continue
        lines += ["| a handler or finalizer | what came of it |", "|---|---|"]
        lines += [
            f"| {deed.word} | {'; '.join(sorted_words(cells[deed.name, place.name]))} |"
            for deed in deeds.DEEDS if cells.get((deed.name, place.name))
        ]
        lines.append("")
    return "\n".join(lines)


def read_page(text: str) -> dict[tuple[str, str], set[str]]:
    """Read the cells of this engine back from the page."""
    part = section(text)
    by_word = {deed.word: deed.name for deed in deeds.DEEDS}
    cells: dict[tuple[str, str], set[str]] = {}
    place = ""
    for line in part.splitlines():
        if line.startswith("### "):
            place = line[4:]
        elif (row := re.fullmatch(r"\| (.+) \| (.+) \|", line)) and row[1] in by_word:
            cells[by_word[row[1]], place] = set(row[2].split("; "))
    return cells


def markers() -> tuple[str, str]:
    """Return what encloses the tables of this engine."""
    return f"<!-- {ENGINE}: generated -->\n", f"<!-- /{ENGINE} -->"


def section(text: str) -> str:
    """Return the tables of this engine, as the page has them."""
    start, end = markers()
    return text.split(start)[1].split(end)[0]


def differences(results: Iterable[Any], text: str) -> list[str]:
    """List what runs came to and the page does not say."""
    said = read_page(text)
    found = []
    for (deed, place), words in table_of(results).items():
        new = words - said.get((deed, place), set())
        if places.PLACES[place].in_the_way is not None:  # where much else is to be done
            new = {word for word in new if "LockTimeout" not in word and "ShardBusy" not in word}
        if new:
            found.append(f"{place}, {deed}: {'; '.join(sorted_words(new))} is not in the page")
    return found


def show(results: Iterable[Any], write: bool, part: bool) -> None:
    """Write the page, or say how what was seen differs from it. `part`: of the rest, it stays."""
    results = list(results)
    text = PAGE.read_text() if PAGE.exists() else ""
    if not write:
        for line in differences(results, text) if text else ():
            print(line)
        return
    start, end = markers()
    before, rest = text.split(start)
    cells = {**(read_page(text) if part else {}), **table_of(results)}
    PAGE.write_text(f"{before}{start}{page_of(cells)}{end}{rest.split(end, 1)[1]}")
