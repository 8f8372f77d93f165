"""Faults planted in how shards move: most are those of the table in docs/design/moving.md."""

from __future__ import annotations

from shmmap.lifecycle import routes
from shmmap.moving import changing, cleaning, group, segments
from shmmap.moving.group import GroupMover
from shmmap.moving.segments import Segments
from shmmap.operations import _cut_cy, _listing_cy
from shmmap.operations._holding_cy import Holding
from shmmap.operations._reads_cy import Reads
from shmmap.operations._takes_cy import Takes
from shmmap.shard._moving_cy import ShardMove
from shmmap.shard._shadow_cy import ShardCopy

from ..scenarios.moves import (
    BACK,
    CLEAR,
    GO_ON,
    JOIN,
    LEN,
    MOVE,
    OTHER,
    POPITEM,
    SPLIT,
    TWO_GROUPS,
)
from ..scenarios.moving_deaths import FILLED, HALF_BACK, SURVIVOR
from ..scenarios.scenario import LEASED, LONG, PASS, SHORT, SNAP, A, B, Scenario
from .mutant import Mutant, Patch, change, drop

GET_A, GET_B, BEGIN = ("get", "a"), ("get", "b"), ("begin", 0)
BEGUN = (A, B, BEGIN)
SHARED_NAMES: tuple[Patch, ...] = (
    change(segments, "private_label", "{token:016x}", "{0:016x}"),
    change(routes, "private_label", "{token:016x}", "{0:016x}"),
    change(Segments, "make", "mapping = store.create(",
           "store.remove(private)\n    mapping = store.create("),
)


def before_fetch(condition: str) -> Patch:
    """Have a read look at MOVED after some tries only."""
    return change(Reads, "fetch", "if load(shard.mem, S_MOVED):\n                raw = None",
                  f"if {condition} and load(shard.mem, S_MOVED):\n                raw = None")


