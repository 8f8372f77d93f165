# The compiled life of _atomics.py: C11-style atomics on a raw pointer.
from libc.stdint cimport uint64_t as u64, int64_t as i64, uint32_t as u32

ctypedef char* mem_t
ctypedef const char* src_t

cdef extern from *:
    """
    #define _GNU_SOURCE 1
    #include <stdint.h>
    #define SHM_VALUE_ROOM 512  /* VALUE_INSIDE */
    struct shm_probe {
        int64_t position; uint64_t bucket, word, slot, version, meta; int64_t deadline;
        unsigned char inside[SHM_VALUE_ROOM];
    };
    struct shm_key { const char *data; uint64_t length, type, hash, seed; int64_t small; };
    struct shm_value { const char *data; uint64_t length, type; int64_t small; };
    /* Room for one on the stack of the function that asks for it: not to be asked for in a loop. */
    #define shm_new_probe() ((struct shm_probe *)__builtin_alloca(sizeof(struct shm_probe)))
    #define shm_new_key() ((struct shm_key *)__builtin_alloca(sizeof(struct shm_key)))
    #define SHM_GROUP 32  /* GROUP */
    #define shm_new_keys() ((struct shm_key *)__builtin_alloca(SHM_GROUP * sizeof(struct shm_key)))
    #define shm_new_values() \
        ((struct shm_value *)__builtin_alloca(SHM_GROUP * sizeof(struct shm_value)))
    #define shm_new_value() ((struct shm_value *)__builtin_alloca(sizeof(struct shm_value)))
    """
    cdef struct Probe "shm_probe":  # what a lookup found
        i64 position  # which index word; -1: none
        u64 bucket    # the bucket that word is in, or where the probe ended
        u64 word      # the index word, as compared
        u64 slot
        u64 version
        u64 meta
        i64 deadline  # set by Shard.is_expired: 0 none
        unsigned char* inside  # room for VALUE_INSIDE bytes: see Shard.copy_value
    cdef struct Key "shm_key":  # an encoded key; `data` lives as long as the object that `encode` gave
        src_t data
        u64 length
        u64 type
        u64 hash
        u64 seed
        i64 small
    cdef struct Value "shm_value":  # an encoded value, likewise
        src_t data
        u64 length
        u64 type
        i64 small

ctypedef Probe* probe_t
ctypedef Key* key_t
ctypedef Value* value_t

cdef extern from *:
    probe_t new_probe "shm_new_probe"() noexcept nogil
    key_t new_key "shm_new_key"() noexcept nogil
    value_t new_value "shm_new_value"() noexcept nogil
    key_t new_keys "shm_new_keys"() noexcept nogil      # GROUP of them
    value_t new_values "shm_new_values"() noexcept nogil

