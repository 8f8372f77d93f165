# The C below has state of its own: no other .pxd may cimport this one (a test asserts it), or
# there would be two handlers. Others import the Python functions.
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport uint64_t as u64

cdef extern from *:
    """
    #define _GNU_SOURCE 1
    #include <errno.h>
    #include <fcntl.h>
    #include <signal.h>
    #include <stdint.h>
    #include <stdlib.h>
    #include <sys/mman.h>
    #include <sys/stat.h>
    #include <unistd.h>

    struct shm_region {  /* never freed: the handler may be looking at it */
        uintptr_t start;
        uintptr_t size;  /* whole pages; 0: not in use. Stored last and cleared first */
        uint64_t *flag;
        int cut;
        struct shm_region *next;   /* of all */
        struct shm_region *spare;  /* of those not in use */
    };
    static struct shm_region *shm_regions = NULL, *shm_spare = NULL;
    static int shm_cut = 0;              /* whether any region ever was */
    static struct sigaction shm_before;  /* what SIGBUS did before us */
    static uintptr_t shm_page = 0;       /* 0: not installed */

    static struct shm_region *shm_region_of(uintptr_t at) {
        struct shm_region *r = __atomic_load_n(&shm_regions, __ATOMIC_ACQUIRE);
        for (; r != NULL; r = r->next) {
            uintptr_t size = __atomic_load_n(&r->size, __ATOMIC_ACQUIRE);
            uintptr_t start = __atomic_load_n(&r->start, __ATOMIC_ACQUIRE);
            if (at - start < size && size == __atomic_load_n(&r->size, __ATOMIC_ACQUIRE)) return r;
        }
        return NULL;
    }
    static void shm_pass_on(int number, siginfo_t *info, void *context) {
        if (shm_before.sa_flags & SA_SIGINFO) {
            shm_before.sa_sigaction(number, info, context);
        } else if (shm_before.sa_handler != SIG_DFL && shm_before.sa_handler != SIG_IGN) {
            shm_before.sa_handler(number);
        } else if (info->si_code > 0) {  /* a fault: it comes again as we return, and ends us */
            sigaction(number, &shm_before, NULL);
        } else if (shm_before.sa_handler == SIG_DFL) {  /* sent: blocked until we return */
            sigaction(number, &shm_before, NULL);
            raise(number);
        }
    }
    static void shm_on_bus(int number, siginfo_t *info, void *context) {
        int kept = errno;
        uintptr_t at = (uintptr_t)info->si_addr & ~(shm_page - 1);
        struct shm_region *r = info->si_code == BUS_ADRERR ? shm_region_of(at) : NULL;
        if (r != NULL) {  /* told before the zeros can be read */
            __atomic_store_n(&shm_cut, 1, __ATOMIC_SEQ_CST);
            __atomic_store_n(&r->cut, 1, __ATOMIC_SEQ_CST);
            uint64_t *flag = __atomic_load_n(&r->flag, __ATOMIC_SEQ_CST);
            if (flag != NULL) __atomic_store_n(flag, 2 /* CUT */, __ATOMIC_SEQ_CST);
        }
        if (r == NULL || mmap((void *)at, r->start + r->size - at, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
                              -1, 0) == MAP_FAILED)
            shm_pass_on(number, info, context);
        errno = kept;
    }
    static int shm_install(void) {
        struct sigaction ours;
        if (shm_page) return 1;
        if (sigaction(SIGBUS, NULL, &shm_before) != 0) return 0;
        shm_page = (uintptr_t)sysconf(_SC_PAGESIZE);
        ours.sa_sigaction = shm_on_bus;
        /* an earlier handler that wants system calls broken off still gets that */
        ours.sa_flags = SA_SIGINFO | SA_ONSTACK | (shm_before.sa_flags & SA_RESTART);
        sigemptyset(&ours.sa_mask);
        if (sigaction(SIGBUS, &ours, NULL) != 0) shm_page = 0;
        return shm_page != 0;
    }
    /* The rest is called with the GIL held. A region's number is its address; 0: not watched. */
    static uint64_t shm_watch(uint64_t address, uint64_t size) {
        struct shm_region *r = shm_spare;
        if (!shm_install()) return 0;
        if (r != NULL) {
            shm_spare = r->spare;
        } else {
            r = calloc(1, sizeof *r);
            if (r == NULL) return 0;
            r->next = shm_regions;
            __atomic_store_n(&shm_regions, r, __ATOMIC_RELEASE);
        }
        r->flag = NULL;
        r->cut = 0;
        __atomic_store_n(&r->start, (uintptr_t)address & ~(shm_page - 1), __ATOMIC_RELEASE);
        size += address - r->start;
        __atomic_store_n(&r->size, ((uintptr_t)size + shm_page - 1) & ~(shm_page - 1),
                         __ATOMIC_RELEASE);
        return (uint64_t)(uintptr_t)r;
    }
    static void shm_tell(uint64_t number, uint64_t flag) {
        struct shm_region *r = (struct shm_region *)(uintptr_t)number;
        if (r != NULL) __atomic_store_n(&r->flag, (uint64_t *)(uintptr_t)flag, __ATOMIC_SEQ_CST);
    }
    static int shm_is_cut(uint64_t number) {
        struct shm_region *r = (struct shm_region *)(uintptr_t)number;
        return r != NULL && __atomic_load_n(&r->cut, __ATOMIC_SEQ_CST);
    }
    static int shm_was_cut(void) { return __atomic_load_n(&shm_cut, __ATOMIC_SEQ_CST); }
    static void shm_unwatch(uint64_t number) {
        struct shm_region *r = (struct shm_region *)(uintptr_t)number;
        if (r == NULL) return;
        __atomic_store_n(&r->size, 0, __ATOMIC_SEQ_CST);
        r->spare = shm_spare;
        shm_spare = r;
    }
    /* Open a file, map it, guard it and close it, if it is just what is asked for. No Python runs
       meanwhile: no handler does anything here, nobody forks, no thread of its sees the descriptor. */
    static uint64_t shm_map_file(const char *path, uint64_t owner, uint64_t unwanted,
                                 uint64_t size, char *start, uint64_t length, uint64_t *number) {
        struct stat found;
        void *at = MAP_FAILED;
        int file = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        if (file < 0) return 0;
        if (fstat(file, &found) == 0 && S_ISREG(found.st_mode) && found.st_uid == owner
            && found.st_nlink <= 1 && !(found.st_mode & unwanted) && (uint64_t)found.st_size == size
            && (!length || pread(file, start, length, 0) == (ssize_t)length))
            at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        if (at == MAP_FAILED) return 0;
        *number = shm_watch((uint64_t)(uintptr_t)at, size);
        if (*number) return (uint64_t)(uintptr_t)at;
        munmap(at, size);
        return 0;
    }
    static void shm_close_region(uint64_t number, uint64_t address, uint64_t size) {
        shm_unwatch(number);
        if (address) munmap((void *)(uintptr_t)address, size);
    }
    static uint64_t shm_in_use(void) {
        uint64_t n = 0;
        for (struct shm_region *r = shm_regions; r != NULL; r = r->next) n += r->size != 0;
        return n;
    }
    static uint64_t shm_in_all(void) {
        uint64_t n = 0;
        for (struct shm_region *r = shm_regions; r != NULL; r = r->next) n++;
        return n;
    }
    static uint64_t shm_spares(void) {  /* ends where one is spare twice, too */
        uint64_t n = 0, most = shm_in_all();
        for (struct shm_region *r = shm_spare; r != NULL && n <= most; r = r->spare) n++;
        return n;
    }
    static int shm_unlink_if(const char *path, uint64_t device, uint64_t inode) {
        struct stat found;
        if (lstat(path, &found) != 0) return errno == ENOENT ? -1 : errno;
        if (found.st_dev != device || found.st_ino != inode) return -1;
        return unlink(path) == 0 ? 0 : errno == ENOENT ? -1 : errno;
    }
    """
    u64 watch_region "shm_watch"(u64 address, u64 size) noexcept
    void tell_region "shm_tell"(u64 number, u64 flag_address) noexcept
    bint region_is_cut "shm_is_cut"(u64 number) noexcept
    bint region_was_cut "shm_was_cut"() noexcept
    u64 map_file "shm_map_file"(const char *path, u64 owner, u64 unwanted, u64 size,
                                char *start, u64 length, u64 *number) noexcept
    void close_region "shm_close_region"(u64 number, u64 address, u64 size) noexcept
    int unlink_that "shm_unlink_if"(const char *path, u64 device, u64 inode) noexcept
    u64 regions_in_use "shm_in_use"() noexcept
    u64 regions_spare "shm_spares"() noexcept
    u64 regions_in_all "shm_in_all"() noexcept

cdef class Region:
    cdef u64 number
    cdef readonly u64 address
    cdef u64 size
