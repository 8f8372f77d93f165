"""What a lane does with the keys that only it writes: every result can be foretold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .actor import Actor, counter_key
from .ledger import Record, now_ns
from .plan import KEYS

if TYPE_CHECKING:
    from ..checks import Key, Value

_TTLS_S = (0.002, 0.02, 0.2, 1000.0)


def _choose(actor: Actor) -> tuple[int, Key, int]:
    """Return an own key, its name, and a new operation's number."""
    key = int(actor.rng.random() * KEYS)
    return key, actor.names[key], actor.number()


def _ttl(actor: Actor) -> tuple[float | None, int]:
    """Return a ttl, mostly none, as seconds and as nanoseconds."""
    if actor.rng.random() < 0.85:
        return None, 0
    seconds = actor.rng.choice(_TTLS_S)
    return seconds, int(seconds * 1e9)


def _expect_presence(
    actor: Actor, key: int, done: Record, there: bool, from_ns: int
) -> None:
    """Compare what a result says about the entry's presence with what was acknowledged."""
    possible = done.may_be_there(from_ns) if there else done.may_be_absent(now_ns())
    says = "there" if there else "absent"
    actor.expect(possible, "lost", f"{actor.names[key]!r:.40} said to be {says}: acknowledged "
                 f"{done}; looked from {from_ns} to {now_ns()}")


def _change_if(
    actor: Actor, key: int, number: int, ttl_ns: int, wants_entry: bool, name: str,
    *arguments: Value,
) -> None:
    """Make a change that the map makes only if the key has an entry, or only if it has none."""
    done = actor.lane.done(key)
    from_ns = now_ns()
    actor.lane.begin(key, number, ttl_ns)
    changed = actor.call(name, getattr(actor.maps.main, name), actor.names[key], *arguments)
    _expect_presence(actor, key, done, changed is wants_entry, from_ns)
    if changed:
        actor.lane.finish(key, ttl_ns)
    else:
        actor.lane.cancel(key)


def _write_if(actor: Actor, name: str, wants_entry: bool) -> None:
    """add or replace: written or not, as the key's entry says."""
    key, _, number = _choose(actor)
    ttl, ttl_ns = _ttl(actor)
    value = actor.value(key, number)
    _change_if(actor, key, number, ttl_ns, wants_entry, name, value, ttl)


def set_key(actor: Actor) -> None:
    """Write."""
    key, label, number = _choose(actor)
    ttl, ttl_ns = _ttl(actor)
    value = actor.value(key, number)
    actor.lane.begin(key, number, ttl_ns)
    actor.call("set", actor.maps.main.set, label, value, ttl)
    actor.lane.finish(key, ttl_ns)


def set_many(actor: Actor) -> None:
    """Write two keys with one call."""
    first = int(actor.rng.random() * KEYS)
    number = actor.number()
    keys = (first, (first + 1) % KEYS)
    values = {actor.names[key]: actor.value(key, number) for key in keys}
    for key in keys:
        actor.lane.begin(key, number)
    actor.call("set_many", actor.maps.main.set_many, values)
    for key in keys:
        actor.lane.finish(key)


def delete_key(actor: Actor) -> None:
    """Remove."""
    key, label, _ = _choose(actor)
    done = actor.lane.done(key)
    from_ns = now_ns()
    actor.lane.begin(key, 0)
    gone = actor.call("delete", actor.maps.main.delete, label)
    _expect_presence(actor, key, done, gone, from_ns)
    actor.lane.finish(key)


def pop_key(actor: Actor) -> None:
    """Remove, and look at what it was."""
    key, label, _ = _choose(actor)
    done = actor.lane.done(key)
    from_ns = now_ns()
    actor.lane.begin(key, 0)
    value = actor.call("pop", actor.maps.main.pop, label, None)
    _expect_value(actor, key, done, value, from_ns)
    actor.lane.finish(key)


def _expect_value(actor: Actor, key: int, done: Record, value: Value, from_ns: int) -> None:
    _expect_presence(actor, key, done, value is not None, from_ns)
    if value is not None:
        found = actor.expect_own(value, key)
        actor.expect(found == done.number, "lost",
                     f"{actor.names[key]!r:.40} shows operation {found}, acknowledged {done}")


