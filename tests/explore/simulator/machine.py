"""A machine whose processes take turns at every step that another process could notice.

Each worker is a coroutine (a greenlet) that runs the pure engine as it stands. Before every
access to shared memory, clock read, semaphore call, liveness test and call of an operation it
asks the schedule who goes on. So a schedule, a function from steps to workers, decides
everything: the same schedule gives the same run.

Memory is accessed a word at a time, however many bytes are copied: copies can tear.
Compare-and-exchange is one step. Time stands still unless a worker advances it, or a sleep
has to end.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from greenlet import GreenletExit, getcurrent, greenlet

from shmmap.memory._atomics import Memory

START_NS = 64_000_001_000  # a minute after what deadlines count from, as in all maps
MOST_STEPS = 30_000  # of one run: more is a livelock
READ, WRITE, EXCHANGE, CLOCK, SEMAPHORE, LIVENESS, CALL, PAUSE, TIME = range(9)
KINDS = (
    "read", "write", "exchange", "clock", "semaphore", "liveness", "call", "pause", "time",
)


class Step(NamedTuple):
    """What a worker is about to do: `place` is a word's number, a clock, a semaphore."""

    worker: int
    kind: int
    place: Any


class Livelock(Exception):
    """A run took more than MOST_STEPS."""


class Killed(GreenletExit):
    """A worker is taken off the machine at the end of a run."""


class Worker:
    """One simulated process (or thread of one): its coroutine and what it waits for."""

    def __init__(self, number: int, work: Callable[[], None]) -> None:
        self.number = number
        self.coroutine = greenlet(work)
        self.semaphore: Semaphore | None = None  # it sleeps on this one,
        self.wakes_ns = 0  # until then at the latest
        self.dead = False
        self.steps = 0
        self.clock: tuple[int, int] | None = None  # first and last reading in this call

    @property
    def finished(self) -> bool:
        return self.dead or self.coroutine.dead

    @property
    def asleep(self) -> bool:
        return self.semaphore is not None and self.semaphore.tokens == 0


class Semaphore:
    """A named semaphore."""

    def __init__(self) -> None:
        self.tokens = 0


