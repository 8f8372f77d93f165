"""Each cell of the table of consistencies in docs/guide/tiered.md, played."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from shmmap import StoreUnavailable
from shmmap.testing import LocalStore
from shmmap.tiers import reads

from .conftest import listens, until

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "tiered.md"
BOUND_S = 0.3


def table() -> dict[str, list[str]]:
    """Return the table's rows: what a cell says, by consistency."""
    lines = PAGE.read_text().split("| `consistency=` |")[1].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in lines[:next(at for at, line in enumerate(lines) if not line)]]
    return {re.findall(r'"(\w+)"', row[0])[0]: row[1:] for row in rows}


def answer(tier: Any, store: LocalStore, key: str) -> str:
    """Read a key; tell where the answer came from."""
    calls = store.calls
    try:
        value = tier.get(key)
    except StoreUnavailable:
        return "StoreUnavailable"
    asked = "the store" if store.calls > calls else "the copy"
    return asked if value == "value" else f"{value!r} by {asked}"


CELLS = [  # consistency, which cell, what it must say, what is done
    ("bounded", 0, "the copy", "copied", "the copy"),
    ("bounded", 0, "else the store", "copied, not listened to", "the store"),
    ("bounded", 1, "the store", "not copied", "the store"),
    ("bounded", 2, "the copy within that time", "copied, cut", "the copy"),
    ("bounded", 2, "then StoreUnavailable", "copied, cut for long", "StoreUnavailable"),
    ("bounded", 2, "StoreUnavailable", "not copied, cut", "StoreUnavailable"),
    ("session", 0, "the copy, as long as somebody listens", "copied", "the copy"),
    ("session", 0, "else, after 5 seconds, the store", "copied, not listened to", "the store"),
    ("session", 1, "the store", "not copied", "the store"),
    ("session", 2, "the copy", "copied, cut for long", "the copy"),
    ("session", 2, "where there is none StoreUnavailable", "not copied, cut", "StoreUnavailable"),
    ("linearizable", 0, "the store", "copied", "the store"),
    ("linearizable", 1, "the store", "not copied", "the store"),
    ("linearizable", 2, "StoreUnavailable", "copied, cut", "StoreUnavailable"),
]


@pytest.mark.parametrize(("consistency", "column", "words", "what", "expected"), CELLS)
def test_each_cell(tiers, monkeypatch, consistency, column, words, what, expected):
    assert words in table()[consistency][column], table()[consistency]
    monkeypatch.setattr(reads, "SESSION_NS", int(BOUND_S * 1e9))  # 5 seconds, but for tests
    store = LocalStore()
    options = {"max_staleness": BOUND_S} if consistency == "bounded" else {}
    tier = listens(tiers(store, consistency=consistency, **options))
    tier["key"] = "value"
    changes = tier.report().changes
    until(lambda: tier.report().changes >= max(1, changes))
    if what.startswith("copied"):
        # with "linearizable", too: what is read is kept, for reads that may use it
        until(lambda: tier.get("key") == "value" and tier.map.get("key") is not None)
        time.sleep(0.05)
    if "not listened to" in what:
        tier._watch.stop()
        time.sleep(BOUND_S + 0.1)
    if "cut" in what:
        store.is_cut = True
    if "for long" in what:
        time.sleep(2 * BOUND_S)
    assert answer(tier, store, "key") == expected


def test_every_cell_is_there():
    assert {(kind, column) for kind, column, *_ in CELLS} == {
        (kind, column) for kind in table() for column in range(3)}
    assert list(table()) == list(reads.CONSISTENCIES)[::-1]
