"""A map's control segment: finding it, refusing what is not ours, removing a map's objects.

It is the only object with a fixed name, and gets that once every part of the map is there (see
`making`). Whoever calls anything here holds the creation lock, so what is not READY, or has no
parts, was left by the dead.
"""

from __future__ import annotations

import os
from collections.abc import Container

import xxhash

from ..errors import ConfigMismatch, MapCorrupted, MapNotFound
from ..memory import geometry
from ..memory.layout import LAYOUT_VERSION, WORD, constants
from ..memory.table import checksum_of, generation_of, read_table, row_of
from ..memory.words import ControlWords, GenerationWords
from ..shard import _shard_cy
from ..system import descriptors, removal, segment
from ..system.flavours import ENGINES as ENGINES
from ..system.flavours import OWN, Flavour
from ..system.liveness import Judge
from ..system.process import boot_id, this_process
from ..system.unfinished import Undo
from . import files, lingering, siblings
from .parameters import Parameters

K = constants()
ENGINE = "compiled" if _shard_cy.COMPILED else "pure"
ENGINE_NUMBER = K["ENGINE_COMPILED"] if ENGINE == "compiled" else K["ENGINE_PURE"]
STATE_AT, RETIRED = ControlWords.STATE.index, K["STATE_RETIRED"]
LIVE = (K["STATE_READY"], K["STATE_REPLACING"])  # the replacer may be dead: see half_replaced
_LISTINGS = 8  # of /dev/shm, until nothing goes away by itself while it is removed
REMOVE = "if nothing uses it, remove it with: python -m shmmap unlink {}"


def checksum(words: memoryview) -> int:
    """Sum up what the creator of a control segment said once and for all: see CHECK."""
    return int(xxhash.xxh3_64_intdigest(words[1 : ControlWords.CHECK.index].tobytes()))


def geometry_of(control: ControlWords) -> geometry.Geometry:
    """Read the current generation's layout."""
    return shape_of(generation_of(control))


def shape_of(row: GenerationWords) -> geometry.Geometry:
    """Read a generation's layout from its row."""
    return geometry.Geometry(row.SHARDS, row.SLOTS, row.SLOT_SIZE, row.BUCKETS, row.ON_FULL & 1)


def is_sound(control: ControlWords) -> bool:
    """Tell whether the sizes in a control segment agree: only then may they be used."""
    table = read_table(control)
    if not table.is_valid():
        return False
    rows = [row_of(control, row) for row in table.rows]
    return (
        control.BYTES == geometry.control_bytes()
        and control.ROWS == geometry.WORKER_ROWS
        and all(map(_is_sound_row, rows))
        and len({row.NUMBER for row in rows}) == len(rows)
        and max([row.NUMBER for row in rows]) <= table.changes
    )


def _is_sound_row(row: GenerationWords) -> bool:
    shape = shape_of(row)
    return (
        1 <= shape.shards <= geometry.SHARD_LIMIT
        and not shape.shards & (shape.shards - 1)
        and 2 <= shape.slots <= geometry.SLOT_LIMIT
        and shape.slot_size % 8 == 0 and 32 <= shape.slot_size <= 1 << 20
        and shape.slots <= shape.buckets * 8 <= shape.slots * 8 + 8
        and shape.areas.end == row.BYTES
        and row.CHECK == checksum_of(row)
    )


class Control(ControlWords):
    """A mapped control segment, its words readable by name."""

    __slots__ = ("identity", "mapping", "undo")

    def __init__(self, mapping: segment.Mapping, identity: descriptors.Identity) -> None:
        super().__init__(mapping.buffer)
        self.mapping = mapping
        self.identity = identity
        self.undo: Undo | None = None  # of its maker, until a handle is bound to the map

    def retire(self) -> None:
        """Mark the map as unlinked, unless this is closed. Takes no memory."""
        try:  # noqa: SIM105  # `suppress` does
            self.words[STATE_AT] = RETIRED
        except ValueError:
            pass

    def close(self) -> None:
        """Unmap it. Idempotent."""
        self.words.release()
        self.mapping.close()

    def is_used(self, name: str, mode: int | None, owner_uid: int | None) -> bool:
        """Tell whether any process has this map open. Only where this one has not."""
        label = segment.liveness_name(name, self.NONCE)
        judge = Judge(f"map {name!r}", label, self.words, self.ROWS, mode, owner_uid,
                      self.identity[1])
        try:
            with judge.asking():
                return not judge.is_abandoned()
        except MapCorrupted:  # it has lost that file: nobody can join it any more
            return False

    def object_files(self, name: str) -> list[str]:
        """List the files in /dev/shm of the parts of this map: see `files.of_map`."""
        return files.of_map(name, self)


def map_control(descriptor: int, size: int, identity: descriptors.Identity) -> Control:
    """Map an open control segment."""
    mapping = segment.Mapping(descriptor, size)
    try:
        return Control(mapping, identity)
    except BaseException:
        mapping.close()
        raise


