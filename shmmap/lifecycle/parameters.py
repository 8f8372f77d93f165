"""What a user may say about a map: checked, stored in the control segment, compared at attach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from ..checks import flag, refuse_unknown, seconds, shown, whole
from ..memory import geometry
from ..memory.layout import constants
from ..memory.stamps import wall_at_boot
from ..memory.table import checksum_of, generation_of
from ..memory.words import ControlWords, GenerationWords, Word
from ..values import codecs
from .names import check_name as check_name

if TYPE_CHECKING:
    from ..checks import Seconds
    from ..values.codecs import Codec

_LONGEST_NS = 3 * 10**18  # of a ttl and the like: 95 years
_ON_FULL = ("raise", "evict")
# the largest value of a control segment's words that a creator writes
_MOST: dict[Word, int] = {
    ControlWords.EPHEMERAL: 1,
    ControlWords.TTL_NS: _LONGEST_NS,
    ControlWords.MAX_AGE_NS: _LONGEST_NS,
    ControlWords.SWEEP_NS: _LONGEST_NS,
    ControlWords.LINGER_NS: _LONGEST_NS,
    ControlWords.TOMBSTONES_NS: _LONGEST_NS,
    ControlWords.WALL_NS: 1 << 62,
}
_MOST_SHAPE: dict[Word, int] = {
    GenerationWords.SIZE: geometry.SIZE_LIMIT,
    GenerationWords.CAPACITY: geometry.SHARD_LIMIT * geometry.SLOT_LIMIT,
    GenerationWords.VALUE_SIZE: 1 << 32,
    GenerationWords.KEY_SIZE: 1 << 32,
    GenerationWords.ON_FULL: len(_ON_FULL) - 1,
}
_CODEC_NAME = (ControlWords.CODEC_NAME0, ControlWords.CODEC_NAME1, ControlWords.CODEC_NAME2)
DEFAULT_SIZE = "16MB"
SWEEP_INTERVAL_S = 30.0


def check_handle(lock_timeout: object, owner_uid: object) -> tuple[float, int | None]:
    """Refuse what cannot be a timeout in seconds, or a user's id (None: any owner that the map
    may have); return both."""
    patience = seconds(lock_timeout, "lock_timeout")
    if not 0 <= patience < 3e9:
        raise ValueError(f"lock_timeout={patience} must be 0 seconds or more, and less than 3e9 "
                         "(95 years)")
    if owner_uid is None:
        return patience, None
    owner = whole(owner_uid, "owner_uid", "a user id (int)")
    if not 0 <= owner < 1 << 32:
        raise ValueError(f"owner_uid={shown(owner)} is no user id")
    return patience, owner


def _seconds(value: object, what: str) -> int:
    """Read a positive number of seconds as nanoseconds; None: 0."""
    if value is None:
        return 0
    value = seconds(value, what, " or None")
    if not 0 < value < 3e9:
        raise ValueError(
            f"{what}={value} must be more than 0 seconds and less than 95 years; None: never"
        )
    return max(1, int(value * 1e9))


def _linger(value: object) -> int:
    """Read for how long an ephemeral map outlives its last worker, as nanoseconds; 0: not at
    all."""
    patience = seconds(value, "linger", " or None")
    if not 0 <= patience < 3e9:
        raise ValueError(f"linger={patience} must be 0 seconds (it goes with its last worker) or "
                         "more, and less than 95 years")
    return int(patience * 1e9)


def check_mode(mode: object) -> int:
    """Refuse permission bits that no map can have: each class of users gets both bits or none.

    A reader writes, too (its row, the shard's lock when a writer is in the way, a ttl's pages), so
    with "r" alone nobody can open a map; but whoever may read its liveness file can lock its bytes,
    and so make the dead look alive and keep workers out.
    """
    mode = whole(mode, "mode", "permission bits like 0o600")
    if mode & ~0o666 or mode & 0o600 != 0o600:
        said = f"0o{mode:o}" if 0 <= mode < 1 << 32 else shown(mode)
        raise ValueError(
            f"mode={said} must let the owner read and write, and nobody execute: 0o600 (only the "
            "owner), 0o660 (its group too), 0o666 (everybody)"
        )
    half = [who for who, bits in (("group", mode >> 3), ("others", mode)) if bits & 7 not in (0, 6)]
    if half:
        both, none = mode, mode
        for who, shift in (("group", 3), ("others", 0)):
            if who in half:
                both, none = both | 6 << shift, none & ~(7 << shift)
        raise ValueError(
            f"mode=0o{mode:o} gives {' and '.join(half)} half of read and write, with which nobody "
            "can use a map: a reader must write, too (its row in the worker table, locks). Say "
            f"mode=0o{both:o} to let them use it, mode=0o{none:o} to keep them out"
        )
    return mode


def _codec_of(control: ControlWords) -> str | None:
    """Read the codec's name; None: it is none."""
    return codecs.name_of(control.CODEC, [control[word] for word in _CODEC_NAME])


def argument(field: str) -> str:
    """Return the name of the argument that says a parameter."""
    return "sweep_interval" if field == "sweep_ns" else field.removesuffix("_ns")


