/* Fail the k-th allocation: of the C library, as a preloaded library, and of Python's allocators.

   Only the thread that called `memory_thread` is counted, and only while `memory_words[ON]` is not
   0: that word is stored by Python without allocating anything. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ON, WHICH, AT, MANY, SEEN, FIRED };  /* WHICH: 1 Python's, 2 the C library's */
volatile long memory_words[6];
static __thread int mine __attribute__((tls_model("initial-exec")));

void memory_thread(void) { mine = 1; }

static int fails(long which) {
    if (!memory_words[ON] || !mine || memory_words[WHICH] != which) return 0;
    long seen = ++memory_words[SEEN];
    if (seen < memory_words[AT] || seen >= memory_words[AT] + memory_words[MANY]) return 0;
    memory_words[FIRED]++;
    errno = ENOMEM;
    return 1;
}

/* -- the C library's ------------------------------------------------------------------- */

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);

void *malloc(size_t n) { return fails(2) ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t m) { return fails(2) ? NULL : __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { return n && fails(2) ? NULL : __libc_realloc(p, n); }
void *aligned_alloc(size_t a, size_t n) { return fails(2) ? NULL : __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n) {
    if (fails(2)) return ENOMEM;
    *p = __libc_memalign(a, n);
    return *p ? 0 : ENOMEM;
}
void *mmap(void *p, size_t n, int protection, int flags, int file, off_t at) {
    if (fails(2)) return MAP_FAILED;
    return (void *)syscall(SYS_mmap, p, n, protection, flags, file, at);
}
void *mmap64(void *p, size_t n, int protection, int flags, int file, off_t at) {
    return mmap(p, n, protection, flags, file, at);
}
void *mremap(void *p, size_t old, size_t n, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    void *wanted = va_arg(rest, void *);
    va_end(rest);
    if (n > old && fails(2)) return MAP_FAILED;
    return (void *)syscall(SYS_mremap, p, old, n, flags, wanted);
}

/* -- Python's -------------------------------------------------------------------------- */

typedef struct {
    void *ctx;
    void *(*malloc)(void *, size_t);
    void *(*calloc)(void *, size_t, size_t);
    void *(*realloc)(void *, void *, size_t);
    void (*free)(void *, void *);
} Allocator;  /* PyMemAllocatorEx */

static Allocator was[3];

static void *py_malloc(void *c, size_t n) {
    Allocator *a = c;
    return fails(1) ? NULL : a->malloc(a->ctx, n);
}
static void *py_calloc(void *c, size_t n, size_t m) {
    Allocator *a = c;
    return fails(1) ? NULL : a->calloc(a->ctx, n, m);
}
static void *py_realloc(void *c, void *p, size_t n) {
    Allocator *a = c;
    return fails(1) ? NULL : a->realloc(a->ctx, p, n);
}
static void py_free(void *c, void *p) {
    Allocator *a = c;
    a->free(a->ctx, p);
}

/* Have Python's allocations counted too. Once a process. */
void memory_of_python(void) {
    void (*get)(int, Allocator *) = dlsym(RTLD_DEFAULT, "PyMem_GetAllocator");
    void (*set)(int, Allocator *) = dlsym(RTLD_DEFAULT, "PyMem_SetAllocator");
    for (int domain = 0; domain < 3; domain++) {
        get(domain, &was[domain]);
        Allocator ours = {&was[domain], py_malloc, py_calloc, py_realloc, py_free};
        set(domain, &ours);
    }
}
