# Static probes (USDT) of the compiled engine, where the build found <sys/sdt.h>; the pure engine has
# none. docs/guide/probes.md says what each one tells. What stands here are macros, so that nothing of
# a probe's arguments is computed while nobody traces it. `shard` is its memory, whose header names it
# and its map.
from libc.stdint cimport uint64_t as u64, int64_t as i64

cdef extern from *:
    """
    /* setup.py says 1 where the compiler finds the header, and they are not turned off. */
    #ifndef SHM_PROBES
    #define SHM_PROBES 0
    #endif

    #if SHM_PROBES
    /* A tracer adds one to a probe's semaphore in every process that has this module mapped. While it
       is 0, all of the probe is the look at it. Hidden: the semaphores of a module are its own. */
    #define _SDT_HAS_SEMAPHORES 1
    #include <sys/sdt.h>
    #define SHM_SEMAPHORE(name) unsigned short shmmap_##name##_semaphore \
        __attribute__((used, visibility("hidden"), section(".probes"))) = 0
    SHM_SEMAPHORE(lock__wait);
    SHM_SEMAPHORE(lock__timeout);
    SHM_SEMAPHORE(takeover);
    SHM_SEMAPHORE(repair);
    SHM_SEMAPHORE(evict);
    SHM_SEMAPHORE(sweep);
    #define SHM_TRACED(name) \
        __builtin_expect(*(volatile unsigned short *)&shmmap_##name##_semaphore, 0)
    #define SHM_PROBE(name, shard, one, two) do { \
            if (SHM_TRACED(name)) { \
                uint64_t number_ = shm_load(shard, SHM_S_NUMBER), map_ = shm_load(shard, SHM_S_NONCE); \
                __typeof__(one) one_ = (one); __typeof__(two) two_ = (two); \
                STAP_PROBE4(shmmap, name, number_, one_, two_, map_); \
            } \
        } while (0)
    #define SHM_BEGIN(name) (SHM_TRACED(name) ? shm_clock_ns(1) : 0)
    #else
    #define SHM_PROBE(name, shard, one, two) ((void)0)
    #define SHM_BEGIN(name) 0
    #endif

    /* 0: the tracer came in the middle */
    #define SHM_SINCE(began) ((began) ? shm_clock_ns(1) - (began) : (int64_t)0)
    #define SHM_ENTRY_BYTES(meta) (((meta) & SHM_KEY_LENGTH_MASK) + ((meta) >> SHM_META_LENGTH_SHIFT))
    #define shm_probe_lock_wait(shard, ns, pid) SHM_PROBE(lock__wait, shard, ns, pid)
    #define shm_probe_lock_timeout(shard, ns, pid) SHM_PROBE(lock__timeout, shard, ns, pid)
    #define shm_probe_takeover(shard, pid, ns) SHM_PROBE(takeover, shard, pid, ns)
    #define shm_begin_repair() SHM_BEGIN(repair)
    #define shm_probe_repair(shard, dirty, began) SHM_PROBE(repair, shard, dirty, SHM_SINCE(began))
    #define shm_probe_evict(shard, hash, meta) SHM_PROBE(evict, shard, hash, SHM_ENTRY_BYTES(meta))
    #define shm_begin_sweep() SHM_BEGIN(sweep)
    #define shm_probe_sweep(shard, removed, began) SHM_PROBE(sweep, shard, removed, SHM_SINCE(began))
    """
    const int PROBES_BUILT "SHM_PROBES"
    void probe_lock_wait "shm_probe_lock_wait"(char* shard, i64 waited_ns, u64 pid) noexcept
    void probe_lock_timeout "shm_probe_lock_timeout"(char* shard, i64 waited_ns, u64 pid) noexcept
    void probe_takeover "shm_probe_takeover"(char* shard, u64 pid, i64 waited_ns) noexcept
    i64 begin_repair "shm_begin_repair"() noexcept
    void probe_repair "shm_probe_repair"(char* shard, u64 dirty, i64 began) noexcept
    void probe_evict "shm_probe_evict"(char* shard, u64 hash, u64 meta) noexcept
    i64 begin_sweep "shm_begin_sweep"() noexcept
    void probe_sweep "shm_probe_sweep"(char* shard, i64 removed, i64 began) noexcept
