"""The nodes of a Redis Cluster: who has which slot, and who answers just now.

Each has connections of its own, as one server has (`Wire`). A node that was silent is left alone:
who asks it is told so at once, and nobody waits for it, but for one caller after a pause, which
grows to a second at most. The other nodes are asked as ever. Meanwhile one of them is asked again
and again who has which slot, in case that a replica has taken the silent one's place.

What must not wait at all (`ask_if_well`) leaves it to the background to look whether it answers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import redis
from redis.crc import key_slot
from redis.exceptions import MovedError

from ..breaker import Breaker
from ..memory._clock_cy import monotonic
from ..system.process import this_process
from .parts import Parts, Runs
from .redis_cluster_feed import Address, name_of, text
from .redis_wire import Unsent, Wire

SLOTS = 16384
PAUSES_S = 0.1, 1.0  # that a silent node is left alone: the first, and the longest
LOOK_S = 0.25  # from one question who has which slot to the next
TOLD_S = 30.0  # that a node is known to which a slot is being moved
SILENCE = (redis.ConnectionError, redis.TimeoutError, OSError)
_PROBE_S = 0.1


class LeftAlone(Unsent):
    """It was silent a moment ago, and was not asked."""


class Nodes:
    """The nodes of one cluster.

    Args:
        connect: makes a connection to an address, by a protocol.
        remap: where an address that a node has told of is to be reached.
        seeds: addresses of some, which know the others.
        timeout_s: that a connection waits for an answer.
    """

    def __init__(
        self, connect: Callable[[Address, int], Any], remap: Callable[[Any, int], Address],
        seeds: Sequence[Address], timeout_s: float,
    ) -> None:
        self.connect = connect
        self.timeout_s = timeout_s
        self._remap = remap
        self._seeds = sorted(set(seeds))
        self._wires: dict[Address, Wire] = {}
        self._breakers: dict[tuple[int, Address], Breaker] = {}  # a fork may leave a lock held
        self._silent: dict[Address, float] = {}  # since when
        self._told: dict[Address, float] = {}  # of an ASK, when
        self._owners: list[Address | None] = []  # by slot; []: not known
        self._is_doubtful = False  # whether that is still so
        self._look_at = 0.0
        self._turn = 0
        me = weakref.ref(self)
        self._parts = Parts(lambda: _Probing(me))

    # -- asking one of them ---------------------------------------------------------------

    def ask(self, address: Address, *commands: Sequence[Any], again: bool = False) -> list[Any]:
        """Ask a node: see `Wire.ask`. Raises LeftAlone, too."""
        breaker = self._breaker(address)
        if not breaker.may_ask():
            raise LeftAlone(f"node {name_of(address)} did not answer a moment ago; until it does "
                            "it is asked once a second")
        try:
            answers = self._wire(address).ask(*commands, again=again)
        except redis.AuthenticationError:
            raise
        except SILENCE as error:
            breaker.failed()
            self._silent[address] = monotonic()
            self.doubt()
            if isinstance(error, Unsent):
                raise Unsent(f"node {name_of(address)}: {error}") from error
            raise
        breaker.passed()
        self._silent.pop(address, None)
        return answers

    def ask_if_well(self, address: Address, *commands: Sequence[Any]) -> list[Any]:
        """Ask a node that was not silent when it was asked last."""
        if self.is_silent(address):
            raise LeftAlone(f"node {name_of(address)} does not answer")
        return self.ask(address, *commands, again=True)

    def is_silent(self, address: Address) -> bool:
        """Tell whether a node was silent when it was asked last; if so, the background looks
        whether it answers again."""
        if address not in self._silent:
            return False
        self.doubt()
        self._parts.start()
        return True

    def ask_any(self, *words: Any) -> tuple[Any, Address]:
        """Ask whichever node answers; return which did. No more are waited for than two, which say
        nothing: the next call begins with others."""
        error: Exception = Unsent("no node is known")
        single: redis.ResponseError | None = None
        until = monotonic() + 1.5 * self.timeout_s
        for address in self._to_ask():
            try:
                answer = self.ask(address, words, again=True)[0]
            except redis.AuthenticationError:
                raise
            except SILENCE as raised:
                error = raised
                if monotonic() > until:
                    break
                continue
            if not isinstance(answer, redis.ResponseError):
                return answer, address
            error = answer
            if "cluster support disabled" in str(answer):
                single = redis.ResponseError(
                    f"{name_of(address)} is a single server, and none of a cluster: its URL begins "
                    "with redis://")
        if single is not None:  # that does not pass
            raise single
        raise Unsent(str(error)) from error

    def _to_ask(self) -> list[Address]:
        """Return all that are known: those that answer first, each time another one of them, since
        what one says may be old."""
        owners = [one for one in dict.fromkeys(self._owners) if one is not None]
        self._turn += 1
        turn = self._turn % max(1, len(owners))
        known = list(dict.fromkeys([*owners[turn:], *owners[:turn], *self._seeds]))
        known.sort(key=lambda address: self._silent.get(address, 0.0))
        return known

    def _wire(self, address: Address) -> Wire:
        wire = self._wires.get(address)
        if wire is None:
            make = partial(self.connect, address, 2)
            wire = self._wires.setdefault(address, Wire(make))
        return wire

    def _breaker(self, address: Address) -> Breaker:
        place = this_process(), address
        breaker = self._breakers.get(place)
        return breaker or self._breakers.setdefault(place, Breaker(1, *PAUSES_S))

    def probe(self) -> bool:
        """Look whether silent nodes that are needed answer again; tell whether any is still
        silent."""
        needed = self._silent.copy().keys() & {*self._owners, *self._told.copy()}
        for address in needed:
            with suppress(redis.RedisError, OSError):
                self.ask(address, ("PING",), again=True)
        return any(address in self._silent for address in needed)

    # -- who has what -----------------------------------------------------------------------

    def address(self, host: Any, port: Any, asked: Address) -> Address:
        """Return where a node is; no host: where the one that was asked is."""
        return self._remap(text(host) or asked[0], int(port))

    def owners(self) -> list[Address | None]:
        """Return who has each slot; None: nobody."""
        if not self._owners or (self._is_doubtful and monotonic() >= self._look_at):
            try:
                return self.learn()
            except Unsent:
                if not self._owners:
                    raise
        return self._owners

    def owner(self, name: bytes) -> Address:
        """Return who has a name."""
        slot = key_slot(name)
        found = self.owners()[slot]
        if found is None:
            raise Unsent(f"the cluster has nobody for slot {slot}")
        return found

    def writers(self) -> list[Address]:
        """Return all that may take writes, as far as is known: who has a slot, or is being given
        one."""
        now = monotonic()
        told = [address for address, at in self._told.copy().items() if now - at < TOLD_S]
        return [one for one in dict.fromkeys([*self.owners(), *told]) if one is not None]

    def learn(self) -> list[Address | None]:
        """Ask which node has which slot."""
        self._look_at = monotonic() + LOOK_S
        ranges, asked = self.ask_any("CLUSTER", "SLOTS")
        owners: list[Address | None] = [None] * SLOTS
        for first, last, primary, *_ in ranges:
            address = self.address(primary[0], primary[1], asked)
            owners[first:last + 1] = [address] * (last + 1 - first)
        self._owners, self._is_doubtful = owners, None in owners
        self._seeds = sorted({*self._seeds, *(one for one in owners if one is not None)})
        return owners

    def learn_again(self) -> bool:
        """Ask anew which node has which slot; False: that was asked a moment ago."""
        if monotonic() < self._look_at:
            return False
        self.doubt()
        self.owners()
        return True

    def doubt(self) -> None:
        """Have it be asked anew who has which slot."""
        self._is_doubtful = True

    def moved(self, answer: MovedError, asked: Address) -> Address:
        """Note where a slot is now; return that."""
        address = self.address(answer.host, answer.port, asked)
        owners = list(self._owners)
        if owners:
            owners[answer.slot_id] = address
            self._owners = owners
        return address

    def is_being_given(self, address: Address) -> None:
        """Note that a slot is being moved to a node."""
        self._told[address] = monotonic()

    def close(self) -> None:
        """Let all connections go."""
        self._parts.stop()
        for wire in list(self._wires.values()):
            wire.drop()


class _Probing(Runs):
    """Looks in the background whether silent nodes answer. `nodes`: a weak reference."""

    def __init__(self, nodes: Callable[[], Nodes | None]) -> None:
        super().__init__(_PROBE_S)
        self._nodes = nodes

    def _step(self) -> bool:
        nodes = self._nodes()
        return nodes is not None and nodes.probe()
