"""Dumps: a map's entries in a file, byte for byte as they lie in memory; nothing is decoded.

    head     magic, format version, byte order; JSON: whence, when, parameters; checksum
    blocks   records of at most 1 MiB (or one longer one); checksum of head and payload
    trailer  totals; a checksum over all the checksums before, and one of itself

All numbers of the format are little-endian. docs/design/dump-format.md has every byte.
Reading holds one block in memory, writing also the snapshot that it writes. A
file appears under its name only when it is whole (rename), and is read only if
its trailer says that it is.

Deadlines are stored by the wall clock, so that time goes on while a dump lies
on disk. Versions are stored as they are: twice the nanoseconds since boot. Of
a map with tombstones the format is 3: those are records without a value, and
in the place of versions there are stamps: see `memory.stamps`.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from io import BufferedReader
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import xxhash

from .._public import public
from ..checks import path_of
from ..errors import ConfigMismatch, DumpCorrupted
from ..lifecycle.parameters import Parameters, argument, check_name
from ..memory import _clock_cy
from ..memory._clock_cy import monotonic
from ..memory.layout import constants
from ..printable import printable
from ..system.new_file import new_file
from ..system.process import boot_id
from .own_place import OwnPlace, open_regular

if TYPE_CHECKING:
    from ..lifecycle.parameters import Options
    from .hosts import OpenMap

K = constants()
MAGIC = b"SHMMDUMP"
FORMAT = 2  # 1: before there were containers among the values
FORMAT_STAMPED = 3
BLOCK_LIMIT = 1 << 20  # payload bytes, unless one record alone has more
JSON_LIMIT = 1 << 16
HEAD = struct.Struct("<8sHBxI")  # magic, format, byte order, bytes of JSON
SUM = struct.Struct("<Q")
BLOCK = struct.Struct("<4sIQII")  # tag, number, payload bytes, records, 0; then SUM
RECORD = struct.Struct("<BBHIQq")  # key type, value type, lengths, version, deadline
TRAILER = struct.Struct("<4sIQQQQQ")  # tag, blocks, and Totals; then SUM
_BLOCK_TAG, _END_TAG = b"BLCK", b"DONE"
_ORDER = 1 if sys.byteorder == "little" else 2  # of int values, which are as in memory
# of a map's parameters, what a copy of it does not take over: how long it lives, and who may use it
_NOT_TAKEN_OVER = ("ephemeral", "linger_ns", "mode")
_FORMER = {"max_age_ns": "max_idle_ns"}  # in heads of an early version
_LEAST_SWEEP_NS = 1_000_000_000  # a dump asks for no more frequent sweeps than this
FromJson = Any  # what a file says; looked at before it is used
FAR = 1 << 62  # later than any clock of ours


# of a parameter's value in a head; of all others int
_TYPES: dict[str, Any] = {"codec": str, "on_full": str, "ephemeral": bool}


class RawEntry(NamedTuple):
    """An entry as bytes. `deadline_ns` by the map's clock (a file's: by the wall), 0: none."""

    key_type: int
    key: bytes
    value_type: int
    value: bytes
    deadline_ns: int
    version: int


@public
class DumpReport(NamedTuple):
    """What a dump wrote.

    Attributes:
        entries: how many entries.
        bytes: size of the file.
        pickled: how many of the values are pickles (codec="safe" maps load none).
        seconds: duration.
        tombstones: how many tombstones, which are no entries.
    """

    entries: int
    bytes: int
    pickled: int
    seconds: float
    tombstones: int = 0


class Totals(NamedTuple):
    """What a trailer says: sums of the whole file, and the largest entry's bytes in a map."""

    records: int = 0
    pickled: int = 0
    largest: int = 0
    bytes: int = 0
    chain: int = 0


class Head(NamedTuple):
    """Where and when a dump was made. The two clocks were read together. `stamps_from_ns`: what
    the wall clock said at boot, so the map; None: it has no stamps."""

    name: str
    boot_id: str
    wall_ns: int
    boottime_ns: int
    parameters: dict[str, FromJson]
    stamps_from_ns: int | None = None

    def as_json(self) -> bytes:
        """Return it as it is written."""
        said = self._asdict()
        if self.stamps_from_ns is None:
            del said["stamps_from_ns"]
        return json.dumps(said).encode()


