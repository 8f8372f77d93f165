"""A progress bar on stderr: tqdm's if it is installed, else plain lines."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any


class Progress:
    """Counts the steps of a run; the label says what runs now."""

    def __init__(self, steps: int, quiet: bool = False) -> None:
        self.steps = steps
        self.done = 0
        self.quiet = quiet
        self._label = ""
        self._bar: Any = None
        if quiet:
            return
        try:
            from tqdm import tqdm
        except ModuleNotFoundError:
            return
        self._bar = tqdm(total=steps, file=sys.stderr, unit="step", leave=False, miniters=1)

    def label(self, text: str) -> None:
        """Say what runs now."""
        if self._bar is not None:
            self._bar.set_description(text)
        elif text != self._label and not self.quiet:
            print(f"[{self.done:3d}/{self.steps}] {text}", file=sys.stderr, flush=True)
        self._label = text

    def step(self) -> None:
        """Count one step as done."""
        self.done += 1
        if self._bar is not None:
            self._bar.update(1)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