def remove_files(labels: list[str]) -> None:
    """Remove files from /dev/shm, each even if another one cannot be; then raise why.

    Raises:
        SystemCallError: of the first that is still there.
    """
    errors = []
    for label in labels:
        try:
            segment.unlink(label)
        except OSError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def remove_objects(name: str, flavour: Flavour = OWN) -> dict[str, str]:
    """Remove every object of the map that has a name in one flavour, whatever it is, the control
    segment last; say of each that stays why. The creation lock is held. Lists /dev/shm."""
    why: dict[str, str] = {}
    label = segment.control_name(name, flavour)
    for _ in range(_LISTINGS):  # a mover may rename a segment meanwhile
        is_all = True
        found = siblings.of_name(name, os.listdir(segment.SHM_DIRECTORY))
        for entry in siblings.by_flavour(name, found).get(flavour, ()):
            if entry != label[1:] and entry not in why:
                try:
                    is_all = segment.unlink("/" + entry) and is_all
                except OSError as error:  # a stranger's, or no file: in nobody's way
                    why[entry] = os.strerror(error.errno or 0)
        if is_all:
            break
    segment.unlink(label)
    return why


class Remains:
    """What the dead, an earlier boot or an unlink left under a map's name: not what has the name
    by the time that it is removed."""

    def __init__(self, name: str, identity: descriptors.Identity, control: Control | None) -> None:
        self._name = name
        self._identity = identity
        self._control = control

    def remove(self) -> None:
        """Mark it as unlinked, since a forked child may have it mapped that has not used it since,
        and so has no row; then remove it, with what a mover had made by then.

        Raises:
            SystemCallError: a part is still there, and so is what leads to it.
        """
        try:
            if self._control is not None:
                self._control.STATE = K["STATE_RETIRED"]
                remove_files(self._control.object_files(self._name))
            removal.unlink_if(segment.control_name(self._name), self._identity)
        finally:
            self.close()

    def close(self) -> None:
        """Leave it where it is."""
        if self._control is not None:
            self._control.close()
            self._control = None


def open_control(
    name: str, mode: int | None, owner_uid: int | None, attached: Container[int] = ()
) -> Control | Remains | None:
    """Open and verify the control segment of a live map; None: there is none. The creation lock is
    held.

    `attached`: the nonces of that name that this process is attached to.
    """
    label = segment.control_name(name)
    opener = this_process()
    try:
        descriptor, status = segment.open_checked(label, mode, owner_uid)
    except MapNotFound:
        return None
    identity, size = (status.st_dev, status.st_ino), status.st_size
    try:
        if size < K["C_BYTES_TOTAL"] or size % WORD:
            if size == 0:
                return Remains(name, identity, None)
            raise MapCorrupted(f"{label} has {size} bytes, no map has: {REMOVE.format(name)}")
        control = map_control(descriptor, size, identity)
        if this_process() != opener:
            control.close()
            raise segment.lost_in_fork(label)
    finally:
        descriptors.close_own(descriptor, opener, identity)
    try:
        if _verify(control, name, label, attached, mode, owner_uid):
            return control
        if control.MAGIC == K["CONTROL_MAGIC"] and size == geometry.control_bytes():
            return Remains(name, identity, control)
    except BaseException:
        control.close()
        raise
    control.close()
    return Remains(name, identity, None)


def _is_of_another_boot(control: Control) -> bool:
    here, there = boot_id(), (control.BOOT_HIGH, control.BOOT_LOW)
    return here != there and (0, 0) not in (here, there)


def _verify(
    control: Control, name: str, label: str, attached: Container[int], mode: int | None,
    owner_uid: int | None,
) -> bool:
    """Tell whether a control segment is a live map's; raise if it is nothing to touch."""
    magic = control.MAGIC
    if magic == 0:
        return False  # its maker died before any other part was made
    if magic != K["CONTROL_MAGIC"]:
        if magic.to_bytes(8, "big") == K["CONTROL_MAGIC"].to_bytes(8, "little"):
            raise ConfigMismatch(f"{label} was made on a machine of the other byte order")
        raise MapCorrupted(f"{label} is not a map (no magic number): {REMOVE.format(name)}")
    if (control.LAYOUT, control.ENGINE) != (LAYOUT_VERSION, ENGINE_NUMBER):
        theirs = Flavour(control.LAYOUT, ENGINES.get(control.ENGINE, "unknown"))
        raise MapCorrupted(
            f"{label} contradicts its name: it has the words of a map of the {theirs}, its name "
            f"says {OWN}. Something else than shmmap wrote or renamed it: {REMOVE.format(name)}"
        )
    if _is_of_another_boot(control):
        return False
    if control.STATE == K["STATE_REPLACING"]:
        control.STATE = K["STATE_READY"]  # whoever was to replace it is dead: it has its name
    if control.STATE != K["STATE_READY"]:
        if control.STATE not in (K["STATE_MAKING"], K["STATE_RETIRED"]):
            raise MapCorrupted(f"{label} was damaged (its state): {REMOVE.format(name)}")
        return False
    if control.mapping.size != geometry.control_bytes() or not is_sound(control):
        raise MapCorrupted(f"{label} contradicts itself (sizes): {REMOVE.format(name)}")
    if control.CHECK != checksum(control.words):
        raise MapCorrupted(f"{label} was damaged (its checksum is wrong): {REMOVE.format(name)}")
    if field := Parameters.impossible(control):
        raise MapCorrupted(f"{label} says what no map has ({field}): {REMOVE.format(name)}")
    if control.EPHEMERAL and control.NONCE not in attached and not lingering.stays(control):
        # never where we are attached: it opens the liveness file
        return control.is_used(name, mode, owner_uid)
    return True
