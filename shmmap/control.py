"""A map's objects in shared memory: making them, finding them, refusing what is not ours.

The control segment is the only object with a fixed name; MAGIC is stored once
its words are there, READY once every part is. Whoever calls anything here
holds the creation lock, so what is not READY was left by the dead.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Container

import xxhash

from . import _shard_cy, geometry, segment
from .errors import ConfigMismatch, MapCorrupted, MapNotFound, ShmMapError
from .layout import LAYOUT_VERSION, WORD, constants
from .parameters import Parameters
from .workers import Worker

K = constants()
ENGINE = "compiled" if _shard_cy.COMPILED else "pure"
ENGINES = {K["ENGINE_COMPILED"]: "compiled", K["ENGINE_PURE"]: "pure"}
_ENGINE_NUMBER = K["ENGINE_COMPILED"] if ENGINE == "compiled" else K["ENGINE_PURE"]
REMOVE = "if nothing uses it, remove it with: python -m shmmap unlink {}"


def boot_id() -> tuple[int, int]:
    """Identify this boot of the kernel, as two words."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        digits = file.read().strip().replace("-", "")
    return int(digits[:16], 16), int(digits[16:], 16)


def checksum(words: memoryview) -> int:
    """Sum up what the creator of a control segment said once and for all: see CHECK."""
    return int(xxhash.xxh3_64_intdigest(words[1 : K["C_CHECK"] >> 3].tobytes()))


class Control:
    """A mapped control segment, its words readable by name."""

    def __init__(self, mapping: segment.Mapping) -> None:
        self.mapping = mapping
        self.words = memoryview(mapping.buffer).cast("B").cast("Q")

    def __getitem__(self, field: str) -> int:
        return self.words[K[f"C_{field}"] >> 3]

    def __setitem__(self, field: str, value: int) -> None:
        self.words[K[f"C_{field}"] >> 3] = value & K["WHOLE_WORD"]  # a damaged count may wrap

    def close(self) -> None:
        """Unmap it."""
        self.words.release()
        self.mapping.close()

    def geometry(self) -> geometry.Geometry:
        """Read the current generation's layout."""
        current = f"GEN{self['GEN_CURRENT'] & 1}"
        return geometry.Geometry(
            self[f"{current}_SHARDS"], self[f"{current}_SLOTS"], self[f"{current}_SLOT_SIZE"],
            self[f"{current}_BUCKETS"], self["ON_FULL"] & 1,
        )

    def workers_live(self, name: str) -> bool:
        """Tell whether any worker of this map lives."""
        try:
            liveness = segment.liveness_name(name, self["NONCE"])
            worker = Worker(name, liveness, self.words, self["ROWS"])
        except (OSError, MapCorrupted):
            return False
        try:
            return bool(worker.rows_in_use())
        finally:
            os.close(worker.descriptor)


def parts(name: str) -> list[str]:
    """List the objects of the map `name` (of any nonce) but its control segment."""
    pattern = re.compile(rf"(sem\.)?shmmap\.{re.escape(name)}\.[0-9a-f]{{16}}\..+")
    return [entry for entry in os.listdir(segment.SHM_DIRECTORY) if pattern.fullmatch(entry)]


def remove_objects(name: str) -> None:
    """Remove every object of a map, its control segment last. The creation lock is held."""
    for entry in parts(name):
        with contextlib.suppress(OSError):  # a stranger's, or no file at all: in nobody's way
            if entry.startswith("sem."):
                segment.unlink_semaphore("/" + entry[4:])
            else:
                segment.unlink("/" + entry)
    segment.unlink(segment.control_name(name))


def open_control(
    name: str, mode: int | None, owner_uid: int | None, attached: Container[int] = ()
) -> Control | None:
    """Open and verify the control segment of a live map; None: there is none, or only what a
    dead creator, an earlier boot or an unlink left. The creation lock is held.

    `attached`: the nonces of that name that this process is attached to.
    """
    label = segment.control_name(name)
    try:
        descriptor = segment.open_checked(label, mode, owner_uid)
    except MapNotFound:
        return None
    try:
        size = os.fstat(descriptor).st_size
        if size < K["C_BYTES_TOTAL"] or size % WORD:
            if size == 0:
                return None
            raise MapCorrupted(f"{label} has {size} bytes, no map has: {REMOVE.format(name)}")
        control = Control(segment.Mapping(descriptor, size))
    finally:
        os.close(descriptor)
    try:
        live = _verify(control, name, label, attached)
    except BaseException:
        control.close()
        raise
    if not live:
        control.close()
        return None
    return control