def wall_ns() -> int:
    """Read the wall clock."""
    return _clock_cy.wall_ns()


def this_boot() -> str:
    """Identify this boot of the machine."""
    return "{:016x}{:016x}".format(*boot_id())


def raw_entries(source: OpenMap) -> Iterator[RawEntry]:
    """List a map's live entries, all of one instant: the copy is in memory meanwhile. Of a map with
    tombstones those too, with stamps in the place of versions."""
    if not source._live.tombstones_ns:
        return map(RawEntry._make, source.snapshot().raw_entries())
    return (RawEntry(*entry[:5], entry[6]) for entry in source.snapshot().stamped_entries())


# -- writing ------------------------------------------------------------------------------


def dump(source: OpenMap, path: str | bytes | os.PathLike[str]) -> DumpReport:
    """Write a map's entries to a file: see `ShmMap.dump`."""
    started = monotonic()
    live = source._live
    before, wall, after = live.clock.now_ns(), wall_ns(), live.clock.now_ns()
    head = Head(
        source.name, this_boot(), wall, (before + after) // 2,
        {
            field: value for field, value in live.parameters._asdict().items()
            if value is not None and field not in ("ephemeral", "linger_ns")
            and (value or field != "tombstones_ns")
        },
        live.wall_ns if live.tombstones_ns else None,
    )
    buried = 0

    def counted() -> Iterator[RawEntry]:
        nonlocal buried
        for entry in raw_entries(source):
            buried += entry.value_type == K["VALUE_TOMBSTONE"]
            yield entry

    with new_file(path, live.parameters.mode or 0o600) as file:
        totals = write(file, head, counted())
    return DumpReport(totals.records - buried, totals.bytes, totals.pickled,
                      monotonic() - started, buried)


