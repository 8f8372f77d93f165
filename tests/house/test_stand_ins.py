"""What stands in for a map, or for a part of one, has all that the engine asks of it.

Protocols are compared with what is passed where mypy can see that. It does not look into the
simulated worlds, nor at what they put in the place of a class: there a method that is missing shows
when the first schedule calls it, in a hundred tests at once.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, Protocol

import pytest

import shmmap
from shmmap.lifecycle.sweeper import Sweeper
from shmmap.locks.hosts import Attached, MapHandle
from shmmap.operations.host import Host, Readable
from shmmap.testing import LocalMap

PACKAGE = Path(shmmap.__file__).parent
MARKS = {"_is_protocol", "_is_runtime_protocol", "_abc_impl"}  # of the class
PURE_ONLY = pytest.mark.skipif(shmmap.ENGINE != "pure", reason="the explorer runs the pure engine")


def asked(protocol: type) -> set[str]:
    """List what a protocol asks for, itself and by what it extends."""
    kinds = [kind for kind in protocol.__mro__ if vars(kind).get("_is_protocol")]
    names = {name for kind in kinds for name in (*inspect.get_annotations(kind), *vars(kind))}
    return {name for name in names - set(vars(Protocol)) - MARKS if not name.startswith("__")}


def missing(protocol: type, what: Any) -> list[str]:
    """List what somebody lacks of what a protocol asks for."""
    assert len(asked(protocol)) > 5
    return sorted(name for name in asked(protocol) if not hasattr(what, name))


def test_what_handles_are_bound_to_has_what_they_ask_for(make):
    m = make(size="1MB")
    m.lock("a").locked()
    local = LocalMap("stand-in", size="1MB")
    assert missing(Attached, m.attachment) == missing(Attached, local.attachment) == []
    assert missing(Host, m.attachment.locks) == missing(Host, local.attachment.locks) == []
    assert missing(Readable, m.snapshot()._view.attachment) == []
    assert missing(MapHandle, m) == missing(MapHandle, local) == []
    local.unlink()


def test_a_lack_is_noticed():
    assert "look_for_files" in missing(Host, object())
    assert "_table" in missing(MapHandle, object()) and "shards" in missing(Attached, object())


@PURE_ONLY
def test_the_simulated_sweeper_does_what_the_lifecycle_asks_of_one():
    from ..explore.simulator.creation_world import SimulatedSweeper

    called: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        called |= set(re.findall(r"\bsweeper\.([a-z_]+)\(", path.read_text()))
    called.add("stop")  # of all that runs in the background: see Attachment.leave
    assert {"start", "heed", "look_for_files"} <= called <= set(dir(Sweeper))
    assert called <= set(dir(SimulatedSweeper)) | {"sweep", "sweep_if_due"}