MOVING = (
    # -- who reads
    Mutant("a hit does not look at MOVED", (
        before_fetch("(raw is None or raw is MISSING)"),
    ), "split, read and written", "every 1"),
    Mutant("a miss does not look at MOVED", (
        before_fetch("raw is not MISSING"),
    ), "split, a read", "every 1"),
    Mutant("a read looks at MOVED before it reads, not after", (
        change(Reads, "fetch", "raw = self.try_fetch(shard, key, found, wants_value)\n",
               "moved = load(shard.mem, S_MOVED)\n"
               "            raw = self.try_fetch(shard, key, found, wants_value)\n",
               "if load(shard.mem, S_MOVED):\n                raw = None",
               "if moved:\n                raw = None"),
    ), "split, read and written", "every 2", 20000),
    Mutant("a read with the lock does not look at MOVED", (
        change(Reads, "fetch_locked", "if load(shard.mem, S_MOVED):\n                    self",
               "if False:\n                    self"),
    ), Scenario("a read waits for the lock as the shard moves", (
        (GET_A,), (A,), (MOVE,),
    ), (A, B), **OTHER), "random", 20000),
    Mutant("a pop does not look at MOVED", (
        change(Takes, "peek", "if load(shard.mem, S_MOVED):", "if False:"),
    ), "split, a pop", "every 1"),
    Mutant("a near cache does not look at MOVED", (
        drop(Reads, "is_current", "load(shard.mem, S_MOVED) or "),
    ), Scenario("what is held is written as its mover has died", (
        (GO_ON,), (A,), (("near", "a"), B, ("near", "a")),
    ), BEGUN, **OTHER), "dies MOVED every 1"),
    Mutant("a listing does not look at MOVED", (
        change(_listing_cy, "list_part", "if load(shard.mem, S_MOVED):", "if False:"),
    ), "split, a listing", "every 1"),
    Mutant("a count does not look at MOVED", (
        change(Takes, "count_up_to", "self.is_settled() and self.shards is shards", "True"),
    ), "split, a count", "every 1"),
    Mutant("that nothing is there is said without a look at MOVED", (
        change(Takes, "popitem", "self.is_settled() and self.shards is shards", "True"),
    ), "split, the last entry is taken", "every 1"),
    # -- who writes
    Mutant("a writer does not look at MOVED", (
        change(Holding, "hold", "if load(shard.mem, S_MOVED):", "if False:"),
    ), "split, a write", "every 1"),
    Mutant("all routes of a group are renewed at once", (
        change(routes, "_put", "narrow = shard if shard.shard_bits > former.shard_bits else former",
               "narrow = shard", "if routes[at] is former:", "if True:"),
    ), Scenario("one is read, the other written, as they are joined", (
        (GET_A, B), (GET_B, GET_B), (MOVE,),
    ), (A, B), **JOIN), "every 2", 20000),
    Mutant("routes are thinned out to what their shards need", (
        change(routes, "_put", "while len(routes) > 1 and routes[::2] == routes[1::2]:",
               "while len(routes) >> max([one.shard_bits for one in routes]) > 1:"),
    ), Scenario("half a change is taken back", ((("cancel", ""),), SURVIVOR), (
        *FILLED, ("move_one", "")), **TWO_GROUPS), "deaths"),
    Mutant("any entry is taken from a shard that is not whole", (
        change(Takes, "popitem", "not self.is_whole(shard)", "False"),
    ), Scenario("one is read, any taken, as they are joined", (
        (MOVE,), (GET_A, POPITEM, POPITEM, GET_B),
    ), (A, B), **JOIN), "every 1"),
    Mutant("a shard that is not whole is cleared", (
        change(Takes, "clear", "not self.is_whole(shard)", "False"),
    ), Scenario("one is read, all removed, as they are joined", (
        (MOVE,), (GET_A, CLEAR, GET_B),
    ), (A, B), **JOIN), "every 1"),
    Mutant("what is in a shard that is not whole is counted", (
        change(Holding, "is_settled", "not self.is_whole(shard)", "False"),
    ), Scenario("one is read, all counted, as they are joined", (
        (MOVE,), (GET_A, LEN),
    ), (A, B), **JOIN), "every 1"),
    # -- what is copied
    Mutant("what was deleted meanwhile stays copied", (
        drop(ShardMove, "forget", "        target.remove_slot(there, hash)\n"),
    ), "split, a deletion", "every 1"),
    Mutant("what is copied is carried though it has changed", (
        change(ShardMove, "carry_all", "if self.is_marked(slot):", "if False:"),
    ), Scenario("a slot is used again as it is copied", (
        (("delete", "a"), ("set", "c", LONG), ("get", "b")), (MOVE,),
    ), (A, B), **OTHER), "every 2"),
    Mutant("deadlines are not carried", (
        change(ShardMove, "carry", "else self.expiry.deadline(slot))", "else 0)"),
    ), "split, it expires", "every 1"),
    Mutant("what has expired is carried, and takes the room of others", (
        change(ShardMove, "carry", "if deadline <= self.source.clock.now() and (",
               "if False and ("),
    ), Scenario("there is room without what has expired", (
        (PASS, MOVE, GET_B),
    ), (LEASED, ("set", "b", SHORT)), never_full=True, shapes=((1, 2, 40),)), "every 1"),
    Mutant("an entry gets a new version as it moves", (
        drop(ShardMove, "carry", "    store(target.mem, S_STAMP, version - 2)\n"),
    ), "split, a version that stays", "every 1"),
    Mutant("STAMP is only that of the entries", (
        change(ShardMove, "settle_stamps", "if load(target.mem, S_STAMP) < stamp:", "if False:"),
    ), "split, a version of what was deleted", "every 1"),
    Mutant("one new shard gets no STAMP", (
        change(ShardMove, "settle_stamps", "range(one << self.bits)", "range(1)"),
    ), Scenario("a version of what was deleted, in the second shard", (
        (B, ("get_versioned", "b"), ("delete", "b")), (MOVE, B, ("get_versioned", "b")),
    ), (A, B), **SPLIT), "every 1"),
    Mutant("STAMP is that of the last of those that become one", (
        change(ShardMove, "settle_stamps", "if load(target.mem, S_STAMP) < stamp:", "if True:"),
    ), "join, a version of what was deleted", "every 1"),
    # -- the cut
    Mutant("MOVED comes before the last entries", (
        change(group, "cut_group", "                    changed = move.follow(1 << 62)\n",
               "                    store_moved(shards, me)\n"
               "                    changed = move.follow(1 << 62)\n"),
    ), Scenario("written before the cut, read as its mover has died", (
        (GO_ON,), (A,), (GET_A,),
    ), BEGUN, **OTHER), "dies MOVED every 1"),
    Mutant("TRACKING is not verified at the cut", (
        change(group, "cut_group", "not move.is_tracked(me)", "False"),
    ), Scenario("a snapshot before the cut, then written", (
        (GO_ON,), (SNAP,), (A,),
    ), BEGUN, **OTHER), "every 1"),
    Mutant("TRACKING is a flag, no token", (
        change(ShardCopy, "is_tracked", "load(self.source.mem, S_TRACKING) == me",
               "load(self.source.mem, S_TRACKING) != 0"),
    ), Scenario("a snapshot begins, and dies, after a write", (
        (SNAP,), (GO_ON,), (A,),
    ), BEGUN, **OTHER), "dies TRACKING every 1"),
    Mutant("the locks are freed before the last MOVED", (
        change(group, "cut_group", "store_moved(shards, me)", "store_moved(shards[:1], me)",
               "held = clock_ns(1) - began",
               "held = clock_ns(1) - began\n"
               "            if status == FOUND:\n"
               "                store_moved(shards[1:], me)"),
        change(Holding, "let_go", "not self.see_group(shard)", "False"),
    ), Scenario("the second of two is written as they are joined", (
        (B, GET_B), (GO_ON, GET_B),
    ), BEGUN, **JOIN), "every 1"),
    Mutant("the hole comes before MOVED", (
        change(GroupMover, "_copy", "        status, which, held_ns = cut_group(",
               "        for place, move in zip(group.old, moves):\n"
               "            self.segments.punch(place, self._attachment.places.mapping_of("
               "move.source))\n"
               "        status, which, held_ns = cut_group("),
    ), "split, a read", "every 1"),
    Mutant("the hole takes the header with it", (
        change(Segments, "punch", "give_up_pages(1,", "give_up_pages(0,"),
    ), "split, a read", "every 1"),
    Mutant("who takes over a lock of a joining does not look at the others", (
        change(Holding, "see_group", "if last == 0 or last > 2 or shards == 0 or shards >= own or "
               "own > count:", "if True:"),
    ), Scenario("the second of two is written as their mover has died", (
        (GO_ON,), (B, GET_B), (GET_A, GET_B),
    ), BEGUN, **JOIN), "dies MOVED every 1"),
    Mutant("who takes over a lock of a joining does not say whose the new shards are", (
        change(Holding, "see_group", "publish(shard.mem, S_MOVED, other.mover)",
               "publish(shard.mem, S_MOVED, 1)"),
    ), Scenario("the second of two is written, then read by another, as their mover has died", (
        (GO_ON,), (GET_A, B), (GET_B,),
    ), BEGUN, **JOIN), "dies MOVED every 1"),
    Mutant("who helps does not see to every MOVED", (
        change(GroupMover, "_complete", "if 0 not in tokens:", "if True:"),
    ), Scenario("the second of two is read as another mover helps", (
        (GO_ON,), (GO_ON,), (GET_B, GET_B),
    ), BEGUN, **JOIN), "every 1"),
    # -- segments and their names
    Mutant("two movers share segments", SHARED_NAMES, "other size, two movers", "every 2"),
    Mutant("a stopped mover's segments are removed", (
        change(cleaning, "_is_left",
               "token == 0 or attachment.worker.is_dead(token)", "True"),
    ), "split, two movers", "every 1"),
    Mutant("a dead mover's segments stay", (
        change(cleaning, "_is_left", "if last <= table.cursors[-1] or not table.is_moving:\n"
               "            return True", "if False:\n            return True",
               "return not _was_published(segments, group.old, token)", "return False"),
    ), Scenario("a mover has died", ((GO_ON,), (GET_A, GO_ON)), BEGUN, **SPLIT), "deaths"),
    Mutant("what is published is judged before its mover's death", (
        change(cleaning, "_is_left", "token == 0 or attachment.worker.is_dead(token)", "True",
               "return not _was_published(segments, group.old, token)",
               "return not _was_published(segments, group.old, token) and "
               "attachment.worker.is_dead(token)"),
    ), Scenario("a mover dies as another one cleans up", (
        (GO_ON,), (GO_ON,),
    ), BEGUN, **SPLIT), "dies MOVED every 2", 20000),
    Mutant("what a dead mover published is removed", (
        change(cleaning, "_was_published", "moved == token", "False"),
    ), Scenario("a mover has died, another cleans up", (
        (GO_ON,), (GO_ON, GET_A),
    ), BEGUN, **SPLIT), "deaths"),
    Mutant("the table goes on before the new shards have their names", (
        change(GroupMover, "finish", "        self.segments.publish(group, token)\n", "",
               "    if not self.segments.are_published(group) and", "    if False and",
               "    if read_table(attachment.control) != table:\n        self.segments.remove(",
               "    self.segments.publish(group, token)\n"
               "    if read_table(attachment.control) != table:\n        self.segments.remove("),
    ), Scenario("a mover has died at the end", ((GO_ON,), (GET_A, GO_ON)), BEGUN, **SPLIT),
           "deaths"),
    Mutant("the old is removed before the table goes on", (
        change(GroupMover, "finish", "    exchange_word(",
               "    self.segments.remove(group.old)\n    exchange_word("),
    ), Scenario("a mover has died before the end", ((GO_ON,), (GET_A, GO_ON)), BEGUN, **SPLIT),
           "deaths"),
    Mutant("the table is stored, not exchanged", (
        change(group, "exchange_word",
               "return compare_exchange(handle.control, offset, expected, wanted) != 0",
               "publish(handle.control, offset, wanted)\n        return True"),
    ), Scenario("a mover sleeps while others move there and back", (
        (GO_ON, GET_A, BACK), (GO_ON, A),
    ), BEGUN, **SPLIT), "every 1"),
    # -- unmapping
    Mutant("a near cache keeps what is unmapped", (
        change(routes, "let_go", "if handle.near is not None:", "if False:"),
    ), "split, all are counted, then what is held is unmapped", "every 1"),
    Mutant("what another thread is in the middle of is unmapped", (
        change(routes, "let_go", "if sum([others for others, _ in under_way]) or "
               "sum([mine for _, mine in under_way]) > own:", "if False:"),
    ), "split, a thread reads what the mover's unmaps", "every 1"),
    # -- taking back
    Mutant("a change that was taken back is gone on with", (
        change(GroupMover, "_publish", "if read_table(self._attachment.control) != table:",
               "if False:"),
    ), HALF_BACK, "beside TABLE"),
    Mutant("who takes back a change does not end the tracking", (
        change(changing, "_forget_tracking", "header.TRACKING = 0", "pass"),
    ), HALF_BACK, "beside TABLE"),
    Mutant("who takes back a change ends the tracking once that is said", (
        change(changing, "_exchange",
               "        _forget_tracking(attachment, shards)\n", "",
               "        raise _Done", "        _forget_tracking(attachment, shards)\n"
               "        raise _Done"),
    ), HALF_BACK, "beside TABLE"),
    Mutant("who helps takes a move back for the one that it knows", (
        change(GroupMover, "finish", "if read_table(attachment.control) != table:\n"
               "            return True\n", "pass\n"),
    ), HALF_BACK, "beside 7"),
    Mutant("who takes back a change holds nothing", (
        change(changing, "_exchange", "    if not table.is_moving:\n", "    if True:\n"),
    ), "split, taken back", "every 2"),
    Mutant("what has moved is taken back", (
        change(_cut_cy, "hold_each", " or load(shard.mem, S_MOVED)", ""),
    ), Scenario("taken back as it moves", ((("cancel", ""),), (GO_ON,)), BEGUN, **OTHER),
           "every 2", 20000),
)
