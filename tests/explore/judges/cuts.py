"""Is there one order of all calls, on all keys, in which every snapshot shows one instant?

Histories of single keys cannot tell: each key of a torn snapshot has a value that it had at some
instant of the call. So the states of all keys go through the calls together.
"""

from __future__ import annotations

from collections.abc import Iterator

from shmmap.torture.linearizability import ABSENT, UNKNOWN, Call, State, _steps

States = tuple[State, ...]
About = tuple[str | None, Call]  # the key that a call is about; None: a snapshot


def find_torn(keys: list[str], calls: list[tuple[str, Call]], cuts: list[Call]) -> str | None:
    """Say which snapshot, or other call, no order explains; None: there is one.

    Just-in-time linearization, as in `torture.linearizability`, over all keys at once.
    """
    if not cuts:
        return None
    history: list[About] = [*calls, *((None, cut) for cut in cuts)]
    events = [(call.start, 0, i) for i, (_, call) in enumerate(history)]
    events += [(call.end, 1, i) for i, (_, call) in enumerate(history) if call.end is not None]
    initial: States = tuple(State() for _ in keys)
    configurations = {(initial, frozenset[int]())}
    running: set[int] = set()
    for _, ends, i in sorted(events):
        if not ends:
            running.add(i)
            continue
        after = set()
        seen = set(configurations)
        waiting = list(configurations)
        while waiting:
            states, done = waiting.pop()
            if i in done:
                after.add((states, done - {i}))
                continue
            for other in running - done:
                for reached in _reached(keys, states, history[other]):
                    fresh = (reached, done | {other})
                    if fresh not in seen:
                        seen.add(fresh)
                        waiting.append(fresh)
        if history[i][1].result is UNKNOWN:
            after |= {(states, done) for states, done in configurations if i not in done}
        if not after:
            about, call = history[i]
            lines = [f"no order of all calls explains {call.name} of {about!r}: {call}"]
            lines += [f"    {key!r}: {call}" for key, call in calls]
            lines += [f"    snapshot: {cut}" for cut in cuts]
            return "\n".join(lines)
        configurations = after
        running.discard(i)
    return None


def _reached(keys: list[str], states: States, about: About) -> Iterator[States]:
    """Return the states of all keys that a call can lead to, its result being what it is."""
    key, call = about
    if key is not None:
        at = keys.index(key)
        for after in _steps(states[at], call):
            yield (*states[:at], after, *states[at + 1 :])
        return
    looks = [
        call._replace(name="get", arguments=(), result=call.result.get(key, ABSENT))
        for key in keys
    ]
    if all(list(_steps(state, look)) for state, look in zip(states, looks, strict=True)):
        yield states
