"""A Redis Cluster as the store: each name is asked for at the node that has its slot.

Connections are of our own, to each node as the client's are. Where a slot is the cluster says, as
it is asked first, and by MOVED and ASK, which do nothing but say so: then the command is sent to
the other node. What may have been done is never sent again. A node that is silent is in nobody's
way but that of its own names: see `redis_nodes`.
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
from .redis_cluster_feed import Address, ClusterFeed, name_of
from .redis_listing import scan_words
from .redis_nodes import SILENCE, LeftAlone, Nodes
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
from .redis_urls import read_cluster
from .redis_wire import Unsent
from .store import Done, Given, Put, PutIf, each

MOST_TURNS = 8  # of a command that is sent from node to node
MOST_PUT_TURNS = 4
MOST_LISTINGS = 3  # of a cluster whose slots move meanwhile
_PAUSE_S = 0.005
_FIRST = {"EVAL": 3, "EVALSHA": 3}  # where a command has its name; else at 1
Left = list[tuple[int, Address | None]]  # numbers, and where each is sent by ASKING


class ClusterStore(RedisStore):
    """A store: see `store`.

    Args:
        client: a `redis.RedisCluster`, or a URL, "redis+cluster://host:port,host2:port2": some
            nodes, which know the others. Only how it connects is taken from it.
        timeout: as of RedisStore.
    """

    has_breakers = True

    def __init__(self, client: Any, timeout: float | None = None) -> None:
        remap: Callable[[Any, int], Address] = _itself
        if isinstance(client, str):
            pool, seeds = read_cluster(client)
        else:
            remap = client.nodes_manager.remap_host_port
            pool = client.get_nodes()[0].redis_connection.connection_pool
            seeds = [(node.host, int(node.port)) for node in client.get_nodes()]
        self._kind, self._known = connecting(pool, timeout)
        self._known.pop("redis_connect_func", None)  # the client's own
        self.timeout_s = float(self._known["socket_timeout"])
        self._nodes = Nodes(self._connect, remap, seeds, self._known["socket_timeout"])
        self.where = "cluster {}:{}".format(*min(seeds))

    def _connect(self, address: Address, protocol: int) -> Any:
        """Make a connection to a node."""
        host, port = address
        return self._kind(**{**self._known, "host": host, "port": port, "protocol": protocol})

    def _refuse_sent_on(self, error: redis.ResponseError) -> NoReturn:
        """Refuse what was sent from node to node to the end."""
        raise StoreUnavailable(
            f"store {self.where}: its nodes do not agree yet who has a slot: {error}"
        ) from error

    def _lost_master(self) -> None:
        """A server that was written to is no master any more."""
        self._nodes.doubt()

    # -- asking -------------------------------------------------------------------------

    def _send(self, *commands: Sequence[Any], again: bool = False) -> list[Any]:
        """Send each command to the node that has its name; return the answers."""
        answers = Given([None] * len(commands))
        names = [command[_FIRST.get(command[0], 1)] for command in commands]
        left: Left = [(at, None) for at in range(len(commands))]
        until = monotonic() + 2 * self._nodes.timeout_s
        was_sent = False
        for turn in range(MOST_TURNS):
            time.sleep(_PAUSE_S * turn)  # nodes may not agree yet
            try:
                for (address, is_asking), some in self._by_node(names, left).items():
                    left = [one for one in left if one[0] not in some]
                    try:
                        found = self._send_to(
                            address, [commands[at] for at in some], is_asking, again)
                    except SILENCE as error:
                        may_ask = again or isinstance(error, Unsent)
                        if not may_ask or turn == MOST_TURNS - 1 or monotonic() > until or (
                            isinstance(error, LeftAlone) and not self._nodes.learn_again()
                        ):
                            raise
                        left += [(at, None) for at in some]  # another one may have them
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
        self, names: Sequence[bytes], left: Left
    ) -> dict[tuple[Address, bool], list[int]]:
        """Group numbers by where their names are sent, and whether ASKING goes before each."""
        grouped: dict[tuple[Address, bool], list[int]] = {}
        for at, told in left:
            place = told or self._nodes.owner(names[at])
            grouped.setdefault((place, told is not None), []).append(at)
        return grouped

    def _send_to(
        self, address: Address, commands: Sequence[Sequence[Any]], is_asking: bool, again: bool
    ) -> list[Any]:
        if not is_asking:
            return self._nodes.ask(address, *commands, again=again)
        both = [part for command in commands for part in (("ASKING",), command)]
        return self._nodes.ask(address, *both, again=again)[1::2]

    def _take(
        self, found: list[Any], some: list[int], answers: list[Any], asked: Address
    ) -> Left:
        """Note answers; return what has to be sent elsewhere."""
        left: Left = []
        for at, answer in zip(some, found, strict=True):
            answers[at] = answer
            if isinstance(answer, AskError):
                told = self._nodes.address(answer.host, answer.port, asked)
                self._nodes.is_being_given(told)
                left.append((at, told))
            elif isinstance(answer, MovedError):
                self._nodes.moved(answer, asked)
                left.append((at, None))
        return left

    def is_away(self, names: Sequence[bytes]) -> bool:
        """Tell whether a node that has one of these was silent when it was asked last."""
        with self._asking():
            return any(map(self._nodes.is_silent, {self._nodes.owner(name) for name in names}))

    # -- what is otherwise than with one server -------------------------------------------

    def delete(self, names: Sequence[bytes]) -> int:
        """Remove these; return how many were there."""
        pieces = ([("DEL", name) for name in piece] for piece in each(names, AT_ONCE))
        return sum(sum(answers) for answers in self._ask_pieces(pieces))

    def moment(self) -> dict[Address, int]:
        """Return the time of each node that may take writes, in milliseconds. Those that are silent
        are left out, and not waited for; of those that fall silent now, one is."""
        with self._asking():
            times: dict[Address, int] = {}
            failed: Exception = Unsent("no node is known")
            until = monotonic() + self._nodes.timeout_s
            for address in self._nodes.writers():
                try:
                    answer = self._nodes.ask_if_well(address, ("TIME",))[0]
                except redis.AuthenticationError:
                    raise
                except SILENCE as error:
                    failed = error
                    if monotonic() >= until:
                        break
                    continue
                if isinstance(answer, redis.ResponseError):
                    failed = answer
                else:
                    times[address] = ms_of(answer)
            if not times:
                raise failed
            return times

    def put_latest(
        self, puts: Sequence[Put], began: dict[Address, int], within_ms: int, believed_ns: int
    ) -> list[Done]:
        """Write or remove each of these; tell of each whether it was done, or why not."""
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
    ) -> list[Done]:
        """Run a script for each name at its home, held to the time that this one has told before.
        What it has not told is not asked for here: whoever was stopped since then would have a time
        that came too late, see `draining`."""
        answers: list[Done] = [None] * len(names)
        left: Left = [(at, None) for at in range(len(names))]
        for turn in range(MOST_PUT_TURNS):
            time.sleep(_PAUSE_S * turn)  # nodes may not agree yet
            grouped, left = self._at_home(names, left, answers), []
            for (home, is_asking), some in grouped.items():
                if home not in began:
                    self._tell_all(answers, some, self._away(
                        f"node {name_of(home)} is silent, or new, and has not told its time",
                        name_of(home)))
                    continue
                given = [given_at(at, began[home]) for at in some]
                try:
                    with self._asking():
                        found = run_by(partial(self._run_at, home, is_asking), script, given)
                except (StoreUnavailable, StoreRefused) as error:
                    if isinstance(error, StoreUnavailable):
                        error.server = name_of(home)
                    self._tell_all(answers, some, error)
                    continue
                left += self._take(found, some, answers, home)
                for at, answer in zip(some, found, strict=True):
                    answers[at] = self._done(answer)
            if not left:
                break
        return answers

    def _at_home(
        self, names: list[bytes], left: Left, answers: list[Done]
    ) -> dict[tuple[Address, bool], list[int]]:
        """Group numbers by where they are sent; those that nobody has are told so."""
        try:
            with self._asking():
                owners = self._nodes.owners()
        except StoreUnavailable as error:
            self._tell_all(answers, [at for at, _ in left], error)
            return {}
        grouped: dict[tuple[Address, bool], list[int]] = {}
        for at, told in left:
            place = told or owners[key_slot(names[at])]
            if place is None:
                answers[at] = self._away("the cluster has nobody for the slot of this name")
            else:
                grouped.setdefault((place, told is not None), []).append(at)
        return grouped

    def _run_at(
        self, home: Address, is_asking: bool, *commands: Sequence[Any], again: bool = False
    ) -> list[Any]:
        return self._send_to(home, commands, is_asking, again)

    def _tell_all(self, answers: list[Done], some: list[int], told: Done) -> None:
        for at in some:
            answers[at] = told

    def _away(self, why: str, server: str = "") -> StoreUnavailable:
        """Return what says that nothing was sent."""
        error = StoreUnavailable(f"store {self.where}: {why}")
        error.was_sent, error.server = False, server
        return error

    def _done(self, answer: Any) -> Done:
        """Tell what one came to. A node that has said that it cannot now, or who else can, has done
        nothing."""
        try:
            return super()._done(answer)
        except StoreUnavailable as error:
            error.was_sent = False
            return error

    def list_heads(self, prefix: bytes) -> Iterator[list[tuple[bytes, bytes | None]]]:
        """Yield all names that begin with a prefix, node by node, and their `heads`. Which nodes
        there are is asked first: a scan of those of before is answered as well, without what has
        moved to others. Where slots have moved meanwhile all are listed again."""
        owners: list[Address | None] = []
        for _ in range(MOST_LISTINGS):
            with self._asking():
                now = self._nodes.learn()
                if None in now:
                    raise Unsent(f"the cluster has nobody for {now.count(None):,} of its slots")
            if now == owners:
                return
            owners = now
            for address in dict.fromkeys(owners):
                if address is not None:
                    yield from self._list_at(address, prefix)

    def _list_at(
        self, address: Address, prefix: bytes
    ) -> Iterator[list[tuple[bytes, bytes | None]]]:
        """List at one node; the heads are asked for wherever the names are by then."""
        words = scan_words(prefix)
        cursor: Any = 0
        while True:
            with self._asking():
                scan = "SCAN", cursor, *words
                answer = self._nodes.ask(address, scan, again=not int(cursor))[0]
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
            answer, asked = self._nodes.ask_any("CLUSTER", "NODES")
            return ClusterFeed(answer, asked, prefix, self._asking,
                               lambda address: self._connect(address, 3), self._nodes.address)

    def close(self) -> None:
        """Let all connections go."""
        self._nodes.close()


def _itself(host: Any, port: int) -> Address:
    return host, port
