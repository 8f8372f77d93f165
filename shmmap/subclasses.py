"""Subclasses of ShmMap: names of their own, and what of them is pickled.

The compiled engine's methods and attributes are C, so a subclass may call its own as it likes. In
the pure engine they are Python's, and a subclass's `read` or `count` would take their place in
the middle of an operation. There a name that both use gets a descriptor, which gives each side
its own: who asks is told by the module that the asking code is of.
"""

from __future__ import annotations

import copyreg
import sys
from types import FrameType
from typing import TYPE_CHECKING

from .operations._takes_cy import COMPILED, Takes

if TYPE_CHECKING:
    from .checks import Value

# What callers may use and override. Of all other names without an underscore each side has its own.
PUBLIC = frozenset((
    "add", "cas", "clear", "delete", "delete_many", "get", "get_many", "get_versioned", "incr",
    "pop", "popitem", "replace", "set", "set_many", "setdefault", "touch", "ttl",
))
RESERVED = ("attachment", "closed", "inflight", "name", "near")  # read by all, set by ShmMap only
ATTRIBUTES = frozenset((
    *RESERVED, "clock", "control", "copying", "fork_page", "gate", "lock_timeout_ns",
    "look_at", "marks", "mask", "row", "rows", "safe", "seed", "shards", "shift", "ticks",
    "tombstones_ns", "ttl_ns", "wall_ns", "write_ticks",
))
INTERNAL = frozenset() if COMPILED else ATTRIBUTES | {
    name for kind in Takes.__mro__[:-1] for name in vars(kind) if not name.startswith("_")
} - PUBLIC
# of a handle's own attributes, those that a copy gets otherwise, or makes anew
PRIVATE = (frozenset() if COMPILED else ATTRIBUTES) | {
    "_at_last", "_coder", "_copies", "_follows", "_handle_number", "_hooks", "_last_words",
    "_lock_timeout",
    "_notes", "_own_codec", "_reading", "_request", "_sweeping", "_table", "_turn", "_turning",
}
THEIRS = " of a subclass"  # added to the name under which a subclass's value is kept


def _is_ours(frame: FrameType) -> bool:
    """Tell whether code is this package's."""
    module = frame.f_globals.get("__name__", "")
    return module == "shmmap" or str(module).startswith("shmmap.")


class _Apart:
    """A name that the pure engine and a subclass both use."""

    def __init__(self, name: str, theirs: tuple[Value, ...]) -> None:
        self.name = name
        self.theirs = theirs  # what the subclass's body has under it, if it has
        self.ours = tuple(vars(kind)[name] for kind in Takes.__mro__ if name in vars(kind))[:1]

    def __get__(self, handle: Takes | None, kind: type) -> Value:
        is_ours = _is_ours(sys._getframe(1))
        key = self.name if is_ours else self.name + THEIRS
        if handle is not None and key in vars(handle):
            return vars(handle)[key]
        for found in self.ours if is_ours else self.theirs:
            bind = getattr(type(found), "__get__", None)
            return found if bind is None else bind(found, handle, kind)
        raise AttributeError(f"{kind.__name__!r} object has no attribute {self.name!r}")

    def __set__(self, handle: Takes, value: Value) -> None:
        _keep(handle, self.name, value, _is_ours(sys._getframe(1)))

    def __delete__(self, handle: Takes) -> None:
        if vars(handle).pop(self.name + THEIRS, self) is self:
            raise AttributeError(self.name)


def check_names(kind: type, base: type) -> None:
    """Refuse a subclass that takes a name which ShmMap needs; set apart what both use."""
    own = kind.__mro__[: kind.__mro__.index(base)]
    for name in RESERVED:
        if any(name in vars(one) for one in own):
            raise TypeError(
                f"class {kind.__name__}: {name!r} is an attribute of ShmMap's own, which a "
                "subclass cannot replace: give yours another name"
            )
    for name in INTERNAL:
        found = tuple(vars(one)[name] for one in own if name in vars(one))
        if found and not isinstance(found[0], _Apart):
            setattr(kind, name, _Apart(name, found[:1]))


def _keep(handle: Takes, name: str, value: Value, is_ours: bool) -> None:
    """Store an attribute whose name the pure engine uses too."""
    if is_ours:
        vars(handle)[name] = value
        return
    if name in RESERVED:
        raise AttributeError(f"attribute {name!r} of {type(handle).__name__!r} is not writable")
    found = tuple(vars(one)[name] for one in type(handle).__mro__ if name in vars(one))[:1]
    if not found or not isinstance(found[0], _Apart):
        setattr(type(handle), name, _Apart(name, ()))
    vars(handle)[name + THEIRS] = value


def set_attribute(handle: Takes, name: str, value: Value) -> None:
    """Set an attribute (pure engine: the `__setattr__` of ShmMap)."""
    if name in INTERNAL:
        _keep(handle, name, value, _is_ours(sys._getframe(1)))
    else:
        object.__setattr__(handle, name, value)


def state_of(handle: Takes) -> Value:
    """Return a handle's attributes that are not ShmMap's own, as pickle takes them."""
    state = {
        name.removesuffix(THEIRS): value for name, value in vars(handle).copy().items()
        if name not in PRIVATE
    }
    slots = {
        name: getattr(handle, name) for name in copyreg._slotnames(type(handle))  # type: ignore[attr-defined]
        if hasattr(handle, name)
    }
    return (state, slots) if slots else state


def without_private(handle: Takes, state: Value) -> Value:
    """Take ShmMap's own attributes out of what a subclass's `__getstate__` gave."""
    if not isinstance(state, dict):
        return state
    return {
        str(name).removesuffix(THEIRS): value for name, value in state.items()
        if name not in PRIVATE or vars(handle).get(name) is not value
    }


def set_state(handle: Takes, state: Value) -> None:
    """Set attributes as `state_of` gave them."""
    state, slots = state if isinstance(state, tuple) else (state, {})
    for name, value in state.items():
        if name in INTERNAL:
            _keep(handle, name, value, False)
        else:
            vars(handle)[name] = value
    for name, value in slots.items():
        setattr(handle, name, value)


class OwnState:
    """What keeps a subclass's attributes apart from ShmMap's own, and pickles them."""

    if not COMPILED:
        __setattr__ = set_attribute

    def __getstate__(self) -> Value:
        return state_of(self)  # type: ignore[arg-type]

    def __setstate__(self, state: Value) -> None:
        set_state(self, state)  # type: ignore[arg-type]
