"""What the processes of a machine do, and note: reads and writes at a fixed pace."""

from __future__ import annotations

import random
import time
from typing import Any, NamedTuple

from shmmap import ShmMap, ShmMapError, StoreUnavailable, Tiered

from ..support.children import Child
from .judge import NEVER, Read, Write
from .servers import MASTER, PORT, SENTINEL_PORT

PREFIX, KEYS = "m:", 8  # keys of each machine's writer
COLDER = 0.6  # how often each of them is written, to the one before it: some are all the time, and
# what was missed stays missed in others
READ_S, WRITE_S = 0.002, 0.02  # between two attempts
BOUND_S, TIMEOUT_S = 0.5, 0.3
KINDS = ("bounded", "session", "linearizable")
PIECE = 500  # keys that are asked for at once, at the end


class Plan(NamedTuple):
    """What all workers of a world know.

    Attributes:
        server: the address of the store.
        sentinels: those of its sentinels, if any.
        writers: the names of the machines, each of which writes keys of its own.
        seed: of what is drawn.
        more: arguments for each Tiered.
    """

    server: str
    sentinels: tuple[str, ...]
    writers: tuple[str, ...]
    seed: int
    more: dict[str, Any]

    def keys_of(self, machine: str) -> list[str]:
        """Return the keys that a machine writes."""
        return [f"{machine}{n}" for n in range(KEYS)]

    def keys(self) -> list[str]:
        """Return them all."""
        return [key for machine in self.writers for key in self.keys_of(machine)]

    def tier(self, kind: str) -> Tiered:
        """Open the machine's map, and the store behind it."""
        m = ShmMap("near", size="4MB", on_full="evict", codec="json")
        store: Any = f"redis://{self.server}:{PORT}"
        if self.sentinels:
            from redis.sentinel import Sentinel

            store = Sentinel(
                [(address, SENTINEL_PORT) for address in self.sentinels],
                socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S,
            ).master_for(MASTER)
        bound_s = BOUND_S if kind == "bounded" else None
        return Tiered(m, store, **{"prefix": PREFIX, "timeout": TIMEOUT_S, "consistency": kind,
                                   "max_staleness": bound_s, **self.more})


class Answers(NamedTuple):
    """What a reader notes.

    Attributes:
        reads: its answers.
        refused: (began, ended) of reads that raised, and what.
        asked: (when, how often it had asked the store by then).
    """

    reads: list[Read]
    refused: list[tuple[float, float, str]]
    asked: list[tuple[float, int]]


class Deeds(NamedTuple):
    """What a writer notes. `refused`: writes that were certainly not done. `logged`: keys that are
    written once, which were acknowledged; `missing`: those that the store has not in the end."""

    writes: list[Write]
    refused: list[tuple[float, float, str]]
    logged: list[tuple[str, float]]
    missing: list[str]


def listen(plan: Plan, child: Child) -> None:
    """Have a tier, and do nothing: the first of a machine listens for it."""
    tier = plan.tier("bounded")
    until = time.monotonic() + 20
    while not tier.report().proven_s < 10:
        assert time.monotonic() < until, tier.report()
        time.sleep(0.005)
    child.tell("ready")
    child.hear(1800)


def read(plan: Plan, kind: str, seed: int, child: Child) -> Answers:
    """Read until told to end. What is read linearizably is copied anew with each read, which would
    hide what is missed: so it is every other key."""
    tier, keys, draw = plan.tier(kind), plan.keys(), random.Random(f"{plan.seed} {seed}")
    if kind == "linearizable":
        keys = keys[::2]
    noted = Answers([], [], [])
    child.tell("ready")
    due, look = time.monotonic(), 0.0
    while not child.is_told():
        for _ in range(10):  # of two looks for the end
            due = _pause(due, READ_S)
            key, began = draw.choice(keys), time.monotonic()
            try:
                value = tier.get(key, 0)
            except ShmMapError as error:
                noted.refused.append((began, time.monotonic(), type(error).__name__))
            else:
                ended = time.monotonic()
                noted.reads.append(Read(key, value, began, ended))
                if ended > look:
                    noted.asked.append((ended, tier._asking.asked))
                    look = ended + 0.05
    return noted


def write(plan: Plan, machine: str, child: Child) -> Deeds:
    """Write until told to end; then, told again, tell what of it the store has not."""
    tier, keys = plan.tier("linearizable"), plan.keys_of(machine)
    draw, noted, number = random.Random(f"{plan.seed} {machine}"), Deeds([], [], [], []), 0
    child.tell("ready")
    due, often = time.monotonic(), [COLDER**n for n in range(KEYS)]
    while not child.is_told():
        due = _pause(due, WRITE_S)
        number += 1
        key, began = draw.choices(keys, often)[0], time.monotonic()
        try:
            tier[key] = number
            noted.writes.append(Write(key, number, began, time.monotonic()))
            log = f"log:{machine}:{number}"
            tier[log] = number
            noted.logged.append((log, time.monotonic()))
        except StoreUnavailable as error:
            ended = time.monotonic()
            if noted.writes and noted.writes[-1].value == number:
                continue  # that of the log
            if error.was_sent:
                noted.writes.append(Write(key, number, began, NEVER))
            else:
                noted.refused.append((began, ended, type(error).__name__))
        except ShmMapError as error:
            noted.refused.append((began, time.monotonic(), type(error).__name__))
    child.hear()
    child.tell("ended")
    child.hear()
    logs = [log for log, _ in noted.logged]
    for at in range(0, len(logs), PIECE):
        piece = logs[at : at + PIECE]
        noted.missing.extend(sorted(set(piece) - _found(tier, piece)))
    return noted


def _found(tier: Tiered, keys: list[str]) -> set[str]:
    until = time.monotonic() + 20
    while True:
        try:
            return set(tier.get_many(keys))
        except StoreUnavailable:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _pause(due: float, period_s: float) -> float:
    """Wait until it is time; return when it is the next time. What was missed is not made up."""
    now = time.monotonic()
    if due > now:
        time.sleep(due - now)
        return due + period_s
    return now + period_s
