"""Part: what one cache has of a map, beside what others have there."""

from __future__ import annotations

from typing import Any

from shmmap.contrib.alike import LikeDiskcache
from shmmap.contrib.part import Part


def test_keys_that_begin_so_and_are_no_keys_of_the_part(make: Any) -> None:
    m = make()
    others = [("page",), ("page", "a", 1), ("page", "a", "b", "c"), "page", ("pages", "a")]
    for key in others:
        m[key] = "another's"
    part = Part(m, "page")
    assert list(part.keys()) == [] and part.clear() == 0
    assert part.set_many({"a": 1, ("a", 1): 2, None: 3}) == []
    assert set(part.keys()) == {"a", ("a", 1), None} and len(LikeDiskcache(m, "page")) == 3
    assert part.clear() == 3
    assert {*m} == {*others} and set(m.values()) == {"another's"}
