"""For prometheus_client: the figures of this machine's maps among those of a program.

    from prometheus_client import REGISTRY
    from shmmap.contrib.prometheus import MapCollector

    REGISTRY.register(MapCollector("sessions"))

A map's figures are the machine's. So in a server of several workers whichever is asked answers with
the same ones, and prometheus_client's files for several processes (PROMETHEUS_MULTIPROC_DIR) are
not needed for them. Register it in the registry that is asked, in each worker.
"""

from __future__ import annotations

from collections.abc import Iterator

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        'this needs prometheus_client: pip install "shmmap[prometheus]"'
    ) from error

from ..tools.metrics import FAMILIES, Sample, samples


class MapCollector(Collector):
    """Collects the figures of maps as they are asked for.

    Args:
        names: of maps of this machine, which need not be there yet; none: all of them.
    """

    def __init__(self, *names: str) -> None:
        self.names = names

    def describe(self) -> list[Metric]:
        """Return what there is, without any figure: a registry asks for the names."""
        return [self._family(name, []) for name in FAMILIES]

    def collect(self) -> Iterator[Metric]:
        """Yield the figures of now."""
        by_family: dict[str, list[Sample]] = {}
        for sample in samples(self.names):
            by_family.setdefault(sample.family, []).append(sample)
        for name, found in by_family.items():
            yield self._family(name, found)

    def _family(self, name: str, found: list[Sample]) -> Metric:
        family = FAMILIES[name]
        if family.kind == "histogram":
            histogram = Metric(name, family.text, "histogram", family.unit)
            for sample in found:
                histogram.add_sample(name + sample.suffix, sample.labels, sample.value)
            return histogram
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        labels = list(found[0].labels) if found else []
        made = kind(name, family.text, labels=labels, unit=family.unit)
        for sample in found:
            made.add_metric(list(sample.labels.values()), sample.value)
        return made
