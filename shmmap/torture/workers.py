"""The kinds of worker: what a process does with its lanes until it is told to stop, or dies."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

from ..errors import MapFull
from ..lifecycle.control import ENGINE
from . import history, processes
from .actor import Actor, Interrupted, Violation
from .ledger import (
    ATTACHES,
    CALL,
    FORKS,
    KILLS,
    KILLS_INSIDE,
    LAST_DEATH,
    LAST_HELD,
    OPERATIONS,
    PID,
    STOP,
    WINDOW,
    Lane,
    Ledger,
    now_ns,
)
from .maps import Maps
from .moments import Moments
from .own import OWN_DEEDS
from .plan import Plan
from .replacer import replace_now_and_then
from .resizer import resize_now_and_then
from .shapes import Shapes
from .shared import SHARED_DEEDS
from .values import Fillings
from .verify import verify_dead

_DEEDS = [deed for _, deed in OWN_DEEDS + SHARED_DEEDS]
_WEIGHTS = [weight for weight, _ in OWN_DEEDS + SHARED_DEEDS]
_BATCH = {"compiled": 64, "pure": 8}[ENGINE]  # deeds that are chosen at once
# a handler that raises into the pure engine's repair has it begin again
_CALM = {"compiled": 1, "pure": 30}[ENGINE]


class Setting(NamedTuple):
    """What every worker is given. `complaints` and `stacks` are descriptors."""

    plan: Plan
    maps: Maps
    ledger: Ledger
    fillings: Fillings
    complaints: int
    stacks: int
    shapes: Shapes
    moments: Moments


class Worker:
    """One process with its lanes."""

    def __init__(self, setting: Setting, lanes: list[Lane], seed: int) -> None:
        self.setting = setting
        self.lanes = lanes
        self.rng = random.Random(seed)
        self.words = setting.ledger.words
        self.kind = ""

    def run(self, kind: str) -> None:
        """Be a worker of a kind; says what goes wrong, and then ends."""
        self.kind = kind
        try:
            for lane in self.lanes:
                lane.words[PID] = os.getpid()
            self.setting.moments.lane = self.lanes[0]
            KINDS[kind](self)
            self.setting.maps.close()
        except BaseException as error:
            self.complain(error)

    def complain(self, error: BaseException) -> None:
        """Tell the parent what went wrong, and end."""
        kind, text = "error", f"{type(error).__name__}: {error}"
        if isinstance(error, Violation):
            kind, text = error.kind, error.text
        else:
            text += " | " + " <- ".join(
                f"{frame.name}:{frame.lineno}"
                for frame in reversed(traceback.extract_tb(error.__traceback__)[-8:])
            )
        text = f"in a worker ({self.kind}): {text}".replace("\0", " ")[:3000]
        os.write(self.setting.complaints, f"{kind}\1{text}\0".encode()[:4000])
        sys.stderr.flush()
        os._exit(processes.FAILED)

    def actor(self, lane: int) -> Actor:
        """Start work in one of this process's lanes."""
        return Actor(self.setting.maps, self.setting.ledger, self.lanes[lane],
                     random.Random(self.rng.random()), self.setting.fillings)

    def work(self, actor: Actor, batches: int) -> None:
        """Do deeds until told to stop."""
        actor.attached()
        while batches and not self.words[STOP]:
            batches -= 1
            for deed in actor.rng.choices(_DEEDS, _WEIGHTS, k=_BATCH):
                if self.words[WINDOW]:
                    attempt(actor, history.take_part)
                attempt(actor, deed)


def attempt(actor: Actor, deed: Callable[[Actor], None]) -> None:
    """Do one deed; what a full map or a signal's handler breaks off has happened or not.

    What a handler broke off in the pure engine may come in as late as a death's: when the next
    one to take the lock repairs the shard.
    """
    try:
        deed(actor)
    except (Interrupted, MapFull):
        actor.lane.words[CALL] = 0
        verify(actor)


def verify(actor: Actor) -> None:
    """Compare what the map shows of the actor's lane with what was acknowledged."""
    actor.call_in_peace("verify", verify_dead, actor.maps.main, actor.ledger, [actor.lane])


_FOREVER = -1


def work_plainly(worker: Worker) -> None:
    """Work in one lane."""
    worker.work(worker.actor(0), _FOREVER)


def leave_soon(worker: Worker) -> None:
    """Work for a moment and leave as one should."""
    worker.work(worker.actor(0), 1 + int(worker.rng.random() * 20))


