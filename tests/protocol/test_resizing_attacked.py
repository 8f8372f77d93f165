"""Resizing as its neighbours may meet it: other users, a resize in the middle of another one,
processes that slept through it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import checking, routes
from shmmap.memory.table import read_table
from shmmap.moving import group, mover, segments, watch
from shmmap.moving.resizing import Resize
from shmmap.tools import fsck

from ..support.children import Child
from ..support.strangers import ATTACKER, VICTIM, as_user, enter_own_shm, stranger

SHM = "/dev/shm"
HELD: dict[Any, Any] = {number: bytes([number % 251]) * 50 for number in range(300)}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")


class Enough(Exception):
    """A progress raises it."""


@contextmanager
def told_always() -> Iterator[None]:
    """Have a progress called at every step, not now and then."""
    tell = mover.Mover._tell

    def tell_always(self: Any, is_over: bool) -> None:
        self._noted = 0.0
        tell(self, is_over)

    mover.Mover._tell = tell_always  # type: ignore[method-assign]
    try:
        yield
    finally:
        mover.Mover._tell = tell  # type: ignore[method-assign]


def move_in_part(m: Any, **wished: Any) -> None:
    """Leave a map half-way to another shape."""
    def stop(progress: Any) -> None:
        if 0.2 < progress.done < 1:
            raise Enough

    with told_always(), pytest.raises(Enough):
        m.resize(**wished, progress=stop)


def eventually(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def verify(m: Any) -> None:
    wrong = [key for key, value in HELD.items() if m.get(key) != value]
    assert not wrong, f"{len(wrong)} of {len(HELD)} wrong: {wrong[:3]}"
    assert dict(m) == HELD


# -- one resize in the middle of another -----------------------------------------------------------


def test_a_resize_by_another_handle_in_the_middle_of_one(make, monkeypatch):
    """The outer one reads its old shards without their lock: the inner one must not unmap them."""
    monkeypatch.setattr(mover, "STALE_NS", 0)  # so the inner one takes the lease
    m, other = make(size="4MB", shards=4), make()
    m.update(HELD)
    inner: list[int] = []

    def resize(progress: Any) -> None:
        if progress.entries and not inner:
            inner.append(len(m.attachment.distinct()))
            other.resize(shards=16)
            assert not read_table(m.attachment.control).is_moving

    with told_always():
        m.resize(shards=16, progress=resize)
    assert inner == [4]
    verify(m)
    verify(other)
    m.resize()
    assert len(m.attachment.places.all()) == 16 + 1
    assert m.check() == []


def test_old_shards_stay_while_another_handle_is_in_the_middle_of_something(make):
    """An operation of one handle calls what resizes by another one, in the same task."""
    m, other = make(size="4MB", shards=4), make()
    m.update(HELD)
    with m._inside():
        other.resize(shards=8)
        assert len(m.attachment.places.all()) == 4 + 8 + 1  # and the lock shard
    assert eventually(lambda: routes.let_go(m.attachment))
    verify(m)


def test_a_handle_that_is_being_opened_does_not_stop_it(make):
    """Another thread is between its place in the list of handles and all else that it has."""
    m = make(size="4MB", shards=4)
    m.update(HELD)
    blank = shmmap.ShmMap.__new__(shmmap.ShmMap)
    m.attachment.handles[-1] = blank
    m.resize(shards=8)
    assert eventually(lambda: len(m.attachment.places.all()) == 8 + 1)
    del m.attachment.handles[-1]
    verify(m)


def test_a_child_that_is_forked_in_the_middle(make):
    """It does not move for its parent, and says why; the map is as ever, here and there."""
    m = make(size="4MB", shards=4)
    m.update(HELD)
    forked: list[int] = []
    parent = os.getpid()

    def fork(progress: Any) -> None:
        if progress.entries and not forked:
            forked.append(os.fork())

    code = 1
    try:
        with told_always():
            m.resize(shards=16, progress=fork)
    except shmmap.Reentered as error:
        code = 2
        if os.getpid() != parent and "was forked in the middle" in str(error):
            verify(m)
            code = 0
    finally:
        if os.getpid() != parent:
            os._exit(code)
    assert os.waitpid(forked[0], 0)[1] == 0
    verify(m)


@pytest.mark.parametrize("where", ["make", "track_moved", "copy_moved", "carry_copied",
                                   "follow_shard", "cut_group"])
def test_a_handler_forks_in_the_middle_and_both_go_on(make, monkeypatch, where):
    """The child may end up anywhere in what its parent goes on with: it touches nothing of that."""
    m = make(size="2MB", shards=1)
    m.update(HELD)
    parent, children = os.getpid(), []

    def fork(*_: Any) -> None:
        children.append(os.fork())
        if not children[-1]:
            time.sleep(0.5)  # by then the parent is further

    def stepped(*arguments: Any) -> Any:
        if not children:
            signal.raise_signal(signal.SIGUSR1)
        elif os.getpid() == parent and (key := next(keys, None)) is not None:
            changed[key] = m[key] = b"changed"
            if len(changed) % 20 == 0:
                time.sleep(0.1)
        return step(*arguments)

    changed: dict[Any, Any] = {}
    keys = iter(HELD)
    owner = segments.Segments if where == "make" else group
    step = getattr(owner, where)
    monkeypatch.setattr(owner, where, stepped)
    monkeypatch.setattr(group, "CHUNK", 50)
    former = signal.signal(signal.SIGUSR1, fork)
    code, said = 0, ""
    try:
        m.resize(size="3MB")
    except BaseException as error:
        code, said = 1, f"{type(error).__name__}: {error}"
    finally:
        signal.signal(signal.SIGUSR1, former)
        if os.getpid() != parent:
            if said and "was forked in the middle" not in said:  # "": it was done already
                print(said, file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
    assert (code, said) == (0, "")
    _, status = os.waitpid(children[0], 0)
    assert status == 0
    assert dict(m) == HELD | changed
    assert m.check() == []


def test_the_repr_of_a_resize_of_a_closed_map(make):
    m = make(shards=2)
    resize = m.resize(shards=4)
    assert repr(resize) == "<Resize: 100% in 4 shards>"
    m.close()
    assert repr(resize) == "<Resize: MapClosed>"


# -- no room -----------------------------------------------------------------------------------


@as_root
@pytest.mark.skipif(shmmap.ENGINE == "pure", reason="there a read of what has no page is the end")
def test_a_late_reader_where_dev_shm_is_full(name, start):
    """The pages of what has moved are given back. A read there needs one again, and there is none:
    that is no file cut off, and the map goes on."""
    def work(child: Child) -> Any:
        if not enter_own_shm("10m"):
            return "not permitted"
        m = shmmap.ShmMap(name, size="4MB", shards=4, sweep_interval=None)
        late = shmmap.ShmMap(name, near=len(HELD))
        m.update(HELD)
        verify(late)
        late_too = os.fork()  # an attachment of its own, whose routes stay
        if not late_too:
            try:
                os.kill(os.getpid(), signal.SIGSTOP)
                verify(m)
                verify(late)
                assert m.attachment.worker.fork_page.is_cut is False
                os._exit(0)
            finally:
                os._exit(1)
        os.waitpid(late_too, os.WUNTRACED)
        move_in_part(m, shards=16)
        with open(f"{SHM}/hog", "wb", buffering=0) as hog, suppress(OSError):
            while True:
                hog.write(bytes(4096))
        verify(m)
        verify(late)
        assert repr(m).startswith(f"<ShmMap '{name}', {len(HELD)} entries")
        os.kill(late_too, signal.SIGCONT)
        assert os.waitpid(late_too, 0)[1] == 0
        with pytest.raises(shmmap.SharedMemoryFull):
            m.resize()
        os.unlink(f"{SHM}/hog")
        m.resize()
        verify(m)
        assert m.check() == [] and not m.attachment.worker.fork_page.is_cut
        m.unlink()
        return "whole"

    result = start(work).end()
    if result == "not permitted":
        pytest.skip("needs the right to mount a tmpfs (CAP_SYS_ADMIN)")
    assert result == "whole"


def test_a_change_that_cannot_be_taken_back_goes_on(make, monkeypatch):
    """What has come since has room in the new shards only."""
    monkeypatch.setattr(watch, "look_after", lambda _: None)  # nobody moves but who is told to
    m = make(capacity=len(HELD), shards=4)
    m.update(HELD)
    move_in_part(m, shards=16, capacity=20 * len(HELD))
    held = dict(HELD)
    for number in range(4000):
        with suppress(shmmap.MapFull):  # where it has not moved yet
            m["more", number] = held["more", number] = bytes(50)
    with pytest.raises(shmmap.MapFull, match=r"cannot go back: its .* Nothing was changed"):
        Resize(m._in_one_map).cancel()
    assert len(read_table(m.attachment.control).rows) == 2 and dict(m) == held
    m.resize()
    assert len(m.attachment.distinct()) == 16 and dict(m) == held and m.check() == []


@pytest.mark.parametrize("way", ["check", "repair", "fsck"])
def test_what_takes_longer_than_a_move_comes_to_its_end(make, start, name, monkeypatch, way):
    """Another process moves all of it again and again: only what has moved is looked at again."""
    m = make(size="4MB", shards=8)
    m.update(HELD)

    def storm(child: Child) -> None:
        with shmmap.ShmMap.attach(name) as mine:
            for turn in range(10_000):
                mine.resize(shards=(16, 8)[turn % 2])
                if turn == 0:
                    child.tell("moves")
                if "enough" in mine:
                    return

    looked: list[Any] = []
    inner = checking.copy_shard

    def copy_slowly(handle: Any, shard: Any, length: int) -> Any:
        looked.append(shard)
        assert len(looked) < 300, "it begins again and again"
        copied = inner(handle, shard, length)
        time.sleep(0.02)  # after it: what is looked at next has moved meanwhile
        return copied

    child = start(storm)
    child.hear()
    monkeypatch.setattr(checking, "copy_shard", copy_slowly)
    try:
        if way == "check":
            assert m.check() == []
        elif way == "repair":
            m.repair()
        else:
            assert fsck.check_shards(m, False, False) == fsck.CLEAN
    finally:
        monkeypatch.undo()
        m["enough"] = 1
    child.result()
    del m["enough"]
    verify(m)


# -- who slept through it --------------------------------------------------------------------------


def test_who_slept_through_a_move_unmaps_what_was(make, start, name):
    m = make(size="4MB", shards=4)
    m.update(HELD)
    for shards in (16, 2):
        def resize(child: Any, wished: int = shards) -> None:
            with shmmap.ShmMap.attach(name) as mine:
                mine.resize(shards=wished)

        start(resize).end(30)
        verify(m)
        assert eventually(lambda wished=shards: len(m.attachment.places.all()) == wished + 1)


# -- other users -----------------------------------------------------------------------------------


@as_root
@pytest.mark.parametrize("uid", [ATTACKER, 0])
def test_nobody_moves_another_users_map(name, uid):
    """Its segments would be another user's, and refused by all. Whoever may read goes on."""
    def begin() -> None:
        with shmmap.ShmMap(name, size="4MB", shards=4, mode=0o666, sweep_interval=None) as m:
            m.update(HELD)
            move_in_part(m, shards=16)

    def meddle() -> None:
        m = shmmap.ShmMap(name, mode=0o666, owner_uid=VICTIM)
        table = read_table(m.attachment.control)
        assert table.is_moving
        verify(m)
        resize = Resize(m._in_one_map)
        for attempt in (
            lambda: m.resize(shards=2), m.resize, lambda: m.resize(wait=False),
            lambda: m.resize(rate=5), resize.cancel,
        ):
            with pytest.raises(shmmap.ConfigMismatch, match=f"belongs to uid {VICTIM}"):
                attempt()
        m[0] = HELD[0]
        verify(m)
        assert read_table(m.attachment.control) == table
        m.close()

    def finish() -> None:
        with shmmap.ShmMap(name, mode=0o666) as m:
            verify(m)
            m.resize()
            verify(m)

    try:
        as_user(VICTIM, begin)
        as_user(uid, meddle)
        files = [f"{SHM}/{entry}" for entry in os.listdir(SHM) if f"shmmap.{name}." in entry]
        assert files and {os.stat(file).st_uid for file in files} == {VICTIM}
        as_user(VICTIM, finish)
    finally:
        as_user(VICTIM, lambda: shmmap.unlink(name, missing_ok=True))