class View:
    """Memory in items of some width; each word that is touched is a step at `base` + its number."""

    __slots__ = ("base", "items", "machine", "shift")

    def __init__(self, machine: Machine, items: memoryview, base: int) -> None:
        self.machine = machine
        self.items = items
        self.base = base
        self.shift = 3 - (items.itemsize.bit_length() - 1)  # items a word, as a power of two

    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, int):
            if self.machine.current is not None:
                self.machine.step(READ, self.base + (at >> self.shift))
            return self.items[at]
        if self.machine.current is None:
            return self.items[at]
        taken = bytearray()
        for part in self._words(at):
            self.machine.step(READ, self.base + (part.start >> self.shift))
            taken += self.items[part].cast("B")
        return memoryview(taken).cast(self.items.format)

    def __setitem__(self, at: int | slice, value: Any) -> None:
        if isinstance(at, int):
            if self.machine.current is not None:
                self.machine.step(WRITE, self.base + (at >> self.shift))
            self.items[at] = value
        elif self.machine.current is None:
            self.items[at] = value
        else:
            for part in self._words(at):
                self.machine.step(WRITE, self.base + (part.start >> self.shift))
                start = part.start - (at.start or 0)
                self.items[part] = value[start : start + part.stop - part.start]

    def _words(self, at: slice) -> list[slice]:
        """Cut a slice where words end."""
        assert at.step is None
        width, start = 1 << self.shift, at.start or 0
        cuts = [start, *range((start // width + 1) * width, at.stop, width), at.stop]
        return [slice(a, b) for a, b in pairwise(cuts) if a < b]

    def release(self) -> None:
        """Do nothing: the memory is the machine's."""


class OneStep:
    """The guard of compare-and-exchange: it makes it a single step."""

    def __init__(self, machine: Machine, base: int) -> None:
        self.machine = machine
        self.base = base

    def acquire(self, offset: int, patience_s: float) -> bool:
        self.machine.step(EXCHANGE, self.base + (offset >> 3))
        self.machine.indivisible = True
        return True

    def release(self, offset: int) -> None:
        self.machine.indivisible = False


class SharedMemory(Memory):
    """What the engine takes for a segment's memory."""

    __slots__ = ()
    view_kind: type[View] = View

    def __init__(self, machine: Machine, buffer: Any, base: int = 0) -> None:
        super().__init__(buffer, OneStep(machine, base))
        for name in ("words", "halves", "quarters", "octets"):
            setattr(self, name, self.view_kind(machine, getattr(self, name), base))


Schedule = Callable[["Machine", Step, bool], Worker]


class Machine:
    """Runs workers one at a time, as a schedule says.

    `schedule(machine, step, forced)` picks who goes on: `step` is what the current worker is
    about to do; `forced`: it cannot go on, or would only spin.
    """

    def __init__(self) -> None:
        self.now_ns = START_NS
        self.passed_ns = 0  # by `advance`: no worker slept through it
        self.workers: list[Worker] = []
        self.current: Worker | None = None
        self.indivisible = False
        self.steps = 0
        self.trace: list[Step] | None = None
        self.schedule: Schedule = run_on
        self.die_at: dict[int, int] = {}  # worker: the step of its own before which it stops
        self.raise_at: dict[int, int] = {}  # worker: the step of its own before which it raises
        self.timeouts = 0  # sleeps that ended without a token,
        self.stalls = 0  # and of those, the ones in which nobody else could go on
        self._over = False
        self._hub: greenlet = getcurrent()

    # -- what the simulated processes do -------------------------------------------

    def step(self, kind: int, place: Any) -> None:
        """Come to a point where others may go on first."""
        worker = self.current
        if self._over:
            raise Killed
        if self.indivisible:
            return
        self.steps += 1
        if worker is None:  # who looks afterwards: alone
            if self.steps > MOST_STEPS * 10:
                raise Livelock(f"more than {MOST_STEPS * 10} steps, after all have ended")
            return
        if self.steps > MOST_STEPS:
            raise Livelock(f"more than {MOST_STEPS} steps")
        worker.steps += 1
        if worker.steps == self.die_at.get(worker.number):
            self.die(worker)
        step = Step(worker.number, kind, place)
        self._leave_to(self.schedule(self, step, kind == PAUSE))
        if self.trace is not None:
            self.trace.append(step)
        if worker.steps == self.raise_at.get(worker.number):
            raise KeyboardInterrupt

    def die(self, worker: Worker) -> None:
        """Let the current worker never go on."""
        worker.dead = True
        self._leave(Step(worker.number, CALL, "death"))

    def clock(self) -> int:
        """Read the clock."""
        self.step(CLOCK, "clock")
        worker = self.current
        if worker is not None and not self._over:
            first = worker.clock[0] if worker.clock else self.now_ns
            worker.clock = first, self.now_ns
        return self.now_ns

    def advance(self, ns: int) -> None:
        """Let time pass."""
        self.step(TIME, "clock")
        self.now_ns += ns
        self.passed_ns += ns

    def sleep(self, ns: int) -> None:
        """Sleep, waiting for nobody."""
        self.wait(Semaphore(), ns, False)

    def wait(self, semaphore: Semaphore, ns: int, awaits: bool = True) -> bool:
        """Take a token, or sleep until there is one, or for so long; tell whether one came.
        `awaits`: somebody should wake it."""
        self.step(SEMAPHORE, semaphore)
        worker = self.current
        if worker is None:
            self.now_ns += ns
            return False
        if semaphore.tokens == 0:
            worker.semaphore, worker.wakes_ns = semaphore, self.now_ns + ns
            self._leave(Step(worker.number, SEMAPHORE, semaphore))
            worker.semaphore = None
        if semaphore.tokens:
            semaphore.tokens -= 1
            return True
        if self.now_ns < worker.wakes_ns:  # its sleep ended before anything else happened
            self.now_ns = worker.wakes_ns
            self.timeouts += 1
            self.stalls += awaits and self.runnable() == [worker]
        return False

    def wake(self, semaphore: Semaphore) -> None:
        """Add a token if there is none: two steps."""
        self.step(SEMAPHORE, semaphore)
        if semaphore.tokens <= 0:
            self.step(SEMAPHORE, semaphore)
            semaphore.tokens += 1

    # -- scheduling ------------------------------------------------------------------

    def runnable(self) -> list[Worker]:
        """List the workers that can go on."""
        return [w for w in self.workers if not w.finished and not w.asleep]

    def sleepers(self) -> list[Worker]:
        """List the workers that only a timeout wakes."""
        return [w for w in self.workers if not w.finished and w.asleep]

    def run(self, works: list[Callable[[], None]], schedule: Schedule) -> None:
        """Run workers until all have finished or died; what one of them raises ends the run."""
        self.schedule = schedule
        self.workers = [Worker(i, work) for i, work in enumerate(works)]
        self.steps = self.timeouts = self.stalls = 0
        self._hub = getcurrent()
        try:
            while self.runnable() or self.sleepers():
                self._leave_to(self.schedule(self, Step(-1, CALL, "end"), True))
        finally:
            self._end()

    def _end(self) -> None:
        """Take what is left off the machine."""
        self._over = True
        for worker in self.workers:
            while not worker.coroutine.dead:
                worker.coroutine.throw(Killed)
        self._over = False
        self.indivisible = False
        self.current = None

    def _leave(self, step: Step) -> None:
        """Let somebody else go on: the current worker cannot."""
        if self.runnable() or self.sleepers():
            self._leave_to(self.schedule(self, step, True))
        else:
            self._hub.switch()

    def _leave_to(self, chosen: Worker) -> None:
        """Switch to a worker; comes back when somebody switches here."""
        if chosen is not self.current:
            self.current = chosen
            chosen.coroutine.switch()
            if self._over:
                raise Killed


def run_on(machine: Machine, step: Step, forced: bool) -> Worker:
    """Go on with the current worker; where it cannot, with the first other one that can."""
    if not forced and machine.current is not None:
        return machine.current
    can = machine.runnable() or machine.sleepers()
    others = [worker for worker in can if worker.number != step.worker]
    return (others or can)[0]
