"""What an engine behind a map has to do: one file an engine.

A store keeps bytes under bytes, with a time to live, and tells what changes. Each call is one step
for all machines. None of them waits for longer than the store's own timeout; one that has been
under way then, or whose connection broke, may or may not have been done: StoreUnavailable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from ..errors import StoreRefused, StoreUnavailable
from ..windows import Hit, Rate

SHARE = 10  # one part in so many of what is left is taken at once, at most: see `Store.hit`
HEAD = 16  # bytes: one more than a tombstone has
Thing = TypeVar("Thing")
Done = bool | StoreRefused | StoreUnavailable | None  # see `Store.put_latest`


class Found(NamedTuple):
    """What a store has under a name.

    Attributes:
        data: its bytes.
        ttl_s: seconds that it has left; None: it does not expire.
    """

    data: bytes
    ttl_s: float | None


class Given(list[Any]):
    """Answers of a store that has several servers. `given_by`: the names of those that gave them,
    as the `sources` of a feed has them."""

    def __init__(self, answers: Iterable[Any] = ()) -> None:
        super().__init__(answers)
        self.given_by: set[str] = set()


class Put(NamedTuple):
    """What a store is to have under a name, unless it has something later: see `put_latest`.

    Attributes:
        data: bytes; None: it is to be removed.
        ttl_s: seconds that it is kept; None: for ever.
        stamp: when it was written; b"": nothing that is there counts as later.
    """

    name: bytes
    data: bytes | None
    ttl_s: float | None
    stamp: bytes


class PutIf(NamedTuple):
    """What a store is to have under a name, if that still has a version: see `put_if`.

    Attributes:
        data: bytes with a stamp.
        ttl_s: seconds that it is kept; None: for ever.
        version: the stamp of what is there; b"": nothing is.
    """

    name: bytes
    data: bytes
    ttl_s: float | None
    version: bytes


class Changed(NamedTuple):
    """These have been written or removed since they were told of last, by whomever."""

    names: Sequence[bytes]


class AllChanged(NamedTuple):
    """Everything may have changed."""


class Proven(NamedTuple):
    """All that was acknowledged to anybody before `prove` was called has been told."""


class Feed(Protocol):
    """An open connection that tells what changes under a prefix, from its making on.

    Its methods raise StoreUnavailable once anything may have been missed; then it is of no use.
    Where it listens to several servers, `sources` has their names: see `Given`.
    """

    def prove(self) -> None:
        """Ask for a `Proven`."""

    def next(self, timeout_s: float) -> Changed | AllChanged | Proven | None:
        """Return what comes next; None: nothing within that time."""

    def close(self) -> None:
        """Let the connection go."""


TIMEOUT_S = 1.0


class Store(Protocol):
    """An engine. Every method raises StoreUnavailable where it cannot be reached, and StoreRefused
    for what it does not let us do; nothing else of the engine's own."""

    where: str
    """What an error calls it: an address, without any password."""

    timeout_s: float
    """Seconds that a call waits for an answer; one that has none is taken to wait TIMEOUT_S."""

    def get(self, name: bytes) -> Found | None:
        """Return what is under a name."""

    def get_many(self, names: Sequence[bytes]) -> list[Found | None]:
        """Return what is under each of these; not in one step."""

    def set(
        self, name: bytes, data: bytes, ttl_s: float | None, only: str = "", stamped: bool = False
    ) -> bool:
        """Write; with `only`="absent" or "present" where that is so. Tell whether it was done.
        `stamped`: a tombstone (see `stored`) is absent."""

    def set_many(self, pairs: Sequence[tuple[bytes, bytes]], ttl_s: float | None) -> None:
        """Write all of these; not in one step."""

    def set_if(
        self, name: bytes, data: bytes | None, ttl_s: float | None, version: bytes, stamped: bool
    ) -> bool:
        """Write, or remove (None), what still has a version: a stamp within its bytes, or the
        digest of them, see `stored`. A ttl of 0: as before. Tell whether it was done."""

    def delete(self, names: Sequence[bytes]) -> int:
        """Remove these; return how many were there."""

    def bury(self, names: Sequence[bytes], data: bytes, ttl_s: float) -> int:
        """Write a tombstone under each of these; return how many had a value."""

    def touch(self, name: bytes, ttl_s: float | None, stamped: bool = False) -> bool:
        """Give it another time to live; tell whether it was there. `stamped`: a tombstone is
        not."""

    def moment(self) -> Any:
        """Return the store's time: what `put_latest` and `put_if` are held to."""

    def put_latest(
        self, puts: Sequence[Put], began: Any, within_ms: int, believed_ns: int
    ) -> Sequence[Done]:
        """Write or remove each of these, not all in one step; tell of each whether it was done, or
        why it was refused. False: what is there has a later stamp, of `believed_ns` or before.
        None: it comes more than `within_ms` after `began`, a `moment`, and nothing was done.
        StoreUnavailable: a server of several cannot be reached, and the others can; what it
        `was_sent` may be done until `within_ms` after `began`."""

    def put_if(
        self, puts: Sequence[PutIf], began: Any, within_ms: int
    ) -> list[bool | None]:
        """Write each of these that still has its version, not all in one step; tell of each
        whether it was done. None: it comes more than `within_ms` after `began`, a `moment`, and
        nothing was done."""

    def heads(self, names: Sequence[bytes]) -> list[bytes | None]:
        """Return the first HEAD bytes of each; b"": nothing is there, None: no bytes are."""

    def list_heads(self, prefix: bytes) -> Iterator[list[tuple[bytes, bytes | None]]]:
        """Yield all names that begin with a prefix, some at a time, and their `heads`. What comes
        or goes meanwhile may be missed, and a name may come twice."""

    def feed(self, prefix: bytes) -> Feed:
        """Begin to tell what changes under a prefix; returns when nothing will be missed."""

    def take_lock(self, name: bytes, holder: bytes, lease_s: float) -> int:
        """Take a lock for so long, and return a token greater than any before; 0: it is taken."""

    def renew_lock(self, name: bytes, holder: bytes, lease_s: float) -> bool:
        """Have the lease start anew; False: this holder has it no more."""

    def free_lock(self, name: bytes, holder: bytes) -> bool:
        """Let it go; False: this holder has it no more."""

    def hit(
        self, name: bytes, algorithm: str, rate: Rate, cost: int, more: int = 0,
        counts: bool = True,
    ) -> list[Hit]:
        """Count a hit of a rate limit, as `windows` does, by the store's clock: what is kept under
        the name expires when nothing is counted any more. Of what remains behind an allowed hit,
        `more` is taken along, at most a tenth (SHARE). A look (not `counts`) changes nothing, and
        also returns how it stands. `rate.per_ns` is whole microseconds.

        A store without this method serves a Tiered, and no RateLimiter."""

    def close(self) -> None:
        """Let all connections go."""


def each(things: Iterable[Thing], at_most: int) -> Iterator[list[Thing]]:
    """Cut names, or pairs of them and more, into pieces."""
    piece: list[Thing] = []
    for thing in things:
        piece.append(thing)
        if len(piece) == at_most:
            yield piece
            piece = []
    if piece:
        yield piece
