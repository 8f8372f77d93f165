"""Sleeping until a word of shared memory is changed, or somebody says so: futexes of the kernel.

Nobody relies on being woken: a process may die before it wakes others. So a wait is for a slice of
time, and whoever wakes from it looks for itself. Where the kernel, or a filter of system calls,
does not do it, `is_there` says so, and nothing here is called any more.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import Any

from ..memory._clock_cy import monotonic

_WAIT, _WAKE = 9, 10  # with bits; the time is that of the monotonic clock
ALL = 2**31 - 1
_NUMBERS = {"x86_64": 202, "aarch64": 98}  # of the system call
# elsewhere there is none of these calls, or it has other numbers
_call: Any = getattr(ctypes.CDLL(None, use_errno=True), "syscall", None) if (
    sys.platform.startswith("linux")
) else None


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


if _call is not None:
    _call.restype = ctypes.c_long
    _call.argtypes = (
        ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p,
        ctypes.c_void_p, ctypes.c_uint32,
    )


class _State:
    number = (
        _NUMBERS.get(os.uname().machine, 0) if _call is not None and sys.maxsize > 2**32 else 0
    )


def is_there() -> bool:
    """Tell whether this machine has it, as far as is known."""
    return _State.number != 0 and sys.byteorder == "little"


def address_of(buffer: Any, offset: int) -> int:
    """Return the address of a word of a mapping. If that is gone when it is used, the kernel says
    so, and nothing is touched."""
    return ctypes.addressof(ctypes.c_uint32.from_buffer(buffer, offset))


def wait(address: int, word: int, bits: int, seconds: float) -> bool:
    """Sleep while the low half of a word is that of `word`, until woken for one of `bits`, for so
    long at most; tell whether it slept."""
    until = monotonic() + seconds
    time = _Time(int(until), int(until % 1 * 1e9))
    if _call(
        _State.number, address, _WAIT, word & 0xFFFF_FFFF, ctypes.byref(time), None, bits
    ) == 0:
        return True
    error = ctypes.get_errno()
    if error not in (errno.EAGAIN, errno.ETIMEDOUT, errno.EINTR):
        if error != errno.EFAULT:  # that says of the mapping that it is gone
            _State.number = 0
        return False
    return error != errno.EAGAIN


def wake(address: int, bits: int, at_most: int) -> int:
    """Wake so many of those, in every process, who sleep on a word for one of `bits`; count
    them."""
    return int(_call(_State.number, address, _WAKE, at_most, None, None, bits))
