"""The least that a map does."""

from __future__ import annotations

import shmmap


def test_set_and_get(make):
    m = make()
    m["a"] = b"x"
    assert m["a"] == b"x"
    assert m.check() == []


def test_a_repr_raises_nothing(make):
    m = make()
    m["a"] = 1
    assert repr(m) == f"<ShmMap {m.name!r}, 1 entries, {shmmap.ENGINE} engine>"
    m.unlink()
    assert repr(m) == f"<ShmMap {m.name!r}, MapUnlinked>"
    m.close()
    assert repr(m) == f"<ShmMap {m.name!r}, closed>"
