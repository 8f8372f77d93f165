"""Futexes: who sleeps is woken from another process, in time, and never sleeps for what is gone."""

from __future__ import annotations

import errno
import mmap
import os
import time
from typing import Any

import pytest

from shmmap.system import futex

SLICE_S, SOON_S = 20.0, 10.0


@pytest.fixture
def word() -> Any:
    """A word that forked children share."""
    if not futex.is_there():
        pytest.skip("this machine has none")
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    yield futex.address_of(memory, 64), memory
    memory.close()


def woken_by_a_child(address: int, sleep_bits: int, wake_bits: int, slice_s: float) -> float:
    """Sleep while a child wakes those of some bits until it has woken one; return for how long."""
    pid = os.fork()
    if pid == 0:
        until = time.monotonic() + slice_s
        while not futex.wake(address, wake_bits, 1) and time.monotonic() < until:
            time.sleep(0.001)
        os._exit(0)
    began = time.monotonic()
    assert futex.wait(address, 0, sleep_bits, slice_s)
    os.waitpid(pid, 0)
    return time.monotonic() - began


def test_another_process_wakes(word):
    assert woken_by_a_child(word[0], 0b110, 0b010, SLICE_S) < SOON_S


def test_who_sleeps_for_other_bits_is_not_woken(word):
    assert woken_by_a_child(word[0], 0b110, 0b001, 0.1) >= 0.1


def test_a_word_that_has_changed_is_not_slept_on(word):
    address, memory = word
    memory[64] = 7
    began = time.monotonic()
    assert not futex.wait(address, 6, 1, SLICE_S)
    assert time.monotonic() - began < SOON_S
    assert futex.wait(address, (1 << 40) | 7, 1, 0.01)  # the low half counts


def test_memory_that_is_gone_is_not_slept_on():
    memory = mmap.mmap(-1, 64 * mmap.PAGESIZE)
    address = futex.address_of(memory, 0)
    memory.close()
    assert not futex.wait(address, 0, 1, 0.01) and futex.is_there()


def test_a_kernel_that_refuses_is_not_asked_again(word, monkeypatch):
    """A filter of system calls, say."""
    monkeypatch.setattr(futex._State, "number", futex._State.number)
    monkeypatch.setattr(futex, "_call", lambda *_: -1)
    monkeypatch.setattr(futex.ctypes, "get_errno", lambda: errno.ENOSYS)
    assert not futex.wait(word[0], 0, 1, SLICE_S)
    assert not futex.is_there()
