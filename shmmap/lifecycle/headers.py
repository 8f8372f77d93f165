"""The header of a shard's segment: as its maker writes it, and compared as it is attached."""

from __future__ import annotations

from operator import itemgetter

from ..memory._clock_cy import Clock
from ..memory.geometry import Geometry
from ..memory.layout import constants
from ..memory.words import ShardWords, Word
from ..shard._expiry_cy import is_base_word, new_base_word

K = constants()
_IDENTITY: tuple[Word, ...] = (  # the words that say which shard it is
    ShardWords.MAGIC, ShardWords.NONCE, ShardWords.GENERATION, ShardWords.NUMBER,
    ShardWords.SLOTS, ShardWords.SLOT_SIZE, ShardWords.BUCKETS, ShardWords.EVICTS,
)
_identity_of = itemgetter(*(word.index for word in _IDENTITY))
_SHARD_MAGIC = K["SHARD_MAGIC"]
CLOCK = Clock()  # tests freeze it


def draft_header(shape: Geometry, nonce: int, number: int, generation: int = 0) -> ShardWords:
    """Return the header of a new, empty shard, in private memory."""
    draft = ShardWords(bytearray(K["S_BYTES_TOTAL"]))
    draft.MAGIC, draft.NONCE, draft.NUMBER = K["SHARD_MAGIC"], nonce, number
    draft.GENERATION = generation
    draft.SLOTS, draft.SLOT_SIZE, draft.BUCKETS = shape.slots, shape.slot_size, shape.buckets
    draft.EVICTS = shape.evicts
    draft.DEADLINE_BASE = new_base_word(CLOCK.now_ns())
    draft.FRESH, draft.FREE_SLOTS = 1, shape.slots
    return draft


def wrong_words(
    header: bytearray, shape: Geometry, nonce: int, number: int, generation: int = 0
) -> list[str]:
    """Name the words by which the header of a segment is not that shard's. One look at all of them:
    a map of many shards is opened by many such looks."""
    words = memoryview(header).cast("Q")
    found = _identity_of(words)
    right = (_SHARD_MAGIC, nonce, generation, number, shape.slots, shape.slot_size, shape.buckets,
             shape.evicts)
    if found == right:
        base = ShardWords.DEADLINE_BASE
        return [] if is_base_word(words[base.index]) else [base.name]
    return [word.name for word, is_, should in zip(_IDENTITY, found, right, strict=True)
            if is_ != should]
