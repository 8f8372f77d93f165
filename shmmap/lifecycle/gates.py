"""Feature gates: switches of a map that every process sees at once.

A gate has two bits of the control segment's FEATURES: whether anybody has switched it, and to what.
One that nobody has switched is as this version's default says. Gates of a newer version, which this
one does not know, keep their bits: they are shown by number, and never dropped.

A look is one load. A switch is a store under the creation lock, by which a map that replaces
another one takes its gates over, and in a map that has its name: that is looked up under the lock,
for which a switch may have waited. Whoever looks after it returned sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ..system import creation

if TYPE_CHECKING:
    from .attachment import Attachment
    from .control import Control

MOST = 32  # two bits each, of 64


class Gate(NamedTuple):
    """A gate as it is: `said`: somebody has switched it."""

    name: str
    on: bool
    said: bool
    default: bool
    help: str


# By their numbers, which never change; a gate that is no longer used keeps its line.
KNOWN: tuple[tuple[str, bool, str], ...] = (
    ("mirror", False, "shmmap.Mirror answers from its new side, and no longer from the old one"),
    ("auto-shards", False, "whoever sweeps the map changes its number of shards by the load"),
)


def all_gates(features: int) -> list[Gate]:
    """List the known gates, and those of a newer version that are switched."""
    found = []
    for number in range(MOST):
        said, on = _bits(features, number)
        if number < len(KNOWN):
            name, default, text = KNOWN[number]
            found.append(Gate(name, bool(on) if said else default, bool(said), default, text))
        elif said or on:
            text = "of a newer version of shmmap, which this one does not know"
            found.append(Gate(f"gate-{number}", bool(on), bool(said), False, text))
    return found


def _bits(features: int, number: int) -> tuple[int, int]:
    """Return whether a gate is switched, and whether that is to on."""
    return features >> 2 * number & 1, features >> 2 * number + 1 & 1


def is_on(features: int, name: str) -> bool:
    """Tell whether a gate is on; one that is not known is off."""
    for number, (known, default, _) in enumerate(KNOWN):
        if known == name:
            said, on = _bits(features, number)
            return bool(on) if said else default
    return False


def number_of(name: str) -> int:
    """Return the number of a known gate. Raises KeyError."""
    for number, (known, _, _) in enumerate(KNOWN):
        if known == name:
            return number
    raise KeyError(
        f"no gate {name!r} can be switched by this version of shmmap; it knows "
        + ", ".join(known for known, _, _ in KNOWN)
    )


def switch(attached: Attachment, number: int, on: bool | None) -> None:
    """Switch a gate, or, by None, leave it to the default. Locks: the creation lock of the map.

    Raises:
        MapUnlinked: the map was unlinked or replaced, maybe while this waited for the lock.
        LockTimeout: another process is making or unlinking the map, and does not end.
    """
    while True:
        try:
            with creation.creation_lock(attached.name) as turn:
                attached.notice_removal()
                turn.check()
                _store(attached.control, number, on)
            return
        except creation.Forked:
            continue


def _store(control: Control, number: int, on: bool | None) -> None:
    others = control.FEATURES & ~(3 << 2 * number)
    control.FEATURES = others | (0 if on is None else (1 | 2 * on) << 2 * number)


class Gates(Mapping[str, bool]):
    """The gates of a map: `m.gates["mirror"]`, `m.gates["mirror"] = True`; a line each at a prompt.

    A switch is seen by every process with its next operation, and outlives the process that made
    it; a map that replaces this one has it, too. `reset` leaves a gate to the default again.
    """

    def __init__(self, do: Callable[[Callable[[Attachment], object]], object]) -> None:
        self._do = do

    def list(self) -> list[Gate]:
        """List the gates, with what they are for."""
        found: list[Gate] = []
        self._do(lambda attached: found.extend(all_gates(attached.control.FEATURES)))
        return found

    def __getitem__(self, name: str) -> bool:
        for gate in self.list():
            if gate.name == name:
                return gate.on
        raise KeyError(name)

    def __setitem__(self, name: str, on: bool) -> None:
        if not isinstance(on, bool):
            raise TypeError(f"a gate is True or False, not {type(on).__name__}")
        self._switch(name, on)

    def reset(self, name: str) -> None:
        """Leave a gate to the default of whichever version looks at it."""
        self._switch(name, None)

    def _switch(self, name: str, on: bool | None) -> None:
        number = number_of(name)

        def act(attached: Attachment) -> None:
            attached.notice_removal()
            if attached.is_private:
                _store(attached.control, number, on)
            else:
                switch(attached, number, on)
            attached.sweeper.heed()  # others see it when they next look for the map's files

        self._do(act)

    def __iter__(self) -> Iterator[str]:
        return iter([gate.name for gate in self.list()])

    def __len__(self) -> int:
        return len(self.list())

    def __repr__(self) -> str:
        gates = ", ".join(f"{gate.name} {'on' if gate.on else 'off'}" for gate in self.list())
        return f"<Gates: {gates}>"
