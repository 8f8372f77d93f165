"""Every operation, with an exception raised at every step of it, or at every line.

As a signal handler does it. The worker itself goes on: the lock must be free, and nothing of the
call be left but its effect, whole or not at all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import shmmap

from ..scenarios.scenario import Scenario, build, perform
from ..simulator.machine import Livelock, run_on
from ..simulator.world import World
from .explorer import Failure

ENGINE = os.path.dirname(shmmap.__file__) + os.sep


class LineTracer:
    """Raises when the engine comes to its line number `at`, counted from the start."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.lines = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ENGINE):
            return None
        self.lines += 1
        if self.lines == self.at:
            raise KeyboardInterrupt
        return self

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Count, and raise, in here."""
        sys.settrace(self)
        try:
            yield
        finally:
            sys.settrace(None)


class Exceptions:
    """One case, with what its worker does afterwards."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world: World = build(scenario, all_memory=True)
        self.runs = 0

    def every_step(self) -> Iterator[Failure]:
        """Raise before every access to memory, clock read, semaphore call."""
        step, raised = 1, True
        while raised:
            problem, raised = self.run(step, 0)
            if problem:
                yield Failure(self.scenario.name, f"raises at step {step}", problem)
            step += 1

    def every_line(self, stride: int = 1) -> Iterator[Failure]:
        """Raise at every line of the engine, at the calls and returns too."""
        line, raised = 1, True
        while raised:
            problem, raised = self.run(0, line)
            if problem:
                yield Failure(self.scenario.name, f"raises at line {line}", problem)
            line += stride

    def run(self, step: int, line: int) -> tuple[str | None, bool]:
        """Run once; say what is wrong, and whether the exception was raised."""
        world = self.world
        world.restore()
        machine, handle = world.machine, world.handles[0]
        left: list[str] = []
        raised: list[bool] = []

        def work() -> None:
            try:
                with LineTracer(line).tracing():
                    perform(world, 16, self.scenario.programs[0][0])
            except KeyboardInterrupt:
                raised.append(True)
                if world.held():
                    left.append(f"locks are held after the exception: {world.held()}")
                if step and (handle.gate or handle.attachment.held):
                    left.append(f"{handle.gate=} {handle.attachment.held=}")
                world.interrupted(0, died=False)
            machine.raise_at = {}
            for i, operation in enumerate(self.scenario.programs[1], 1):
                perform(world, 16 + i, operation)

        machine.raise_at = {0: step} if step else {}
        self.runs += 1
        try:
            machine.run([work], run_on)
        except (Livelock, Exception) as error:
            left.append(f"{type(error).__name__}: {error}")
        finally:
            machine.raise_at = {}
        return "\n".join(left) or world.judge(), bool(raised)
