"""What `resize` is asked for, before anything moves: the arguments, and what a move will take.

A move goes group by group. A group is what shares the coarser prefix of the hash: one old shard and
the new ones that it splits into, or several old ones and the one that they become. So while it runs
/dev/shm has the map and the new shards of one group. The mover has, in memory of its own, a copy of
the old shards of a group, with notes of what it carried.

Whether the entries will fit: see `fitting`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..checks import count, refuse_unknown, shown
from ..lifecycle.parameters import UNSAID, Options, Parameters
from ..lifecycle.request import SHAPE
from ..memory.geometry import Geometry
from ..memory.layout import PAGE
from ..shard._moving_cy import move_bytes_needed

if TYPE_CHECKING:
    from ..lifecycle.attachment import Attachment

_MOST_RATE = 1 << 40  # no machine moves as many


def read_wish(actual: Parameters, said: Options) -> Parameters:
    """Check what a user said about the new shape, and return the parameters of the wished map.

    What is not said (or None) stays as it is in `actual`, the number of shards too; size and
    capacity take each other's place. Of `actual`, only what no shape follows from may be None.

    Raises:
        TypeError: nothing is said, or what `resize` does not take, or of another type.
        ValueError: what no map can have, or size and capacity at once: as `Parameters.read`.
    """
    if unknown := [name for name in said if name not in SHAPE]:
        refuse_unknown("resize()", unknown)
    given = {
        name: value for name, value in said.items() if value is not None and value is not UNSAID
    }
    if not given:
        raise TypeError(
            "resize() got nothing to change: say shards=, size= or capacity=, value_size=, "
            "key_size= or on_full=, or several of them"
        )
    read = Parameters.read(given)
    wished = {name: getattr(read, name) for name in given}
    if "size" in given:
        wished["capacity"] = None
    if "capacity" in given:
        wished["size"] = None
    return actual._replace(**wished)


def read_rate(value: float | None) -> int:
    """Check how many entries a second may move at most; return them; None: 0, no limit.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is not more than 0.
    """
    if value is None:
        return 0
    rate = count(value, "rate", "entries a second (int) or None")
    if rate < 1:
        raise ValueError(
            f"rate={shown(rate)} must be at least 1 entry a second; None: as fast as it goes"
        )
    return min(rate, _MOST_RATE)


class Wish(NamedTuple):
    """What a map is to become, and what the way there takes.

    Attributes:
        parameters: of the wished map.
        shape: how that is laid out.
        actual: the parameters that the map has now.
        groups: how many steps the move has.
        bytes_now, bytes_then: of all objects of the map in /dev/shm, before and after, at most: as
            `size=` counts them, with the deadlines that are reserved when an entry first has one.
        bytes_meanwhile: the same at the peak: the map and the new shards of one group.
        private_bytes: of the mover's own memory, for its copy of a group's old shards, at most.
        asked: what /dev/shm must have free for the peak, the deadlines in it only where the map has
            some, or gives each entry a ttl.
    """

    parameters: Parameters
    shape: Geometry
    actual: Parameters
    groups: int
    bytes_now: int
    bytes_then: int
    bytes_meanwhile: int
    private_bytes: int
    asked: int

    def __str__(self) -> str:
        """Say in advance what it will take."""
        return (
            f"{self.groups:,} step{'s' * (self.groups > 1)}; in /dev/shm at most "
            f"{self.bytes_now:,} bytes before, {self.bytes_then:,} after and "
            f"{self.bytes_meanwhile:,} meanwhile; of the mover's own memory at most "
            f"{self.private_bytes:,} bytes"
        )


def _more_at_peak(old: Geometry, new: Geometry, old_each: int, new_each: int) -> int:
    """Return how many bytes more than before there are at the peak, of shards of so many bytes.

    Before each step some groups are new and the others old; the new shards of one come on top. As
    the sum goes only up, or only down, from step to step, the first or the last is the peak.
    """
    groups = min(old.shards, new.shards)
    comes, goes = new.shards // groups * new_each, old.shards // groups * old_each
    return comes + max(0, (groups - 1) * (comes - goes))


def plan_wish(attachment: Attachment, parameters: Parameters) -> Wish:
    """Lay the wished map out, and see that /dev/shm has room for the way to it. No lock is taken.

    `attachment`: of a map that nobody is moving. `parameters`: as `read_wish` returns them.

    Raises:
        ValueError: there is no such layout; the message says what would be one.
        SharedMemoryFull: /dev/shm has not as much free as the peak takes, though ephemeral maps
            whose time is over were removed.
    """
    old, new = attachment.geometry, parameters.plan()
    groups = min(old.shards, new.shards)
    has_deadlines = attachment.ttl_ns + attachment.tombstones_ns > 0 or True in [
        bool(shard.has_deadlines()) for shard in attachment.distinct()
    ]

    def each(shape: Geometry) -> int:
        areas = shape.areas
        return PAGE + (areas.end if has_deadlines else areas.deadlines)

    wish = Wish(
        parameters, new, attachment.parameters, groups, old.total_bytes, new.total_bytes,
        old.total_bytes + _more_at_peak(old, new, old.areas.end + PAGE, new.areas.end + PAGE),
        old.shards // groups * move_bytes_needed(old.slots, old.slot_size),
        _more_at_peak(old, new, each(old), each(new)),
    )
    attachment.store.check_room(f"resizing map {attachment.name!r}", wish.asked, attachment.name)
    return wish
