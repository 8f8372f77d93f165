"""The segments that a mover makes, names, and removes: steps 3 and 10 to 13 of
docs/design/moving.md.

**Names**: a segment is private, with its mover's token, while it is filled; then it gets the name
by which all find it. Its semaphore has that name from the first: it wakes who waits, and says
nothing, so that two movers may share it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import MapNotFound, SystemCallError
from ..lifecycle.headers import draft_header
from ..lifecycle.routes import private_label
from ..memory.layout import constants
from ..memory.words import ShardWords
from ..system import segment
from ..system.process import OWN_NUMBER, this_process

if TYPE_CHECKING:
    from ..lifecycle.attachment import Attachment
    from ..system.segment import Mapping
    from .groups import Group, Place

_RETIRED = constants()["STATE_RETIRED"]


class Segments:
    """Those of one map."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment

    def label(self, place: Place) -> str:
        """Return the name that all know."""
        attachment = self._attachment
        return segment.shard_name(attachment.name, attachment.nonce, place.generation, place.number)

    def make(self, place: Place, token: int, leases: bool) -> Mapping:
        """3: make a segment under a private name, empty; `leases`: reserve the pages of its
        deadlines.

        Raises:
            SharedMemoryFull, SystemCallError: there is none.
            ConfigMismatch: another user has taken its name.
        """
        attachment, shape = self._attachment, place.shape
        mode = attachment.parameters.mode or 0o600
        maker = this_process()
        draft = draft_header(shape, attachment.nonce, place.number, place.generation)
        draft.HAS_DEADLINES = int(leases)
        label = self.label(place)
        private = private_label(label, token)
        store = attachment.store
        mapping = store.create(
            private, shape.areas.end, shape.areas.end if leases else shape.areas.deadlines, mode
        )
        try:
            with ShardWords(mapping.buffer) as header:
                words, count = header.words, len(draft.words)
                # no call in between, so no handler, which may fork: the parent fills it by then
                if OWN_NUMBER[0] == maker:
                    words[:count] = draft.words
            store.create_semaphore(label, mode)
            store.refuse_taken(label)  # now nobody else can put a semaphore there
        except BaseException:
            mapping.close()
            store.remove(private)
            raise
        return mapping

    def discard(self, places: tuple[Place, ...], token: int) -> None:
        """Remove what was made and not published. Of a map that was unlinked, semaphores too: they
        may have been made after its files were listed."""
        is_over = self._attachment.control.STATE == _RETIRED
        for place in places:
            label = self.label(place)
            self._remove(private_label(label, token),
                         *[segment.semaphore_file(label)] * is_over)

    def punch(self, place: Place, mapping: Mapping) -> None:
        """10: give the pages of a shard that has moved back at once. Its first page stays, where
        MOVED is; so does where a late reader notes its hit, which could find no room otherwise."""
        areas = place.shape.areas
        mapping.give_up_pages(1, areas.state)
        mapping.give_up_pages(areas.changed, mapping.size)

    def publish(self, group: Group, token: int) -> None:
        """11: give the new segments the names that all know, unless that was done."""
        for place in group.new:
            label = self.label(place)
            self._attachment.store.rename(private_label(label, token), label)

    def are_published(self, group: Group) -> bool:
        """Tell whether all new segments have the names that all know."""
        store = self._attachment.store
        return False not in [store.exists(self.label(place)) for place in group.new]

    def remove(self, places: tuple[Place, ...]) -> None:
        """13: remove segments that nobody looks for any more, and their semaphores."""
        for place in places:
            label = self.label(place)
            self._remove(label, segment.semaphore_file(label))

    def _remove(self, *files: str) -> None:
        for file in files:
            with suppress(SystemCallError):  # it stays until somebody cleans up
                self._attachment.store.remove(file)

    def attach(self, place: Place) -> tuple[Mapping, int] | None:
        """Map an old segment by the name that all know; return it and MOVED; None: it is gone."""
        attachment = self._attachment
        try:
            mapping = attachment.store.attach(self.label(place), place.shape.areas.end,
                                              attachment.parameters.mode, attachment.owner_uid)
        except MapNotFound:
            return None
        with ShardWords(mapping.buffer) as header:
            return mapping, header.MOVED
