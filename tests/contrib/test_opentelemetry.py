"""Figures of maps by OpenTelemetry's own SDK."""

from __future__ import annotations

import time
from typing import Any

import pytest

from shmmap.memory.events import note
from shmmap.tools.metrics import FAMILIES

sdk = pytest.importorskip("opentelemetry.sdk.metrics")
export = pytest.importorskip("opentelemetry.sdk.metrics.export")


def collect(reader: Any) -> dict[str, Any]:
    """Return what a collection has, by the names of its instruments."""
    data = reader.get_metrics_data()
    return {one.name: one for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics for one in scope.metrics}


@pytest.fixture
def reader():
    made = export.InMemoryMetricReader()
    provider = sdk.MeterProvider([made])
    made.meter = provider.get_meter("test")
    yield made
    provider.shutdown()


def test_what_is_collected_is_what_the_map_says(make, reader):
    from shmmap.contrib.opentelemetry import SHARED_S, observe_maps

    m = make(size="1MB", shards=2)
    observe_maps(reader.meter, m.name)
    for number in range(3_000):
        m[number % 50] = number
    m.get(1), m.get("none")
    note(m.attachment, "takeover", 5, 0)
    found = collect(reader)

    def value(name: str, **labels: str) -> float:
        points = [point for point in found[name].data.data_points
                  if labels.items() <= point.attributes.items()]
        assert len(points) == 1 and points[0].attributes["map"] == m.name
        return points[0].value

    assert value("shmmap_entries") == 50 and value("shmmap_writes") == 3_000
    assert value("shmmap_reads", found="yes") == value("shmmap_reads", found="no") == 1
    assert value("shmmap_events", kind="takeover") == 1
    assert value("shmmap_latency_seconds_count", operation="write") == 2
    assert value("shmmap_latency_seconds_bucket", operation="write", le="+Inf") == 2
    assert found["shmmap_size_bytes"].unit == "bytes"
    names = {name for name, family in FAMILIES.items() if family.kind != "histogram"}
    assert names <= set(found)
    assert found["shmmap_writes"].data.is_monotonic
    time.sleep(SHARED_S + 0.05)
    m["more"] = 1
    assert {point.value for point in collect(reader)["shmmap_writes"].data.data_points} == {3_001}


def test_no_map_is_no_figure(reader):
    from shmmap.contrib.opentelemetry import observe_maps

    observe_maps(reader.meter, "there-is-none")
    assert collect(reader) == {}
