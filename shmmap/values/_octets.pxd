# The compiled life of _octets.py: private bytes by raw pointers, objects by CPython's own calls.
from libc.stdint cimport uint64_t as u64, int64_t as i64

ctypedef const unsigned char* octets_t

cdef extern from *:
    """
    #include <Python.h>
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>

    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    #define SHM_LE16(v) __builtin_bswap16(v)
    #define SHM_LE32(v) __builtin_bswap32(v)
    #define SHM_LE64(v) __builtin_bswap64(v)
    #else
    #define SHM_LE16(v) (v)
    #define SHM_LE32(v) (v)
    #define SHM_LE64(v) (v)
    #endif

    typedef const unsigned char *shm_octets;

    static inline uint64_t shm_word16(shm_octets d, uint64_t at) {
        uint16_t v; memcpy(&v, d + at, 2); return SHM_LE16(v);
    }
    static inline uint64_t shm_word32(shm_octets d, uint64_t at) {
        uint32_t v; memcpy(&v, d + at, 4); return SHM_LE32(v);
    }
    static inline int64_t shm_signed64(shm_octets d, uint64_t at) {
        uint64_t v; memcpy(&v, d + at, 8); return (int64_t)SHM_LE64(v);
    }
    static inline int64_t shm_signed32(shm_octets d, uint64_t at) {
        return (int32_t)(uint32_t)shm_word32(d, at);
    }
    static inline double shm_real64(shm_octets d, uint64_t at) {
        uint64_t v = (uint64_t)shm_signed64(d, at); double f; memcpy(&f, &v, 8); return f;
    }
    static inline int shm_all_ascii(shm_octets d, uint64_t n) {
        uint64_t any = 0, v;
        for (; n >= 8; d += 8, n -= 8) { memcpy(&v, d, 8); any |= v; }
        if (n & 4) { uint32_t u; memcpy(&u, d, 4); any |= u; d += 4; }
        if (n & 2) any |= (uint64_t)(d[0] | d[1]), d += 2;
        if (n & 1) any |= d[0];
        return (any & UINT64_C(0x8080808080808080)) == 0;
    }
    static inline PyObject *shm_text(shm_octets d, uint64_t at, uint64_t n) {
        if (n > 1 && shm_all_ascii(d + at, n)) {  /* of one there is a ready object */
            PyObject *made = PyUnicode_New((Py_ssize_t)n, 127);
            if (made != NULL) memcpy(PyUnicode_1BYTE_DATA(made), d + at, n);
            return made;
        }
        return PyUnicode_DecodeUTF8((const char *)d + at, (Py_ssize_t)n, "surrogatepass");
    }

    static inline PyObject *shm_ascii_text(shm_octets d, uint64_t at, uint64_t n) {
        if (n > 1 && shm_all_ascii(d + at, n)) return shm_text(d, at, n);
        return PyBytes_FromStringAndSize((const char *)d + at, (Py_ssize_t)n);
    }

    /* Keys of dicts that were decoded lately. Their hashes are computed, and most are asked for
       again: a map's values look alike. Caller holds the GIL. */
    #define SHM_KEYS 1024
    #define SHM_KEY_LONGEST 40
    static PyObject *shm_keys[SHM_KEYS];
    static inline PyObject *shm_key_text(shm_octets d, uint64_t at, uint64_t n) {
        uint64_t h = n, v = 0, i = 0;
        PyObject **place, *made, *old;
        if (n < 2 || n > SHM_KEY_LONGEST) return shm_text(d, at, n);
        for (d += at; i + 8 <= n; i += 8) {
            memcpy(&v, d + i, 8);
            h = (h ^ v) * UINT64_C(0x9E3779B97F4A7C15);
            h ^= h >> 32;
        }
        if (i < n) {
            v = 0;
            memcpy(&v, d + i, n - i);
            h = (h ^ v) * UINT64_C(0x9E3779B97F4A7C15);
            h ^= h >> 32;
        }
        place = shm_keys + ((h ^ h >> 16) & (SHM_KEYS - 1));
        old = *place;
        if (old != NULL && (uint64_t)PyUnicode_GET_LENGTH(old) == n
                && memcmp(PyUnicode_1BYTE_DATA(old), d, n) == 0) {
            Py_INCREF(old);
            return old;
        }
        made = shm_text(d, 0, n);
        if (made != NULL && PyUnicode_IS_COMPACT_ASCII(made) && PyObject_Hash(made) != -1) {
            Py_INCREF(made);
            old = *place;
            *place = made;
            Py_XDECREF(old);
        }
        return made;
    }

    /* Containers are not tracked while they are filled: what looks at all that is tracked would
       find empty places in them. */
    static inline PyObject *shm_new_list(uint64_t n) {
        PyObject *made = PyList_New((Py_ssize_t)n);
        if (made != NULL) PyObject_GC_UnTrack(made);
        return made;
    }
    static inline PyObject *shm_new_tuple(uint64_t n) {  /* not of 0: there is only one */
        PyObject *made = PyTuple_New((Py_ssize_t)n);
        if (made != NULL) PyObject_GC_UnTrack(made);
        return made;
    }
    static inline void shm_put_in_list(PyObject *list, uint64_t i, PyObject *item) {
        Py_INCREF(item);
        PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    static inline void shm_put_in_tuple(PyObject *tuple, uint64_t i, PyObject *item) {
        Py_INCREF(item);
        PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item);
    }
    static inline PyObject *shm_filled(PyObject *made) {
        PyObject_GC_Track(made);
        Py_INCREF(made);
        return made;
    }
    #if PY_VERSION_HEX < 0x030D0000
    #define SHM_NEW_DICT(n) _PyDict_NewPresized(n)
    #else
    #define SHM_NEW_DICT(n) PyDict_New()
    #endif
    static inline PyObject *shm_new_dict(uint64_t n) {
        return n > 5 ? SHM_NEW_DICT((Py_ssize_t)(n < 65536 ? n : 65536)) : PyDict_New();
    }

    /* What is being read: at `at`, up to `end`. `numbered`: what later items may stand for. */
    struct shm_reader {
        shm_octets data; uint64_t at, end, depth;
        PyObject **numbered; uint64_t count, room, claimed; int64_t weight; int numbers;
    };
    #define shm_new_reader() ((struct shm_reader *)__builtin_alloca(sizeof(struct shm_reader)))
    static inline void shm_read_from(struct shm_reader *r, shm_octets d, uint64_t at, uint64_t end) {
        r->data = d; r->at = at; r->end = end; r->depth = 0;
        r->numbered = NULL; r->count = r->room = 0; r->numbers = 0; r->weight = 0; r->claimed = 0;
    }
    static inline int shm_give_number(struct shm_reader *r, PyObject *item) {
        if (r->count == r->room) {
            uint64_t room = r->room ? 2 * r->room : 32;
            PyObject **more = (PyObject **)realloc(r->numbered, room * sizeof *more);
            if (more == NULL) { PyErr_NoMemory(); return -1; }
            r->numbered = more;
            r->room = room;
        }
        Py_INCREF(item);
        r->numbered[r->count++] = item;
        return 0;
    }
    static inline PyObject *shm_numbered(struct shm_reader *r, uint64_t number) {
        PyObject *item = r->numbered[number];
        Py_INCREF(item);
        return item;
    }
    static inline void shm_end_reading(struct shm_reader *r) {
        while (r->count) Py_DECREF(r->numbered[--r->count]);
        free(r->numbered);
        r->numbered = NULL;
    }

    /* What is being written, and the number of each object that was. A place of `known` is free
       unless it has the writer's stamp: so the tables of a module, which serve one writer at a time,
       need no clearing. Caller holds the GIL. */
    #define SHM_INSIDE 1024
    #define SHM_FEW 64
    #define SHM_MORE 1024
    struct shm_known { PyObject *item; uint32_t stamp, number; };
    struct shm_writer {
        unsigned char *data; uint64_t used, room, depth;
        struct shm_known *known; uint64_t places, count; uint32_t stamp;
        int64_t weight; int repeats, holds, too_heavy, is_first;
        unsigned char inside[SHM_INSIDE];
    };
    static struct shm_known shm_few[SHM_FEW], shm_more[SHM_MORE];
    static uint32_t shm_stamp = 0;
    static int shm_is_writing = 0;
    #define shm_new_writer() ((struct shm_writer *)__builtin_alloca(sizeof(struct shm_writer)))
    static inline int shm_begin_writing(struct shm_writer *w) {
        w->data = w->inside; w->used = 0; w->room = SHM_INSIDE; w->depth = 0;
        w->places = SHM_FEW; w->count = 0; w->weight = 0;
        w->repeats = w->holds = w->too_heavy = 0;
        w->is_first = !shm_is_writing;
        if (w->is_first) {
            shm_is_writing = 1;
            w->known = shm_few;
            if (++shm_stamp == 0) {  /* they have all been used */
                memset(shm_few, 0, sizeof shm_few);
                memset(shm_more, 0, sizeof shm_more);
                shm_stamp = 1;
            }
            w->stamp = shm_stamp;
            return 0;
        }
        w->stamp = 1;
        w->known = (struct shm_known *)calloc(SHM_FEW, sizeof *w->known);
        if (w->known != NULL) return 0;
        PyErr_NoMemory();
        return -1;
    }
    static inline int shm_is_own(struct shm_writer *w) {
        return w->known != shm_few && w->known != shm_more;
    }
    /* Keep what has a number alive from now on: somebody's code may run, and let go of it. */
    static inline void shm_keep_alive(struct shm_writer *w) {
        uint64_t i;
        if (w->holds) return;
        w->holds = 1;
        for (i = 0; i < w->places; i++)
            if (w->known[i].stamp == w->stamp) Py_INCREF(w->known[i].item);
    }
    static inline void shm_end_writing(struct shm_writer *w) {
        uint64_t i;
        if (w->holds) for (i = 0; i < w->places; i++)
            if (w->known[i].stamp == w->stamp) Py_DECREF(w->known[i].item);
        if (w->data != w->inside) free(w->data);
        if (shm_is_own(w)) free(w->known);
        if (w->is_first) shm_is_writing = 0;
    }
    static inline int shm_reserve(struct shm_writer *w, uint64_t n) {
        uint64_t room = w->room;
        unsigned char *more;
        if (n <= room - w->used) return 0;
        while (n > room - w->used) room *= 2;
        if (w->data == w->inside) {
            more = (unsigned char *)malloc(room);
            if (more != NULL) memcpy(more, w->inside, w->used);
        } else more = (unsigned char *)realloc(w->data, room);
        if (more == NULL) { PyErr_NoMemory(); return -1; }
        w->data = more;
        w->room = room;
        return 0;
    }
    static inline void shm_put8(struct shm_writer *w, uint64_t v) {
        w->data[w->used++] = (unsigned char)v;
    }
    static inline void shm_put16(struct shm_writer *w, uint64_t v) {
        uint16_t u = SHM_LE16((uint16_t)v); memcpy(w->data + w->used, &u, 2); w->used += 2;
    }
    static inline void shm_put32(struct shm_writer *w, uint64_t v) {
        uint32_t u = SHM_LE32((uint32_t)v); memcpy(w->data + w->used, &u, 4); w->used += 4;
    }
    static inline void shm_put64(struct shm_writer *w, uint64_t v) {
        uint64_t u = SHM_LE64(v); memcpy(w->data + w->used, &u, 8); w->used += 8;
    }
    static inline void shm_put_real(struct shm_writer *w, double v) {
        uint64_t u; memcpy(&u, &v, 8); shm_put64(w, u);
    }
    static inline int64_t shm_bits_of_real(double v) {
        uint64_t u; memcpy(&u, &v, 8); return (int64_t)SHM_LE64(u);
    }
    static inline void shm_put_octets(struct shm_writer *w, const char *d, uint64_t n) {
        memcpy(w->data + w->used, d, n); w->used += n;
    }
    static inline struct shm_known *shm_place(struct shm_writer *w, PyObject *item) {
        uint64_t h = (uint64_t)(uintptr_t)item * UINT64_C(0x9E3779B97F4A7C15) >> 32;
        struct shm_known *place = w->known + (h & (w->places - 1));
        while (place->stamp == w->stamp && place->item != item)
            if (++place == w->known + w->places) place = w->known;
        return place;
    }
    static int shm_more_places(struct shm_writer *w) {
        struct shm_known *old = w->known, *place;
        uint64_t i, places = w->places;
        int was_own = shm_is_own(w);
        if (old == shm_few) {
            w->known = shm_more;
            w->places = SHM_MORE;
        } else {
            w->known = (struct shm_known *)calloc(4 * places, sizeof *place);
            if (w->known == NULL) { w->known = old; PyErr_NoMemory(); return -1; }
            w->places = 4 * places;
        }
        for (i = 0; i < places; i++)
            if (old[i].stamp == w->stamp) *shm_place(w, old[i].item) = old[i];
        if (was_own) free(old);
        return 0;
    }
    static inline int64_t shm_number_of(struct shm_writer *w, PyObject *item) {
        struct shm_known *place = shm_place(w, item);
        if (place->stamp != w->stamp) return -1;
        w->repeats = 1;
        return place->number;
    }
    /* Items are not kept alive as long as nothing runs that could let go of one: see `keep_alive`. */
    static inline int shm_number(struct shm_writer *w, PyObject *item) {
        struct shm_known *place;
        if (2 * w->count >= w->places && shm_more_places(w) < 0) return -1;
        place = shm_place(w, item);
        place->item = item;
        place->stamp = w->stamp;
        place->number = (uint32_t)w->count++;
        if (w->holds) Py_INCREF(item);
        return 0;
    }
    /* Write a str of the most frequent sort at once: 1 done, 0 it is not of that sort. `head` is that
       of a short str, `again` that of the first numbers. */
    static inline int shm_put_short(
        struct shm_writer *w, PyObject *text, unsigned head, unsigned again
    ) {
        uint64_t n;
        unsigned char *at;
        if (!PyUnicode_IS_COMPACT_ASCII(text)) return 0;
        n = (uint64_t)PyUnicode_GET_LENGTH(text);
        if (n >= 64) return 0;
        if (w->room - w->used < 80 && shm_reserve(w, 80) < 0) return -1;
        if (n > 1) {
            struct shm_known *place = shm_place(w, text);
            if (place->stamp == w->stamp) {
                if (place->number >= 32) return 0;
                w->data[w->used++] = (unsigned char)(again + place->number);
                w->repeats = 1;
                return 1;
            }
            if (2 * w->count >= w->places) return 0;
            place->item = text;
            place->stamp = w->stamp;
            place->number = (uint32_t)w->count++;
            if (w->holds) Py_INCREF(text);
        }
        at = w->data + w->used;
        *at = (unsigned char)(head + n);
        memcpy(at + 1, PyUnicode_1BYTE_DATA(text), n);
        w->used += n + 1;
        return 1;
    }
    static inline PyObject *shm_written(struct shm_writer *w) {
        return PyBytes_FromStringAndSize((const char *)w->data, (Py_ssize_t)w->used);
    }
    """
    cdef struct Reader "shm_reader":
        octets_t data
        u64 at
        u64 end
        u64 depth
        u64 count     # of those that have a number
        u64 claimed   # how many items all containers said that they have
        bint numbers  # whether any item stands for one that has a number
        i64 weight
    cdef struct Writer "shm_writer":
        unsigned char* data
        u64 used
        u64 depth
        bint repeats    # whether any item was written as the number of another
        i64 weight      # of the keys that contain others; see `weigh`
        bint too_heavy
    u64 word16 "shm_word16"(octets_t data, u64 at) noexcept nogil
    u64 word32 "shm_word32"(octets_t data, u64 at) noexcept nogil
    i64 signed32 "shm_signed32"(octets_t data, u64 at) noexcept nogil
    i64 signed64 "shm_signed64"(octets_t data, u64 at) noexcept nogil
    double real64 "shm_real64"(octets_t data, u64 at) noexcept nogil
    object text "shm_text"(octets_t data, u64 at, u64 length)
    object ascii_text "shm_ascii_text"(octets_t data, u64 at, u64 length)  # a str, or the bytes
    object key_text "shm_key_text"(octets_t data, u64 at, u64 length)
    object new_list "shm_new_list"(u64 length)
    object new_tuple "shm_new_tuple"(u64 length)
    object new_dict "shm_new_dict"(u64 length)
    void put_in_list "shm_put_in_list"(object made, u64 at, object item) noexcept
    void put_in_tuple "shm_put_in_tuple"(object made, u64 at, object item) noexcept
    object filled "shm_filled"(object made)
    object filled_tuple "shm_filled"(object made)

