"""The parent's part: it starts workers, kills, stops and wakes them, and verifies what is left."""

from __future__ import annotations

import os
import random
import signal
import time

from ..memory.layout import constants
from ..operations.marking import marked
from . import history, processes
from .actor import Violation, whole
from .family import Family
from .heartbeat import Heartbeat
from .ledger import (
    CALL,
    CHANGED,
    COUNTERS,
    GUARDED,
    NUMBER_OF,
    OPERATIONS,
    PID,
    REGISTERS,
    STOP,
    WINDOW,
    now_ns,
)
from .plan import LANES_EACH
from .shared import settle_claims
from .storm import Storm
from .verify import verify_dead
from .waits import Waits
from .witnesses import Witnesses
from .workers import CHANCES, Setting, Worker

_HISTORY = NUMBER_OF["history"]
_READY = constants()["STATE_READY"]
_AIM_NS = 5_000_000  # to wait at most for a good moment
_COPYING_S = 0.3  # as long as a replacement takes, about
_REPLACING_S = 2.0  # to wait at most for one
_AS_PATIENT = 6  # times, with who copies all entries in one call


class Chaos:
    """The events of a run. `counts` is what was done, by name."""

    def __init__(self, setting: Setting, complaints: int) -> None:
        self.plan = plan = setting.plan
        self.setting = setting
        self.ledger = setting.ledger
        self.main = setting.maps.main
        self.rng = random.Random(plan.seed)
        lanes, used = setting.ledger.lanes, plan.lanes
        self.families = [Family(lanes[at : at + LANES_EACH])
                         for at in range(0, used, LANES_EACH)]
        self.replacers = [Family([lane], "replacer") for lane in lanes[used:][: plan.replaces]]
        self.resizers = [Family([lane], "resizer") for lane in lanes[used + plan.replaces :]]
        self.problems: list[tuple[str, str]] = []
        self.counts = dict.fromkeys(
            ("kills", "inside", "stops", "starts", "left", "verified", "windows", "calls",
             "replacers", "holding", "exchanging", "movers", "movers_in_the_cut",
             "movers_at_a_moment", "movers_stopped"), 0
        )
        self.heartbeat = Heartbeat()
        self.waits = Waits(setting.ledger)
        self.witnesses = Witnesses(setting.maps, plan.patience_s)
        self.storm = Storm(self)
        self._complaints = complaints
        self._claims = 0
        self._window = 0
        self._looked = time.monotonic()
        self._heart = processes.fork(
            lambda: self.heartbeat.beat(lambda: False), setting.stacks, lead=True
        )

    # -- workers ------------------------------------------------------------------------

    @property
    def everyone(self) -> list[Family]:
        """The workers, and who replaces and resizes maps."""
        return self.families + self.replacers + self.resizers

    def start(self, family: Family) -> None:
        """Start a worker of some kind."""
        kinds, chances = zip(*CHANCES.items(), strict=True)
        family.kind = family.always or self.rng.choices(kinds, chances)[0]
        worker = Worker(self.setting, family.lanes, self.rng.getrandbits(60))
        family.pid = processes.fork(lambda: worker.run(family.kind), self.setting.stacks, lead=True)
        family.begin_watch(time.monotonic())
        self.counts["starts"] += 1

    def strike(self, family: Family) -> None:
        """Kill a worker."""
        family.delay_ns = processes.delay_ns(family.pid)
        family.killed_ns = now_ns()
        self.waits.died(family.killed_ns, family.always == "replacer")
        processes.kill(family.pid)
        if self.setting.maps.is_held_by(family.pid):
            self.waits.held(family.killed_ns)

    def bury(self, family: Family, killed: bool) -> None:
        """Reap a worker and its children; note how it ended."""
        os.waitid(os.P_PID, family.pid, os.WEXITED | os.WNOWAIT)
        if killed:
            self.waits.delay(*family.last_delay())
        status = processes.reap_family(family.pid)
        family.pid = 0
        family.was_killed = killed and status == signal.SIGKILL
        if family.was_killed:
            self.counts["kills"] += 1
            self.counts["inside"] += family.is_inside()
        elif status == processes.FAILED << 8:
            self.hear()
        elif status:
            how = f"signal {status & 127}" if status & 127 else f"exit code {status >> 8}"
            self.fail("crash", f"a worker ({family.kind}) ended by {how}, {family.calls()}")
        else:
            self.counts["left"] += 1

    def verify(self, families: list[Family]) -> None:
        """Compare what the dead left with what they had acknowledged."""
        lanes = [lane for family in families for lane in family.lanes]
        began, delay = now_ns(), processes.delay_ns(os.getpid())
        try:
            verify_dead(self.main, self.ledger, lanes)
        except Violation as violation:
            self.fail(violation.kind, violation.text)
        self.waits.delay(began, now_ns(), processes.delay_ns(os.getpid()) - delay)
        self.counts["verified"] += sum(family.was_killed for family in families)

    def kill(self, families: list[Family], pause_s: float = 0.0) -> None:
        """Kill workers, one after the other, let the survivors go on, and verify."""
        for family in families:
            self.strike(family)
            if pause_s:
                time.sleep(pause_s)
        for family in families:
            self.bury(family, killed=True)
        self.let_go_on(2, 0.03)
        self.verify(families)
        for family in families:
            self.start(family)

    def let_go_on(self, operations: int, patience_s: float) -> None:
        """Wait until every worker has done some operations."""
        living = [family for family in self.families if family.pid]
        marks = [sum(lane.words[OPERATIONS] for lane in family.lanes) for family in living]
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline and any(
            sum(lane.words[OPERATIONS] for lane in family.lanes) < mark + operations
            for family, mark in zip(living, marks, strict=True)
        ):
            time.sleep(0.001)

    # -- events -------------------------------------------------------------------------

    def aim(self) -> Family:
        """Choose a victim and wait for a moment that is worth it: mostly one in which it holds
        a lock, or is inside an operation."""
        deadline = now_ns() + _AIM_NS
        what = self.rng.random()
        while what < 0.5 and now_ns() < deadline:
            holder = self._holder()
            if holder is not None:
                self.linger(1.0, 4.5)
                return holder
        family = self.rng.choice(self.families)
        if what > 0.9:
            time.sleep(self.rng.random() * 0.003)
            return family
        while now_ns() < deadline and not family.is_inside():
            pass
        self.linger(2.5, 5.3)
        return family

    def _holder(self) -> Family | None:
        """Find the worker that holds some lock."""
        attachment = self.main.attachment
        if attachment.control.STATE != _READY:  # the one that replaced it holds them all
            return None
        for _, owner in self._owners():
            if owner:
                pid, _ = attachment.worker.pid_of(owner)
                for family in self.families:
                    if any(lane.words[PID] == pid for lane in family.lanes):
                        return family
        return None

    def _owners(self) -> list[tuple[int, int]]:
        """Return who holds each of the shards that this process goes by."""
        with marked(self.main):
            return [(shard.number, shard.lock.owner())
                    for shard in self.main.attachment.distinct()]

    def linger(self, least: float, most: float) -> None:
        """Let a random time pass, of powers of ten in nanoseconds."""
        end = now_ns() + int(10 ** self.rng.uniform(least, most))
        while now_ns() < end:
            pass

    def kill_one(self) -> None:
        """Kill a worker."""
        self.kill([self.aim()])

    def kill_two(self) -> None:
        """Kill a worker, and soon after it one that may be repairing what the first one left."""
        first = self.aim()
        second = self.rng.choice([family for family in self.families if family is not first])
        self.kill([first, second], 10 ** self.rng.uniform(-4, -1.5))

    def kill_all(self) -> None:
        """Kill every worker at once."""
        self.kill(list(self.families))

    def kill_replacer(self) -> None:
        """Kill the process that replaces maps, mostly in one of the few moments that it holds the
        shards of one, or exchanges the names."""
        for family in self.replacers:
            what = self.rng.random()
            if what < 0.2:
                time.sleep(self.rng.random() * _COPYING_S)
            elif self._wait_until_it_holds(family) and what > 0.5:
                self._wait_until_it_exchanges()
            attached = self.witnesses.main.attachment
            self.counts["replacers"] += 1
            if attached.control.STATE != _READY:
                self.counts["exchanging"] += 1
            elif self._holds(family):
                self.counts["holding"] += 1
            self.kill([family])

    def _holds(self, family: Family) -> bool:
        """Tell whether it holds a shard of the map that has the name."""
        return family.pid in self.witnesses.main.holders()

    def _wait_until_it_holds(self, family: Family) -> bool:
        deadline = time.monotonic() + _REPLACING_S
        while time.monotonic() < deadline:
            if self.witnesses.main.attachment.control.STATE != _READY:
                self.look_at_homes()
            elif self._holds(family):
                self.linger(2.5, 7.5)
                return True
            time.sleep(0.0002)
        return False

    def _wait_until_it_exchanges(self) -> None:
        control = self.witnesses.main.attachment.control
        deadline = time.monotonic() + _REPLACING_S
        while control.STATE == _READY and time.monotonic() < deadline:
            pass
        # it takes some 10 us until the names are exchanged, and as long until the map is retired
        self.linger(*self.rng.choice(((3.5, 5.0), (3.5, 5.0), (5.0, 6.5))))

    def strike_mover(self) -> None:
        """Kill or stop the process that moves the map to another shape."""
        self.storm.strike()

    def look_at_homes(self) -> None:
        """Look whether all processes are in the maps that have the names."""
        for text in self.witnesses.look(self.ledger):
            self.fail("wrong", text)

    def stop(self) -> None:
        """Stop a worker for a moment; then it goes on, or dies while it is stopped."""
        family = self.aim()
        from_ns = now_ns()
        os.kill(family.pid, signal.SIGSTOP)
        self.counts["stops"] += 1
        time.sleep(10 ** self.rng.uniform(-3.5, -1.5))
        dies = self.rng.random() < 0.4
        if dies:
            self.kill([family])
        else:
            os.kill(family.pid, signal.SIGCONT)
            self.let_go_on(1, 0.05)
        self.waits.mark(from_ns, now_ns())

    def open_window(self) -> None:
        """Have all lanes work on the same keys, kill one or none meanwhile, check the history."""
        self._window += 1
        self.ledger.words[WINDOW] = self._window
        time.sleep(10 ** self.rng.uniform(-3.3, -2))
        victims = [self.aim()] if self.rng.random() < 0.4 else []
        for family in victims:
            self.strike(family)
            self.bury(family, killed=True)
        time.sleep(10 ** self.rng.uniform(-3.3, -2.3))
        self.ledger.words[WINDOW] = 0
        deadline = time.monotonic() + self.plan.patience_s
        while (in_it := self._in_window()) and not any(_has_ended(one.pid) for one in in_it):
            if time.monotonic() > deadline:
                self.fail("hang", f"a window's calls do not end; {self.describe()}")
                return
            time.sleep(0.0003)
        if not in_it:  # else one ended by itself in its middle: `look_after` hears of what
            calls, problems = history.check_history(self.ledger, self._window)
            for text in problems:
                self.fail("linearizability", text)
            self.counts["windows"] += 1
            self.counts["calls"] += calls
        for key in range(history.WINDOW_KEYS):
            self.main.delete(history.window_key(self._window, key))
        self.verify(victims)
        for family in victims:
            self.start(family)

    def _in_window(self) -> list[Family]:
        """List the workers with a call of the window that has not ended."""
        return [family for family in self.families if family.pid
                and any(lane.words[CALL] == _HISTORY for lane in family.lanes)]

    def rest(self) -> None:
        """Let nobody die for a moment."""
        time.sleep(self.rng.random() * 0.1)

    # -- looking after them ---------------------------------------------------------------

    def look_after(self) -> None:
        """Replace workers that left, hear complaints, notice who hangs, check what is shared."""
        self.storm.look_after()
        for family in self.everyone:
            if not family.pid:
                self.start(family)
            elif _has_ended(family.pid):
                self.bury(family, killed=False)
                self.verify([family])
                self.start(family)
        self.hear()
        self.look_for_hangs()
        self._claims, problems = settle_claims(self.main, self.ledger, self._claims)
        for text in problems:
            self.fail("duplicate", text)
        self.check_counts()
        self.look_at_homes()
        self.waits.collect()

    def hear(self) -> None:
        """Take the complaints of workers."""
        try:
            text = os.read(self._complaints, 1 << 16).decode(errors="replace")
        except BlockingIOError:
            return
        for complaint in text.split("\0"):
            kind, _, rest = complaint.partition("\1")
            if rest:
                self.fail(kind, rest)

    def fail(self, kind: str, text: str) -> None:
        """Note a problem."""
        self.problems.append((kind, text))

    def look_for_hangs(self) -> None:
        """Notice a worker, or one of its lanes, that has made no progress for too long."""
        now = time.monotonic()
        if now - self._looked > 1.0:  # it is we who were kept from running
            for family in self.everyone:
                family.begin_watch(now)
        self._looked = now
        helpers = [one for one in self.replacers + self.resizers if not self.storm.sleeps(one)]
        stuck = max([family.stuck_for(now) for family in self.families]
                    + [one.stuck_for(now) / _AS_PATIENT for one in helpers])
        if stuck > self.plan.patience_s:
            self.fail("hang", f"no progress for {stuck:.1f} s:\n  {self.describe()}")

    def describe(self) -> str:
        """Say where every worker is, and who holds which lock."""
        lines = [
            f"worker {family.pid} ({family.kind}) {family.calls()}; "
            f"{processes.describe_stack(family.pid, self.setting.stacks)}"
            for family in self.everyone if family.pid
        ]
        attachment = self.main.attachment
        for number, owner in self._owners():
            if owner:
                pid, _ = attachment.worker.pid_of(owner)
                lines.append(f"shard {number} is held by process {pid or 'unknown'}")
        return "\n  ".join(lines)

    def check_counts(self) -> None:
        """Compare counters and registers with what was acknowledged and what was begun."""
        for which in range(COUNTERS + REGISTERS + GUARDED + len(CHANGED)):
            done = sum(lane.counts(1 + which)[0] for lane in self.ledger.lanes)
            if which < COUNTERS:
                name = f"count-{which}"
                value = self.main.get(name, 0)
            elif which >= COUNTERS + REGISTERS + GUARDED:
                name = CHANGED[which - COUNTERS - REGISTERS - GUARDED]
                value = self.main.get(name, 0) * (2 if name == "halves" else 1)
            elif which >= COUNTERS + REGISTERS:
                name = f"guarded-{which - COUNTERS - REGISTERS}"
                value = self.main.get(name, 0)
            else:
                name = f"register-{which - COUNTERS}"
                found = self.main.get(name)
                value = 0 if found is None else whole(found, name).number
            begun = sum(lane.counts(1 + which)[1] for lane in self.ledger.lanes)
            if not done <= value <= begun:
                self.fail("lost", f"{name} is {value}; acknowledged {done}, begun {begun}")

    def end(self) -> None:
        """End every process."""
        for family in self.everyone:
            if family.pid:
                processes.kill(family.pid)
                processes.reap_family(family.pid)
                family.pid = 0
        processes.kill(self._heart)
        processes.reap_family(self._heart)

    def leave(self) -> None:
        """Tell every worker to leave, and wait until all have. Who replaces or resizes maps is
        killed: that may take longer than a worker has."""
        self.storm.end()
        for family in self.replacers + self.resizers:
            if family.pid:
                self.strike(family)
                self.bury(family, killed=True)
        self.ledger.words[STOP] = 1
        deadline = time.monotonic() + self.plan.patience_s
        while any(family.pid for family in self.everyone) and not self.problems:
            for family in self.everyone:
                if family.pid and _has_ended(family.pid):
                    self.bury(family, killed=False)
                    self.verify([family])
            if time.monotonic() > deadline:
                self.fail("hang", f"workers do not leave: {self.describe()}")
            time.sleep(0.002)


def _has_ended(pid: int) -> bool:
    """Tell whether a child has ended, without reaping it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
