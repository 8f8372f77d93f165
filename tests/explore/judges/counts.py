"""Was every entry counted, and listed, once, though its shard moved meanwhile?"""

from __future__ import annotations

from collections.abc import Iterable

from shmmap.torture.linearizability import Call, find_violation

REMOVING = ("delete", "pop", "evict", "clear")


def find_wrong_count(
    keys: Iterable[str], calls: list[tuple[str, Call]], counted: Call
) -> list[str]:
    """Say if a count is less than the entries that were there throughout, or more than those that
    can have been there at all."""
    least = most = 0
    for key in keys:
        history = [call for about, call in calls if about == key]
        look = counted._replace(name="contains", arguments=())
        can = {found: find_violation([*history, look._replace(result=found)]) is None
               for found in (True, False)}
        least += not can[False]
        most += can[True]
    if least <= counted.result <= most:
        return []
    return [f"{counted.result} entries were counted, of {least} to {most}: {counted}"]


def find_twice(listed: list[str], calls: list[tuple[str, Call]], call: Call) -> list[str]:
    """Say which keys were listed twice that nobody can have removed meanwhile."""
    return [
        f"{key!r} was listed {listed.count(key)} times: {call}"
        for key in sorted({key for key in listed if listed.count(key) > 1})
        if not [other for about, other in calls
                if about == key and other.name in REMOVING and other.start < (call.end or 0)
                and (other.end is None or other.end > call.start)]
    ]
