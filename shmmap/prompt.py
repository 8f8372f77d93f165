"""A map at a prompt: what `repr`, tab completion, `dir` and notebooks ask a handle for.

A prompt asks often, unasked, and at bad moments: in a debugger, of a map that was unlinked, of one
whose writer is stopped. So nothing here waits for a lock, makes a process join a map, or raises;
what cannot be told at once is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .errors import ShmMapError
from .lifecycle.control import ENGINE
from .memory.geometry import SHARD_LIMIT
from .memory.layout import constants
from .operations._listing_cy import list_entries
from .operations._takes_cy import Takes
from .operations.marking import marked
from .operations.routing import distinct
from .printable import human
from .subclasses import ATTRIBUTES, INTERNAL, THEIRS

if TYPE_CHECKING:
    from typing_extensions import Self

    from .checks import Key, Value
    from .lifecycle.attachment import Attachment
    from .lifecycle.parameters import Parameters
    from .lifecycle.request import Request
    from .shard._shard_cy import Shard

K = constants()
COMPLETIONS = 1000  # keys that tab completion is given, at most
_PARAMETERS = ("size", "capacity", "shards", "value_size", "key_size", "on_full", "codec", "mode",
               "ephemeral")
_READY = K["STATE_READY"]


class _Parameter(property):
    """A parameter of an open map, which its handles cannot set. A subclass may have an attribute of
    its own under the name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, handle: Any, owner: type | None = None) -> Any:
        if handle is not None and self.name in vars(handle):
            return vars(handle)[self.name]
        return super().__get__(handle, owner)

    def __set__(self, handle: Any, value: object) -> None:
        kind = type(handle)
        if kind.__module__.partition(".")[0] == __name__.partition(".")[0]:
            raise AttributeError(
                f"{self.name!r} says what the map was made with; to set it changes nothing there"
            )
        vars(handle)[self.name] = value

    def __delete__(self, handle: Any) -> None:
        if vars(handle).pop(self.name, self) is self:
            raise AttributeError(self.name)


def _seconds(span_ns: int | None) -> float | None:
    return span_ns / 1e9 if span_ns else None


