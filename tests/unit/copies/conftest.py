"""Which boot of the machine it is."""

from __future__ import annotations

import pytest

from ...support.dump_files import Boots


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch) -> Boots:
    return Boots(monkeypatch)
