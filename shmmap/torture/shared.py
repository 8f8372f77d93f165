"""What lanes do with keys that all of them write: counters, registers, claims, guarded counters,
counters that are changed by what they hold, other lanes' keys, a map that evicts and one that is
always full, listings, snapshots, sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import LockTimeout, MapFull
from .actor import Actor, own_key, whole
from .ledger import (
    CHANGED,
    CLAIM_NEXT,
    CLAIM_SETTLED,
    CLAIMS,
    COUNTERS,
    GUARDED,
    REGISTERS,
    Lane,
    Ledger,
    now_ns,
)
from .plan import KEYS
from .values import Identity, make_value

if TYPE_CHECKING:
    from ..checks import Key, Value
    from ..copies.snapshots import Snapshot
    from ..map import ShmMap

FILL_OWNER = 1 << 20  # who "wrote" the entries that lie there all along
_SIDE_KEYS = 600
_SIDE_LENGTHS = (0, 20, 100, 400, 2_000, 9_000)
_REGISTER_LENGTHS = (0, 300, 5_000)
_LISTING_PAUSE_NS = 3_000_000_000
_UNSETTLED = 500  # claims that may lie there: the parent may be kept from settling them
_CLAIM_LAG = 8  # claims so far behind the newest one that nobody begins them any more


def fill_value(number: int) -> Value:
    """Return the value of an entry that lies there all along."""
    return make_value(Identity(FILL_OWNER, number, number), bytes(76))


def count(actor: Actor) -> None:
    """Raise a counter by one."""
    which = int(actor.rng.random() * COUNTERS)
    actor.lane.begin_count(1 + which)
    value = actor.call("incr", actor.maps.main.incr, f"count-{which}")
    actor.lane.end_count(1 + which)
    seen = actor.latest.get(which, 0)
    actor.expect(value > seen, "lost", f"count-{which} went from {seen} to {value}")
    actor.latest[which] = value


def register(actor: Actor) -> None:
    """Raise a register, a long value that says how often it was written, by cas."""
    which = int(actor.rng.random() * REGISTERS)
    main, name = actor.maps.main, f"register-{which}"
    old, version = actor.call("register", main.get_versioned, name)
    number = actor.read(old, name).number if old is not None else 0
    seen = actor.latest.get(name, 0)
    actor.expect(number >= seen, "lost", f"{name} went from {seen} to {number}")
    identity = Identity(actor.lane.number, which, number + 1)
    value = make_value(identity, actor.fillings.cut(actor.rng, _REGISTER_LENGTHS))
    actor.lane.begin_count(1 + COUNTERS + which)
    written = actor.call("register", main.cas, name, value, version)
    actor.lane.end_count(1 + COUNTERS + which, written)
    actor.latest[name] = number + written


def claim(actor: Actor) -> None:
    """Insert a key that everybody tries to insert: exactly one may succeed."""
    words, lane, main = actor.ledger.words, actor.lane, actor.maps.main
    number = words[CLAIM_NEXT]
    if lane.claim(number) == 2:  # by an operation that was broken off
        words[CLAIM_NEXT] = number + 1
        return
    if number > words[CLAIM_SETTLED] + _UNSETTLED:  # they would fill the map
        return
    lane.note_claim(number, 1)
    if words[CLAIM_NEXT] - number > 2:  # we were asleep; nobody waits for late claims
        lane.note_claim(number, 0)
        return
    value = make_value(Identity(lane.number, 0, number), b"")
    won = actor.call("claim", main.add, f"claim-{number}", value)
    found = actor.call("claim", main.get, f"claim-{number}")
    lane.note_claim(number, 2 if won else 0)
    owner = actor.read(found, f"claim-{number}") if found is not None else None
    actor.expect(owner is not None and owner.number == number, "lost",
                 f"claim-{number} shows {owner}, won {won}")
    actor.expect((owner is not None and owner.owner == lane.number) == won, "duplicate",
                 f"claim-{number} belongs to {owner}, won {won}")
    if words[CLAIM_NEXT] == number:
        words[CLAIM_NEXT] = number + 1


def settle_claims(main: ShmMap, ledger: Ledger, verified: int) -> tuple[int, list[str]]:
    """Count the winners of the claims that nobody works at any more, and remove these."""
    problems = []
    for number in range(verified, max(verified, ledger.words[CLAIM_NEXT] - _CLAIM_LAG)):
        states = {lane.number: lane.claim(number) for lane in ledger.lanes}
        if 1 in states.values():
            break
        winners = [lane for lane, state in states.items() if state == 2]
        value = main.pop(f"claim-{number}", None)
        owner = None if value is None else whole(value, f"claim-{number}").owner
        if len(winners) > 1 or (winners and owner != winners[0]):
            problems.append(f"claim-{number} was won by lanes {winners}, belongs to {owner}")
        verified = ledger.words[CLAIM_SETTLED] = number + 1
    return verified, problems


def give_up_claims(main: ShmMap, lane: Lane, next_claim: int) -> None:
    """Settle the claims that a dead or interrupted lane was at: did it win?"""
    for number in range(max(0, next_claim - CLAIMS), next_claim + 1):
        if lane.claim(number) == 1:
            value = main.get(f"claim-{number}")
            owner = None if value is None else whole(value, f"claim-{number}").owner
            lane.note_claim(number, 2 if owner == lane.number else 0)


def guard(actor: Actor) -> None:
    """Raise a counter in two steps, under a named lock. A holder that dies in between has raised
    it or not; nobody else gets in, and the lock's tokens rise."""
    which = int(actor.rng.random() * GUARDED)
    main, name = actor.maps.main, f"guarded-{which}"
    lock = main.lock(name, timeout=0.0)
    # in peace: else it may be taken, and we not know
    if not actor.call_in_peace("guarded", lock.acquire):  # another one is at it
        return
    try:
        value = actor.call("guarded", main.get, name, 0)
        seen = actor.latest.get(name, 0)
        actor.expect(value >= seen, "lost", f"{name} went from {seen} to {value}")
        before = actor.latest.get(("token", which), 0)
        actor.expect(lock.token > before, "wrong", f"token {lock.token} of {name} after {before}")
        actor.latest["token", which] = lock.token
        actor.lane.begin_count(1 + COUNTERS + REGISTERS + which)
        actor.call("guarded", main.set, name, value + 1, None)
        actor.lane.end_count(1 + COUNTERS + REGISTERS + which)
        actor.latest[name] = value + 1
    finally:
        actor.call_in_peace("guarded", lock.release)


