"""The flavours of a name: which layout and which engine a map has is part of its control segment's
name. Processes of two versions, or of the two engines, that open one name then have a map each,
and neither stands in the other's way.

A map of a version before this one has a control segment without any of that in its name.
"""

from __future__ import annotations

from typing import NamedTuple

from ..memory.layout import LAYOUT_VERSION, constants
from . import _sigbus_cy

K = constants()
ENGINES = {K["ENGINE_COMPILED"]: "compiled", K["ENGINE_PURE"]: "pure"}
PATTERN = r"v[0-9]{1,4}[cp]"  # of what follows the map's name
_LETTERS = {"c": "compiled", "p": "pure"}


class Flavour(NamedTuple):
    """A layout version, 0 where none is known, and an engine, "" where none is known."""

    layout: int
    engine: str

    @property
    def suffix(self) -> str:
        """What follows the map's name in that of its control segment; "": nothing does."""
        return f".v{self.layout}{self.engine[:1]}" if self.layout else ""

    def __str__(self) -> str:
        layout = f"layout {self.layout or 'unknown'}"
        return f"{self.engine} engine, {layout}" if self.engine else layout

    def as_options(self) -> str:
        """Return what tells the command line to take this one; "": it does so by itself."""
        if self == OWN:
            return ""
        layout = "" if self.layout == OWN.layout else f"--layout={self.layout}"
        return f"{layout} --engine={self.engine}".strip() if self.engine else layout


OWN = Flavour(LAYOUT_VERSION, "compiled" if _sigbus_cy.COMPILED else "pure")
UNNAMED = Flavour(0, "")  # of a version whose names say nothing


_FIRST_NAMED = 5  # the first layout whose control segments have it in their names


def of_words(layout: int, engine: int) -> Flavour:
    """Return the flavour of a map whose control segment's name says none; layout 0: no version
    makes such a map, only one that was never released."""
    return Flavour(layout if layout < _FIRST_NAMED else 0, ENGINES.get(engine, ""))


def flavour_of(text: str | None) -> Flavour:
    """Read what follows a map's name, as PATTERN has it.

    >>> flavour_of("v7p"), flavour_of(None)
    (Flavour(layout=7, engine='pure'), Flavour(layout=0, engine=''))
    """
    return Flavour(int(text[1:-1]), _LETTERS[text[-1]]) if text else UNNAMED

