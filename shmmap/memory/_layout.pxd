# Generated from layout.py by `python shmmap/memory/layout.py`; do not edit.
from libc.stdint cimport uint64_t
cdef extern from *:
    """
    #include <stdint.h>
    #define SHM_LAYOUT_VERSION UINT64_C(0x5)
    #define SHM_CACHE_LINE UINT64_C(0x40)
    #define SHM_CONTROL_MAGIC UINT64_C(0x4c525443504d4853)
    #define SHM_SHARD_MAGIC UINT64_C(0x44524853504d4853)
    #define SHM_ENGINE_COMPILED UINT64_C(0x1)
    #define SHM_ENGINE_PURE UINT64_C(0x2)
    #define SHM_STATE_MAKING UINT64_C(0x0)
    #define SHM_STATE_READY UINT64_C(0x1)
    #define SHM_STATE_RETIRED UINT64_C(0x2)
    #define SHM_STATE_REPLACING UINT64_C(0x3)
    #define SHM_BUCKET_WORDS UINT64_C(0x8)
    #define SHM_BUCKET_BYTES UINT64_C(0x40)
    #define SHM_SLOT_MASK UINT64_C(0xffffff)
    #define SHM_OVERFLOW_SHIFT UINT64_C(0x18)
    #define SHM_OVERFLOW_MAX UINT64_C(0xff)
    #define SHM_OVERFLOW_MASK UINT64_C(0xff000000)
    #define SHM_WORD_MASK UINT64_C(0xffffffff00ffffff)
    #define SHM_TAG_SHIFT UINT64_C(0x20)
    #define SHM_IN_USE UINT64_C(0x80000000)
    #define SHM_NEXT_MASK UINT64_C(0x7fffffff)
    #define SHM_TOKEN_ROW_SHIFT UINT64_C(0x36)
    #define SHM_TOKEN_INCARNATION_SHIFT UINT64_C(0x16)
    #define SHM_TOKEN_THREAD_MASK UINT64_C(0x3fffff)
    #define SHM_INCARNATION_MASK UINT64_C(0xffffffff)
    #define SHM_ROW_LIMIT UINT64_C(0x400)
    #define SHM_META_KEY_TYPE_SHIFT UINT64_C(0x10)
    #define SHM_META_VALUE_TYPE_SHIFT UINT64_C(0x18)
    #define SHM_META_LENGTH_SHIFT UINT64_C(0x20)
    #define SHM_KEY_LENGTH_MASK UINT64_C(0xffff)
    #define SHM_TYPE_MASK UINT64_C(0xff)
    #define SHM_HAS_DEADLINE UINT64_C(0x80)
    #define SHM_KEY_TYPE_MASK UINT64_C(0x7f)
    #define SHM_VALUE_LENGTH_MAX UINT64_C(0xffffffff)
    #define SHM_KEY_STR UINT64_C(0x1)
    #define SHM_KEY_BYTES UINT64_C(0x2)
    #define SHM_KEY_INT UINT64_C(0x3)
    #define SHM_KEY_FLOAT UINT64_C(0x4)
    #define SHM_KEY_NONE UINT64_C(0x5)
    #define SHM_KEY_TUPLE UINT64_C(0x6)
    #define SHM_KEY_DATE UINT64_C(0x7)
    #define SHM_KEY_DATETIME UINT64_C(0x8)
    #define SHM_KEY_INSTANT UINT64_C(0x9)
    #define SHM_KEY_UUID UINT64_C(0xa)
    #define SHM_KEY_DECIMAL UINT64_C(0xb)
    #define SHM_KEY_FROZENSET UINT64_C(0xc)
    #define SHM_KEY_MEMBER UINT64_C(0xd)
    #define SHM_KEY_TYPE_MAX UINT64_C(0xd)
    #define SHM_VALUE_BYTES UINT64_C(0x1)
    #define SHM_VALUE_STR UINT64_C(0x2)
    #define SHM_VALUE_INT UINT64_C(0x3)
    #define SHM_VALUE_BIG_INT UINT64_C(0x4)
    #define SHM_VALUE_FLOAT UINT64_C(0x5)
    #define SHM_VALUE_FALSE UINT64_C(0x6)
    #define SHM_VALUE_TRUE UINT64_C(0x7)
    #define SHM_VALUE_NONE UINT64_C(0x8)
    #define SHM_VALUE_ARRAY UINT64_C(0x9)
    #define SHM_VALUE_PICKLE UINT64_C(0xa)
    #define SHM_VALUE_CODED UINT64_C(0xb)
    #define SHM_VALUE_TYPE_MAX UINT64_C(0xb)
    #define SHM_LOW_HALF UINT64_C(0xffffffff)
    #define SHM_WHOLE_WORD UINT64_C(0xffffffffffffffff)
    #define SHM_KEY_TYPE_SALT UINT64_C(0x9e3779b97f4a7c15)
    #define SHM_VERSION_LIMIT UINT64_C(0x8000000000000000)
    #define SHM_VERSION_SUSPECT UINT64_C(0x4000000000000000)
    #define SHM_KEY_META_MASK UINT64_C(0x7fffff)
    #define SHM_FREQUENCY_MAX UINT64_C(0x3)
    #define SHM_ON_PROBATION UINT64_C(0x1)
    #define SHM_IN_RING UINT64_C(0x2)
    #define SHM_GHOST_MASK UINT64_C(0x7fff)
    #define SHM_GHOST_LATE UINT64_C(0x8000)
    #define SHM_C_MAGIC UINT64_C(0x0)
    #define SHM_C_LAYOUT UINT64_C(0x8)
    #define SHM_C_ENGINE UINT64_C(0x10)
    #define SHM_C_NONCE UINT64_C(0x18)
    #define SHM_C_BOOT_HIGH UINT64_C(0x20)
    #define SHM_C_BOOT_LOW UINT64_C(0x28)
    #define SHM_C_BYTES UINT64_C(0x30)
    #define SHM_C_ROWS UINT64_C(0x38)
    #define SHM_C_SIZE UINT64_C(0x40)
    #define SHM_C_CAPACITY UINT64_C(0x48)
    #define SHM_C_VALUE_SIZE UINT64_C(0x50)
    #define SHM_C_CODEC UINT64_C(0x58)
    #define SHM_C_ON_FULL UINT64_C(0x60)
    #define SHM_C_TTL_NS UINT64_C(0x68)
    #define SHM_C_MAX_AGE_NS UINT64_C(0x70)
    #define SHM_C_MODE UINT64_C(0x78)
    #define SHM_C_HASH_SEED UINT64_C(0x80)
    #define SHM_C_KEY_SIZE UINT64_C(0x88)
    #define SHM_C_EPHEMERAL UINT64_C(0x90)
    #define SHM_C_SWEEP_NS UINT64_C(0x98)
    #define SHM_C_LINGER_NS UINT64_C(0xa0)
    #define SHM_C_CODEC_NAME0 UINT64_C(0xa8)
    #define SHM_C_CODEC_NAME1 UINT64_C(0xb0)
    #define SHM_C_CODEC_NAME2 UINT64_C(0xb8)
    #define SHM_C_CHECK UINT64_C(0xc0)
    #define SHM_C_STATE UINT64_C(0x100)
    #define SHM_C_LEFT_NS UINT64_C(0x140)
    #define SHM_C_FEATURES UINT64_C(0x180)
    #define SHM_C_GEN_CURRENT UINT64_C(0x188)
    #define SHM_C_GEN_NEXT UINT64_C(0x190)
    #define SHM_C_GEN_CURSOR UINT64_C(0x198)
    #define SHM_C_GEN0_NUMBER UINT64_C(0x1c0)
    #define SHM_C_GEN0_SHARDS UINT64_C(0x1c8)
    #define SHM_C_GEN0_SLOTS UINT64_C(0x1d0)
    #define SHM_C_GEN0_SLOT_SIZE UINT64_C(0x1d8)
    #define SHM_C_GEN0_BUCKETS UINT64_C(0x1e0)
    #define SHM_C_GEN0_BYTES UINT64_C(0x1e8)
    #define SHM_C_GEN1_NUMBER UINT64_C(0x200)
    #define SHM_C_GEN1_SHARDS UINT64_C(0x208)
    #define SHM_C_GEN1_SLOTS UINT64_C(0x210)
    #define SHM_C_GEN1_SLOT_SIZE UINT64_C(0x218)
    #define SHM_C_GEN1_BUCKETS UINT64_C(0x220)
    #define SHM_C_GEN1_BYTES UINT64_C(0x228)
    #define SHM_C_LEASE UINT64_C(0x240)
    #define SHM_C_LEASE_BEAT_NS UINT64_C(0x248)
    #define SHM_C_SWEPT_NS UINT64_C(0x250)
    #define SHM_C_SWEEP_EPOCH UINT64_C(0x280)
    #define SHM_C_TOTAL_HITS UINT64_C(0x2c0)
    #define SHM_C_TOTAL_MISSES UINT64_C(0x2c8)
    #define SHM_C_TOTAL_WRITES UINT64_C(0x2d0)
    #define SHM_C_TOTAL_DELETES UINT64_C(0x2d8)
    #define SHM_C_TOTAL_WAITS UINT64_C(0x2e0)
    #define SHM_C_TOTAL_TAKEOVERS UINT64_C(0x2e8)
    #define SHM_C_TOTAL_RETRIES UINT64_C(0x2f0)
    #define SHM_C_TOTAL_LOCKED_READS UINT64_C(0x2f8)
    #define SHM_C_TOTAL_NEAR_HITS UINT64_C(0x300)
    #define SHM_C_BYTES_TOTAL UINT64_C(0x340)
    #define SHM_R_STATE UINT64_C(0x0)
    #define SHM_R_INCARNATION UINT64_C(0x8)
    #define SHM_R_PID UINT64_C(0x10)
    #define SHM_R_PID_NAMESPACE UINT64_C(0x18)
    #define SHM_R_START_TICKS UINT64_C(0x20)
    #define SHM_R_JOINED_NS UINT64_C(0x28)
    #define SHM_R_NEAR_HITS UINT64_C(0x30)
    #define SHM_R_HITS UINT64_C(0x40)
    #define SHM_R_MISSES UINT64_C(0x48)
    #define SHM_R_WRITES UINT64_C(0x50)
    #define SHM_R_DELETES UINT64_C(0x58)
    #define SHM_R_WAITS UINT64_C(0x60)
    #define SHM_R_TAKEOVERS UINT64_C(0x68)
    #define SHM_R_RETRIES UINT64_C(0x70)
    #define SHM_R_LOCKED_READS UINT64_C(0x78)
    #define SHM_R_BYTES_TOTAL UINT64_C(0x80)
    #define SHM_S_MAGIC UINT64_C(0x0)
    #define SHM_S_NONCE UINT64_C(0x8)
    #define SHM_S_GENERATION UINT64_C(0x10)
    #define SHM_S_NUMBER UINT64_C(0x18)
    #define SHM_S_SLOTS UINT64_C(0x20)
    #define SHM_S_SLOT_SIZE UINT64_C(0x28)
    #define SHM_S_BUCKETS UINT64_C(0x30)
    #define SHM_S_EVICTS UINT64_C(0x38)
    #define SHM_S_SEQUENCE UINT64_C(0x40)
    #define SHM_S_REBUILDS UINT64_C(0x48)
    #define SHM_S_TRACKING UINT64_C(0x50)
    #define SHM_S_OWNER UINT64_C(0x80)
    #define SHM_S_WAITERS UINT64_C(0x88)
    #define SHM_S_DIRTY UINT64_C(0xc0)
    #define SHM_S_STAMP UINT64_C(0xc8)
    #define SHM_S_ENTRIES UINT64_C(0xd0)
    #define SHM_S_LIVE_BYTES UINT64_C(0xd8)
    #define SHM_S_FREE_HEAD UINT64_C(0xe0)
    #define SHM_S_FREE_SLOTS UINT64_C(0xe8)
    #define SHM_S_FRESH UINT64_C(0xf0)
    #define SHM_S_EARLIEST_NS UINT64_C(0xf8)
    #define SHM_S_HAND UINT64_C(0x100)
    #define SHM_S_RING_START UINT64_C(0x108)
    #define SHM_S_RING_COUNT UINT64_C(0x110)
    #define SHM_S_RING_TARGET UINT64_C(0x118)
    #define SHM_S_GONE_EARLY UINT64_C(0x120)
    #define SHM_S_GONE_LATE UINT64_C(0x128)
    #define SHM_S_MISSED_EARLY UINT64_C(0x130)
    #define SHM_S_MISSED_LATE UINT64_C(0x138)
    #define SHM_S_EVICTED UINT64_C(0x140)
    #define SHM_S_EXPIRED UINT64_C(0x148)
    #define SHM_S_AGED UINT64_C(0x150)
    #define SHM_S_REPAIRS UINT64_C(0x158)
    #define SHM_S_POP_HAND UINT64_C(0x160)
    #define SHM_S_SCAN_HAND UINT64_C(0x168)
    #define SHM_S_HAS_DEADLINES UINT64_C(0x180)
    #define SHM_S_RESERVED UINT64_C(0x1c0)
    #define SHM_S_BYTES_TOTAL UINT64_C(0x200)
    #define SHM_E_VERSION UINT64_C(0x0)
    #define SHM_E_META UINT64_C(0x8)
    #define SHM_E_BYTES_TOTAL UINT64_C(0x10)
    """
    const uint64_t LAYOUT_VERSION "SHM_LAYOUT_VERSION"
    const uint64_t CACHE_LINE "SHM_CACHE_LINE"
    const uint64_t CONTROL_MAGIC "SHM_CONTROL_MAGIC"
    const uint64_t SHARD_MAGIC "SHM_SHARD_MAGIC"
    const uint64_t ENGINE_COMPILED "SHM_ENGINE_COMPILED"
    const uint64_t ENGINE_PURE "SHM_ENGINE_PURE"
    const uint64_t STATE_MAKING "SHM_STATE_MAKING"
    const uint64_t STATE_READY "SHM_STATE_READY"
    const uint64_t STATE_RETIRED "SHM_STATE_RETIRED"
    const uint64_t STATE_REPLACING "SHM_STATE_REPLACING"
    const uint64_t BUCKET_WORDS "SHM_BUCKET_WORDS"
    const uint64_t BUCKET_BYTES "SHM_BUCKET_BYTES"
    const uint64_t SLOT_MASK "SHM_SLOT_MASK"
    const uint64_t OVERFLOW_SHIFT "SHM_OVERFLOW_SHIFT"
    const uint64_t OVERFLOW_MAX "SHM_OVERFLOW_MAX"
    const uint64_t OVERFLOW_MASK "SHM_OVERFLOW_MASK"
    const uint64_t WORD_MASK "SHM_WORD_MASK"
    const uint64_t TAG_SHIFT "SHM_TAG_SHIFT"
    const uint64_t IN_USE "SHM_IN_USE"
    const uint64_t NEXT_MASK "SHM_NEXT_MASK"
    const uint64_t TOKEN_ROW_SHIFT "SHM_TOKEN_ROW_SHIFT"
    const uint64_t TOKEN_INCARNATION_SHIFT "SHM_TOKEN_INCARNATION_SHIFT"
    const uint64_t TOKEN_THREAD_MASK "SHM_TOKEN_THREAD_MASK"
    const uint64_t INCARNATION_MASK "SHM_INCARNATION_MASK"
    const uint64_t ROW_LIMIT "SHM_ROW_LIMIT"
    const uint64_t META_KEY_TYPE_SHIFT "SHM_META_KEY_TYPE_SHIFT"
    const uint64_t META_VALUE_TYPE_SHIFT "SHM_META_VALUE_TYPE_SHIFT"
    const uint64_t META_LENGTH_SHIFT "SHM_META_LENGTH_SHIFT"
    const uint64_t KEY_LENGTH_MASK "SHM_KEY_LENGTH_MASK"
    const uint64_t TYPE_MASK "SHM_TYPE_MASK"
    const uint64_t HAS_DEADLINE "SHM_HAS_DEADLINE"
    const uint64_t KEY_TYPE_MASK "SHM_KEY_TYPE_MASK"
    const uint64_t VALUE_LENGTH_MAX "SHM_VALUE_LENGTH_MAX"
    const uint64_t KEY_STR "SHM_KEY_STR"
    const uint64_t KEY_BYTES "SHM_KEY_BYTES"
    const uint64_t KEY_INT "SHM_KEY_INT"
    const uint64_t KEY_FLOAT "SHM_KEY_FLOAT"
    const uint64_t KEY_NONE "SHM_KEY_NONE"
    const uint64_t KEY_TUPLE "SHM_KEY_TUPLE"
    const uint64_t KEY_DATE "SHM_KEY_DATE"
    const uint64_t KEY_DATETIME "SHM_KEY_DATETIME"
    const uint64_t KEY_INSTANT "SHM_KEY_INSTANT"
    const uint64_t KEY_UUID "SHM_KEY_UUID"
    const uint64_t KEY_DECIMAL "SHM_KEY_DECIMAL"
    const uint64_t KEY_FROZENSET "SHM_KEY_FROZENSET"
    const uint64_t KEY_MEMBER "SHM_KEY_MEMBER"
    const uint64_t KEY_TYPE_MAX "SHM_KEY_TYPE_MAX"
    const uint64_t VALUE_BYTES "SHM_VALUE_BYTES"
    const uint64_t VALUE_STR "SHM_VALUE_STR"
    const uint64_t VALUE_INT "SHM_VALUE_INT"
    const uint64_t VALUE_BIG_INT "SHM_VALUE_BIG_INT"
    const uint64_t VALUE_FLOAT "SHM_VALUE_FLOAT"
    const uint64_t VALUE_FALSE "SHM_VALUE_FALSE"
    const uint64_t VALUE_TRUE "SHM_VALUE_TRUE"
    const uint64_t VALUE_NONE "SHM_VALUE_NONE"
    const uint64_t VALUE_ARRAY "SHM_VALUE_ARRAY"
    const uint64_t VALUE_PICKLE "SHM_VALUE_PICKLE"
    const uint64_t VALUE_CODED "SHM_VALUE_CODED"
    const uint64_t VALUE_TYPE_MAX "SHM_VALUE_TYPE_MAX"
    const uint64_t LOW_HALF "SHM_LOW_HALF"
    const uint64_t WHOLE_WORD "SHM_WHOLE_WORD"
    const uint64_t KEY_TYPE_SALT "SHM_KEY_TYPE_SALT"
    const uint64_t VERSION_LIMIT "SHM_VERSION_LIMIT"
    const uint64_t VERSION_SUSPECT "SHM_VERSION_SUSPECT"
    const uint64_t KEY_META_MASK "SHM_KEY_META_MASK"
    const uint64_t FREQUENCY_MAX "SHM_FREQUENCY_MAX"
    const uint64_t ON_PROBATION "SHM_ON_PROBATION"
    const uint64_t IN_RING "SHM_IN_RING"
    const uint64_t GHOST_MASK "SHM_GHOST_MASK"
    const uint64_t GHOST_LATE "SHM_GHOST_LATE"
    const uint64_t C_MAGIC "SHM_C_MAGIC"
    const uint64_t C_LAYOUT "SHM_C_LAYOUT"
    const uint64_t C_ENGINE "SHM_C_ENGINE"
    const uint64_t C_NONCE "SHM_C_NONCE"
    const uint64_t C_BOOT_HIGH "SHM_C_BOOT_HIGH"
    const uint64_t C_BOOT_LOW "SHM_C_BOOT_LOW"
    const uint64_t C_BYTES "SHM_C_BYTES"
    const uint64_t C_ROWS "SHM_C_ROWS"
    const uint64_t C_SIZE "SHM_C_SIZE"
    const uint64_t C_CAPACITY "SHM_C_CAPACITY"
    const uint64_t C_VALUE_SIZE "SHM_C_VALUE_SIZE"
    const uint64_t C_CODEC "SHM_C_CODEC"
    const uint64_t C_ON_FULL "SHM_C_ON_FULL"
    const uint64_t C_TTL_NS "SHM_C_TTL_NS"
    const uint64_t C_MAX_AGE_NS "SHM_C_MAX_AGE_NS"
    const uint64_t C_MODE "SHM_C_MODE"
    const uint64_t C_HASH_SEED "SHM_C_HASH_SEED"
    const uint64_t C_KEY_SIZE "SHM_C_KEY_SIZE"
    const uint64_t C_EPHEMERAL "SHM_C_EPHEMERAL"
    const uint64_t C_SWEEP_NS "SHM_C_SWEEP_NS"
    const uint64_t C_LINGER_NS "SHM_C_LINGER_NS"
    const uint64_t C_CODEC_NAME0 "SHM_C_CODEC_NAME0"
    const uint64_t C_CODEC_NAME1 "SHM_C_CODEC_NAME1"
    const uint64_t C_CODEC_NAME2 "SHM_C_CODEC_NAME2"
    const uint64_t C_CHECK "SHM_C_CHECK"
    const uint64_t C_STATE "SHM_C_STATE"
    const uint64_t C_LEFT_NS "SHM_C_LEFT_NS"
    const uint64_t C_FEATURES "SHM_C_FEATURES"
    const uint64_t C_GEN_CURRENT "SHM_C_GEN_CURRENT"
    const uint64_t C_GEN_NEXT "SHM_C_GEN_NEXT"
    const uint64_t C_GEN_CURSOR "SHM_C_GEN_CURSOR"
    const uint64_t C_GEN0_NUMBER "SHM_C_GEN0_NUMBER"
    const uint64_t C_GEN0_SHARDS "SHM_C_GEN0_SHARDS"
    const uint64_t C_GEN0_SLOTS "SHM_C_GEN0_SLOTS"
    const uint64_t C_GEN0_SLOT_SIZE "SHM_C_GEN0_SLOT_SIZE"
    const uint64_t C_GEN0_BUCKETS "SHM_C_GEN0_BUCKETS"
    const uint64_t C_GEN0_BYTES "SHM_C_GEN0_BYTES"
    const uint64_t C_GEN1_NUMBER "SHM_C_GEN1_NUMBER"
    const uint64_t C_GEN1_SHARDS "SHM_C_GEN1_SHARDS"
    const uint64_t C_GEN1_SLOTS "SHM_C_GEN1_SLOTS"
    const uint64_t C_GEN1_SLOT_SIZE "SHM_C_GEN1_SLOT_SIZE"
    const uint64_t C_GEN1_BUCKETS "SHM_C_GEN1_BUCKETS"
    const uint64_t C_GEN1_BYTES "SHM_C_GEN1_BYTES"
    const uint64_t C_LEASE "SHM_C_LEASE"
    const uint64_t C_LEASE_BEAT_NS "SHM_C_LEASE_BEAT_NS"
    const uint64_t C_SWEPT_NS "SHM_C_SWEPT_NS"
    const uint64_t C_SWEEP_EPOCH "SHM_C_SWEEP_EPOCH"
    const uint64_t C_TOTAL_HITS "SHM_C_TOTAL_HITS"
    const uint64_t C_TOTAL_MISSES "SHM_C_TOTAL_MISSES"
    const uint64_t C_TOTAL_WRITES "SHM_C_TOTAL_WRITES"
    const uint64_t C_TOTAL_DELETES "SHM_C_TOTAL_DELETES"
    const uint64_t C_TOTAL_WAITS "SHM_C_TOTAL_WAITS"
    const uint64_t C_TOTAL_TAKEOVERS "SHM_C_TOTAL_TAKEOVERS"
    const uint64_t C_TOTAL_RETRIES "SHM_C_TOTAL_RETRIES"
    const uint64_t C_TOTAL_LOCKED_READS "SHM_C_TOTAL_LOCKED_READS"
    const uint64_t C_TOTAL_NEAR_HITS "SHM_C_TOTAL_NEAR_HITS"
    const uint64_t C_BYTES_TOTAL "SHM_C_BYTES_TOTAL"
    const uint64_t R_STATE "SHM_R_STATE"
    const uint64_t R_INCARNATION "SHM_R_INCARNATION"
    const uint64_t R_PID "SHM_R_PID"
    const uint64_t R_PID_NAMESPACE "SHM_R_PID_NAMESPACE"
    const uint64_t R_START_TICKS "SHM_R_START_TICKS"
    const uint64_t R_JOINED_NS "SHM_R_JOINED_NS"
    const uint64_t R_NEAR_HITS "SHM_R_NEAR_HITS"
    const uint64_t R_HITS "SHM_R_HITS"
    const uint64_t R_MISSES "SHM_R_MISSES"
    const uint64_t R_WRITES "SHM_R_WRITES"
    const uint64_t R_DELETES "SHM_R_DELETES"
    const uint64_t R_WAITS "SHM_R_WAITS"
    const uint64_t R_TAKEOVERS "SHM_R_TAKEOVERS"
    const uint64_t R_RETRIES "SHM_R_RETRIES"
    const uint64_t R_LOCKED_READS "SHM_R_LOCKED_READS"
    const uint64_t R_BYTES_TOTAL "SHM_R_BYTES_TOTAL"
    const uint64_t S_MAGIC "SHM_S_MAGIC"
    const uint64_t S_NONCE "SHM_S_NONCE"
    const uint64_t S_GENERATION "SHM_S_GENERATION"
    const uint64_t S_NUMBER "SHM_S_NUMBER"
    const uint64_t S_SLOTS "SHM_S_SLOTS"
    const uint64_t S_SLOT_SIZE "SHM_S_SLOT_SIZE"
    const uint64_t S_BUCKETS "SHM_S_BUCKETS"
    const uint64_t S_EVICTS "SHM_S_EVICTS"
    const uint64_t S_SEQUENCE "SHM_S_SEQUENCE"
    const uint64_t S_REBUILDS "SHM_S_REBUILDS"
    const uint64_t S_TRACKING "SHM_S_TRACKING"
    const uint64_t S_OWNER "SHM_S_OWNER"
    const uint64_t S_WAITERS "SHM_S_WAITERS"
    const uint64_t S_DIRTY "SHM_S_DIRTY"
    const uint64_t S_STAMP "SHM_S_STAMP"
    const uint64_t S_ENTRIES "SHM_S_ENTRIES"
    const uint64_t S_LIVE_BYTES "SHM_S_LIVE_BYTES"
    const uint64_t S_FREE_HEAD "SHM_S_FREE_HEAD"
    const uint64_t S_FREE_SLOTS "SHM_S_FREE_SLOTS"
    const uint64_t S_FRESH "SHM_S_FRESH"
    const uint64_t S_EARLIEST_NS "SHM_S_EARLIEST_NS"
    const uint64_t S_HAND "SHM_S_HAND"
    const uint64_t S_RING_START "SHM_S_RING_START"
    const uint64_t S_RING_COUNT "SHM_S_RING_COUNT"
    const uint64_t S_RING_TARGET "SHM_S_RING_TARGET"
    const uint64_t S_GONE_EARLY "SHM_S_GONE_EARLY"
    const uint64_t S_GONE_LATE "SHM_S_GONE_LATE"
    const uint64_t S_MISSED_EARLY "SHM_S_MISSED_EARLY"
    const uint64_t S_MISSED_LATE "SHM_S_MISSED_LATE"
    const uint64_t S_EVICTED "SHM_S_EVICTED"
    const uint64_t S_EXPIRED "SHM_S_EXPIRED"
    const uint64_t S_AGED "SHM_S_AGED"
    const uint64_t S_REPAIRS "SHM_S_REPAIRS"
    const uint64_t S_POP_HAND "SHM_S_POP_HAND"
    const uint64_t S_SCAN_HAND "SHM_S_SCAN_HAND"
    const uint64_t S_HAS_DEADLINES "SHM_S_HAS_DEADLINES"
    const uint64_t S_RESERVED "SHM_S_RESERVED"
    const uint64_t S_BYTES_TOTAL "SHM_S_BYTES_TOTAL"
    const uint64_t E_VERSION "SHM_E_VERSION"
    const uint64_t E_META "SHM_E_META"
    const uint64_t E_BYTES_TOTAL "SHM_E_BYTES_TOTAL"
