"""The numbers of the memory layout that are no offsets: limits, kinds, shifts, masks."""

from __future__ import annotations

LIMITS = {
    "CONTROL_MAGIC": 0x4C52_5443_504D_4853,  # "SHMPCTRL" in a little-endian dump
    "SHARD_MAGIC": 0x4452_4853_504D_4853,  # "SHMPSHRD"
    "ENGINE_COMPILED": 1, "ENGINE_PURE": 2,
    "STATE_MAKING": 0, "STATE_READY": 1, "STATE_RETIRED": 2, "STATE_REPLACING": 3,
    # what is timed, and in which bucket: of less than 16 ns, and each of twice the time; one in
    # SAMPLE_MASK + 1 reads and writes is
    "TIMED_READ": 0, "TIMED_WRITE": 1, "TIMED_LOCK_WAIT": 2, "TIMED_LOCK_HOLD": 3,
    "TIMED_COMPUTE": 4, "TIMED_SNAPSHOT": 5, "TIMED_KINDS": 6, "TIMED_BUCKETS": 36,
    "TIMED_SHIFT": 4, "SAMPLE_MASK": 1023,
    "EVENT_TAKEOVER": 1, "EVENT_REPAIR": 2, "EVENT_EVICTING": 3, "EVENT_FULL": 4,
    "EVENT_CORRUPT": 5, "EVENT_LOCK_TIMEOUT": 6, "EVENT_UNCACHED": 7, "EVENT_MISMATCH": 8,
    "EVENT_RESIZE": 9, "EVENT_KINDS": 16, "EVENT_PLACES": 256, "EVENT_BYTES": 32,
    "EVENT_SHARD_MASK": 0xFF_FFFF, "EVENT_PAUSE_NS": 1_000_000_000,
    "EVENT_SALT": 0x9E37_79B9_7F4A_7C15, "EVENT_SALT_WHEN": 0xC2B2_AE3D_27D4_EB4F,
    "EVENT_SALT_WHAT": 0x1656_67B1_9E37_79F9,
    # table word: see TABLE
    # of the hash, by which places in it are told: see `table`; in the place of a unit: all
    "UNIT_BITS": 12, "UNIT_SHIFT": 64 - 12, "ALL_UNITS": 1 << 12,
    "TABLE_ROWS_MASK": 3, "TABLE_CURSOR_MASK": 0x1FFF, "TABLE_CHANGES_SHIFT": 34,
    # index word: tag 32 | overflow count 8 (first word of a bucket only) | slot 24
    # classes of waits: see WAITS0; each ends at eight times the time of the one before
    "WAIT_CLASSES": 6, "WAIT_FIRST_NS": 1 << 14, "WAIT_SHIFT": 3, "BUCKET_WORDS": 8,
    "BUCKET_BYTES": 64, "SLOT_MASK": 0x00FF_FFFF, "OVERFLOW_SHIFT": 24, "OVERFLOW_MAX": 0xFF,
    "OVERFLOW_MASK": 0xFF00_0000, "WORD_MASK": 0xFFFF_FFFF_00FF_FFFF, "TAG_SHIFT": 32,
    # next word: 1 in use (in an entry's chain) | 31 the slot that follows, 0: none
    "IN_USE": 0x8000_0000, "NEXT_MASK": 0x7FFF_FFFF,
    # owner token: row 10 | incarnation 32 | thread 22
    "TOKEN_ROW_SHIFT": 54, "TOKEN_INCARNATION_SHIFT": 22, "TOKEN_THREAD_MASK": 0x3F_FFFF,
    "INCARNATION_MASK": 0xFFFF_FFFF, "ROW_LIMIT": 1024,
    # meta word
    "META_KEY_TYPE_SHIFT": 16, "META_VALUE_TYPE_SHIFT": 24, "META_LENGTH_SHIFT": 32,
    "KEY_LENGTH_MASK": 0xFFFF, "TYPE_MASK": 0x7F, "HAS_DEADLINE": 0x80, "KEY_TYPE_MASK": 0x7F,
    "HAS_ORIGIN": 0x80, "ORIGIN_BYTES": 16, "ORIGIN_SHIFT": 27, "VALUE_LENGTH_MAX": 0xFFFF_FFFF,
    # key types, value types
    "KEY_STR": 1, "KEY_BYTES": 2, "KEY_INT": 3, "KEY_FLOAT": 4, "KEY_NONE": 5, "KEY_TUPLE": 6,
    "KEY_DATE": 7, "KEY_DATETIME": 8, "KEY_INSTANT": 9, "KEY_UUID": 10, "KEY_DECIMAL": 11,
    "KEY_FROZENSET": 12, "KEY_MEMBER": 13, "KEY_TYPE_MAX": 13, "VALUE_BYTES": 1, "VALUE_STR": 2,
    "VALUE_INT": 3, "VALUE_BIG_INT": 4, "VALUE_FLOAT": 5, "VALUE_FALSE": 6, "VALUE_TRUE": 7,
    "VALUE_NONE": 8, "VALUE_ARRAY": 9, "VALUE_PICKLE": 10, "VALUE_CODED": 11, "VALUE_ITEMS": 12,
    "VALUE_TYPE_MAX": 12, "VALUE_TOMBSTONE": 13,
    # the types, a bit each, that are decoded from any memory, not from bytes objects only; and how
    # long such a value may be to be copied to where the stack has room for it
    "VALUES_ANYWHERE": 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 12,
    "VALUE_INSIDE": 512,
    # keys fetched together; index words between what a listing reads and what it has fetched
    "GROUP": 32, "AHEAD": 16,
    # items of containers: see docs/design/value-layout.md. Up to here, the number, length or count
    # is in the byte itself; then its length in bytes, or none, stands at the end of the name.
    # ITEM_HEAD_MOST: bytes of an item before its own, or of all of a number; after an OTHER_AWARE
    # a zone follows
    "ITEMS_VERSION": 0x10, "ITEMS_REPEAT": 0x01, "ITEMS_DEEPEST": 100, "ITEM_FEW": 16,
    "ITEM_HEAD_MOST": 16, "ITEM_STR": 0x40, "ITEM_AGAIN": 0x80, "ITEM_DICT": 0xA0,
    "ITEM_LIST": 0xB0, "ITEM_TUPLE": 0xC0, "ITEM_BYTES": 0xD0, "ITEM_NONE": 0xE0,
    "ITEM_FALSE": 0xE1, "ITEM_TRUE": 0xE2, "ITEM_FLOAT": 0xE3, "ITEM_INT8": 0xE4,
    "ITEM_INT16": 0xE5, "ITEM_INT32": 0xE6, "ITEM_INT64": 0xE7, "ITEM_STR8": 0xE8,
    "ITEM_BYTES8": 0xE9, "ITEM_DICT8": 0xEA, "ITEM_LIST8": 0xEB, "ITEM_TUPLE8": 0xEC,
    "ITEM_SET8": 0xED, "ITEM_FROZENSET8": 0xEE, "ITEM_AGAIN8": 0xEF, "ITEM_STR32": 0xF0,
    "ITEM_BYTES32": 0xF1, "ITEM_DICT32": 0xF2, "ITEM_LIST32": 0xF3, "ITEM_TUPLE32": 0xF4,
    "ITEM_SET32": 0xF5, "ITEM_FROZENSET32": 0xF6, "ITEM_AGAIN32": 0xF7, "ITEM_AGAIN16": 0xF8,
    "ITEM_INT": 0xF9, "ITEM_OTHER": 0xFA, "ITEM_BELOW8": 0xFB, "OTHER_DATE": 1, "OTHER_TIME": 2,
    "OTHER_DATETIME": 3, "OTHER_TIMEDELTA": 4, "OTHER_TIMEZONE": 5, "OTHER_DECIMAL": 6,
    "OTHER_UUID": 7, "OTHER_CLASSES": 7, "OTHER_AWARE_TIME": 8, "OTHER_AWARE_DATETIME": 9,
    "LOW_HALF": 0xFFFF_FFFF, "WHOLE_WORD": 0xFFFF_FFFF_FFFF_FFFF,
    "KEY_TYPE_SALT": 0x9E37_79B9_7F4A_7C15,  # a key's type, times this, is added to the seed
    "VERSION_LIMIT": 1 << 63,  # 146 years of nanoseconds, doubled: a version from here on is damage
    "VERSION_SUSPECT": 1 << 62,  # none comes here by itself: repair puts such an entry last
    "KEY_META_MASK": 0x007F_FFFF,  # key length and key type
    # deadlines, see `_expiry_cy`: codes up to FINE are ticks, up to MIDDLE seconds, then 64 of them
    "DEADLINE_TICK_NS": 15_625_000, "DEADLINE_FINE": 0xF800_0000, "DEADLINE_MIDDLE": 0xFC00_0000,
    "DEADLINE_NEVER": 0xFFFF_FFFF, "DEADLINE_BASE_LIMIT": 1 << 25,  # 68 years of running
    "DEADLINE_BURIED": 2,  # of tombstones alone: past, as all codes of the first minute
    # eviction: how often hit, at most; flags of a slot; bits of a ghost's fingerprint
    "FREQUENCY_MAX": 3, "ON_PROBATION": 1, "IN_RING": 2, "GHOST_MASK": 0x7FFF, "GHOST_LATE": 0x8000,
}
"""Each by the name that both engines use: see `layout`."""
