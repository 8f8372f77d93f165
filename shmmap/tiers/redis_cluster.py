"""A Redis Cluster as the store: each name is asked for at the node that has its slot.

Connections are of our own, to each node as the client's are. Where a slot is the cluster says, as
it is asked first, and by MOVED and ASK, which do nothing but say so: then the command is sent to
the other node. What may have been done is never sent again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

import redis
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError

from ..errors import StoreRefused, StoreUnavailable
from ..memory._clock_cy import monotonic
from . import redis_scripts as scripts
from .redis_cluster_feed import Address, ClusterFeed, name_of, text
from .redis_listing import scan_words
from .redis_store import (
    AT_ONCE,
    RedisStore,
    connecting,
    given_if,
    given_of,
    ms_of,
    none_refused,
    run_by,
)
from .redis_wire import Unsent, Wire
from .store import Given, Put, PutIf, each

SLOTS = 16384
MOST_TURNS = 8  # of a command that is sent from node to node
MOST_LISTINGS = 3  # of a cluster whose slots move meanwhile
_PAUSE_S = 0.005
_ERRORS = (redis.ConnectionError, redis.TimeoutError, OSError)
_FIRST = {"EVAL": 3, "EVALSHA": 3}  # where a command has its name; else at 1


class ClusterStore(RedisStore):
    """A store: see `store`. `client`: a `redis.RedisCluster`; only how it connects is taken."""

    def __init__(self, client: Any, timeout: float | None = None) -> None:
        nodes = client.nodes_manager
        first = client.get_nodes()[0].redis_connection.connection_pool
        self._kind, known = connecting(first, timeout)
        known.pop("redis_connect_func", None)  # the client's own
        self._known = known
        self.timeout_s = float(known["socket_timeout"])
        self._remap = nodes.remap_host_port
        self._seeds = sorted({(node.host, int(node.port)) for node in client.get_nodes()})
        self._wires: dict[Address, Wire] = {}
        self._owners: list[Address] = []  # by slot; []: not known
        self._silent: dict[Address, float] = {}  # since when
        self.where = "cluster {}:{}".format(*self._seeds[0])

    # -- nodes and slots ----------------------------------------------------------------

    def _connect(self, address: Address, protocol: int) -> Any:
        """Make a connection to a node."""
        host, port = address
        return self._kind(**{**self._known, "host": host, "port": port, "protocol": protocol})

    def _wire_to(self, address: Address) -> Wire:
        wire = self._wires.get(address)
        if wire is None:
            wire = self._wires.setdefault(address, Wire(partial(self._connect, address, 2)))
        return wire

    def _address(self, host: Any, port: Any, asked: Address) -> Address:
        """Return where a node is; no host: where the one that was asked is."""
        found: Address = self._remap(text(host) or asked[0], int(port))
        return found

    def _ask_any(self, *words: Any) -> tuple[Any, Address]:
        """Ask whichever node answers; return which did. No more are waited for than two, which say
        nothing: the next call begins with others."""
        known = list(dict.fromkeys([*self._owners, *self._seeds]))
        known.sort(key=lambda address: self._silent.get(address, 0.0))
        until = monotonic() + 1.5 * float(self._known["socket_timeout"])
        error: Exception = Unsent("no node is known")
        for address in known:
            try:
                answer = self._wire_to(address).ask(words, again=True)[0]
            except _ERRORS as raised:
                error = raised
                self._silent[address] = monotonic()
                if monotonic() > until:
                    break
                continue
            self._silent.pop(address, None)
            if not isinstance(answer, redis.ResponseError):
                return answer, address
            error = answer
        raise Unsent(str(error)) from error

    def _learn(self) -> list[Address]:
        """Ask which node has which slot."""
        ranges, asked = self._ask_any("CLUSTER", "SLOTS")
        owners: list[Any] = [None] * SLOTS
        for first, last, primary, *_ in ranges:
            address = self._address(primary[0], primary[1], asked)
            owners[first:last + 1] = [address] * (last + 1 - first)
        if None in owners:
            raise Unsent(f"the cluster has nobody for {owners.count(None):,} of its slots")
        self._owners = owners
        self._seeds = sorted({*self._seeds, *owners})
        return owners

    def _refuse_sent_on(self, error: redis.ResponseError) -> NoReturn:
        """Refuse what was sent from node to node to the end."""
        raise StoreUnavailable(
            f"store {self.where}: its nodes do not agree yet who has a slot: {error}"
        ) from error

    def _lost_master(self) -> None:
        """A server that was written to is no master any more."""
        self._owners = []

    # -- asking -------------------------------------------------------------------------

    def _send(self, *commands: Sequence[Any], again: bool = False) -> list[Any]:
        """Send each command to the node that has its name; return the answers."""
        answers = Given([None] * len(commands))
        left: list[tuple[int, Address | None]] = [(at, None) for at in range(len(commands))]
        until = monotonic() + 2 * float(self._known["socket_timeout"])
        was_sent = False
        for turn in range(MOST_TURNS):
            time.sleep(_PAUSE_S * turn)  # nodes may not agree yet
            try:
                for (address, is_asking), some in self._by_node(commands, left).items():
                    left = [one for one in left if one[0] not in some]
                    try:
                        found = self._send_to(
                            address, [commands[at] for at in some], is_asking, again)
                    except _ERRORS as error:
                        self._owners = []  # another one may have its slots
                        may_ask = again or isinstance(error, Unsent)
                        if not may_ask or turn == MOST_TURNS - 1 or monotonic() > until:
                            raise
                        left += [(at, None) for at in some]
                    else:
                        was_sent = True
                        answers.given_by.add(name_of(address))
                        left += self._take(found, some, answers, address)
            except Unsent as error:
                if was_sent:
                    raise redis.ConnectionError(str(error)) from error
                raise
            if not left:
                break
        return answers  # what was sent from node to node to the end has the last one's answer

    def _by_node(
        self, commands: Sequence[Sequence[Any]], left: list[tuple[int, Address | None]]
    ) -> dict[tuple[Address, bool], list[int]]:
        """Group commands by where they are sent, and whether ASKING goes before each."""
        owners = self._owners or self._learn()
        grouped: dict[tuple[Address, bool], list[int]] = {}
        for at, told in left:
            command = commands[at]
            place = told or owners[key_slot(command[_FIRST.get(command[0], 1)])]
            grouped.setdefault((place, told is not None), []).append(at)
        return grouped

    def _send_to(
        self, address: Address, commands: list[Sequence[Any]], is_asking: bool, again: bool
    ) -> list[Any]:
        if not is_asking:
            return self._wire_to(address).ask(*commands, again=again)
        both = [part for command in commands for part in (("ASKING",), command)]
        return self._wire_to(address).ask(*both, again=again)[1::2]

    def _take(
        self, found: list[Any], some: list[int], answers: list[Any], asked: Address
    ) -> list[tuple[int, Address | None]]:
        """Note answers; return what has to be sent elsewhere."""
        left: list[tuple[int, Address | None]] = []
        for at, answer in zip(some, found, strict=True):
            answers[at] = answer
            if isinstance(answer, AskError):
                left.append((at, self._address(answer.host, answer.port, asked)))
            elif isinstance(answer, MovedError):
                self._moved(answer, asked)
                left.append((at, None))
        return left

    def _moved(self, answer: MovedError, asked: Address) -> None:
        """Note where a slot is now."""
        owners = list(self._owners)
        if owners:
            owners[answer.slot_id] = self._address(answer.host, answer.port, asked)
            self._owners = owners

    # -- what is otherwise than with one server -------------------------------------------

    def delete(self, names: Sequence[bytes]) -> int:
        """Remove these; return how many were there."""
        pieces = ([("DEL", name) for name in piece] for piece in each(names, AT_ONCE))
        return sum(sum(answers) for answers in self._ask_pieces(pieces))

    def moment(self) -> dict[Address, int]:
        """Return the time of each primary, in milliseconds."""
        with self._asking():
            owners = set(self._owners or self._learn())
            return {address: ms_of(self._wire_to(address).ask(("TIME",), again=True)[0])
                    for address in owners}

    def put_latest(
        self, puts: Sequence[Put], began: dict[Address, int], within_ms: int, believed_ns: int
    ) -> list[bool | StoreRefused | None]:
        """Write or remove each of these; tell of each whether it was done, or why not. What has
        moved to another node since is left for the next time."""
        return self._put_each(
            scripts.PUT_LATEST, [put.name for put in puts], began,
            lambda at, began_ms: given_of(puts[at], began_ms, within_ms, believed_ns),
        )

    def put_if(
        self, puts: Sequence[PutIf], began: dict[Address, int], within_ms: int
    ) -> list[bool | None]:
        """Write each of these that still has a version; tell of each whether it was done."""
        return none_refused(self._put_each(
            scripts.PUT_IF, [put.name for put in puts], began,
            lambda at, began_ms: given_if(puts[at], began_ms, within_ms),
        ))

    def _put_each(
        self, script: str, names: list[bytes], began: dict[Address, int],
        given_at: Callable[[int, int], tuple[Any, ...]],
    ) -> list[bool | StoreRefused | None]:
        """Run a script for each name at its home; None: that has changed."""
        with self._asking():
            owners = self._owners or self._learn()
        homes = [owners[key_slot(name)] for name in names]
        answers: list[bool | StoreRefused | None] = [None] * len(names)
        for home in dict.fromkeys(homes):
            if home not in began:
                continue
            some = [at for at, one in enumerate(homes) if one == home]
            given = [given_at(at, began[home]) for at in some]
            for at, answer in zip(some, self._put_at(home, script, given), strict=True):
                answers[at] = answer
        return answers

    def _put_at(
        self, home: Address, script: str, given: list[Any]
    ) -> list[bool | StoreRefused | None]:
        """Put at one node. An answer that names another node is none."""
        with self._asking():
            try:
                found = run_by(self._wire_to(home).ask, script, given)
            except _ERRORS:
                self._owners = []
                raise
        for one in found:
            if isinstance(one, MovedError):
                self._moved(one, home)
        return [None if isinstance(one, MovedError | AskError) else self._done(one)
                for one in found]

    def list_heads(self, prefix: bytes) -> Iterator[list[tuple[bytes, bytes | None]]]:
        """Yield all names that begin with a prefix, node by node, and their `heads`. Which nodes
        there are is asked first: a scan of those of before is answered as well, without what has
        moved to others. Where slots have moved meanwhile all are listed again."""
        owners: list[Address] = []
        for _ in range(MOST_LISTINGS):
            with self._asking():
                now = self._learn()
            if now == owners:
                return
            owners = now
            for address in dict.fromkeys(owners):
                yield from self._list_at(address, prefix)

    def _list_at(
        self, address: Address, prefix: bytes
    ) -> Iterator[list[tuple[bytes, bytes | None]]]:
        """List at one node; the heads are asked for wherever the names are by then."""
        words = scan_words(prefix)
        cursor: Any = 0
        while True:
            with self._asking():
                wire = self._wire_to(address)
                answer = wire.ask(("SCAN", cursor, *words), again=not int(cursor))[0]
            if isinstance(answer, redis.ResponseError):
                self._refuse(answer)
            cursor, names = answer
            heads = zip(names, self.heads(names), strict=True)
            yield [(name, head) for name, head in heads if head != b""]
            if not int(cursor):
                break

    def feed(self, prefix: bytes) -> ClusterFeed:  # type: ignore[override]
        """Begin to tell what changes under a prefix."""
        with self._asking():
            answer, asked = self._ask_any("CLUSTER", "NODES")
            return ClusterFeed(answer, asked, prefix, self._asking,
                               lambda address: self._connect(address, 3), self._address)

    def close(self) -> None:
        """Let all connections go."""
        for wire in list(self._wires.values()):
            wire.drop()

