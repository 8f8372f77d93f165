"""The moments at which a mover lingers: a move comes by each of them, and by none afterwards."""

from __future__ import annotations

from shmmap.memory.table import read_table
from shmmap.moving import changing, group, mover
from shmmap.torture import moments
from shmmap.torture.ledger import AIMED, MOMENT, Ledger

PLACES = set(moments.FREE_PLACES + moments.HOLDING_PLACES)


def resize_and_take_back(m):
    def stop(progress):
        if 0 < progress.done < 1:
            raise InterruptedError

    try:
        m.resize(shards=16, progress=stop)
    except InterruptedError:
        other = mover.Mover(m.attachment)
        changing.take_back(other.handle, m.attachment, other.groups)
        other.close()
    m.resize()


def test_a_move_comes_by_every_moment(make, monkeypatch):
    m = make(size="2MB", shards=4)
    m.update({number: number for number in range(100)})
    seen: set[str] = set()
    monkeypatch.setattr(moments.Moments, "_at", lambda _, place: seen.add(place))
    one = moments.Moments(Ledger(1))
    cut = group.cut_group
    with one.watched():
        m.resize(shards=16)
        m.resize(shards=2)
        m.resize(shards=4, size="3MB")
        resize_and_take_back(m)
    assert seen == PLACES
    assert group.cut_group is cut
    seen.clear()
    m.resize(shards=8)
    assert not seen and not read_table(m.attachment.control).is_moving


def test_who_comes_to_a_moment_waits_only_if_it_is_aimed_at():
    ledger = Ledger(1)
    one = moments.Moments(ledger)
    one._at("cutting")
    assert ledger.words[MOMENT] == 0
    one.aim_at("cutting")
    assert ledger.words[AIMED]
    one._at("copied")
    assert one.who_is_there() == 0
    one.aim_at("")
    assert ledger.words[AIMED] == 0


def test_a_dead_mover_is_at_no_moment():
    """Else the parent would aim at it for ever."""
    ledger = Ledger(1)
    one = moments.Moments(ledger)
    ledger.words[MOMENT] = 1234 << 8 | 1
    assert one.who_is_there() == 1234
    one.aim_at("copied")
    assert one.who_is_there() == 0
