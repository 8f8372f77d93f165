"""A short, seeded run of the fuzz of containers: `python -m tests.fuzz.items` runs it at any
length. And that it finds faults."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time

import pytest

import shmmap

from ..support.programs import command
from . import items

INPUTS = {"compiled": 30_000, "pure": 3_000}[shmmap.ENGINE]


def test_inputs_that_nobody_wrote():
    done = subprocess.run(
        command("tests.fuzz.items", "--inputs", str(INPUTS)), capture_output=True, text=True,
        env={**os.environ, "SHMMAP_ENGINE": shmmap.ENGINE}, timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(r"(\w+) engine, .*: a value ([\d,]+), damage ([\d,]+)", done.stdout)
    assert told and told[1] == shmmap.ENGINE
    values, damaged = (int(number.replace(",", "")) for number in told.groups()[1:])
    assert values + damaged == INPUTS and min(values, damaged) > INPUTS // 10


@pytest.mark.parametrize("fault", ["raises", "crashes", "hangs", "differs"])
def test_a_fault_is_found(monkeypatch, capfd, fault):
    original = items.unpack_items
    calls = []

    def faulty(data: bytes) -> object:
        calls.append(data)
        if len(calls) == 7:
            if fault == "raises":
                raise RecursionError("too deep")
            if fault == "crashes":
                os.kill(os.getpid(), signal.SIGSEGV)
            if fault == "hangs":
                time.sleep(60)
        return [] if fault == "differs" and data == b"\x10\xe0" else original(data)

    monkeypatch.setattr(items, "unpack_items", faulty)
    monkeypatch.setattr(items, "HANG_S", 0.3)
    if fault == "differs":
        monkeypatch.setattr(items, "some_bytes", lambda draw: b"\x10\xb1\xe0")
        monkeypatch.setattr(items, "pack_items", lambda value: b"\x10\xe0")
    found = items.run_all(range(1, 30))
    wrong = {what for what in found if what.startswith("WRONG")}
    assert wrong == {
        "raises": {"WRONG RecursionError"}, "crashes": {"WRONG end: -11"},
        "hangs": {"WRONG end: -9"}, "differs": {"WRONG AssertionError"},
    }[fault]
    assert "seed " in capfd.readouterr().err
