"""What a lane left, when it died or was broken off, compared with what it had acknowledged."""

from __future__ import annotations

from ..map import ShmMap
from .actor import Violation, counter_key, own_key, whole
from .ledger import CALL, CLAIM_NEXT, Lane, Ledger, now_ns
from .plan import KEYS
from .shared import give_up_claims
from .values import Identity


def look(main: ShmMap, lane: Lane, key: int, last: bool) -> None:
    """Look at a lane's key and judge; what is under way may still come after a look that is
    not the `last`."""
    name = own_key(lane.number, key)
    from_ns = now_ns()
    value = main.get(name)
    until_ns = now_ns()
    identity = Identity(lane.number, key, 0) if value is None else whole(value, f"{name!r:.40}")
    if identity[:2] != (lane.number, key):
        raise Violation("torn", f"{name!r:.40} holds {identity}")
    done, under_way = lane.done(key), lane.under_way(key)
    if not lane.judge(key, identity.number, from_ns, until_ns, last):
        raise Violation(
            "lost", f"{name!r:.40} shows operation {identity.number}; acknowledged {done}, under "
            f"way {under_way}; looked from {from_ns} to {until_ns}")


def recover(main: ShmMap, ledger: Ledger, lane: Lane) -> None:
    """Find out what became of what was under way, now that it cannot happen any more."""
    for key in range(KEYS):
        if lane.under_way(key) is not None:
            look(main, lane, key, last=True)
    found = main.get(counter_key(lane.number), 0)
    done, begun = lane.counts(0)
    if not lane.judge_count(found):
        raise Violation("lost", f"{counter_key(lane.number)} is {found}; acknowledged {done}, "
                        f"begun {begun}")
    give_up_claims(main, lane, ledger.words[CLAIM_NEXT])


def verify_dead(main: ShmMap, ledger: Ledger, lanes: list[Lane]) -> None:
    """Compare the keys of dead lanes with what they had acknowledged.

    First as any reader sees them; then every lock is taken, so that what the dead left is
    repaired, which may bring in what was under way; then they must stay as they are.
    """
    for lane in lanes:
        for key in range(KEYS):
            look(main, lane, key, last=False)
    main.sweep()
    for lane in lanes:
        recover(main, ledger, lane)
        for key in range(KEYS):
            look(main, lane, key, last=True)
        lane.words[CALL] = 0
