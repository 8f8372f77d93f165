"""What the functions of shards, locks and handles return, what a write depends on, and how often
something is tried: `_status.pxd` has the same names for the compiled engine, and a test compares
the two. No C function here raises: it returns one of these, and who called it raises.
"""

# of a look for a key, and of what is done with it
FOUND = 1
MISS = 0
AGAIN = -1  # another process changed it meanwhile: start again
FULL = -2
TOO_LARGE = -3
CORRUPT = -4
NO_INT = -5  # the value that should be added to is none
OVERFLOWS = -6
NO_ROOM = -7  # the buffer that an entry should be copied into is too small for it
UNSURE = -8  # it may be that the entry cannot be decoded: it is not taken out unseen
NO_DEADLINES = -9  # the pages for the deadlines of a shard's entries are not reserved yet
COPIED = 2  # found, and copied
TAKEN = 2  # found, copied and removed

# of taking a lock
FREE = 0  # taken at once
WAITED = 1  # taken after waiting
TAKEN_OVER = 2  # taken from a dead owner
TIMED_OUT = 3
REENTERED = 4  # this very thread holds it already
FORKED = 5  # not taken: a signal handler has forked, and this is the child, which is not `me`

NOBODY = 1  # an owner that no worker is, as it has no incarnation: held, by one who is dead

# of checking the private copy of a shard
DAMAGED = 0
WHOLE = 1
DOUBTFUL = 2

# of asking what was evicted, whether a key is a ghost
NO_GHOST = 0
EARLY_GHOST = 1
LATE_GHOST = 2

# what came of an entry that was to be merged
OLDER = 0
WRITTEN = 1
DELETED = 2  # by a tombstone
NOTHING_THERE = 3  # that the tombstone could have deleted
TIE = 4  # both values have one stamp, length and type: compare them

# when a write takes effect (the low three bits), and whether it may not evict others
ALWAYS = 0
IF_MISSING = 1
IF_THERE = 2
IF_VERSION = 3
IF_NEWER = 4
CONDITION = 7
KEEP_OTHERS = 8

VALUE_UNLOCKED = 2  # what a read wants: the value, or None where that takes the shard's lock

SPINS = 50  # before the first sleep for a lock
QUICK_SPINS = 1 << 16  # at most, where nobody sleeps; a deadline ends them earlier
FIRST_SLICE_NS = 1_000_000  # of the waiting for a lock; each is twice the one before,
LONGEST_SLICE_NS = 8_000_000  # up to this
LOOK_NS = 64_000_000  # of a long wait, after which the map is looked at: it may be replaced
READ_TRIES = 16  # without the lock, before a read takes it
LOOK_EVERY = 256  # reads, after which one looks at the clock: the map's files may be gone