cdef extern from *:
    """
    #define _GNU_SOURCE 1
    #include <Python.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <semaphore.h>
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>
    #include <time.h>
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif

    typedef const char *shm_src;

    static inline uint64_t shm_load(const char *m, uint64_t o) {
        return __atomic_load_n((const uint64_t *)(m + o), __ATOMIC_ACQUIRE);
    }
    static inline void shm_store(char *m, uint64_t o, uint64_t v) {
        __atomic_store_n((uint64_t *)(m + o), v, __ATOMIC_RELEASE);
    }
    static inline uint64_t shm_load_behind(const char *m, uint64_t o) {
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        return __atomic_load_n((const uint64_t *)(m + o), __ATOMIC_ACQUIRE);
    }
    static inline uint64_t shm_add_one(char *m, uint64_t o) {
        uint64_t *w = (uint64_t *)(m + o);
        uint64_t sum = __atomic_load_n(w, __ATOMIC_RELAXED) + 1;
        __atomic_store_n(w, sum, __ATOMIC_RELAXED);
        return sum;
    }
    static inline uint64_t shm_add_shared(char *m, uint64_t o, uint64_t n) {
        return __atomic_add_fetch((uint64_t *)(m + o), n, __ATOMIC_RELAXED);
    }
    static inline uint64_t shm_bits(uint64_t n) { return n ? 64 - __builtin_clzll(n) : 0; }
    static inline PyObject *shm_copy_bytes(const char *m, uint64_t o, uint64_t n) {
        return PyBytes_FromStringAndSize(m + o, (Py_ssize_t)n);
    }
    static inline PyObject *shm_new_room(uint64_t n) {
        return PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n);
    }
    static inline PyObject *shm_exactly(PyObject *room, uint64_t at, uint64_t n) {
        if (at == 0 && n == (uint64_t)PyBytes_GET_SIZE(room)) { Py_INCREF(room); return room; }
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(room) + at, (Py_ssize_t)n);
    }
    static inline uint64_t shm_load32(const char *m, uint64_t o) {
        return __atomic_load_n((const uint32_t *)(m + o), __ATOMIC_RELAXED);
    }
    static inline void shm_store32(char *m, uint64_t o, uint64_t v) {
        __atomic_store_n((uint32_t *)(m + o), (uint32_t)v, __ATOMIC_RELAXED);
    }
    static inline uint64_t shm_load16(const char *m, uint64_t o) {
        return __atomic_load_n((const uint16_t *)(m + o), __ATOMIC_RELAXED);
    }
    static inline void shm_store16(char *m, uint64_t o, uint64_t v) {
        __atomic_store_n((uint16_t *)(m + o), (uint16_t)v, __ATOMIC_RELAXED);
    }
    static inline uint64_t shm_load8(const char *m, uint64_t o) {
        return __atomic_load_n((const uint8_t *)(m + o), __ATOMIC_RELAXED);
    }
    static inline void shm_store8(char *m, uint64_t o, uint64_t v) {
        __atomic_store_n((uint8_t *)(m + o), (uint8_t)v, __ATOMIC_RELAXED);
    }
    static inline int shm_cas(char *m, uint64_t o, uint64_t want, uint64_t v) {
        return __atomic_compare_exchange_n((uint64_t *)(m + o), &want, v, 0,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    static inline void shm_publish(char *m, uint64_t o, uint64_t v) {
        (void)__atomic_exchange_n((uint64_t *)(m + o), v, __ATOMIC_SEQ_CST);
    #if !defined(__x86_64__)  /* there the exchange is a full barrier by itself */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    #endif
    }
    static inline void shm_fence(void) { __atomic_thread_fence(__ATOMIC_ACQ_REL); }
    static inline void shm_copy_in(char *m, uint64_t o, shm_src s, uint64_t at, uint64_t n) {
        memcpy(m + o, s + at, n);
    }
    static inline void shm_copy_out(const char *m, uint64_t o, char *d, uint64_t at, uint64_t n) {
        memcpy(d + at, m + o, n);
    }
    static inline int shm_equal(const char *m, uint64_t o, shm_src s, uint64_t at, uint64_t n) {
        return memcmp(m + o, s + at, n) == 0;
    }
    static inline shm_src shm_view(const char *m, uint64_t o, uint64_t n) { (void)n; return m + o; }
    /* The longest key has 65,535 bytes. Caller keeps the GIL from here to the last use. */
    static inline char *shm_room_for_key(uint64_t n) {
        static char room[65536];
        (void)n;
        return room;
    }
    static inline void shm_zero(char *m, uint64_t o, uint64_t n) { memset(m + o, 0, n); }

    /* Which of a bucket's eight words carry this tag: a bit each. */
    static inline unsigned shm_match(const char *m, uint64_t o, uint64_t tag) {
    #if defined(__SSE2__)
        const __m128i *p = (const __m128i *)(m + o);
        const __m128i t = _mm_set1_epi32((int)(uint32_t)tag);
        unsigned found = 0;
        for (int i = 0; i < 4; i++) {
            __m128i same = _mm_cmpeq_epi32(_mm_load_si128(p + i), t);
            found |= (unsigned)_mm_movemask_pd(_mm_castsi128_pd(same)) << (2 * i);
        }
        return found;
    #else
        unsigned found = 0;
        for (int i = 0; i < 8; i++)
            found |= (unsigned)((uint32_t)(shm_load(m, o + 8u * i) >> 32) == (uint32_t)tag) << i;
        return found;
    #endif
    }
    static inline uint64_t shm_first_due(const char *m, uint64_t o, uint64_t n, uint64_t least,
                                         uint64_t last) {
        const uint32_t *w = (const uint32_t *)(m + o);
        const uint32_t from = (uint32_t)least, to = last < least ? 0 : (uint32_t)(last + 1 - least);
        uint64_t i = 0;
        for (; i + 16 <= n; i += 16) {  /* what is less wraps to the top: one compare does both */
            uint32_t any = 0;
            for (int j = 0; j < 16; j++) any |= (uint32_t)(w[i + j] - from < to);
            if (any) break;
        }
        for (; i < n; i++) if (w[i] - from < to) return i;
        return n;
    }
    static inline uint64_t shm_least_set(const char *m, uint64_t o, uint64_t n, uint64_t from) {
        const uint32_t *w = (const uint32_t *)(m + o);
        const uint32_t start = (uint32_t)from;
        uint32_t least = UINT32_MAX;
        for (uint64_t i = 0; i < n; i++) if (w[i] - start < least) least = w[i] - start;
        return least < 0u - start ? least + start : 0;  /* what is less wraps to the top */
    }
    static inline unsigned shm_lowest(unsigned mask) { return (unsigned)__builtin_ctz(mask); }
    static inline void shm_prefetch(const char *m, uint64_t o) { __builtin_prefetch(m + o); }
    static inline void shm_pause(void) {
    #if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
    #else
        __asm__ __volatile__("" ::: "memory");
    #endif
    }

    /* The address of a writable buffer that its owner keeps alive and in place. */
    static inline char *shm_memory(PyObject *owner) {
        Py_buffer view;
        char *p;
        if (PyObject_GetBuffer(owner, &view, PyBUF_WRITABLE) < 0) return NULL;
        p = (char *)view.buf;
        PyBuffer_Release(&view);
        return p;
    }

    static inline int64_t shm_clock_ns(int which) {
        struct timespec t;
        clock_gettime(which, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }

    /* A thread: its number, 1 .. 2^22 - 1, kept for its life, and the operations that it is in,
       the innermost first. One copy a module: only _handle_cy may use it (a test asserts it).
       Caller holds the GIL. */
    struct shm_operation { void *handle; struct shm_operation *outer; };
    struct shm_thread { uint64_t number; struct shm_operation *inner; };
    static uint64_t shm_next_thread = 0;
    static struct shm_operation *shm_spare_operations = NULL;
    static __thread struct shm_thread shm_this_thread
        __attribute__((tls_model("initial-exec"))) = { 0, NULL };
    static inline uint64_t shm_thread_number(void) {
        struct shm_thread *me = &shm_this_thread;
        if (!me->number) me->number = shm_next_thread++ % 0x3ffffe + 1;
        return me->number;
    }
    static inline int shm_begin_operation(PyObject *handle) {
        struct shm_thread *me = &shm_this_thread;
        struct shm_operation *o = shm_spare_operations;
        if (o != NULL) shm_spare_operations = o->outer;
        else if ((o = (struct shm_operation *)malloc(sizeof *o)) == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        o->handle = handle;
        o->outer = me->inner;
        me->inner = o;
        return 0;
    }
    static inline void shm_end_operation(PyObject *handle) {
        struct shm_operation **at = &shm_this_thread.inner, *o;
        while ((o = *at) != NULL && o->handle != (void *)handle) at = &o->outer;
        if (o == NULL) return;
        *at = o->outer;
        o->outer = shm_spare_operations;
        shm_spare_operations = o;
    }
    static inline int64_t shm_own_operations(PyObject *handle) {
        struct shm_operation *o = shm_this_thread.inner;
        int64_t found = 0;
        for (; o != NULL; o = o->outer) found += o->handle == (void *)handle;
        return found;
    }

    /* A str's UTF-8, kept by the str; NULL, without an error, if it has lone surrogates. */
    static inline shm_src shm_utf8(PyObject *text, uint64_t *length) {
        Py_ssize_t size = 0;
        const char *data = PyUnicode_AsUTF8AndSize(text, &size);
        if (data == NULL) PyErr_Clear();
        *length = (uint64_t)size;
        return data;
    }

    /* Whether a semaphore's constant part is as the C library makes it: glibc ends the process
       where a damaged one has the kernel refuse a call. */
    static inline int shm_sem_sound(uint64_t s) {
    #if defined(__GLIBC__) && __SIZEOF_POINTER__ == 8
        static sem_t model;
        static int known = 0;
        if (!known) { sem_init(&model, 1, 0); known = 1; }
        return memcmp((const char *)(uintptr_t)s + 8, (const char *)&model + 8, 8) == 0;
    #else
        return s != 0;
    #endif
    }
    static inline void shm_sem_wake(uint64_t s) {
        int value = 0;
        if (s && shm_sem_sound(s) && sem_getvalue((sem_t *)(uintptr_t)s, &value) == 0 && value <= 0)
            sem_post((sem_t *)(uintptr_t)s);
    }
    /* Weak: glibc has it since 2.30, musl not. A wheel built for an older glibc, manylinux_2_28, uses
       it wherever it runs with a newer one. */
    extern int sem_clockwait(sem_t *, clockid_t, const struct timespec *) __attribute__((weak));
    static inline void shm_sem_wait(uint64_t s, int64_t ns) {
        struct timespec t;
        if (!s || !shm_sem_sound(s)) { t.tv_sec = 0; t.tv_nsec = ns < 1000000 ? (long)ns : 1000000; nanosleep(&t, NULL); return; }
        clock_gettime(sem_clockwait ? CLOCK_MONOTONIC : CLOCK_REALTIME, &t);
        ns += t.tv_nsec;
        t.tv_sec += ns / 1000000000;
        t.tv_nsec = ns % 1000000000;
        if (sem_clockwait) sem_clockwait((sem_t *)(uintptr_t)s, CLOCK_MONOTONIC, &t);
        else sem_timedwait((sem_t *)(uintptr_t)s, &t);
    }
    """
    u64 load "shm_load"(mem_t m, u64 offset) noexcept nogil
    void store "shm_store"(mem_t m, u64 offset, u64 value) noexcept nogil
    u64 load_behind "shm_load_behind"(mem_t m, u64 offset) noexcept nogil
    u64 add_one "shm_add_one"(mem_t m, u64 offset) noexcept nogil
    u64 add_shared "shm_add_shared"(mem_t m, u64 offset, u64 count) noexcept nogil
    u64 bits_of "shm_bits"(u64 number) noexcept nogil
    object copy_bytes "shm_copy_bytes"(mem_t m, u64 offset, u64 length)
    object new_room "shm_new_room"(u64 length)
    char* target_of "PyBytes_AS_STRING"(object room) noexcept
    object exactly "shm_exactly"(object room, u64 start, u64 length)
    u64 load32 "shm_load32"(mem_t m, u64 offset) noexcept nogil
    void store32 "shm_store32"(mem_t m, u64 offset, u64 value) noexcept nogil
    u64 load16 "shm_load16"(mem_t m, u64 offset) noexcept nogil
    void store16 "shm_store16"(mem_t m, u64 offset, u64 value) noexcept nogil
    u64 load8 "shm_load8"(mem_t m, u64 offset) noexcept nogil
    void store8 "shm_store8"(mem_t m, u64 offset, u64 value) noexcept nogil
    bint compare_exchange "shm_cas"(mem_t m, u64 offset, u64 expected, u64 value) noexcept nogil
    void publish "shm_publish"(mem_t m, u64 offset, u64 value) noexcept nogil
    void fence "shm_fence"() noexcept nogil
    void copy_in "shm_copy_in"(mem_t m, u64 offset, src_t source, u64 at, u64 length) noexcept nogil
    void copy_out "shm_copy_out"(mem_t m, u64 offset, char* target, u64 at, u64 length) noexcept nogil
    void copy_across "shm_copy_out"(mem_t m, u64 offset, mem_t target, u64 at, u64 length) noexcept nogil
    bint equal "shm_equal"(mem_t m, u64 offset, src_t source, u64 at, u64 length) noexcept nogil
    src_t view "shm_view"(mem_t m, u64 offset, u64 length) noexcept nogil
    char* room_of "PyByteArray_AS_STRING"(object buffer) noexcept
    char* room_for_key "shm_room_for_key"(u64 length) noexcept
    void zero "shm_zero"(mem_t m, u64 offset, u64 length) noexcept nogil
    unsigned int match_tag "shm_match"(mem_t m, u64 offset, u64 tag) noexcept nogil
    u64 first_due "shm_first_due"(mem_t m, u64 offset, u64 count, u64 least, u64 last) noexcept nogil
    u64 least_set "shm_least_set"(mem_t m, u64 offset, u64 count, u64 least) noexcept nogil
    unsigned int lowest_bit "shm_lowest"(unsigned int mask) noexcept nogil
    void prefetch "shm_prefetch"(mem_t m, u64 offset) noexcept nogil
    void pause "shm_pause"() noexcept nogil
    mem_t memory "shm_memory"(object owner) except NULL
    i64 clock_ns "shm_clock_ns"(int which) noexcept nogil
    src_t utf8_of "shm_utf8"(object text, u64* length) noexcept
    void sem_wake "shm_sem_wake"(u64 s) noexcept nogil
    void sem_wait "shm_sem_wait"(u64 s, i64 ns) noexcept nogil
    u64 thread_number "shm_thread_number"() noexcept
    int begin_operation "shm_begin_operation"(object handle) except -1
    void end_operation "shm_end_operation"(object handle) noexcept
    i64 own_operations "shm_own_operations"(object handle) noexcept
