"""Stand-in for the `cython` module where Cython is not installed: only the names in use."""

from __future__ import annotations

from contextlib import nullcontext

compiled = False
nogil = nullcontext()