def work_in_a_storm(worker: Worker) -> None:
    """Work under signals whose handler raises into operations."""
    actor = worker.actor(0)
    actor.expect_signals()
    try:
        while not worker.words[STOP]:
            signal.setitimer(signal.ITIMER_REAL, _CALM * 10 ** worker.rng.uniform(-4.5, -2.5),
                             _CALM * 10 ** worker.rng.uniform(-3.7, -2.5))
            worker.work(actor, 4)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def attach_and_detach(worker: Worker) -> None:
    """Attach by name or by pickle, work for a moment, close, and again."""
    actor = worker.actor(0)
    while not worker.words[STOP]:
        actor.detach()
        closes_first, pickled = worker.rng.random() < 0.7, worker.rng.random() < 0.5
        actor.call("attach", actor.maps.exchange, closes_first, pickled)
        worker.lanes[0].words[ATTACHES] += len(actor.maps.each())
        worker.work(actor, 1 + int(worker.rng.random() * 3))


def work_in_threads(worker: Worker) -> None:
    """Work in two threads, and fork children while they are inside operations."""
    pool = [threading.Thread(target=_work_in_thread, args=(worker, lane), daemon=True)
            for lane in range(2)]
    for thread in pool:
        thread.start()
    while not worker.words[STOP]:
        pid = _start_child(worker, 2)
        wait(worker, 2, worker.rng.random() * 0.03)
        _end_child(worker, pid, 2)
        wait(worker, 2, worker.rng.random() * 0.02)
    for thread in pool:
        thread.join()


def _work_in_thread(worker: Worker, lane: int) -> None:
    try:
        worker.work(worker.actor(lane), _FOREVER)
    except BaseException as error:
        worker.complain(error)


def fork_and_work(worker: Worker) -> None:
    """Work, and fork children two at a time."""
    actor = worker.actor(0)
    while not worker.words[STOP]:
        worker.work(actor, 1)
        children = [_start_child(worker, lane) for lane in (1, 2)]
        worker.work(actor, 1 + int(worker.rng.random() * 4))
        for pid, lane in zip(children, (1, 2), strict=True):
            _end_child(worker, pid, lane)


def wait(worker: Worker, lane: int, seconds: float) -> None:
    """Do nothing for a moment."""
    time.sleep(seconds)
    worker.lanes[lane].words[OPERATIONS] += 1


def _start_child(worker: Worker, lane: int) -> int:
    """Fork a child that uses the inherited handles, or never does."""
    behaviour = worker.rng.choice(("never", "works", "works", "leaves"))
    child = Worker(worker.setting, worker.lanes[lane : lane + 1], worker.rng.getrandbits(60))
    worker.lanes[0].words[FORKS] += 1
    return processes.fork(lambda: child.run(behaviour), worker.setting.stacks, lead=False)


def _end_child(worker: Worker, pid: int, lane: int) -> None:
    """Kill a child, wherever it is, and verify what it left."""
    status = processes.reap_if_ended(pid)
    killed_ns = now_ns()
    held = False
    if status is None:
        processes.kill(pid)
        held = worker.setting.maps.is_held_by(pid)
        _, status = os.waitpid(pid, 0)
    words = worker.lanes[lane].words
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        words[KILLS] += 1
        words[LAST_DEATH] = killed_ns
        if held:
            words[LAST_HELD] = killed_ns
        words[KILLS_INSIDE] += words[CALL] != 0
    elif os.WIFSIGNALED(status):
        raise Violation("crash", f"a child ended by signal {os.WTERMSIG(status)}")
    elif status:
        os._exit(processes.FAILED)  # it has said why
    words[CALL] = 0
    verifier = worker.actor(lane)
    verifier.attached()
    verify(verifier)


def never_use(worker: Worker) -> None:
    """Live for a moment, and never use the map."""
    time.sleep(worker.rng.random() * 0.02)
    os._exit(0)


KINDS: dict[str, Callable[[Worker], None]] = {
    "plain": work_plainly, "leaver": leave_soon, "storm": work_in_a_storm,
    "attacher": attach_and_detach, "threads": work_in_threads, "forker": fork_and_work,
    "never": never_use, "works": work_plainly, "leaves": leave_soon,
    "replacer": replace_now_and_then, "resizer": resize_now_and_then,
}
CHANCES = {"plain": 5, "leaver": 1, "storm": 2, "attacher": 1, "threads": 2, "forker": 2}