def change(actor: Actor) -> None:
    """Raise a counter by what it holds: in an `apply`, an `edit`, or as a float by halves."""
    which = int(actor.rng.random() * len(CHANGED))
    main, name = actor.maps.main, CHANGED[which]
    tally = 1 + COUNTERS + REGISTERS + GUARDED + which
    actor.lane.begin_count(tally)
    value = actor.call(name, _CHANGES[name], main)
    actor.lane.end_count(tally, value is not None)
    if value is not None:
        seen = actor.latest.get(name, 0)
        actor.expect(value > seen, "lost", f"{name} went from {seen} to {value}")
        actor.latest[name] = value


def _apply(main: ShmMap) -> Value:
    return main.apply("applied", lambda number: number + 1, 0)


def _edit(main: ShmMap) -> Value:
    """Nobody writes it in another way, so a conflict is a violation."""
    try:
        with main.edit("edited", 0, timeout=0.0) as number:
            number += 1
    except LockTimeout:  # another one is at it
        return None
    return number.value


def _add_half(main: ShmMap) -> Value:
    return int(main.incr("halves", 0.5) * 2)


_CHANGES = {"applied": _apply, "edited": _edit, "halves": _add_half}


def read_others(actor: Actor) -> None:
    """Read another lane's key: it is whole, and never goes back."""
    other = actor.rng.choice(actor.ledger.lanes).number
    key = int(actor.rng.random() * KEYS)
    name = own_key(other, key)
    value = actor.call("get", actor.maps.main.get, name)
    if value is not None:
        identity = actor.read(value, f"{name!r:.40}")
        seen = actor.latest.get((other, key), 0)
        actor.expect(identity[:2] == (other, key), "torn", f"{name!r:.40} holds {identity}")
        actor.expect(identity.number >= seen, "lost",
                     f"{name!r:.40} went from operation {seen} to {identity.number}")
        actor.latest[other, key] = identity.number


def read_fill(actor: Actor) -> None:
    """Read entries that lie there all along."""
    filled = actor.ledger.filled
    for _ in range(4):
        number = int(actor.rng.random() * filled)
        if number < filled:
            value = actor.call("get", actor.maps.main.get, f"fill-{number}")
            actor.expect(value == fill_value(number), "lost", f"fill-{number} is {value!r:.80}")


