"""The process that now and then replaces the main map by one of another shape, and unlinks the one
that evicts. It is killed like any other, wherever it is."""

from __future__ import annotations

import signal
import time
import warnings
from typing import TYPE_CHECKING

from ..errors import MapMismatchWarning
from ..map import ShmMap
from .actor import Actor, Interrupted
from .ledger import BROKEN_OFF, OPERATIONS, REFUSED, REPLACED, STOP, UNLINKED, now_ns
from .maps import open_cache
from .shapes import Shape, shapes

if TYPE_CHECKING:
    from types import FrameType

    from .plan import Plan
    from .workers import Worker

_LEAST_PAUSE_S = 0.1
_PAUSES = 3.0  # between two replacements, at most, in times of how long the last one took
_LONGEST_PAUSE_S = 3.0
_SLICE_S = 0.02


def replace(plan: Plan, shape: Shape) -> tuple[ShmMap, list[str]]:
    """Give the main map a shape; return a handle on it, and what was said about that."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", MapMismatchWarning)
        m = ShmMap(plan.name, shape.size, namespace="", shards=shape.shards,
                   lock_timeout=plan.patience_s / 2, on_mismatch="replace")
    return m, [str(one.message) for one in told]


def replace_now_and_then(worker: Worker) -> None:
    """Replace the one map and unlink the other until told to stop."""
    actor, words = worker.actor(0), worker.lanes[0].words
    actor.expect_signals()
    raise_in = signal.getsignal(signal.SIGALRM)

    def break_off(number: int, frame: FrameType | None) -> None:
        words[BROKEN_OFF] = now_ns()  # from here on nobody waits for what is held
        if callable(raise_in):
            raise_in(number, frame)

    signal.signal(signal.SIGALRM, break_off)
    pause_s = _LEAST_PAUSE_S
    while not worker.words[STOP]:
        pause(worker, worker.rng.random() * pause_s)
        try:
            if worker.rng.random() < 0.3:
                actor.call("unlinking", _unlink_cache, worker)
                words[UNLINKED] += 1
                continue
            began = time.monotonic()
            if worker.rng.random() < 0.2:
                signal.setitimer(signal.ITIMER_REAL, 0.001 + worker.rng.random() * pause_s / 2)
            _replace_once(actor, worker)
            pause_s = min(max(_LEAST_PAUSE_S, _PAUSES * (time.monotonic() - began)),
                          _LONGEST_PAUSE_S)
        except Interrupted:  # it is done or not; what is left of it is removed by the next one
            pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _replace_once(actor: Actor, worker: Worker) -> None:
    plan, words = worker.setting.plan, actor.lane.words
    first, second = shapes(plan)
    main = worker.setting.maps.main
    len(main)  # which lets go of the one before
    wanted = second if main.attachment.geometry.shards == first.shards and (
        main.size == first.size
    ) else first
    m, told = actor.call("replacing", replace, plan, wanted)
    try:
        said = "; ".join(told)
        actor.expect("did not fit" not in said, "lost", said)
        words[REFUSED if told else REPLACED] += 1
        actor.expect(bool(told) or plan.resizes or m.size == wanted.size, "wrong",
                     f"a map that was replaced has {m.size:,} bytes instead of {wanted}")
    finally:
        m.close()


def _unlink_cache(worker: Worker) -> None:
    cache = worker.setting.maps.cache
    m = open_cache(cache.name, cache._lock_timeout)
    try:
        m.unlink()
    finally:
        m.close()


def pause(worker: Worker, seconds: float) -> None:
    """Do nothing for a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not worker.words[STOP]:
        time.sleep(min(_SLICE_S, seconds))
        worker.lanes[0].words[OPERATIONS] += 1