ctypedef Reader* reader_t
ctypedef Writer* writer_t

cdef extern from *:
    """
    static inline PyObject *shm_octets_at(shm_octets d, uint64_t at, uint64_t n) {
        return PyBytes_FromStringAndSize((const char *)d + at, (Py_ssize_t)n);
    }
    """
    object octets_at "shm_octets_at"(octets_t data, u64 at, u64 length)
    reader_t new_reader "shm_new_reader"() noexcept
    void read_from "shm_read_from"(reader_t r, octets_t data, u64 at, u64 end) noexcept
    int give_number "shm_give_number"(reader_t r, object item) except -1
    object numbered "shm_numbered"(reader_t r, u64 number)
    void end_reading "shm_end_reading"(reader_t r) noexcept
    writer_t new_writer "shm_new_writer"() noexcept
    int begin_writing "shm_begin_writing"(writer_t w) except -1
    void keep_alive "shm_keep_alive"(writer_t w) noexcept
    void end_writing "shm_end_writing"(writer_t w) noexcept
    int reserve "shm_reserve"(writer_t w, u64 length) except -1
    void put8 "shm_put8"(writer_t w, u64 v) noexcept
    void put16 "shm_put16"(writer_t w, u64 v) noexcept
    void put32 "shm_put32"(writer_t w, u64 v) noexcept
    void put64 "shm_put64"(writer_t w, u64 v) noexcept
    i64 bits_of_real "shm_bits_of_real"(double v) noexcept
    void put_real "shm_put_real"(writer_t w, double v) noexcept
    void put_octets "shm_put_octets"(writer_t w, const char* data, u64 length) noexcept
    i64 number_of "shm_number_of"(writer_t w, object item) noexcept
    int number "shm_number"(writer_t w, object item) except -1
    int put_short "shm_put_short"(writer_t w, object text, u64 head, u64 again) except -1
    object written "shm_written"(writer_t w)
