"""What `inspection` finds: a map as seen from outside, its shards and workers."""

from __future__ import annotations

from typing import NamedTuple

from ..memory.geometry import Geometry
from ..memory.layout import constants
from ..memory.words import ControlWords, ShardWords
from ..system import segment
from ..system.flavours import OWN, UNNAMED, Flavour, of_words

K = constants()


class SeenWorker(NamedTuple):
    """A live worker: its row, its pid (as its own namespace counts), whether that is ours."""

    row: int
    pid: int
    namespace_is_ours: bool


class SeenShard(NamedTuple):
    """A shard's header; `entries` are the live ones, `header` is None if it is not readable:
    `problem` says why. Its number is that among the shards of its generation, whose shape it has;
    `label` names its segment."""

    number: int
    entries: int
    header: ShardWords | None
    problem: str
    generation: int
    shape: Geometry
    label: str

    @property
    def semaphore(self) -> str:
        """The file of its semaphore, which has the public name also while the segment has not."""
        return segment.semaphore_file(".".join(self.label.split(".")[:5]))


class SeenMap(NamedTuple):
    """A map, or what is left of one.

    `workers` is None where nothing can be known about them, and `unknown` says why; `leftover`
    means that no process can ever use it again as it is; `problem` says why it cannot be read or
    used, "" for none. `flavour` is what the name of its control segment says.
    """

    name: str
    objects: tuple[str, ...]
    allocated: int
    owner: int
    state: str
    problem: str
    leftover: bool
    control: ControlWords | None
    workers: tuple[SeenWorker, ...] | None
    unknown: str = ""
    flavour: Flavour = OWN

    @property
    def actual(self) -> Flavour:
        """Its layout and engine, also where only its words tell, as of a map of layout 4."""
        words = self.control
        if self.flavour != UNNAMED or words is None or words.MAGIC != K["CONTROL_MAGIC"]:
            return self.flavour
        return of_words(words.LAYOUT, words.ENGINE)

    @property
    def label(self) -> str:
        """Its name, and its flavour where that is not this process's."""
        return self.name if self.flavour == OWN else f"{self.name} ({self.actual})"
