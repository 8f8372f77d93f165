from shmmap._layout cimport *
from shmmap._words cimport *

cdef u64 hash_key(src_t data, u64 length, u64 key_type, u64 seed) noexcept

cdef extern from *:
    """
    typedef uint64_t (*shm_hash_t)(const void *, size_t, uint64_t);
    static shm_hash_t shm_hash_function = 0;
    static inline void shm_hash_set(uint64_t a) { shm_hash_function = (shm_hash_t)(uintptr_t)a; }
    static inline int shm_hash_have(void) { return shm_hash_function != 0; }
    static inline uint64_t shm_hash_call(const void *d, uint64_t n, uint64_t s) {
        return shm_hash_function(d, (size_t)n, s);
    }
    """
    void set_hash_function "shm_hash_set"(u64 address) noexcept
    bint have_hash_function "shm_hash_have"() noexcept
    u64 call_hash_function "shm_hash_call"(const void* data, u64 length, u64 seed) noexcept