class AtPrompt:
    """What a handle shows of itself."""

    if TYPE_CHECKING:
        name: str
        closed: bool
        attachment: Any
        _lock_timeout: float
        _request: Request
        _reading: tuple[int, bool, str, float | None]

        def _mark(self, mark: object) -> bool: ...
        def _end(self, mark: object) -> None: ...

    @property
    def _was_opened(self) -> Attachment:
        """The attachment of a handle that is open, or was."""
        attached: Attachment | None = getattr(self, "attachment", None)
        if attached is None:
            raise AttributeError("this map was never opened")
        return attached

    def _own(self, field: str) -> float | None:
        """Return what this handle was opened with, in seconds; the map's, if it was not said."""
        attached = self._was_opened
        said = getattr(self._request.wanted, field)
        return _seconds(getattr(attached.parameters, field) if said is None else said)

    @property
    def size(self) -> int:
        """Bytes that all shared memory of the map can take at most."""
        attached = self._was_opened
        return attached.parameters.size or attached.geometry.total_bytes

    @property
    def capacity(self) -> int | None:
        """Entries that the map was made for; None: it was made by size=."""
        return self._was_opened.parameters.capacity

    @property
    def value_size(self) -> int | None:
        """Bytes of a typical value, as was said; None: it was not."""
        return self._was_opened.parameters.value_size

    @property
    def key_size(self) -> int | None:
        """Bytes of a typical key, as was said; None: it was not."""
        return self._was_opened.parameters.key_size

    @property
    def on_full(self) -> str:
        """What a full map does: "raise" or "evict"."""
        return self._was_opened.parameters.on_full or "raise"

    @property
    def codec(self) -> str:
        """The name of what makes values into bytes: see the class."""
        return self._was_opened.parameters.codec or "auto"

    @property
    def mode(self) -> int:
        """Permission bits of every object."""
        return self._was_opened.parameters.mode or 0o600

    @property
    def ephemeral(self) -> bool:
        """Whether the last process to close the map unlinks it."""
        return bool(self._was_opened.parameters.ephemeral)

    @property
    def default_ttl(self) -> float | None:
        """Seconds that an entry has whose write gives no ttl; None: for ever. `m.ttl(key)` says
        how many an entry has left."""
        return self._own("ttl_ns")

    @property
    def max_age(self) -> float | None:
        """Seconds after which a sweep removes what was not written; None: never."""
        return self._own("max_age_ns")

    @property
    def linger(self) -> float | None:
        """Seconds that an ephemeral map stays once nobody has it open; None: it does not."""
        return _seconds(self._was_opened.parameters.linger_ns)

    @property
    def sweep_interval(self) -> float | None:
        """Seconds between sweeps; None: only by `m.sweep()`."""
        return self._own("sweep_ns")

    @property
    def lock_timeout(self) -> float:
        """Seconds that this handle waits for a shard's lock."""
        return self._lock_timeout

    @property
    def consistency(self) -> str:
        """Of this handle's reads: see the class."""
        return self._reading[2]

    @property
    def max_staleness(self) -> float | None:
        """Seconds, of this handle's "bounded" reads; None: they are not bounded."""
        return self._reading[3]

    @property
    def parameters(self) -> dict[str, Any]:
        """What the map was made with, as a new dict: `ShmMap("other", **m.parameters)` makes one
        like it. Of size and capacity, the one that was not given is None."""
        said: Parameters = self._was_opened.parameters
        found = {name: getattr(said, name) for name in _PARAMETERS}
        spans = {"ttl": said.ttl_ns, "max_age": said.max_age_ns, "linger": said.linger_ns,
                 "sweep_interval": said.sweep_ns, "tombstones": said.tombstones_ns}
        return {**found, **{name: _seconds(span_ns) for name, span_ns in spans.items()}}

    @classmethod
    def fromkeys(
        cls, keys: Iterable[Key], value: Value = None, *, name: str = "", **parameters: Any
    ) -> Self:
        """Open the map `name`, which is made if there is none, and write a value for each key, as
        `dict.fromkeys` does. Arguments as for the class."""
        if not name:
            raise TypeError(
                "fromkeys: a map has a name: ShmMap.fromkeys(keys, value, name=...). To write into "
                "one that is open: m.update(dict.fromkeys(keys, value))"
            )
        m: Any = cls(name, **parameters)  # type: ignore[call-arg]
        try:
            m.set_many((key, value) for key in keys)
        except BaseException:
            m.close()
            raise
        return m  # type: ignore[no-any-return]

    # -- texts ------------------------------------------------------------------------

    def __repr__(self) -> str:
        """Name the map and count its entries, or say why they cannot be counted. Takes no lock,
        waits for nobody, raises nothing."""
        state = _state_of(self)
        if isinstance(state, int):
            state = f"{state} entries, {ENGINE} engine"
        return f"<{type(self).__name__} {self.name!r}, {state}>"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __bool__(self) -> bool:
        """Tell whether there is a live entry: O(shards), and, of a shard where a deadline has
        passed, as far as to the first live entry."""
        try:
            return bool(super().__bool__())  # type: ignore[misc]
        except ShmMapError:
            # `logging` asks this of a mapping before it formats it, and what it logs may be just
            # that the map is closed
            if sys._getframe(1).f_globals.get("__name__") == "logging":
                return False
            raise

    def __dir__(self) -> list[str]:
        """List the interface, and what a subclass adds to it."""
        own = {name.removesuffix(THEIRS) for name in vars(self)
               if name.endswith(THEIRS) or name not in INTERNAL}
        return sorted(
            name for name in {*object.__dir__(self), *own}
            if (name in own or name not in HIDDEN) and name.isidentifier()
            and (not name.startswith("_") or name.endswith("__"))
        )

    def _repr_html_(self) -> str:
        """Show the map in a notebook: its state, and what it was made with."""
        state = _state_of(self)
        rows = [("entries", f"{state:,}") if isinstance(state, int) else ("state", state)]
        if getattr(self, "attachment", None) is not None:
            rows += _rows_of(self.attachment)
        rows.append(("engine", ENGINE))
        cells = "".join(
            f"<tr><th style='text-align:left'>{_escaped(head)}</th>"
            f"<td style='text-align:left'>{_escaped(text)}</td></tr>" for head, text in rows
        )
        title = _escaped(f"{type(self).__name__} {self.name!r}")
        return f"<table><caption>{title}</caption><tbody>{cells}</tbody></table>"

    def _ipython_key_completions_(self) -> list[Key]:
        """List keys for the completion of `m["`: not all of a large map, nor those of a shard
        whose lock is not free."""
        try:
            return _some_keys(self)
        except Exception:  # at a prompt, no answer is better than a wrong one
            return []