def _verify(control: Control, name: str, label: str, attached: Container[int]) -> bool:
    """Tell whether a control segment is a live map's; raise if it is nothing to touch."""
    magic = control["MAGIC"]
    if magic == 0:
        return False  # its maker died before any other part was made
    if magic != K["CONTROL_MAGIC"]:
        if magic.to_bytes(8, "big") == K["CONTROL_MAGIC"].to_bytes(8, "little"):
            raise ConfigMismatch(f"{label} was made on a machine of the other byte order")
        raise MapCorrupted(f"{label} is not a map (no magic number): {REMOVE.format(name)}")
    if control["LAYOUT"] != LAYOUT_VERSION:
        raise ConfigMismatch(
            f"{label} has layout {control['LAYOUT']}, this version of shmmap reads "
            f"{LAYOUT_VERSION}: use one version in all processes, or unlink the map"
        )
    if (control["BOOT_HIGH"], control["BOOT_LOW"]) != boot_id():
        return False
    if control["STATE"] != K["STATE_READY"]:
        if control["STATE"] not in (K["STATE_MAKING"], K["STATE_RETIRED"]):
            raise MapCorrupted(f"{label} was damaged (its state): {REMOVE.format(name)}")
        return False
    shape = control.geometry()
    if (
        control["BYTES"] != control.mapping.size
        or control["ROWS"] != geometry.WORKER_ROWS
        or control.mapping.size != geometry.control_bytes()
        or control["GEN_CURRENT"] > 1
        or not 1 <= shape.shards <= geometry.SHARD_LIMIT
        or shape.shards & (shape.shards - 1)
        or not 2 <= shape.slots <= geometry.SLOT_LIMIT
        or shape.slot_size % 8 or not 32 <= shape.slot_size <= 1 << 20
        or not shape.slots <= shape.buckets * 8 <= shape.slots * 8 + 8
        or shape.areas.end != control[f"GEN{control['GEN_CURRENT']}_BYTES"]
    ):
        raise MapCorrupted(f"{label} contradicts itself (sizes): {REMOVE.format(name)}")
    if control["ENGINE"] != _ENGINE_NUMBER:
        theirs = ENGINES.get(control["ENGINE"], "unknown")
        raise ConfigMismatch(
            f"map {name!r} was made by the {theirs} engine, this process runs the {ENGINE} one; "
            "the two cannot share a live map. Install shmmap the same way in every environment "
            "that uses it (python -m shmmap doctor says how), or unlink the map"
        )
    if control["CHECK"] != checksum(control.words):
        raise MapCorrupted(f"{label} was damaged (its checksum is wrong): {REMOVE.format(name)}")
    if control["EPHEMERAL"] and control["NONCE"] not in attached:
        return control.workers_live(name)  # never where we are attached: it opens the liveness file
    return True


def create_objects(name: str, wanted: Parameters) -> Control:
    """Make a map's objects, control segment first, READY last. The creation lock is held."""
    shape = wanted.plan()
    mode = 0o600 if wanted.mode is None else wanted.mode
    segment.check_room(f"map {name!r}", shape.total_bytes)
    _retire_leftover(name, wanted.mode)
    remove_objects(name)
    size = geometry.control_bytes()
    control = Control(segment.create(segment.control_name(name), size, size, mode))
    try:
        nonce = secrets.randbits(64) or 1
        seed = secrets.randbits(64) if wanted.hash_seed is None else wanted.hash_seed
        high, low = boot_id()
        for field, value in (
            ("NONCE", nonce), ("LAYOUT", LAYOUT_VERSION), ("ENGINE", _ENGINE_NUMBER),
            ("BOOT_HIGH", high), ("BOOT_LOW", low), ("BYTES", size),
            ("ROWS", geometry.WORKER_ROWS), ("HASH_SEED", seed),
            ("GEN0_SHARDS", shape.shards), ("GEN0_SLOTS", shape.slots),
            ("GEN0_SLOT_SIZE", shape.slot_size), ("GEN0_BUCKETS", shape.buckets),
            ("GEN0_BYTES", shape.areas.end),
        ):
            control[field] = value
        wanted.store(control.words)
        control["CHECK"] = checksum(control.words)
        control["MAGIC"] = K["CONTROL_MAGIC"]
        segment.create(segment.liveness_name(name, nonce), 8, 8, mode).close()
        for number in range(shape.shards):
            _create_shard(segment.shard_name(name, nonce, 0, number), shape, nonce, number, mode)
        _create_shard(segment.locks_name(name, nonce), geometry.lock_geometry(), nonce,
                      geometry.LOCK_NUMBER, mode)
        control["STATE"] = K["STATE_READY"]
        return control
    except FileExistsError as error:  # the nonce was read off the first name
        control.close()
        remove_objects(name)
        raise ConfigMismatch(
            f"map {name!r}: {error}, though its name is random: another user of this machine "
            "watches /dev/shm and takes our names. Find them (ls -l /dev/shm), then try again"
        ) from error
    except BaseException:
        control.close()
        remove_objects(name)
        raise


def _retire_leftover(name: str, mode: int | None) -> None:
    """Mark what is replaced as unlinked: a forked child may have it mapped that has not used it
    since, and so has no row."""
    with contextlib.suppress(ShmMapError, OSError):
        descriptor = segment.open_checked(segment.control_name(name), mode, None)
        try:
            if os.fstat(descriptor).st_size == geometry.control_bytes():
                old = Control(segment.Mapping(descriptor, geometry.control_bytes()))
                if old["MAGIC"] == K["CONTROL_MAGIC"]:
                    old["STATE"] = K["STATE_RETIRED"]
                old.close()
        finally:
            os.close(descriptor)


def _create_shard(label: str, shape: geometry.Geometry, nonce: int, number: int, mode: int) -> None:
    leases = number == geometry.LOCK_NUMBER  # its deadlines are reserved at once: one page
    reserved = shape.areas.end if leases else shape.areas.deadlines
    mapping = segment.create(label, shape.areas.end, reserved, mode)
    words = memoryview(mapping.buffer).cast("B").cast("Q")
    for field, value in (
        ("MAGIC", K["SHARD_MAGIC"]), ("NONCE", nonce), ("NUMBER", number),
        ("SLOTS", shape.slots), ("SLOT_SIZE", shape.slot_size), ("BUCKETS", shape.buckets),
        ("EVICTS", shape.evicts), ("FRESH", 1), ("FREE_SLOTS", shape.slots),
        ("HAS_DEADLINES", int(leases)),
    ):
        words[K[f"S_{field}"] >> 3] = value
    words.release()
    mapping.close()
    segment.create_semaphore(label, mode)
