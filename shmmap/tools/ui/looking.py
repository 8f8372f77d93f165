"""The figures, looked at once for all pages: nobody looks while no page is open."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ...errors import ShmMapError
from ...memory._clock_cy import monotonic
from ...printable import printable
from .. import inspection
from ..seen import SeenMap
from ..top.readings import Watch
from . import documents


class Look:
    """What was seen at one time. It is written down once, whoever is told of it.

    Attributes:
        number: the first is 1.
        maps: the document of all maps.
    """

    def __init__(self, number: int, watch: Watch, names: Sequence[str], interval_s: float) -> None:
        """Look. What cannot be done is in the document."""
        problem = None
        try:
            lines = watch.look()
        except (ShmMapError, OSError) as error:  # /dev/shm cannot be listed, say
            lines, problem = [], printable(str(error))
        self.number = number
        self.maps = documents.encoded(documents.of_maps(lines, interval_s, problem))
        self._names = names
        self._lines = {line.now.label: line for line in lines}
        self._of_map: dict[str, bytes] = {}

    def of_map(self, label: str) -> bytes:
        """Return the document of one map; what is asked for twice is looked at once."""
        found = self._of_map.get(label)
        if found is None:
            line = self._lines.get(label)
            try:
                seen = None if line is None else find(label, self._names)
                document = documents.of_map(seen, line, label)
            except (ShmMapError, OSError) as error:  # it went meanwhile
                document = documents.of_map(None, None, label) | {"problem": printable(str(error))}
            found = documents.encoded(document)
            if line is not None:  # names of others' making are not kept
                self._of_map[label] = found
        return found


class Looker:
    """Looks at maps again and again, as long as somebody waits for what it sees."""

    def __init__(self, names: Sequence[str], interval_s: float) -> None:
        """`names`: of which maps; none: all of this machine."""
        self.is_over = False
        self._names, self._interval_s = names, interval_s
        self._watch = Watch(names)
        self._look: Look | None = None
        self._due = 0.0  # whoever comes then looks, and the others have what it saw
        self._news = threading.Condition()

    def newest(self, after: int, patience_s: float) -> Look | None:
        """Return a look that is newer than that of number `after`; None: there is none within that
        time, or the server ends. Threads can wait here at once."""
        until = monotonic() + patience_s
        with self._news:
            while not self.is_over:
                now = monotonic()
                if now >= self._due:
                    number = self._look.number + 1 if self._look else 1
                    self._look = Look(number, self._watch, self._names, self._interval_s)
                    self._due = monotonic() + self._interval_s
                    self._news.notify_all()
                if self._look and self._look.number > after:
                    return self._look
                if now >= until:
                    return None
                self._news.wait(min(self._due, until) - now)
        return None

    def about(self, look: Look, label: str) -> bytes:
        """Return the document of one map as of a look."""
        with self._news:
            return look.of_map(label)

    def end(self) -> None:
        """Have nobody wait any more."""
        with self._news:
            self.is_over = True
            self._news.notify_all()


def find(label: str, names: Sequence[str]) -> SeenMap | None:
    """Find the map of a label, if it is one of the maps of these names (none: of any)."""
    name = label.partition(" ")[0]
    if names and name not in names:
        return None
    return next((one for one in inspection.find_maps(name) if one.label == label), None)
