"""Permission bits: each class of users gets both, or none; all else is refused with a reason."""

from __future__ import annotations

import re

import pytest

import shmmap
from shmmap.lifecycle.parameters import check_mode

from ...support.leftovers import objects_of

CAN_WORK = (0o600, 0o606, 0o660, 0o666)


def test_every_mode():
    for mode in range(0o10000):
        if mode in CAN_WORK:
            assert check_mode(mode) == mode
        else:
            with pytest.raises(ValueError, match=f"mode=0o{mode:o} "):
                check_mode(mode)
    for nonsense in (-1, 0o600 - 0o1000, 1 << 70, 10**4400):
        with pytest.raises(ValueError, match="mode="):
            check_mode(nonsense)
    for nonsense in (True, 6.0, "600", None, b"\x01"):
        with pytest.raises(TypeError, match="mode must be permission bits"):
            check_mode(nonsense)


@pytest.mark.parametrize(("mode", "who", "both", "none"), [
    (0o640, "group", 0o660, 0o600), (0o604, "others", 0o606, 0o600),
    (0o644, "group and others", 0o666, 0o600), (0o622, "group and others", 0o666, 0o600),
    (0o664, "others", 0o666, 0o660), (0o646, "group", 0o666, 0o606),
])
def test_it_says_why_and_what_to_say(name, mode, who, both, none):
    for way in (shmmap.ShmMap, shmmap.ShmMap.create, shmmap.ShmMap.attach):
        with pytest.raises(ValueError) as caught:
            way(name, mode=mode)
        text = str(caught.value)
        assert f"gives {who} half" in text and "must write, too" in text
        assert re.findall(r"mode=0o(\d+)", text)[1:] == [f"{both:o}", f"{none:o}"]
    assert not objects_of(name)


def test_a_negative_mode_is_shown_as_it_was_given(name):
    with pytest.raises(ValueError, match="mode=-1 must"):
        shmmap.ShmMap(name, "1MB", mode=-1)
