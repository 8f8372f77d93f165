"""One run: make the maps, let chaos go on for the time asked, verify everything, report."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Iterator

from ..errors import LockTimeout, MapMismatchWarning, ShmMapError
from ..lifecycle import files
from ..lifecycle.control import ENGINE
from ..map import ShmMap
from ..memory.geometry import VALUE_SIZE
from ..memory.table import generations_of, read_table
from ..system import segment
from ..system.blocks import block
from . import processes
from .actor import Violation
from .chaos import Chaos
from .ledger import Ledger, now_ns
from .maps import SIDE_SHARDS, SIDE_SIZE, Maps
from .moments import Moments
from .plan import SIDES, Plan, lengths
from .replacer import replace
from .report import Report
from .shapes import Shapes, shapes
from .shared import fill_value
from .values import Fillings
from .workers import Setting

_NEAR = 64  # entries of the main map that a handle keeps decoded: fewer than are asked for
_PAUSE_S = 0.07  # between events, at most
_CHECK_PAUSE_S = 60.0
_PROGRESS_PAUSE_S = {True: 1.0, False: 30.0}  # on a terminal, elsewhere
_CHANCES = (("kill_one", 60), ("kill_two", 10), ("kill_all", 1), ("stop", 10),
            ("open_window", 12), ("rest", 4), ("kill_replacer", 5), ("strike_mover", 40))


def run(plan: Plan) -> Report:
    """Torture maps of the plan's name; return the report."""
    with warnings.catch_warnings():  # of maps that have another shape than asked for by now
        warnings.simplefilter("ignore", MapMismatchWarning)
        return _run(plan)