def as_text(field: str, value: object) -> object:
    """Return a parameter as texts show it; None: not said, or none."""
    if isinstance(value, int):
        if field.endswith("_ns"):
            return f"{value / 1e9:g} s" if value else None
        if field == "mode":
            return f"0o{value:o}"
    return value


Options = dict[str, Any]  # as MapOptions, or with what nobody has checked yet


class MapOptions(TypedDict, total=False):
    """The keyword arguments of ShmMap, for `create` and `attach`."""

    capacity: float | None
    shards: int | None
    ttl: Seconds | None
    on_full: str | None
    value_size: int | None
    key_size: int | None
    codec: str | Codec | None
    ephemeral: bool | None
    max_age: Seconds | None
    sweep_interval: Seconds | None
    mode: int | None
    namespace: str | None
    linger: Seconds | None
    tombstones: Seconds | None
    lock_timeout: Seconds
    owner_uid: int | None
    near: int
    near_copy: bool
    consistency: str
    max_staleness: Seconds | None
    on_mismatch: str
    on_unlinked: str
    fresh: bool
    auto_shards: Any  # an AutoShards, or None


class Parameters(NamedTuple):
    """A map's parameters; None: not said."""

    size: int | None = None
    capacity: int | None = None
    shards: int | None = None
    value_size: int | None = None
    key_size: int | None = None
    codec: str | None = None
    on_full: str | None = None
    ttl_ns: int | None = None
    max_age_ns: int | None = None
    mode: int | None = None
    ephemeral: bool | None = None
    sweep_ns: int | None = None
    linger_ns: int | None = None
    hash_seed: int | None = None  # said by `load` only: entries fall on shards as dumped
    tombstones_ns: int | None = None

    @classmethod
    def read(cls, said: Options) -> Parameters:
        """Check what a user said (a missing name, or UNSAID: not said)."""
        if unknown := [name for name in said if name not in _KNOWN]:
            refuse_unknown("ShmMap()", unknown)
        given = {name: value for name, value in said.items() if value is not UNSAID}
        for name in ("value_size", "key_size"):
            value = given.get(name)
            if value is not None:
                value = given[name] = whole(value, name, "bytes (int)")
                if not 0 <= value < 1 << 32:
                    raise ValueError(f"{name}={shown(value)} must be from 0 to 4 GiB")
        if given.get("codec") is not None and not codecs.is_name(given["codec"]):
            raise ValueError(f"codec={shown(given['codec'])} is no codec's name")
        on_full = given.get("on_full")
        if on_full is not None and on_full not in _ON_FULL:
            raise ValueError(
                f"on_full={on_full!r} must be one of {', '.join(map(repr, _ON_FULL))}"
            )
        ephemeral = given.get("ephemeral")
        if ephemeral is not None:
            given["ephemeral"] = flag(ephemeral, "ephemeral")
        linger = given.get("linger")
        if linger is not None and not given.get("ephemeral"):
            raise ValueError("linger= is how long an ephemeral map outlives its last worker: say "
                             "ephemeral=True with it")
        if given.get("capacity") is not None:
            given["capacity"] = geometry.check_capacity(given["capacity"])
        given["shards"] = geometry.check_shards(given.get("shards"))
        mode = given.get("mode")
        if mode is not None:
            mode = check_mode(mode)
        if given.get("size") is not None and given.get("capacity") is not None:
            raise ValueError("give size= or capacity=, not both: each decides the other")
        size, seed = given.get("size"), given.get("hash_seed")
        if seed is not None and (type(seed) is not int or not 0 <= seed < 1 << 64):
            raise ValueError("hash_seed must be an int of 64 bits")
        return cls(
            size=None if size is None else geometry.parse_size(size),
            capacity=given.get("capacity"),
            shards=given.get("shards"),
            value_size=given.get("value_size"),
            key_size=given.get("key_size"),
            codec=given.get("codec"),
            on_full=given.get("on_full"),
            ttl_ns=_seconds(given["ttl"], "ttl") if "ttl" in given else None,
            max_age_ns=_seconds(given["max_age"], "max_age") if "max_age" in given else None,
            mode=mode,
            ephemeral=given.get("ephemeral"),
            sweep_ns=(_seconds(given["sweep_interval"], "sweep_interval")
                      if "sweep_interval" in given else None),
            linger_ns=None if linger is None else _linger(linger),
            hash_seed=seed,
            tombstones_ns=(_seconds(given["tombstones"], "tombstones")
                           if given.get("tombstones") is not None else None),
        )

    def lengths(self) -> tuple[int, int]:
        """Return the bytes of key and value that a typical entry has."""
        return (
            geometry.KEY_SIZE if self.key_size is None else self.key_size,
            geometry.VALUE_SIZE if self.value_size is None else self.value_size,
        )

    def plan(self) -> geometry.Geometry:
        """Lay the map out."""
        evicts = self.on_full == "evict"
        key_size, value_size = self.lengths()[0], self.value_size
        if self.tombstones_ns:  # what is merged is to fit into one slot, too
            value_size = self.lengths()[1] + constants()["ORIGIN_BYTES"]
        if self.capacity is not None:
            return geometry.plan_capacity(self.capacity, self.shards, value_size, key_size, evicts)
        size = geometry.parse_size(DEFAULT_SIZE) if self.size is None else self.size
        return geometry.plan_size(size, self.shards, value_size, key_size, evicts)

    def advice(self, data_bytes: int) -> str:
        """Say which shards= or size= would hold an entry of so many bytes."""
        try:
            shards = self.plan().shards
        except ValueError:  # of a map that another program has made
            return "make a map with a larger size= and value_size="
        while shards > 1:
            shards //= 2
            if self._replace(shards=shards).plan().max_entry_bytes >= data_bytes:
                return f"shards={shards} at this size would hold it"
        size = max(self.plan().total_bytes, data_bytes)
        slots = 0
        while True:
            size += size // 4
            wider = self._replace(size=size, capacity=None, shards=1).plan()
            if wider.max_entry_bytes >= data_bytes:
                return f"size={size} with shards=1 would hold it"
            if wider.slots == slots:  # as many as an index word can number
                return "no shard numbers so many slots: give a larger value_size=, or split it"
            slots = wider.slots

    def store(self, control: ControlWords) -> None:
        """Write them into a control segment's words."""
        control.CODEC, names = codecs.words_of(self.codec or "auto")
        for word, value in zip(_CODEC_NAME, names, strict=True):
            control[word] = value
        control.TTL_NS = self.ttl_ns or 0
        control.MAX_AGE_NS = self.max_age_ns or 0
        control.MODE = 0o600 if self.mode is None else self.mode
        control.EPHEMERAL = int(bool(self.ephemeral))
        control.LINGER_NS = self.linger_ns or 0
        control.TOMBSTONES_NS = self.tombstones_ns or 0
        control.WALL_NS = wall_at_boot() if self.tombstones_ns else 0
        every_ns = int(SWEEP_INTERVAL_S * 1e9)
        control.SWEEP_NS = every_ns if self.sweep_ns is None else self.sweep_ns

    def store_shape(self, row: GenerationWords, shape: geometry.Geometry, number: int) -> None:
        """Write what says the shape, and the shape itself, into a row of the table."""
        row.NUMBER = number
        row.SHARDS, row.SLOTS, row.SLOT_SIZE = shape.shards, shape.slots, shape.slot_size
        row.BUCKETS, row.BYTES = shape.buckets, shape.areas.end
        row.ON_FULL = _ON_FULL.index(self.on_full or "raise")
        default = 0 if self.capacity else geometry.parse_size(DEFAULT_SIZE)
        row.SIZE = self.size or default
        row.CAPACITY = self.capacity or 0
        row.VALUE_SIZE = 0 if self.value_size is None else self.value_size + 1
        row.KEY_SIZE = 0 if self.key_size is None else self.key_size + 1
        row.CHECK = checksum_of(row)

    @staticmethod
    def impossible(control: ControlWords) -> str:
        """Name a parameter in a control segment's words that no creator writes; empty: there is
        none. Their checksum says nothing: whoever makes a map computes it."""
        for word, most in _MOST.items():
            if control[word] > most:
                return word.name
        row = generation_of(control)
        for word, most in _MOST_SHAPE.items():
            if row[word] > most:
                return word.name
        if bool(row.SIZE) == bool(row.CAPACITY):
            return "SIZE"  # one of them decides the other
        if _codec_of(control) is None:
            return "CODEC"
        try:
            check_mode(control.MODE)
        except ValueError:
            return "MODE"
        return ""

    @classmethod
    def load(cls, control: ControlWords) -> Parameters:
        """Read those of a live map."""
        return shape_said(generation_of(control))._replace(
            codec=_codec_of(control) or "auto",
            ttl_ns=control.TTL_NS,
            max_age_ns=control.MAX_AGE_NS,
            mode=control.MODE,
            ephemeral=bool(control.EPHEMERAL),
            sweep_ns=control.SWEEP_NS,
            linger_ns=control.LINGER_NS,
            hash_seed=control.HASH_SEED,
            tombstones_ns=control.TOMBSTONES_NS,
        )

    def reshaped(self, row: GenerationWords) -> Parameters:
        """Return these with what the shape of a generation follows from."""
        said = shape_said(row)
        return self._replace(
            size=said.size, capacity=said.capacity, shards=said.shards, on_full=said.on_full,
            value_size=said.value_size, key_size=said.key_size,
        )


def shape_said(row: GenerationWords) -> Parameters:
    """Read the parameters that the shape of a generation follows from."""
    return Parameters(
        size=row.SIZE or None,
        capacity=row.CAPACITY or None,
        shards=row.SHARDS,
        value_size=row.VALUE_SIZE - 1 if row.VALUE_SIZE else None,
        key_size=row.KEY_SIZE - 1 if row.KEY_SIZE else None,
        on_full=_ON_FULL[row.ON_FULL & 1],
    )


_KNOWN = {argument(field) for field in Parameters._fields}
UNSAID: Any = type("Unsaid", (), {"__repr__": lambda self: "<not said>"})()
