"""A process that holds a key in its near cache, while another dies at every step of a change.

The reader's cache is filled; the change begins and breaks off; the reader reads; a third process
looks (and repairs) and writes; the reader reads on. Nobody may see anything go back.
"""

from __future__ import annotations

from ..simulator.machine import CALL, Machine, Schedule, Step, Worker, run_on
from .deaths import Deaths


class NearDeaths(Deaths):
    """One case beside a reader."""

    def schedule(self) -> Schedule:
        """Let the reader make a call, worker 0 die (or finish), the reader make another call, the
        third do all it does, and the reader go on."""
        calls = 0

        def choose(machine: Machine, step: Step, forced: bool) -> Worker:
            nonlocal calls
            dying, reader, third = machine.workers
            if step.worker == reader.number and step.kind == CALL and not forced:
                calls += 1
            first = {2: dying, 3: third}.get(calls, reader)
            can = [worker for worker in (first, reader, third, dying)
                   if worker in machine.runnable()]
            return can[0] if can else run_on(machine, step, forced)

        return choose