def _run(plan: Plan) -> Report:
    processes.adopt_orphans(True)
    maps = _make_maps(plan)
    logger = logging.getLogger("shmmap")
    level = logger.level
    logger.setLevel(logging.ERROR)  # else each process tells once that it has followed
    try:
        main = maps.main
        shape = main.attachment.geometry
        ledger = Ledger(plan.all_lanes)
        ledger.filled = _fill(main, shape.shards * shape.slots // 2 if plan.fill < 0 else plan.fill)
        hear, complain = os.pipe()
        os.set_blocking(hear, False)
        stacks = os.memfd_create("stacks", os.MFD_CLOEXEC)
        wanted = Shapes(plan, main.attachment.parameters, ledger.filled)
        fillings = Fillings(lengths(wanted.longest))
        moments = Moments(ledger)
        gc.collect()
        gc.freeze()  # children share this process's pages
        setting = Setting(plan, maps, ledger, fillings, complain, stacks, wanted, moments)
        with moments.watched():
            chaos = Chaos(setting, hear)
            report = Report(plan, chaos)
            _go_on(plan, chaos, report)
            report.figures(maps)
            chaos.witnesses.close()
    finally:
        _remove(maps)
        logger.setLevel(level)
        processes.adopt_orphans(False)
    left = [entry for entry in os.listdir("/dev/shm") if f"shmmap.{plan.name}" in entry]
    report.leaked(left)
    for descriptor in (hear, complain, stacks):
        os.close(descriptor)
    return report


def _remove(maps: Maps) -> None:
    """Remove the maps that have the names now, and what dead makers left."""
    for m in maps.each():
        m.close()
        with ShmMap(m.name, namespace="") as last:
            last.unlink()


def _make_maps(plan: Plan) -> Maps:
    """Make the three maps. This process sets no deadline, so it has no sweeper's thread."""
    made: list[ShmMap] = []
    try:
        for name, size, shards, on_full in zip(
            SIDES, (plan.size, SIDE_SIZE, SIDE_SIZE),
            (plan.shards, SIDE_SHARDS, SIDE_SHARDS),
            ("raise", "evict", "raise"), strict=True,
        ):
            made.append(ShmMap.create(plan.name + name, size, namespace="", shards=shards,
                                      on_full=on_full, sweep_interval=0.5,
                                      lock_timeout=plan.patience_s, near=0 if made else _NEAR))
    except BaseException:
        for m in made:
            m.unlink()
            m.close()
        raise
    return Maps(*made)


def _fill(main: ShmMap, entries: int) -> int:
    """Write the entries that lie there all along; return how many."""
    for number in range(entries):
        main[f"fill-{number}"] = fill_value(number)
    return entries


class _Interrupts:
    """Ctrl-C and SIGTERM: the first one ends the run where it is whole, the second one at once."""

    def __init__(self) -> None:
        self.seen = False
        self._before = {number: signal.signal(number, self._on_signal)
                        for number in (signal.SIGINT, signal.SIGTERM)}

    def _on_signal(self, *_: object) -> None:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True

    def restore(self) -> None:
        """Leave the signals to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _go_on(plan: Plan, chaos: Chaos, report: Report) -> None:
    """Torture until the time is over, something goes wrong, or somebody interrupts."""
    interrupts = _Interrupts()
    try:
        with _noting(chaos):
            _events(plan, chaos, report, interrupts)
        report.interrupted = interrupts.seen
        if not chaos.problems:  # else what follows from the first problem would be found again
            with _noting(chaos):
                _finish(chaos)
    finally:
        chaos.end()
        interrupts.restore()


@block
def _noting(chaos: Chaos) -> Iterator[None]:
    """Note what goes wrong, in the map or when this process uses it."""
    try:
        yield
    except Violation as violation:
        chaos.fail(violation.kind, violation.text)
    except LockTimeout as error:
        chaos.fail("hang", f"{error}\n  {chaos.describe()}")
    except ShmMapError as error:
        chaos.fail("error", f"{type(error).__name__}: {error}")


def _events(plan: Plan, chaos: Chaos, report: Report, interrupts: _Interrupts) -> None:
    rng = random.Random(plan.seed + 1)
    names, chances = zip(*_CHANCES, strict=True)
    checked = said = time.monotonic()
    deadline = checked + plan.seconds
    while time.monotonic() < deadline and not chaos.problems and not interrupts.seen:
        if plan.kills and report.kills() >= plan.kills:
            break
        chaos.look_after()
        getattr(chaos, rng.choices(names, chances)[0])()
        time.sleep(rng.random() * _PAUSE_S)
        if time.monotonic() - checked > _CHECK_PAUSE_S and ENGINE == "compiled":
            _check(chaos)
            checked = time.monotonic()
        if time.monotonic() - said > _PROGRESS_PAUSE_S[sys.stderr.isatty()]:
            said = time.monotonic()
            report.say_progress()
    if sys.stderr.isatty():
        report.say_progress(last=True)


def _check(chaos: Chaos) -> None:
    """Check every map while it is in use; whoever waits meanwhile waits for us."""
    from_ns = now_ns()
    for m in chaos.setting.maps.each():
        for problem in m.check():
            chaos.fail("check", f"{m.name}: {problem}")
    chaos.let_go_on(1, 0.1)
    chaos.waits.mark(from_ns, now_ns())


def _finish(chaos: Chaos) -> None:
    """Have the workers leave, and verify all that is left."""
    chaos.leave()
    chaos.hear()
    if not chaos.problems:
        chaos.waits.collect()
        _last_look(chaos)


def _last_look(chaos: Chaos) -> None:
    main = chaos.main
    if chaos.plan.resizes:
        _resize_last(chaos)
    if chaos.plan.replaces:
        _replace_last(chaos)
    chaos.verify(chaos.families)
    chaos.check_counts()
    for number in range(chaos.ledger.filled):
        if main.get(f"fill-{number}") != fill_value(number):
            chaos.fail("lost", f"fill-{number} is {main.get(f'fill-{number}')!r:.80}")
            break
    _check(chaos)
    for m in chaos.setting.maps.each():
        m.sweep()
        rows = [pid for pid in m.stats().workers if pid != os.getpid()]
        if rows:
            chaos.fail("leaked", f"{m.name}: rows of the dead processes {rows}")


def _replace_last(chaos: Chaos) -> None:
    """Replace the main map once more, and make the one that evicts anew: nothing that the dead
    left in the middle of that is there after it, and nothing of the former maps."""
    plan, maps = chaos.plan, chaos.setting.maps
    len(maps.main)
    wanted = next(shape for shape in shapes(plan) if shape.size != maps.main.size)
    m, told = replace(plan, wanted)
    m.close()
    for text in told:
        chaos.fail("error", f"the last replacement: {text}")
    maps.cache.clear()  # from here on it is there
    with ShmMap.attach(maps.cache.name, namespace="") as cache:
        cache.unlink()
    for used in maps.each():
        len(used)
    chaos.look_at_homes()
    _look_for_leaks(chaos)


def _resize_last(chaos: Chaos) -> None:
    """Go on with what the dead have left, and resize once more: nothing is there after that of the
    shards that were, of those that dead movers made, and of their semaphores."""
    main, first = chaos.main, chaos.setting.shapes.regular[0]
    for used in chaos.setting.maps.each():
        len(used)
        used.resize()
    shards = next(shape.shards for shape in chaos.setting.shapes.regular[::-1]
                  if shape.shards != main.attachment.geometry.shards)
    main.resize(shards=shards, size=max(first.size * 4, main.size))
    main.resize(shards=first.shards, size=first.size, value_size=VALUE_SIZE)
    found = main.attachment.geometry
    if found.shards != first.shards or read_table(main.attachment.control).is_moving:
        chaos.fail("wrong", f"the last resize leaves {found}")
    if not chaos.plan.replaces:  # else that comes, too
        _look_for_leaks(chaos)


def _look_for_leaks(chaos: Chaos) -> None:
    maps, plan = chaos.setting.maps, chaos.plan
    its_own = {
        label.strip("/") for used in maps.each() for label in (
            segment.control_name(used.name), *files.computed(
                used.name, used.attachment.nonce, generations_of(used.attachment.control))
        )
    }
    left = [entry for entry in os.listdir("/dev/shm")
            if f"shmmap.{plan.name}" in entry and entry not in its_own]
    if left:
        chaos.fail("leaked", f"in /dev/shm beside the maps: {', '.join(left[:8])}")
