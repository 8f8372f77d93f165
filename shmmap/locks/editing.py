"""Editing an entry in a `with` block: `with m.edit("user:7") as user: user["seen"] = True`.

    1  take the key's named lock, so that editors come one after the other
    2  read the value, with its version
    3  the block changes it, as often as it likes, in this process only
    4  write it, if the entry still has that version; free the lock

The lock is a matter among editors; that nobody's write is lost rests on 4 alone. So a lease that
runs out, or a process that simply writes, costs an EditConflict and no more. What a block raises
ends it at 3, and nothing is written. A child that a block forks writes nothing either: the edit is
its parent's.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from ..checks import Key, Value, shown
from ..errors import EditConflict, LockLost, MapUnlinked
from ..operations._changes_cy import KEPT, check_ttl, versioned
from ..operations._reads_cy import MISSING
from ..operations.changes import Changes, begin_with, store
from ..system.blocks import exit_of
from ..system.process import this_process
from .leaving import Done

_BY_WITH = "write `with m.edit(key) as value:`, and change `value` in the block"

_ADVICE = (": m.edit(key) takes m.lock(key). Leave the block that holds it first, or read and "
           "write the entry in that one")


def _in_place(act: Callable[[Value, Value], Value]) -> Callable[[Edit, Value], Edit]:
    """Make what `edit += other`, say, does."""

    def change(self: Edit, other: Value) -> Edit:
        self.value = act(self.value, other)
        return self

    return change


def _refused(self: Edit, *_: Value) -> NoReturn:
    """Refuse what would make another value, which the block would then have to put into it."""
    raise TypeError(
        "an Edit is not its value: to put a new one in its place write `edit += 1`, or "
        "`edit.value = edit.value + 1`"
    )


class Edit:
    """What a `with m.edit(key)` gives: it does what its value does, and can exchange it.

    What is done to it is done to the value: `edit["k"] = 1`, `edit.append(x)`, `len(edit)`,
    `edit > 5`. `edit += 1` puts the sum in its place. Other arithmetic is refused, since
    `n = n + 1` would only change a variable. Code that asks for a real dict gets `edit.value`.

    Attributes:
        value: the value; assign to it to put another in its place, or `shmmap.DELETE` to remove
            the entry.
    """

    __slots__ = ("_edit_is_over", "_edit_value")
    _edit_is_over: bool
    _edit_value: Value
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Value) -> None:
        object.__setattr__(self, "_edit_value", value)
        object.__setattr__(self, "_edit_is_over", False)

    @property
    def value(self) -> Value:
        """The value as it is now."""
        return self._edit_value

    @value.setter
    def value(self, value: Value) -> None:
        self._changing()
        object.__setattr__(self, "_edit_value", value)

    def _changing(self) -> Value:
        """Return the value for a change of it."""
        if self._edit_is_over:
            raise TypeError("this edit is over: its `with` block has ended, and nothing that is "
                            "changed now would be stored. Begin another: with m.edit(key)")
        return self._edit_value

    def __getattr__(self, name: str) -> Value:
        return getattr(self._edit_value, name)

    def __setattr__(self, name: str, value: Value) -> None:
        if name == "value":
            object.__setattr__(self, name, value)
        else:
            setattr(self._changing(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._changing(), name)

    def __getitem__(self, place: Value) -> Value:
        return self._edit_value[place]

    def __setitem__(self, place: Value, value: Value) -> None:
        self._changing()[place] = value

    def __delitem__(self, place: Value) -> None:
        del self._changing()[place]

    def __iter__(self) -> Iterator[Value]:
        return iter(self._edit_value)

    def __len__(self) -> int:
        return len(self._edit_value)

    def __contains__(self, item: object) -> bool:
        return item in self._edit_value

    def __bool__(self) -> bool:
        return bool(self._edit_value)

    def __eq__(self, other: object) -> Value:
        return self._edit_value == other

    def __lt__(self, other: Value) -> Value:
        return self._edit_value < other

    def __le__(self, other: Value) -> Value:
        return self._edit_value <= other

    def __gt__(self, other: Value) -> Value:
        return self._edit_value > other

    def __ge__(self, other: Value) -> Value:
        return self._edit_value >= other

    def __str__(self) -> str:
        return str(self._edit_value)

    def __format__(self, how: str) -> str:
        return format(self._edit_value, how)

    def __repr__(self) -> str:
        return f"<Edit of {shown(self._edit_value)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Edit cannot be stored: store its value, edit.value")

    __add__ = __sub__ = __mul__ = __matmul__ = __truediv__ = __floordiv__ = __mod__ = _refused
    __radd__ = __rsub__ = __rmul__ = __rmatmul__ = __rtruediv__ = __rfloordiv__ = _refused
    __pow__ = __rpow__ = __rmod__ = __neg__ = __abs__ = __round__ = __int__ = __float__ = _refused
    __iadd__, __isub__ = _in_place(operator.iadd), _in_place(operator.isub)
    __imul__, __imatmul__ = _in_place(operator.imul), _in_place(operator.imatmul)
    __itruediv__, __ifloordiv__ = _in_place(operator.itruediv), _in_place(operator.ifloordiv)
    __imod__, __ipow__ = _in_place(operator.imod), _in_place(operator.ipow)
    __iand__, __ior__ = _in_place(operator.iand), _in_place(operator.ior)
    __ixor__ = _in_place(operator.ixor)
    __ilshift__, __irshift__ = _in_place(operator.ilshift), _in_place(operator.irshift)


def _nothing() -> None:
    """Stand for a weak reference to what is no more."""


def _end(held: Callable[[], Any], kind: object, error: object, trace: object) -> None:
    """End a block: write the entry, then free its lock."""
    try:
        held().entry.__exit__(kind, error, trace)
    except BaseException as raised:
        held().leave(type(raised), raised, raised.__traceback__)
        raise
    try:
        held().leave(kind, error, trace)
    except LockLost:  # its lease has passed; but nobody has written past it
        if not held().entry.is_written:
            raise


def _end_async(held: Callable[[], Any], kind: object, error: object, trace: object) -> Done:
    """Do so in an `async with`."""
    _end(held, kind, error, trace)
    return Done()


class _Exit:
    """`__exit__` and `__aexit__` of what `m.edit(key)` returns: see `blocks`."""

    def __init__(self, end: Callable[..., Any]) -> None:
        self._end = end

    def __get__(self, editing: Editing | None, owner: object = None) -> Callable[..., Any]:
        if editing is None:
            return lambda editing, *raised: self._by_hand(editing)(*raised)
        if editing._by_hand is not None:
            return self._by_hand(editing)
        block = editing._new()
        editing._next = weakref.ref(block)
        return exit_of(self._end, block)

    def _by_hand(self, editing: Editing) -> Callable[..., Any]:
        block, editing._by_hand = editing._by_hand, None
        return exit_of(self._end, block)


class Editing:
    """What `m.edit(key)` returns: for one `with`, or one `async with`, at a time. That keeps what
    it holds, and nothing else does, so a signal handler that breaks it off leaves nothing held."""

    __slots__ = ("_arguments", "_by_hand", "_next", "_under_way")

    def __init__(self, *arguments: Value) -> None:
        self._arguments = arguments
        self._by_hand: _Block | None = None  # begun without a `with`, or in an ExitStack
        self._next: Callable[[], Any] = _nothing  # of the `with` that begins
        self._under_way: Callable[[], Any] = _nothing

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"m.edit(key) has no {name!r}: {_BY_WITH}")

    def __getitem__(self, *_: Value) -> NoReturn:
        raise TypeError(_BY_WITH)

    __setitem__ = __delitem__ = __getitem__

    def _new(self) -> _Block:
        if self._under_way() is not None:
            raise TypeError("this edit is under way: call m.edit(key) anew for each block")
        return _Block(self._arguments)

    def _begin(self) -> tuple[_Block | None, Callable[[], Any]]:
        """Return the block that begins, if nobody asked for its exit, and a weak reference to
        it."""
        held, self._next = self._next, _nothing
        mine = self._new() if held() is None else None
        return mine, held if mine is None else weakref.ref(mine)

    def _read(self, mine: _Block | None, held: Callable[[], Any]) -> Any:
        """Read the entry, whose lock is ours."""
        try:
            edit = held().entry.__enter__()
        except BaseException as error:
            held().leave(type(error), error, error.__traceback__)
            raise
        self._by_hand, self._under_way = mine, held
        return edit

    def __enter__(self) -> Any:
        mine, held = self._begin()
        held().entry.lock.__enter__()
        return self._read(mine, held)

    async def __aenter__(self) -> Any:
        mine, held = self._begin()
        await held().entry.lock.__aenter__()
        return self._read(mine, held)

    if TYPE_CHECKING:
        def __exit__(self, *raised: Any) -> None: ...
        async def __aexit__(self, *raised: Any) -> None: ...
    else:
        __exit__ = _Exit(_end)
        __aexit__ = _Exit(_end_async)


class _Block:
    """What one `with` holds: the entry, and the end of a `with` of its lock."""

    __slots__ = ("__weakref__", "entry", "leave")

    def __init__(self, arguments: tuple[Value, ...]) -> None:
        self.entry = _Entry(*arguments)
        self.leave = self.entry.lock.__exit__


class _Entry:
    """An entry that is edited: it is read when the block begins, and written when that ends."""

    def __init__(
        self, m: Any, key: Key, default: Value, ttl: float | None, timeout: float | None,
        lease: float | None, evict: bool,
    ) -> None:
        check_ttl(m, ttl)
        self.lock = m.lock(key, timeout=timeout, lease=lease)
        self.lock._advice = _ADVICE
        self.is_written = False
        self._map, self._key, self._default, self._ttl, self._evict = m, key, default, ttl, evict

    def __enter__(self) -> Edit:
        m, key = self._map, self._key
        self._process = this_process()
        self._part = m.attachment
        value, self._version, self._deadline_ns = versioned(m, key)
        self._edit = Edit(value if self._version else begin_with(m, key, self._default))
        return self._edit

    def __exit__(self, kind: object, *raised: object) -> None:
        object.__setattr__(self._edit, "_edit_is_over", True)
        if kind is None:
            if self._process == this_process():  # else a child, which holds no lock
                self._refuse_unlinked()
                _write(self._map, self._key, self._edit.value, self._version, self._deadline_ns,
                       self._ttl, self._evict)
            self.is_written = True

    def _refuse_unlinked(self) -> None:
        """Raise EditConflict where the map is no more: what would be written has never been read
        in the one that has the name now."""
        m, part = self._map, self._part
        with suppress(MapUnlinked):
            if m.attachment is part:
                part.notice_removal()
                return
        raise EditConflict(
            f"map {m.name!r}, key {shown(self._key)}: the map was unlinked, or its files were "
            "removed, while the entry was edited; what was edited is not stored. Edit it again: "
            "that begins in the map that has the name now"
        )


def _write(
    m: Any, key: Key, value: Value, version: int, deadline_ns: int, ttl: float | None, evict: bool
) -> None:
    """Write what was edited. Raises EditConflict."""
    if store(m, key, value, version, deadline_ns, ttl, evict):
        return
    is_there = key in m
    if not is_there and ttl is KEPT and 0 < deadline_ns <= m._live.clock.now_ns():
        return  # it has expired, and what was edited with it
    raise EditConflict(
        f"map {m.name!r}, key {shown(key)}: "
        + ("the entry was written" if is_there else "the entry was removed, or has expired,")
        + " while it was edited, by others or by this block itself; what was edited is not stored. "
        "Edit it again. m.edit(key) holds off only those who use m.edit(key) or m.lock(key): use "
        "one of them wherever this key is written, or m.apply(key, function), which tries again by "
        "itself"
    )


class Edits(Changes):
    """The changing operations of a map, and edits."""

    def edit(
        self: Any, key: Key, default: Value = MISSING, ttl: float | None = KEPT, *,
        timeout: float | None = None, lease: float | None = None, evict: bool = True,
    ) -> Editing:
        """Change an entry in a block: `with m.edit("user:7") as user: user["seen"] = True`; in a
        coroutine `async with m.edit("user:7") as user: ...`.

        The block gets an `Edit`, which does what the value does. At its end the value is written,
        changed or not. What the block raises goes on, and nothing is written. Of all who edit a
        key, in whatever process, one is in its block at a time: it holds `m.lock(key)`.

        Args:
            default: what is edited where there is no entry; what is callable (`dict`, `list`) is
                called for it. Not given: KeyError.
            ttl: seconds from now, None: no expiry. Not given: an entry that is there keeps its
                deadline, a new one gets the map's default.
            timeout: as for `lock`.
            lease: as for `lock`. With one nobody waits longer for a holder that is stopped; that
                one then gets an EditConflict if another has written meanwhile.
            evict: as for `set`.

        Raises:
            EditConflict: as the block ends: others have written or removed the entry meanwhile,
                without editing it. What was edited is not stored.
            LockTimeout: another process is editing it.
            Reentered: this thread is editing it, or holds its lock.

        >>> with ShmMap("doctest", size="1MB", ephemeral=True) as m:
        ...     with m.edit("d", default=dict) as d:
        ...         d["k"] = 1
        ...     with m.edit("n", default=0) as n:
        ...         n += 1
        ...     m["d"], m["n"]
        ({'k': 1}, 1)
        """
        return Editing(self, key, default, ttl, timeout, lease, evict)