# -- the side maps: any entry may go at any time, but what is there is whole ------------------


def use_cache(actor: Actor) -> None:
    """Use the map that evicts."""
    _use_side(actor, actor.maps.cache, "cache")


def use_scratch(actor: Actor) -> None:
    """Use the map that is mostly full and refuses."""
    try:
        _use_side(actor, actor.maps.scratch, "scratch")
    except MapFull:
        if actor.rng.random() < 0.005:
            actor.call("scratch", actor.maps.scratch.clear)


def _use_side(actor: Actor, side: ShmMap, where: str) -> None:
    key = int(actor.rng.random() ** 2 * _SIDE_KEYS)
    name = f"side-{key}"
    what = actor.rng.random()
    ttl = actor.rng.choice((None, None, 0.001, 0.05, 10.0))
    if what < 0.45:
        actor.call(where, side.set, name, actor.value(key, actor.number(), _SIDE_LENGTHS), ttl)
    elif what < 0.55:
        actor.call(where, side.add, name, actor.value(key, actor.number(), _SIDE_LENGTHS), ttl)
    elif what < 0.60:
        actor.call(where, side.delete, name)
    elif what < 0.64:
        actor.call(where, side.touch, name, ttl)
    elif what < 0.67:
        actor.call(where, side.incr, f"side-count-{key % 7}", 1, 0, ttl)
    elif what < 0.6702:
        actor.call(where, side.clear)
    elif what < 0.69:
        _check_item(actor, actor.call(where, _popped, side), where)
    elif what < 0.695:
        for item in actor.call(where, _listed, side):
            _check_item(actor, item, where)
    else:
        _check_item(actor, (name, actor.call(where, side.get, name)), where)


def _popped(side: ShmMap) -> tuple[Key, Value] | None:
    try:
        found: tuple[Key, Value] = side.popitem()
        return found
    except KeyError:
        return None


def _listed(side: ShmMap | Snapshot) -> list[tuple[Key, Value]]:
    return list(side.copy().items())


def _check_item(actor: Actor, item: tuple[Key, Value] | None, where: str) -> None:
    if item is None or item[1] is None:
        return
    name, value = item
    if isinstance(value, int):
        actor.expect(name.startswith("side-count-") and value > 0, "torn", f"{where}: {item!r:.80}")
        return
    identity = actor.read(value, f"{where}: {name}")
    actor.expect(name == f"side-{identity.key}", "torn", f"{where}: {name} holds {identity}")


# -- the whole map ------------------------------------------------------------------------


def list_all(actor: Actor) -> None:
    """List the map, now and then, as it is or as a snapshot: own entries come exactly once,
    filling ones too."""
    if now_ns() < actor.listed_ns + _LISTING_PAUSE_NS:
        return
    records = [actor.lane.done(key) for key in range(KEYS)]
    from_ns = now_ns()
    if actor.rng.random() < 0.5:
        listed = actor.call("list", _listed, actor.maps.main)
    else:
        listed = _listed(actor.call("snapshot", actor.maps.main.snapshot))
    actor.listed_ns = until_ns = now_ns()
    seen = dict(listed)
    actor.expect(len(seen) == len(listed), "wrong", "a listing names a key twice")
    for key, name in enumerate(actor.names):
        found = actor.expect_own(seen[name], key) if name in seen else 0
        actor.expect(records[key].allows(found, from_ns, until_ns), "lost",
                     f"a listing shows operation {found} for {name!r:.40}; {records[key]}")
    fill = sum(1 for name in seen if isinstance(name, str) and name.startswith("fill-"))
    actor.expect(fill == actor.ledger.filled, "lost",
                 f"a listing shows {fill} of {actor.ledger.filled} entries that lie there")


def sweep(actor: Actor) -> None:
    """Sweep, or ask for figures."""
    side = actor.rng.choice(actor.maps.each())
    what = actor.rng.random()
    if what < 0.5:
        actor.call("sweep", side.sweep)
    elif what < 0.7:
        actor.call("sweep", side.stats)
    else:
        actor.call("sweep", len, side)


SHARED_DEEDS = (
    (5, count), (4, register), (3, claim), (2, guard), (4, change), (8, read_others),
    (2, read_fill), (10, use_cache), (4, use_scratch), (0.3, list_all), (0.1, sweep),
)