@as_root
def test_another_users_process_unmaps_what_was(make, name):
    """It cannot move the map. It comes along half-way, and lets the old shards go in the end."""
    m = make(size="4MB", shards=4, mode=0o666)
    m.update(HELD)

    def read(child: Child) -> None:
        mine = shmmap.ShmMap(name, owner_uid=0, mode=0o666, near=50)
        verify(mine)
        child.tell("opened")
        assert child.hear() == "half-way"
        verify(mine)
        child.tell("read")
        assert child.hear() == "moved"
        verify(mine)
        assert eventually(lambda: len(mine.attachment.places.all()) == 16 + 1)
        verify(mine)
        mine.close()

    m.close()  # else the fork would have it open as this user
    reader = stranger(ATTACKER, read)
    try:
        assert reader.hear() == "opened"
        with shmmap.ShmMap(name, mode=0o666) as m:
            move_in_part(m, shards=16)
            reader.tell("half-way")
            assert reader.hear() == "read"
            m.resize()
        reader.tell("moved")
        assert reader.hear() is None
    finally:
        reader.kill()
        shmmap.unlink(name, missing_ok=True)


@as_root
def test_a_process_that_becomes_another_user_goes_on(name, start):
    """It knows whose map it opened: the new segments are that user's."""
    def change(child: Any) -> None:
        m = shmmap.ShmMap(name, size="4MB", shards=4, mode=0o666, sweep_interval=None)
        m.update(HELD)
        os.setuid(ATTACKER)
        child.tell("another user")
        assert child.hear() == "moved"
        verify(m)
        m["late"] = 1
        with pytest.raises(shmmap.ConfigMismatch, match="belongs to uid 0"):
            m.resize(shards=2)
        child.tell("read")

    changed = start(change)
    try:
        assert changed.hear() == "another user"
        with shmmap.ShmMap(name, mode=0o666) as m:
            m.resize(shards=16)
            changed.tell("moved")
            assert changed.hear() == "read"
            assert m["late"] == 1
    finally:
        shmmap.unlink(name, missing_ok=True)