for _name, _found in vars(AtPrompt).copy().items():
    if type(_found) is property and not _name.startswith("_"):
        setattr(AtPrompt, _name, _made := _Parameter(_found.fget, doc=_found.__doc__))
        _made.__set_name__(AtPrompt, _name)
del _name, _found, _made

HIDDEN = (ATTRIBUTES | INTERNAL) - {"name", "closed"}


def _count_entries(routes: list[Shard]) -> int:
    """Count what is looked for in each shard: where only a part of it still is, or already, it is a
    share of what the shard has."""
    return sum([
        shard.entries() * routes.count(shard) // (len(routes) >> shard.shard_bits)
        for shard in distinct(routes)
    ])


def _state_of(handle: AtPrompt) -> int | str:
    """Count the entries of a map, or say what it is instead of open."""
    try:
        if handle.closed:
            return "closed" if handle.name is not None else "never opened"
        with marked(handle) as is_open:
            if not is_open:
                return "closed"
            attached: Attachment = handle.attachment
            if attached.is_down:
                return "closed"
            if attached.cut_off():
                return "MapCorrupted"
            if attached.control.STATE != _READY:
                return "MapUnlinked"
            return _count_entries(attached.shards)
    except Exception as error:
        return "closed" if handle.closed else type(error).__name__


def _some_keys(handle: AtPrompt) -> list[Key]:
    """List up to COMPLETIONS keys, without waiting for a lock."""
    found: list[Key] = []
    if handle.closed:
        return found
    with marked(handle) as is_open:
        attached = handle.attachment
        if not is_open or attached.control.STATE != _READY or not attached.worker.fork_page.word:
            return found
        view: Any = Takes()
        view._bind(attached, 0)  # of no patience; what it does is this process's, as the handle's
        try:
            unit = 0
            while unit < SHARD_LIMIT and len(found) < COMPLETIONS:
                try:
                    unit, listed = list_entries(view, unit, False)
                    found += listed
                except ShmMapError:
                    unit += SHARD_LIMIT // len(view._routes())
        finally:
            view._seal()
    return found[:COMPLETIONS]


def _rows_of(attached: Attachment) -> list[tuple[str, str]]:
    """Tell what a map was made with, as far as it is not the default."""
    said = attached.parameters
    size = attached.geometry.total_bytes
    rows = [("size", f"{human(size)} in {attached.geometry.shards} shards")]
    if said.capacity:
        rows.append(("capacity", f"{said.capacity:,} entries"))
    spans = ("ttl", attached.ttl_ns), ("max_age", said.max_age_ns), (
        "tombstones", said.tombstones_ns)
    for name, span_ns in spans:
        if span_ns:
            rows.append((name, f"{span_ns / 1e9:g} s"))
    for name, value, usual in (
        ("on_full", said.on_full, "raise"), ("codec", said.codec, "auto"),
        ("mode", f"0o{said.mode or 0o600:o}", "0o600"),
    ):
        if value != usual:
            rows.append((name, str(value)))
    if said.ephemeral:
        rows.append(("ephemeral", "the last process to close it unlinks it"))
    return rows


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
