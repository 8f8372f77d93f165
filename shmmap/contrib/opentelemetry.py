"""The figures of this machine's maps for OpenTelemetry: see `shmmap.openmetrics` for what they say.

    from opentelemetry import metrics
    from shmmap.contrib.opentelemetry import observe_maps

    observe_maps(metrics.get_meter("shop"))

They are read as `shmmap ls` reads, when a reader of the program collects; nothing runs meanwhile.
The machine's figures are the same whoever is asked, so one process of several does it: of a
server's workers all would send the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

try:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation
except ImportError as error:
    raise ImportError(
        'this needs the API of OpenTelemetry: pip install "shmmap[opentelemetry]"'
    ) from error

from ..memory._clock_cy import monotonic
from ..tools.metrics import FAMILIES, Sample, samples

SHARED_S = 0.2  # all instruments of one collection are told of one look
_SUFFIXES = ("_bucket", "_count", "_sum")


def observe_maps(meter: Meter, *names: str) -> None:
    """Register an observable instrument for each figure of maps, by its name there.

    A gauge becomes an observable gauge, a counter an observable counter. A histogram becomes three
    counters, as OpenMetrics has it: NAME_bucket by its label `le`, NAME_count and NAME_sum.

    Args:
        meter: registers them. Twice would have them told twice.
        names: of maps, which need not be there yet; none: all of this machine.
    """
    look = _Look(names)
    for name, family in FAMILIES.items():
        if family.kind == "gauge":
            meter.create_observable_gauge(name, [look.of(name)], family.unit, family.text)
            continue
        for suffix in _SUFFIXES if family.kind == "histogram" else ("",):
            unit = family.unit if suffix in ("", "_sum") else ""
            meter.create_observable_counter(
                name + suffix, [look.of(name, suffix)], unit, family.text)


class _Look:
    """What was read of the maps the last time."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._until = 0.0
        self._found: dict[tuple[str, str], list[Sample]] = {}

    def of(self, name: str, suffix: str = "") -> Callable[[CallbackOptions], Iterable[Observation]]:
        """Return what an instrument asks."""
        def observe(options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(sample.value, sample.labels)
                    for sample in self._samples().get((name, suffix), ())]

        return observe

    def _samples(self) -> dict[tuple[str, str], list[Sample]]:
        """Return the figures, sorted by their instruments."""
        if monotonic() > self._until:
            found: dict[tuple[str, str], list[Sample]] = {}
            for sample in samples(self._names):
                found.setdefault((sample.family, sample.suffix), []).append(sample)
            self._found, self._until = found, monotonic() + SHARED_S
        return self._found
