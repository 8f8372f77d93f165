"""What a user may say about a map: checked, stored in the control segment, compared at attach."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, TypedDict

from ..checks import flag, seconds, shown, whole
from ..errors import ConfigMismatch
from ..memory import geometry
from ..memory.layout import constants

K = constants()
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_LONGEST_NS = 3 * 10**18  # of a ttl and the like: 95 years
_CODECS = ("auto", "safe")
_ON_FULL = ("raise", "evict")
DEFAULT_SIZE = "64MB"
SWEEP_INTERVAL_S = 30.0


def check_name(name: object) -> str:
    """Refuse what cannot be a map's name: 1 to 100 of A-Z a-z 0-9 _ -. Give the characters of one
    that is of a subclass of str, an enum's say: formatted as it is it might read otherwise."""
    if not isinstance(name, str):
        raise TypeError(f"a map's name must be a str, not {type(name).__name__}")
    name = str.__str__(name)
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be a map's name: use 1 to 100 of the characters A-Z a-z 0-9 _ - "
            "(no dot and no slash: names of a map's parts are made with them)"
        )
    return name


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


class MapOptions(TypedDict, total=False):
    """The keyword arguments of ShmMap, for `create` and `attach`."""

    capacity: int | None
    shards: int | None
    ttl: float | None
    on_full: str | None
    value_size: int | None
    key_size: int | None
    codec: str | None
    ephemeral: bool | None
    max_idle: float | None
    sweep_interval: float | None
    mode: int | None
    lock_timeout: float
    owner_uid: int | None
    near: int
    near_copy: bool
    consistency: str
    max_staleness: float | None


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
    max_idle_ns: int | None = None
    mode: int | None = None
    ephemeral: bool | None = None
    sweep_ns: int | None = None
    hash_seed: int | None = None  # said by `load` only: entries fall on shards as dumped

    @classmethod
    def read(cls, said: dict[str, Any]) -> Parameters:
        """Check what a user said (a missing name, or UNSAID: not said)."""
        given = {name: value for name, value in said.items() if value is not UNSAID}
        for name in ("value_size", "key_size"):
            value = given.get(name)
            if value is not None:
                value = given[name] = whole(value, name, "bytes (int)")
                if not 0 <= value < 1 << 32:
                    raise ValueError(f"{name}={shown(value)} must be from 0 to 4 GiB")
        for name, choices in (("codec", _CODECS), ("on_full", _ON_FULL)):
            value = given.get(name)
            if value is not None and value not in choices:
                raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, choices))}")
        ephemeral = given.get("ephemeral")
        if ephemeral is not None:
            given["ephemeral"] = flag(ephemeral, "ephemeral")
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
            max_idle_ns=_seconds(given["max_idle"], "max_idle") if "max_idle" in given else None,
            mode=mode,
            ephemeral=given.get("ephemeral"),
            sweep_ns=(_seconds(given["sweep_interval"], "sweep_interval")
                      if "sweep_interval" in given else None),
            hash_seed=seed,
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
        key_size = geometry.KEY_SIZE if self.key_size is None else self.key_size
        if self.capacity is not None:
            return geometry.plan_capacity(
                self.capacity, self.shards, self.value_size, key_size, evicts
            )
        size = geometry.parse_size(DEFAULT_SIZE) if self.size is None else self.size
        return geometry.plan_size(size, self.shards, self.value_size, key_size, evicts)

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

    def store(self, words: Any) -> None:
        """Write them into a control segment's words."""
        sweep = int(SWEEP_INTERVAL_S * 1e9) if self.sweep_ns is None else self.sweep_ns
        for field, value in (
            ("SIZE", self.size or (0 if self.capacity else geometry.parse_size(DEFAULT_SIZE))),
            ("CAPACITY", self.capacity or 0),
            ("VALUE_SIZE", 0 if self.value_size is None else self.value_size + 1),
            ("KEY_SIZE", 0 if self.key_size is None else self.key_size + 1),
            ("CODEC", _CODECS.index(self.codec or "auto")),
            ("ON_FULL", _ON_FULL.index(self.on_full or "raise")),
            ("TTL_NS", self.ttl_ns or 0),
            ("MAX_IDLE_NS", self.max_idle_ns or 0),
            ("MODE", 0o600 if self.mode is None else self.mode),
            ("EPHEMERAL", int(bool(self.ephemeral))),
            ("SWEEP_NS", sweep),
        ):
            words[K[f"C_{field}"] >> 3] = value

    @staticmethod
    def impossible(words: Any) -> str:
        """Name a parameter in a control segment's words that no creator writes; empty: there is
        none. Their checksum says nothing: whoever makes a map computes it."""
        for fields, most in (
            (("SIZE",), geometry.SIZE_LIMIT),
            (("CAPACITY",), geometry.SHARD_LIMIT * geometry.SLOT_LIMIT),
            (("VALUE_SIZE", "KEY_SIZE"), 1 << 32),
            (("CODEC",), len(_CODECS) - 1), (("ON_FULL",), len(_ON_FULL) - 1), (("EPHEMERAL",), 1),
            (("TTL_NS", "MAX_IDLE_NS", "SWEEP_NS"), _LONGEST_NS),
        ):
            for field in fields:
                if words[K[f"C_{field}"] >> 3] > most:
                    return field
        if bool(words[K["C_SIZE"] >> 3]) == bool(words[K["C_CAPACITY"] >> 3]):
            return "SIZE"  # one of them decides the other
        try:
            check_mode(int(words[K["C_MODE"] >> 3]))
        except ValueError:
            return "MODE"
        return ""

    @classmethod
    def load(cls, words: Any) -> Parameters:
        """Read those of a live map."""

        def get(field: str) -> int:
            return int(words[K[f"C_{field}"] >> 3])

        current = get("GEN_CURRENT") & 1
        return cls(
            size=get("SIZE") or None,
            capacity=get("CAPACITY") or None,
            shards=int(words[K[f"C_GEN{current}_SHARDS"] >> 3]),
            value_size=get("VALUE_SIZE") - 1 if get("VALUE_SIZE") else None,
            key_size=get("KEY_SIZE") - 1 if get("KEY_SIZE") else None,
            codec=_CODECS[get("CODEC") & 1],
            on_full=_ON_FULL[get("ON_FULL") & 1],
            ttl_ns=get("TTL_NS"),
            max_idle_ns=get("MAX_IDLE_NS"),
            mode=get("MODE"),
            ephemeral=bool(get("EPHEMERAL")),
            sweep_ns=get("SWEEP_NS"),
            hash_seed=get("HASH_SEED"),
        )

    def compare(self, name: str, actual: Parameters) -> None:
        """Refuse an attach that says something else than the map has; list each difference."""
        differences = []
        for field, said, has in zip(self._fields, self, actual, strict=True):
            if said is None or said == has:
                continue
            if field.endswith("_ns"):
                said, has = (f"{int(v) / 1e9:g} s" if v else None for v in (said, has))
            elif field == "mode":
                said, has = f"0o{said:o}", f"0o{has:o}"
            named = {"sweep_ns": "sweep_interval"}.get(field, field.removesuffix("_ns"))
            differences.append(
                f"{named}: asked {said}, " + (f"it has {has}" if has else "it was made without one")
            )
        if differences:
            raise ConfigMismatch(
                f"map {name!r} exists with other parameters ({'; '.join(differences)}). Leave "
                "them out to attach to it as it is, or unlink it first"
            )


UNSAID: Any = type("Unsaid", (), {"__repr__": lambda self: "<not said>"})()
