"""The values scenario: a tiny run, and that no store that answers wrongly looks right."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import pytest

from bench.core.workloads import QUICK
from bench.peers import ShmMapPeer
from bench.scenarios import values

from ..support.engines import once
from .runs import measured, setup_of

pytestmark = once  # the same with either engine

TINY = QUICK._replace(repetitions=2)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "KEYS", values.KEYS[:5])


def test_all_stores_give_back_what_they_were_given():
    (scenario,) = values.SCENARIOS
    rows = measured(scenario, setup_of(TINY, [ShmMapPeer]))
    assert len(rows) == len(values.VALUES) * len(scenario.able())
    assert not [row for row in rows if row.problem]
    assert all(len(row.samples["get_ns"]) == 2 and min(row.samples["set_ns"]) > 0 for row in rows)
    ours = {row.point["value"]: row.facts["value_bytes"] for row in rows if row.peer == "shmmap"}
    pickled = {row.point["value"]: row.facts["value_bytes"] for row in rows
               if row.peer == "dict, pickled"}
    assert all(length <= pickled[what] for what, length in ours.items())
    assert not [each for each in os.listdir("/dev/shm") if f"bench-{os.getpid()}-" in each]


def test_a_store_that_forgets_types_is_told(monkeypatch):
    def forgetful(stack: ExitStack) -> Any:
        held: dict[str, Any] = {}
        return held.__getitem__, lambda key, value: held.update({key: str(value)}), len

    monkeypatch.setitem(values.STORES, "dict, pickled", (forgetful, ""))
    lane = values.ValueLane("values", "dict, pickled", "record")
    lane.repeat(0)
    assert "5 keys have another value" in lane.row().problem


def test_what_fails_as_it_is_filled_leaves_nothing(monkeypatch):
    monkeypatch.setitem(values.VALUES, "record", lambda: 1)
    with pytest.raises((AttributeError, TypeError)):
        values.ValueLane("values", "shmmap", "record")
    assert not [each for each in os.listdir("/dev/shm") if f"bench-{os.getpid()}-" in each]
