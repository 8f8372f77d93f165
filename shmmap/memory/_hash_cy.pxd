from ._layout cimport *
from ._atomics cimport *

cdef u64 hash_key(src_t data, u64 length, u64 key_type, u64 seed) noexcept

cdef extern from *:
    """
    /* XXH3_64bits_withSeed, as the specification has it. */
    #define XA UINT64_C(0x9E3779B185EBCA87)
    #define XB UINT64_C(0xC2B2AE3D27D4EB4F)
    #define XC UINT64_C(0x165667B19E3779F9)
    #define XD UINT64_C(0x85EBCA77C2B2AE63)
    #define XE UINT64_C(0x27D4EB2F165667C5)
    #define XA32 UINT64_C(0x9E3779B1)
    static const uint64_t shm_secret[24] __attribute__((unused)) = {  /* its bytes, as little-endian words */
        0xbe4ba423396cfeb8, 0x1cad21f72c81017c, 0xdb979083e96dd4de, 0x1f67b3b7a4a44072,
        0x78e5c0cc4ee679cb, 0x2172ffcc7dd05a82, 0x8e2443f7744608b8, 0x4c263a81e69035e0,
        0xcb00c391bb52283c, 0xa32e531b8b65d088, 0x4ef90da297486471, 0xd8acdea946ef1938,
        0x3f349ce33f76faa8, 0x1d4f0bc7c7bbdcf9, 0x3159b4cd4be0518a, 0x647378d9c97e9fc8,
        0xc3ebd33483acc5ea, 0xeb6313faffa081c5, 0x49daf0b751dd0d17, 0x9e68d429265516d3,
        0xfca1477d58be162b, 0xce31d07ad1b8f88f, 0x280416958f3acb45, 0x7e404bbbcafbd7af
    };
    static inline uint64_t shm_le64(const char *p) {
        uint64_t v;
        memcpy(&v, p, 8);
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        v = __builtin_bswap64(v);
    #endif
        return v;
    }
    static inline uint64_t shm_le32(const char *p) {
        uint32_t v;
        memcpy(&v, p, 4);
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        v = __builtin_bswap32(v);
    #endif
        return v;
    }
    static inline uint64_t shm_secret_at(uint64_t at) {  /* the 8 bytes of the secret from `at` on */
        unsigned shift = (unsigned)(at & 7) * 8;
        uint64_t v = shm_secret[at >> 3] >> shift;
        return shift ? v | shm_secret[(at >> 3) + 1] << (64 - shift) : v;
    }
    static inline uint64_t shm_fold(uint64_t a, uint64_t b) {
    #if defined(__SIZEOF_INT128__)
        unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    #else
        uint64_t c = a & 0xFFFFFFFF, d = b & 0xFFFFFFFF;
        uint64_t low = c * d, one = (a >> 32) * d + (low >> 32), two = c * (b >> 32);
        two += one & 0xFFFFFFFF;
        return (a * b) ^ ((a >> 32) * (b >> 32) + (one >> 32) + (two >> 32));
    #endif
    }
    static inline uint64_t shm_rotated(uint64_t v, int n) { return v << n | v >> (64 - n); }
    static inline uint64_t shm_avalanche(uint64_t h) {
        h = (h ^ h >> 37) * UINT64_C(0x165667919E3779F9);
        return h ^ h >> 32;
    }
    static inline uint64_t shm_avalanche_64(uint64_t h) {
        h = (h ^ h >> 33) * XB;
        h = (h ^ h >> 29) * XC;
        return h ^ h >> 32;
    }
    static inline uint64_t shm_mix(const char *p, uint64_t at, uint64_t seed) {
        return shm_fold(shm_le64(p) ^ (shm_secret_at(at) + seed),
                        shm_le64(p + 8) ^ (shm_secret_at(at + 8) - seed));
    }
    static inline uint64_t shm_hash_short(const char *p, uint64_t n, uint64_t seed) {  /* up to 16 */
        uint64_t low, high;
        if (n > 8) {
            low = shm_le64(p) ^ ((shm_secret_at(24) ^ shm_secret_at(32)) + seed);
            high = shm_le64(p + n - 8) ^ ((shm_secret_at(40) ^ shm_secret_at(48)) - seed);
            return shm_avalanche(n + __builtin_bswap64(low) + high + shm_fold(low, high));
        }
        if (n >= 4) {
            seed ^= (uint64_t)__builtin_bswap32((uint32_t)seed) << 32;
            low = shm_le32(p + n - 4) + (shm_le32(p) << 32);
            low ^= (shm_secret_at(8) ^ shm_secret_at(16)) - seed;
            low ^= shm_rotated(low, 49) ^ shm_rotated(low, 24);
            low *= UINT64_C(0x9FB21C651E98DF25);
            low = (low ^ ((low >> 35) + n)) * UINT64_C(0x9FB21C651E98DF25);
            return low ^ low >> 28;
        }
        if (n) {
            const unsigned char *q = (const unsigned char *)p;
            low = (uint32_t)q[0] << 16 | (uint32_t)q[n >> 1] << 24 | q[n - 1] | (uint32_t)n << 8;
            high = (uint32_t)shm_secret_at(0) ^ (uint32_t)(shm_secret_at(0) >> 32);
            return shm_avalanche_64(low ^ (high + seed));
        }
        return shm_avalanche_64(seed ^ shm_secret_at(56) ^ shm_secret_at(64));
    }
    static inline uint64_t shm_hash_middle(const char *p, uint64_t n, uint64_t seed) {  /* up to 240 */
        uint64_t sum = n * XA, i;
        if (n <= 128) {
            for (i = (n - 1) / 32 + 1; i-- > 0;) {
                sum += shm_mix(p + 16 * i, 32 * i, seed);
                sum += shm_mix(p + n - 16 * (i + 1), 32 * i + 16, seed);
            }
            return shm_avalanche(sum);
        }
        for (i = 0; i < 8; i++) sum += shm_mix(p + 16 * i, 16 * i, seed);
        sum = shm_avalanche(sum);
        for (; i < n / 16; i++) sum += shm_mix(p + 16 * i, 16 * (i - 8) + 3, seed);
        return shm_avalanche(sum + shm_mix(p + n - 16, 119, seed));
    }
    static inline uint64_t shm_keyed(uint64_t at, uint64_t seed) {  /* a seed changes the secret */
        uint64_t shift = (at & 7) * 8, word = at >> 3;
        uint64_t v = shm_secret[word] + (word & 1 ? 0 - seed : seed), w;
        if (!shift) return v;
        w = shm_secret[word + 1] + (word & 1 ? seed : 0 - seed);
        return v >> shift | w << (64 - shift);
    }
    static inline void shm_stripe(uint64_t *sums, const char *p, uint64_t at, uint64_t seed) {
        for (int i = 0; i < 8; i++) {
            uint64_t data = shm_le64(p + 8 * i), key = data ^ shm_keyed(at + 8u * i, seed);
            sums[i ^ 1] += data;
            sums[i] += (key & 0xFFFFFFFF) * (key >> 32);
        }
    }
    static inline uint64_t shm_hash_long(const char *p, uint64_t n, uint64_t seed) {
        uint64_t sums[8] = {0xC2B2AE3D, XA, XB, XC, XD, 0x85EBCA77, XE, XA32};
        uint64_t stripes = (n - 1) / 64, s, found = n * XA;
        for (s = 0; s < stripes; s++) {
            shm_stripe(sums, p + 64 * s, s % 16 * 8, seed);
            if (s % 16 == 15)
                for (int i = 0; i < 8; i++)
                    sums[i] = (sums[i] ^ sums[i] >> 47 ^ shm_keyed(128 + 8u * i, seed)) * XA32;
        }
        shm_stripe(sums, p + n - 64, 121, seed);
        for (int i = 0; i < 4; i++)
            found += shm_fold(sums[2 * i] ^ shm_keyed(11 + 16u * i, seed),
                              sums[2 * i + 1] ^ shm_keyed(19 + 16u * i, seed));
        return shm_avalanche(found);
    }
    static inline uint64_t shm_hash_own(const void *data, size_t n, uint64_t seed) {
        const char *p = (const char *)data;
        return n <= 16 ? shm_hash_short(p, n, seed)
            : n <= 240 ? shm_hash_middle(p, n, seed) : shm_hash_long(p, n, seed);
    }

    typedef uint64_t (*shm_hash_t)(const void *, size_t, uint64_t);
    static shm_hash_t shm_hash_function __attribute__((unused)) = shm_hash_own;
    static inline void shm_hash_set(uint64_t a) {
        shm_hash_function = a ? (shm_hash_t)(uintptr_t)a : shm_hash_own;
    }
    static inline uint64_t shm_hash_call(const void *d, uint64_t n, uint64_t s) {
        return shm_hash_function(d, (size_t)n, s);
    }
    """
    void set_hash_function "shm_hash_set"(u64 address) noexcept
    u64 call_hash_function "shm_hash_call"(const void* data, u64 length, u64 seed) noexcept
    u64 call_own_function "shm_hash_own"(src_t data, u64 length, u64 seed) noexcept
