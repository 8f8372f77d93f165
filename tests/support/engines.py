"""Tests that one engine is enough for."""

from __future__ import annotations

import pytest

import shmmap
from shmmap import _engine

BOTH = len(_engine.compiled_modules()) == len(_engine.MODULES)
once = pytest.mark.skipif(
    shmmap.ENGINE == "pure" and BOTH,
    reason="nothing in it depends on the engine: it runs with the compiled one",
)