def add_key(actor: Actor) -> None:
    """Write if absent."""
    _write_if(actor, "add", False)


def replace_key(actor: Actor) -> None:
    """Write if there."""
    _write_if(actor, "replace", True)


def setdefault_key(actor: Actor) -> None:
    """Write if absent, and look at what is there then."""
    key, label, number = _choose(actor)
    value = actor.value(key, number)
    done = actor.lane.done(key)
    from_ns = now_ns()
    actor.lane.begin(key, number)
    found = actor.expect_own(
        actor.call("setdefault", actor.maps.main.setdefault, label, value), key
    )
    if found == number:
        _expect_presence(actor, key, done, False, from_ns)
        actor.lane.finish(key)
    else:
        actor.lane.cancel(key)
        actor.expect(found == done.number, "lost", f"setdefault of {label!r:.40} gave operation "
                     f"{found}; acknowledged {done}")


def cas_key(actor: Actor) -> None:
    """Write if nobody else has; nobody has. A map that replaces another gives new versions."""
    key, label, number = _choose(actor)
    main = actor.maps.main
    home = main.attachment.nonce
    done = actor.lane.done(key)
    from_ns = now_ns()
    old, version = actor.call("get_versioned", main.get_versioned, label)
    _expect_value(actor, key, done, old, from_ns)
    value = actor.value(key, number)
    actor.lane.begin(key, number)
    written = actor.call("cas", main.cas, label, value, version, None)
    if written:
        actor.lane.finish(key)
    else:  # only if the entry has expired since, or the map was replaced
        actor.lane.cancel(key)
        actor.expect(main.attachment.nonce != home or (
            version != 0 and done.may_be_absent(now_ns())
        ), "lost", f"cas of {label!r:.40} refused version {version}; acknowledged {done}")


def touch_key(actor: Actor) -> None:
    """Return a new deadline."""
    key, _, _ = _choose(actor)
    ttl, ttl_ns = _ttl(actor)
    _change_if(actor, key, actor.lane.done(key).number, ttl_ns, True, "touch", ttl)


def get_key(actor: Actor) -> None:
    """Read."""
    key, label, _ = _choose(actor)
    done = actor.lane.done(key)
    from_ns = now_ns()
    value = actor.call("get", actor.maps.main.get, label)
    _expect_value(actor, key, done, value, from_ns)


def has_key(actor: Actor) -> None:
    """Ask whether it is there, and for how long."""
    key, label, _ = _choose(actor)
    main = actor.maps.main
    done = actor.lane.done(key)
    from_ns = now_ns()
    _expect_presence(actor, key, done, actor.call("contains", main.__contains__, label), from_ns)
    try:
        left = actor.call("ttl", main.ttl, label)
    except KeyError:
        _expect_presence(actor, key, done, False, from_ns)
        return
    _expect_presence(actor, key, done, True, from_ns)
    unsure = done.earliest and not done.latest
    actor.expect(unsure or (left is not None) == (done.earliest != 0), "lost",
                 f"{label!r:.40} has a ttl of {left}; acknowledged {done}")


def get_many(actor: Actor) -> None:
    """Read all own keys with one call."""
    records = [actor.lane.done(key) for key in range(KEYS)]
    from_ns = now_ns()
    found = actor.call("get_many", actor.maps.main.get_many, actor.names)
    for key, label in enumerate(actor.names):
        _expect_value(actor, key, records[key], found.get(label), from_ns)


def count_own(actor: Actor) -> None:
    """Raise the counter that nobody else raises."""
    actor.lane.begin_count(0)
    value = actor.call("incr", actor.maps.main.incr, counter_key(actor.lane.number))
    done, _ = actor.lane.counts(0)
    actor.expect(value == done + 1, "lost", f"own counter gave {value} after {done}")
    actor.lane.end_count(0)


OWN_DEEDS = (
    (30, set_key), (4, set_many), (8, delete_key), (4, pop_key), (4, add_key), (4, replace_key),
    (3, setdefault_key), (6, cas_key), (4, touch_key), (8, get_key), (2, has_key), (1, get_many),
    (4, count_own),
)
