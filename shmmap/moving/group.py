"""Moving one group: steps 3 to 13 of docs/design/moving.md, whose numbers stand at the lines."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import TYPE_CHECKING

from ..copies.private import Quiet, private_room
from ..copies.snapshots import turn
from ..errors import (
    EntryTooLarge,
    LockTimeout,
    MapCorrupted,
    MapFull,
    MapUnlinked,
    ShmMapError,
)
from ..memory._clock_cy import Clock, monotonic, monotonic_ns
from ..memory.layout import constants
from ..memory.table import UNITS, Table, read_table
from ..memory.words import ShardWords
from ..operations._cut_cy import COMPILED
from ..operations._moves_cy import (
    BUSY,
    ENDED,
    LOST,
    carry_copied,
    copy_moved,
    cut_group,
    exchange_word,
    follow_shard,
    forget_moves,
    forked,
    track_moved,
)
from ..operations.routing import ShardMoved, at_unit
from ..shard._moving_cy import ShardMove, move_bytes_needed
from ..shard._status import CORRUPT, FULL, NO_DEADLINES, TOO_LARGE
from ..system.process import this_process
from ..system.tasks import sleep
from .groups import Group, group_at
from .segments import Segments

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..lifecycle.attachment import Attachment
    from ..operations._takes_cy import Takes
    from ..shard._shard_cy import Shard
    from ..system.segment import Mapping

K = constants()
CHUNK = 2048 if COMPILED else 256  # slots that are carried before others get a turn, at most
CHUNK_BYTES = 1 << 19  # and so many bytes of slots: other threads wait about as long as to copy it
MOST = 128  # entries that are carried again under one hold of a shard
FEW = 32  # that may be left for when all of a group are held
ROUNDS = 50  # of carrying again what changed, at most
PATIENCE_NS = 300_000 if COMPILED else 5_000_000  # for a lock, while others are held
PATIENCE_S = 30.0  # for the lock of a group, and for a moment without many changes
PATIENT = 2  # times that a group is begun before snapshots have to wait for it
YIELD_S = 2.0  # for somebody's snapshot, whose marks this would take
_ATTEMPT_BIT = 1 << 21  # in a token where the thread's number is: no thread has that many
_attempts = itertools.count(1)


class NoRoom(Exception):
    """An entry finds no room in the new shards of a map that evicts none. `error`: to be raised."""

    def __init__(self, error: ShmMapError) -> None:
        super().__init__(str(error))
        self.error = error


class GroupMover:
    """Moves groups of a map, through a handle of its own. `turn(entries)` is called between two
    steps, with how many entries were carried since, and nothing is held."""

    def __init__(self, handle: Takes, attachment: Attachment, turn: Callable[[int], None]) -> None:
        self._handle = handle
        self._attachment = attachment
        self._turn = turn
        self._process = this_process()
        self.segments = Segments(attachment)
        self.longest_hold_s = 0.0
        self.is_hurried = False  # others wait for the end of this group
        self._targets: list[Shard] = []
        self._in_vain = 0  # how often the next group was begun, and not published

    def move_next(self, table: Table) -> bool:
        """Move the group at the cursor; False: begin again, since something has changed.

        Raises:
            NoRoom: the new shards cannot take what it has; nothing has moved.
            SharedMemoryFull, SystemCallError, LockTimeout: it is as it was.
        """
        group = group_at(self._attachment.control, table, table.cursors[-1])
        if self.finish(table, group):
            return True
        shards = self.sources(group)
        if shards is None:  # this process has not looked there since they moved
            self._handle._settled()
            shards = self.sources(group)
        if shards is None:
            return False
        self._yield_to_snapshots(group)
        if not self._publish_in_turn(table, group, shards):
            self._in_vain += 1
            return False
        self._in_vain = 0
        self.finish(table, group)
        return True

    def _publish_in_turn(self, table: Table, group: Group, shards: list[Shard]) -> bool:
        """Publish; where others have ended the tracking again and again, keep snapshots waiting,
        and do not keep to a rate."""
        if self._in_vain < PATIENT:
            return self._publish(table, group, shards, self.new_token())
        try:
            with turn(self._attachment, monotonic_ns() + int(YIELD_S * 1e9), YIELD_S):
                self.is_hurried = True
                return self._publish(table, group, shards, self.new_token())
        except LockTimeout:  # who takes a snapshot is stopped
            if self.is_hurried:
                raise
            return self._publish(table, group, shards, self.new_token())
        finally:
            self.is_hurried = False

    def new_token(self) -> int:
        """Return a token of this process that no attempt had before, and no thread has."""
        mine = self._attachment.worker.fork_page.word & ~K["TOKEN_THREAD_MASK"]
        return mine | _ATTEMPT_BIT | next(_attempts) & _ATTEMPT_BIT - 1

    def sources(self, group: Group) -> list[Shard] | None:
        """Return the old shards as this process has them mapped; None: they have moved."""
        found = []
        for place in group.old:
            unit = place.number * UNITS // place.shape.shards
            shard = at_unit(self._attachment.shards, unit)
            if (shard.generation, shard.number) != (place.generation, place.number):
                return None
            found.append(shard)
        return found

    def _yield_to_snapshots(self, group: Group) -> None:
        """Let who takes a snapshot end it: to track changes now would have it begin again."""
        until = monotonic() + YIELD_S
        worker = self._attachment.worker
        for place in group.old:
            known = self._attachment.places.known.get((place.generation, place.number))
            if known is None:
                continue
            with ShardWords(self._attachment.places.mapping_of(known).buffer) as header:
                while (tracker := header.TRACKING) and not worker.is_dead(tracker) and (
                    monotonic() < until
                ):
                    sleep(0.002)

    # -- 3 to 9 -------------------------------------------------------------------------

    def _publish(
        self, table: Table, group: Group, shards: list[Shard], token: int
    ) -> bool:
        """Make the new shards, and have them take the place of the old; False: begin again."""
        mappings: list[Mapping] = []
        moves: list[ShardMove] = []
        done = False
        try:
            self._check_process()
            attached = self._attachment
            leases = bool(attached.ttl_ns or attached.tombstones_ns) or True in [
                bool(shard.has_deadlines()) for shard in shards
            ]
            for place in group.new:  # 3
                mappings.append(self.segments.make(place, token, leases))
            self._refuse_ended()
            moves += self._make_moves(group, shards, mappings)
            track_moved(self._handle, moves, token)  # 4
            if read_table(self._attachment.control) != table:
                return False  # who took the change back ended the tracking before this one
            done = self._copy(moves, token, group, mappings)
            return done
        except ShardMoved:
            return False
        except FileExistsError:  # a child that a handler forked has made what was to be made next
            return False
        except ValueError:  # pure: memory that a fork has left behind
            self._check_process()
            raise
        finally:
            try:
                # a signal's handler may have raised after the cut: then this is all that there is
                done = done or token in [move.source.moved_to() for move in moves]
                if not done and this_process() == self._process:
                    with suppress(ShmMapError):
                        forget_moves(self._handle, moves, token)
                    self.segments.discard(group.new, token)
            finally:
                for target in self._targets:
                    self._attachment.places.forget_private(target)
                for mapping in mappings:
                    mapping.close()

    def _refuse_ended(self) -> None:
        """Refuse a map that was unlinked: whoever did so may not have seen what was just made."""
        if self._attachment.control.STATE != K["STATE_READY"]:
            self._attachment.refuse_lost()

    def _check_process(self) -> None:
        if this_process() != self._process:
            raise forked(self._attachment.name)

    def _make_moves(
        self, group: Group, shards: list[Shard], mappings: list[Mapping]
    ) -> list[ShardMove]:
        places = self._attachment.places
        targets = self._targets = [
            places.private_shard(mapping, place.shape, place.generation, place.number, Quiet())
            for mapping, place in zip(mappings, group.new, strict=True)
        ]
        moves = []
        for place, shard in zip(group.old, shards, strict=True):
            each = place.shape.shards
            new = group.new[0].shape.shards
            if new >= each:
                count = new // each
                at = place.number * count - group.new[0].number
                mine = targets[at : at + count]
            else:
                mine = [targets[place.number * new // each - group.new[0].number]]
            size = move_bytes_needed(place.shape.slots, place.shape.slot_size)
            room = private_room(self._attachment.name, size, "to move a shard")
            moves.append(ShardMove(shard, room, Clock(0), Quiet(), mine))
        return moves

    def _copy(
        self, moves: list[ShardMove], token: int, group: Group, mappings: list[Mapping]
    ) -> bool:
        """5 to 9: copy, carry, catch up, cut. False: begin again."""
        for move, place in zip(moves, group.old, strict=True):  # 5
            copy_moved(self._handle, move, token)
            chunk = max(32, min(CHUNK, CHUNK_BYTES // place.shape.slot_size))
            first = 1
            while first:
                began, before = first, move.carried
                first = carry_copied(self._handle, move, token, first, chunk)
                if first < 0:
                    # where a snapshot has cleared the marks, what was copied may be anything
                    if follow_shard(self._handle, move, token, 1) == LOST:
                        return False
                    self._see_to(first, move, group, mappings)
                    first = began
                else:
                    self._turn(move.carried - before)
        if not self._catch_up(moves, token, group, mappings):
            return False
        until = monotonic() + PATIENCE_S
        while True:
            status, which, held_ns = cut_group(self._handle, moves, token, PATIENCE_NS)  # 7 to 9
            if status == 1:
                self.longest_hold_s = max(self.longest_hold_s, held_ns / 1e9)
                return True
            if status < 0:
                self._see_to(status, moves[which], group, mappings)
            elif status == BUSY:  # wait for that one alone, as a writer does
                follow_shard(self._handle, moves[which], token, MOST)
            elif status == ENDED:
                self._attachment.refuse_lost()
                return False
            elif status == LOST:
                return False
            if monotonic() > until:
                raise LockTimeout(self._attachment.describe_wait(
                    moves[which].source, int(PATIENCE_S * 1e9)))
            if not self._catch_up(moves, token, group, mappings):
                return False

    def _catch_up(
        self, moves: list[ShardMove], token: int, group: Group, mappings: list[Mapping]
    ) -> bool:
        """6: carry again what has changed, until little is left; False: somebody else tracks."""
        for _ in range(ROUNDS):
            total = 0
            for move in moves:
                changed = follow_shard(self._handle, move, token, MOST)
                if changed == LOST:
                    return False
                if changed < 0:
                    self._see_to(changed, move, group, mappings)
                    total += MOST
                else:
                    total += changed
                    self._turn(changed)
            if total <= FEW:
                break
        return True

    def _see_to(
        self, status: int, move: ShardMove, group: Group, mappings: list[Mapping]
    ) -> None:
        """Do what an entry needs that could not be carried, or say why that cannot be."""
        if status == NO_DEADLINES:
            for place, mapping in zip(group.new, mappings, strict=True):
                areas = place.shape.areas
                self._attachment.store.reserve(
                    self.segments.label(place), mapping, areas.deadlines, areas.end
                )
                with ShardWords(mapping.buffer) as header:
                    header.HAS_DEADLINES = 1
            return
        attachment = self._attachment
        if status in (FULL, TOO_LARGE):
            kind = MapFull if status == FULL else EntryTooLarge
            raise NoRoom(kind(
                f"map {attachment.name!r}: the entries of shard {move.number} do not fit into the "
                f"shards of the new shape ({group.new[0].shape.shards:,} of "
                f"{group.new[0].shape.slots:,} slots of {group.new[0].shape.slot_size} bytes). "
                "The map keeps the shape it had; ask for a larger one"
            ))
        assert status == CORRUPT, status
        raise MapCorrupted(
            f"map {attachment.name!r}, shard {move.number}, slot {move.failed}: this entry is what "
            "no operation leaves, and cannot be moved. m.check() lists what is wrong, m.repair() "
            "keeps what is whole; then resize again"
        )

    # -- 10 to 13 -----------------------------------------------------------------------

    def finish(self, table: Table, group: Group) -> bool:
        """Do what is left for a group of which a shard has moved; False: none has. Whoever comes
        here does the same, as often as need be."""
        attachment = self._attachment
        olds = []
        for place in group.old:
            found = self.segments.attach(place)
            if found is None:
                break
            olds.append((place, *found))
        try:
            if len(olds) < len(group.old):
                attachment.refuse_lost()  # it was unlinked, or replaced
                if read_table(attachment.control) == table:
                    raise MapCorrupted(
                        f"map {attachment.name!r} has lost its segment "
                        f"{self.segments.label(group.old[len(olds)])}"
                    )
                return True  # somebody has done it all
            if not [token for _, _, token in olds if token]:
                return False
            # after the look at MOVED: else it may be of a move back, into a generation that this
            # table does not know, and what leads to its shards would be removed. From here on the
            # table can only go on: what has moved is not taken back
            if read_table(attachment.control) != table:
                return True
            token = self._complete([mapping for _, mapping, _ in olds])
            for place, mapping, _ in olds:  # 10
                self.segments.punch(place, mapping)
            self.segments.publish(group, token)  # 11
        finally:
            for _, mapping, _ in olds:
                mapping.close()
        if not self.segments.are_published(group) and read_table(attachment.control) == table:
            raise MapUnlinked(f"map {attachment.name!r}: its segments are gone")
        after = table.with_moved(group.last)  # 12
        exchange_word(self._handle, K["C_TABLE"], table.word(), after.word())
        if read_table(attachment.control) != table:
            self.segments.remove(group.old)  # 13
        return True

    def _complete(self, olds: list[Mapping]) -> int:
        """See to it that all of a group's old shards say that they have moved; return whose
        segments have the entries."""
        for _ in range(ROUNDS):
            tokens = []
            for mapping in olds:
                with ShardWords(mapping.buffer) as header:
                    tokens.append(header.MOVED)
            if 0 not in tokens:
                return max(tokens)  # who took a lock over may have stored 1
            self._handle._settled()  # takes the locks of those that have not
        raise LockTimeout(f"map {self._attachment.name!r}: a group of its shards has moved in part")