def write(file: BinaryIO, head: Head, entries: Iterable[RawEntry]) -> Totals:
    """Write a whole dump; deadlines are turned into the wall clock's."""
    to_wall = head.wall_ns - head.boottime_ns
    text = head.as_json()
    version = FORMAT if head.stamps_from_ns is None else FORMAT_STAMPED
    begin = HEAD.pack(MAGIC, version, _ORDER, len(text)) + text
    chain = xxhash.xxh3_64(SUM.pack(xxhash.xxh3_64_intdigest(begin)))
    file.write(begin + SUM.pack(xxhash.xxh3_64_intdigest(begin)))
    size = len(begin) + SUM.size
    records = pickled = largest = number = 0
    block: list[bytes] = []
    held = 0

    def flush() -> int:
        payload = b"".join(block)
        start = BLOCK.pack(_BLOCK_TAG, number, len(payload), len(block) // 3, 0)
        total = SUM.pack(_digest(start, payload))
        chain.update(total)
        file.writelines((start, total, payload))
        return len(start) + len(total) + len(payload)

    for entry in entries:
        length = RECORD.size + len(entry.key) + len(entry.value)
        if block and held + length > BLOCK_LIMIT:
            size += flush()
            number += 1
            block, held = [], 0
        deadline = entry.deadline_ns and (min(entry.deadline_ns, FAR) + to_wall or 1)
        block += (
            RECORD.pack(entry.key_type, entry.value_type, len(entry.key), len(entry.value),
                        entry.version, deadline),
            entry.key, entry.value,
        )
        held += length
        records += 1
        pickled += entry.value_type == K["VALUE_PICKLE"]
        largest = max(largest, entry_bytes(len(entry.key), entry.value_type, len(entry.value)))
    if block:
        size += flush()
        number += 1
    size += TRAILER.size + SUM.size
    totals = Totals(records, pickled, largest, size, chain.intdigest())
    end = TRAILER.pack(_END_TAG, number, *totals)
    file.write(end + SUM.pack(xxhash.xxh3_64_intdigest(end)))
    return totals


def entry_bytes(key_length: int, value_type: int, value_length: int) -> int:
    """Count the bytes of an entry's key and value in a map, an integer's padding included."""
    if value_type == K["VALUE_INT"]:
        key_length = key_length + 7 & ~7
    if value_type == K["VALUE_TOMBSTONE"]:
        value_length = 8
    return key_length + value_length


def _digest(start: bytes, payload: bytes) -> int:
    digest = xxhash.xxh3_64(start)
    digest.update(payload)
    return digest.intdigest()


# -- reading ------------------------------------------------------------------------------


class DumpReader:
    """An open dump: `head` and `totals`, then `verify()` and `records()`, any number of times.

    Raises DumpCorrupted wherever the file is not what a dump wrote, ConfigMismatch for what
    another version of shmmap or a machine of the other byte order wrote, and OSError.
    """

    def __init__(self, path: str | bytes | os.PathLike[str]) -> None:
        path = path_of(path)
        self.path = printable(path, most=4096)  # as errors show it
        self._file = BufferedReader(OwnPlace(os.fspath(path), "rb", opener=open_regular))
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self.head, self._first = self._read_head()
            self._blocks, self.totals = self._read_trailer()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> DumpReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def _wrong(self, why: str) -> DumpCorrupted:
        return DumpCorrupted(
            f"{self.path}: {why}. The file was cut off or changed since it was written: use "
            "another copy of it"
        )

    def _exactly(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) != length:
            raise self._wrong(f"it ends at byte {self._file.tell():,}, in the middle of a part")
        return data

    def _read_head(self) -> tuple[Head, int]:
        """Return the head, and the offset of the first block."""
        start = self._file.read(HEAD.size)
        if start[:8] != MAGIC:
            if MAGIC.startswith(start):
                raise self._wrong(f"it has only {len(start)} bytes")
            raise DumpCorrupted(f"{self.path}: not a dump of a map (no magic number)")
        if len(start) < HEAD.size:
            raise self._wrong(f"it has only {len(start)} bytes")
        _, version, order, length = HEAD.unpack(start)
        if not 1 <= version <= FORMAT_STAMPED:
            raise ConfigMismatch(
                f"{self.path}: a dump of format {version}, this version of shmmap reads "
                f"{FORMAT_STAMPED}: "
                "read it with the version that wrote it"
            )
        if length > JSON_LIMIT:
            raise self._wrong(f"a head of {length:,} bytes")
        text = self._exactly(length)
        (total,) = SUM.unpack(self._exactly(SUM.size))
        if xxhash.xxh3_64_intdigest(start + text) != total:
            raise self._wrong("its head does not match its checksum")
        if order != _ORDER:
            raise ConfigMismatch(f"{self.path}: written on a machine of the other byte order")
        self._begin_chain = SUM.pack(total)
        try:
            head = Head(**json.loads(text))
            check_name(head.name)
            whole = (
                isinstance(head.boot_id, str)
                and type(head.wall_ns) is int and type(head.boottime_ns) is int
                and -FAR < head.wall_ns < FAR and -FAR < head.boottime_ns < FAR
                and isinstance(head.parameters, dict)
                and (type(head.stamps_from_ns) is int and 0 <= head.stamps_from_ns < FAR
                     if version == FORMAT_STAMPED else head.stamps_from_ns is None)
            )
        except (TypeError, ValueError, RecursionError):
            whole = False
        if not whole:
            raise self._wrong("its head does not say what a dump's does")
        return head, self._file.tell()

    def _read_trailer(self) -> tuple[int, Totals]:
        """Return the number of blocks, and the totals."""
        length = TRAILER.size + SUM.size
        if self._size < self._first + length:
            raise self._wrong(f"it ends at byte {self._size:,}, without a trailer")
        self._file.seek(self._size - length)
        end = self._exactly(TRAILER.size)
        (total,) = SUM.unpack(self._exactly(SUM.size))
        tag, blocks, *sums = TRAILER.unpack(end)
        if tag != _END_TAG or xxhash.xxh3_64_intdigest(end) != total:
            raise self._wrong(f"it ends at byte {self._size:,}, without a whole trailer")
        totals = Totals(*sums)
        if totals.bytes != self._size:
            raise self._wrong(f"it has {self._size:,} bytes, its trailer says {totals.bytes:,}")
        return blocks, totals

    def _payloads(self) -> Iterator[tuple[int, bytes]]:
        """Return the number of records and the payload of each block, verified."""
        chain = xxhash.xxh3_64(self._begin_chain)
        self._file.seek(self._first)
        left = self._size - self._first - TRAILER.size - SUM.size
        for expected in range(self._blocks):
            start = self._exactly(BLOCK.size)
            (total,) = SUM.unpack(self._exactly(SUM.size))
            tag, number, length, records, _ = BLOCK.unpack(start)
            left -= BLOCK.size + SUM.size + length
            if tag != _BLOCK_TAG or number != expected or left < 0 or (
                length > BLOCK_LIMIT and records != 1
            ):
                raise self._wrong(f"no block {expected:,} where one should start")
            payload = self._exactly(length)
            if _digest(start, payload) != total:
                raise self._wrong(f"block {expected:,} does not match its checksum")
            chain.update(SUM.pack(total))
            yield records, payload
        if left or chain.intdigest() != self.totals.chain:
            raise self._wrong("its blocks are not those that its trailer sums up")

    def verify(self) -> None:
        """Read everything and compare it with its checksums."""
        records = sum(1 for _ in self.records())
        if records != self.totals.records:
            raise self._wrong(f"{records:,} entries, its trailer says {self.totals.records:,}")

    def records(self) -> Iterator[RawEntry]:
        """Return the entries as they are in the file: deadlines by the wall clock."""
        for records, payload in self._payloads():
            at = 0
            for _ in range(records):
                if at + RECORD.size > len(payload):
                    raise self._wrong("a block holds fewer entries than it says")
                key_type, value_type, key_length, value_length, version, deadline = (
                    RECORD.unpack_from(payload, at)
                )
                start = at + RECORD.size + key_length
                at = start + value_length
                if at > len(payload):
                    raise self._wrong("an entry is longer than its block")
                yield RawEntry(key_type, payload[start - key_length : start], value_type,
                               payload[start:at], deadline, version)
            if at != len(payload):
                raise self._wrong("a block holds more than its entries")

    def entries(
        self, now_boottime_ns: int, stamps_from_ns: int | None = None
    ) -> Iterator[RawEntry]:
        """Return the entries with deadlines and versions as if this boot's clock had given them; or
        with stamps in the place of versions: `stamps_from_ns`: what the wall clock said at boot, so
        the map that wants them.

        On the boot of the dump that is exact. Else what lies between is the wall clock's word.
        """
        then, stamped = self.head.wall_ns - self.head.boottime_ns, self.head.stamps_from_ns
        is_same = self.head.boot_id == this_boot()
        now = then if is_same else wall_ns() - now_boottime_ns
        since = stamped if is_same and stamped is not None else now  # of stamps
        for entry in self.records():
            version, deadline_ns = entry.version, entry.deadline_ns
            if stamps_from_ns is not None and stamped is None:
                version = (version >> 1) + (stamps_from_ns if is_same else then)
            elif stamps_from_ns is None and stamped is not None:
                version = version - since << 1
            elif stamped is None and then != now:
                version = ((version >> 1) + then - now) << 1
            if deadline_ns:
                deadline_ns = min(max(deadline_ns - now, 1), FAR)  # 1: passed long ago
            yield entry._replace(version=min(max(version, 0), FAR), deadline_ns=deadline_ns)

    def options(self) -> Options:
        """Return the parameters of the map that was dumped, as ShmMap takes them, and `hash_seed`.

        Who may use a map that is made from a dump is for the caller to say, so `mode` is no part
        of it: a file from elsewhere could open the map to every user.
        """
        options: Options = {}
        try:
            for field in Parameters._fields:
                said: dict[str, FromJson] = self.head.parameters
                value: FromJson = said.get(field, said.get(_FORMER.get(field, field)))
                if value is None:
                    continue
                if type(value) is not _TYPES.get(field, int):
                    raise TypeError(f"{field} cannot be of type {type(value).__name__}")
                if field in _NOT_TAKEN_OVER:
                    if field == "mode" and value & ~0o666:  # what an early version allowed is fine
                        raise ValueError("mode")
                    continue
                if field == "sweep_ns" and value:
                    value = max(value, _LEAST_SWEEP_NS)
                if field.endswith("_ns"):
                    value = value / 1e9 if value else None
                options[argument(field)] = value
            Parameters.read(options).plan()
        except (TypeError, ValueError, OverflowError) as error:
            why = printable(str(error))
            raise self._wrong(f"its head has parameters that no map has ({why})") from None
        return options
