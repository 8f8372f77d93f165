"""The right to make namespaces, and a map that processes in several of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ...support.children import Child
from ...support.strangers import enter_own_mounts, libc
from .judging import CLONE_NEWPID, LOCK_TIMEOUT_S


@pytest.fixture(scope="module", autouse=True)
def permitted() -> None:
    """Skip where this user may not make namespaces."""
    child = Child(lambda child: libc.unshare(CLONE_NEWPID) == 0 and enter_own_mounts())
    try:
        if not child.result():
            pytest.skip("needs the right to make pid and mount namespaces (CAP_SYS_ADMIN)")
    finally:
        child.kill()


@pytest.fixture
def shared(make: Callable[..., Any]) -> Any:
    """A map of one shard that all sides use."""
    m = make(shards=1, lock_timeout=LOCK_TIMEOUT_S)
    m["a"] = 1
    return m
