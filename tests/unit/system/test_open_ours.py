"""`segment.open_ours`, the short way to an object, says no wherever the long way does."""

from __future__ import annotations

import os
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import shmmap
from shmmap.errors import ShmMapError
from shmmap.system import _sigbus_cy, segment

SIZE = 3 * 4096
COMPILED = shmmap.ENGINE == "compiled"
DESCRIPTORS = Path("/proc/self/fd")
pytestmark = pytest.mark.skipif(shmmap.ENGINE == "pure" and not DESCRIPTORS.exists(),
                                reason="there is no /dev/shm")


@pytest.fixture
def label(name: str) -> Iterator[str]:
    label = f"/shmmap.{name}.0123456789abcdef.0.0"
    yield label
    for path in (path_of(label), path_of(label) + ".other"):
        if os.path.isdir(path):
            os.rmdir(path)
        elif os.path.lexists(path):
            os.unlink(path)


def path_of(label: str) -> str:
    return segment.SHM_DIRECTORY + label


def make(path: str, mode: int = 0o600, size: int = SIZE) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.fchmod(descriptor, mode)
    os.write(descriptor, bytes(range(256)))
    os.ftruncate(descriptor, size)
    os.close(descriptor)


def link(path: str) -> None:
    make(path + ".other")
    os.link(path + ".other", path)


def point(path: str) -> None:
    make(path + ".other")
    os.symlink(path + ".other", path)


def listen(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path)


class Case(NamedTuple):
    """What is under the name, and what is asked for."""

    put: Callable[[str], object]
    is_good: bool = False
    mode: int | None = 0o600
    owner: int | None = None


CASES = {
    "as it should be": Case(make, True),
    "readable by others, any mode will do": Case(lambda path: make(path, 0o644), True, None),
    "of the mode that is asked for": Case(lambda path: make(path, 0o660), True, 0o660),
    "narrower": Case(lambda path: make(path, 0o600), True, 0o666),
    "of the owner that is named": Case(make, True, owner=os.geteuid()),
    "of another owner": Case(make, owner=os.geteuid() + 1),
    "readable by others": Case(lambda path: make(path, 0o644)),
    "writable by others": Case(lambda path: make(path, 0o602), mode=None),
    "with a bit of another kind": Case(lambda path: make(path, 0o1600)),
    "of the group": Case(lambda path: make(path, 0o660), mode=0o606),
    "short": Case(lambda path: make(path, size=SIZE - 1)),
    "long": Case(lambda path: make(path, size=SIZE + 4096)),
    "empty": Case(lambda path: make(path, size=0)),
    "missing": Case(lambda path: None),
    "a link to one": Case(point),
    "a link to nothing": Case(lambda path: os.symlink(path + ".other", path)),
    "a hard link": Case(link),
    "a directory": Case(os.mkdir),
    "a FIFO": Case(os.mkfifo),
    "a socket": Case(listen),
}


def outcome(label: str, case: Case) -> tuple[Any, ...]:
    """Attach; return what the caller gets."""
    start = bytearray(16)
    try:
        mapping = segment.attach(label, SIZE, case.mode, case.owner, start)
    except ShmMapError as error:
        return type(error), str(error)
    found = bytes(start), mapping.buffer[:300], mapping.size
    mapping.close()
    return found


@pytest.mark.parametrize("case", CASES)
def test_both_ways_agree(case, label, monkeypatch):
    CASES[case].put(path_of(label))
    before = len(list(DESCRIPTORS.iterdir())), _sigbus_cy.count_regions()[0]
    _, is_good, mode, owner = CASES[case]
    region = segment.open_ours(label, SIZE, mode, owner, bytearray())
    assert (region is not None) is (COMPILED and is_good)
    del region
    short = outcome(label, CASES[case])
    monkeypatch.setattr(segment, "open_ours", lambda *_: None)
    assert outcome(label, CASES[case]) == short
    assert isinstance(short[0], bytes) is is_good
    assert (len(list(DESCRIPTORS.iterdir())), _sigbus_cy.count_regions()[0]) == before


@pytest.mark.skipif(not COMPILED, reason="the pure engine goes the long way")
class TestRegions:
    def test_what_is_mapped_is_the_file(self, label):
        make(path_of(label))
        start = bytearray(8)
        mapping = segment.attach(label, SIZE, 0o600, None, start)
        assert start == bytes(range(8))
        mapping.buffer[0] = b"x"
        assert Path(path_of(label)).read_bytes()[:2] == b"x\1"
        assert f"{label}\n" in Path("/proc/self/maps").read_text()
        mapping.close()
        mapping.close()
        assert label not in Path("/proc/self/maps").read_text()

    def test_it_goes_with_its_last_user(self, label):
        make(path_of(label))
        in_use = _sigbus_cy.count_regions()[0]
        mapping = segment.attach(label, SIZE, 0o600, None)
        assert _sigbus_cy.count_regions()[0] == in_use + 1
        del mapping
        assert _sigbus_cy.count_regions()[0] == in_use
        assert label not in Path("/proc/self/maps").read_text()

    def test_nothing_is_mapped_that_cannot_be_filled_in(self, label):
        make(path_of(label))
        assert segment.open_ours(label, SIZE, 0o600, None, bytearray(SIZE + 1)) is None
        assert label not in Path("/proc/self/maps").read_text()

    def test_the_shards_of_a_map_are_opened_so(self, name, monkeypatch):
        long_way = []
        real = segment.open_checked

        def open_checked(label: str, *more: Any) -> Any:
            long_way.append(label)
            return real(label, *more)

        monkeypatch.setattr(segment, "open_checked", open_checked)
        with shmmap.ShmMap.create(name, "4MB", shards=8) as m:
            mapped = Path("/proc/self/maps").read_text()
            assert mapped.count(f"/dev/shm/sem.shmmap.{name}.") == 9
            assert mapped.count(f"/dev/shm/shmmap.{name}.{m.attachment.nonce:016x}.") == 9
            m.unlink()
        control = segment.control_name(name)
        assert not [one for one in long_way if one != control and not one.endswith(".live")]

    def test_shards_share_the_room_of_their_repairs(self, name):
        with shmmap.ShmMap.create(name, "64MB", shards=16, value_size=8) as m:
            m.close()
            tracemalloc.start()
            again = shmmap.ShmMap.attach(name)
            kept, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            slots = again.attachment.geometry.slots
            again.unlink()
            again.close()
        assert kept < 4 * slots, "a mark for each slot of each of the 16"