@as_root
@pytest.mark.parametrize("is_early", [True, False], ids=["early", "late"])
@pytest.mark.parametrize("kind", ["file", "link", "directory"])
@pytest.mark.parametrize("prefix", ["sem.", ""], ids=["semaphore", "segment"])
def test_names_that_a_stranger_has_taken(name, kind, prefix, is_early):
    """The nonce can be seen, so the names of shards to come can be foretold. What is put there must
    not cost the map its entries: nothing is published, nothing followed, nothing removed."""
    precious = f"{SHM}/{name}-precious"

    def plant(paths: list[str]) -> None:
        for path in paths:
            if kind == "link":
                os.symlink(precious, path)
            elif kind == "directory":
                os.mkdir(path)
            else:
                with open(path, "xb") as file:
                    file.write(bytes(32))

    def work(child: Child) -> None:
        with open(precious, "x") as file:
            file.write("precious")
        os.chmod(precious, 0o600)
        m = shmmap.ShmMap(name, size="4MB", shards=4, sweep_interval=None)
        m.update(HELD)
        made = segments.Segments.make

        def make_late(self: Any, *arguments: Any) -> Any:
            segments.Segments.make = made  # type: ignore[method-assign]
            child.tell(m.attachment.nonce)
            assert child.hear() == "planted"
            return made(self, *arguments)

        if is_early:
            child.tell(m.attachment.nonce)
            assert child.hear() == "planted"
        else:
            segments.Segments.make = make_late  # type: ignore[method-assign]
        with pytest.raises(shmmap.ConfigMismatch, match=f"uid {ATTACKER} has put it"):
            m.resize(shards=8)
        assert read_table(m.attachment.control).is_moving is not is_early
        verify(m)
        m[0] = HELD[0]
        if not is_early:
            with pytest.raises(shmmap.ConfigMismatch, match="Nothing is lost"):
                m.resize()
            Resize(m._in_one_map).cancel()
            assert not read_table(m.attachment.control).is_moving
            m.resize(shards=16)  # its names are other ones
        verify(m)
        assert m.check() == []
        with open(precious) as file:
            assert file.read() == "precious"

    victim = stranger(VICTIM, work)
    paths: list[str] = []
    try:
        nonce = victim.hear()
        paths += [f"{SHM}/{prefix}shmmap.{name}.{nonce:016x}.1.{number}" for number in range(8)]
        as_user(ATTACKER, lambda: plant(paths))
        victim.tell("planted")
        assert victim.hear() is None
        assert all(os.lstat(path).st_uid == ATTACKER for path in paths)
    finally:
        victim.kill()
        for path in paths:
            if os.path.lexists(path):
                (os.rmdir if kind == "directory" else os.unlink)(path)
        os.unlink(precious)
        shmmap.unlink(name, missing_ok=True)
