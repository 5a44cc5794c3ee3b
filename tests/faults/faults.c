/* A layer between a process and the system that fails its writes, for tests/it/faults.rs (LD_PRELOAD).
 *
 * FAULT_PATH  what the path of a file must contain for its writes to count
 * FAULT_AT    which of these calls fails, from 1
 * FAULT_MODE  eio     that call fails with EIO, and those after it are done
 *             enospc  that call and all after it that would write fail with ENOSPC
 *             torn    half of that write is done, and the process dies as a power cut would end it
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum what { PASS, EIO_ONCE, NO_SPACE, TEAR };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long calls = 0;

/* What becomes of a call on `fd`; `writes` says whether it takes room on the disk. */
static enum what decide(int fd, int writes) {
    const char *path = getenv("FAULT_PATH"), *at = getenv("FAULT_AT"), *mode = getenv("FAULT_MODE");
    char link[64], name[4096];
    if (!path || !at || !mode) return PASS;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length <= 0) return PASS;
    name[length] = 0;
    if (!strstr(name, path)) return PASS;
    pthread_mutex_lock(&lock);
    long call = ++calls;
    pthread_mutex_unlock(&lock);
    if (!strcmp(mode, "eio")) return call == atol(at) ? EIO_ONCE : PASS;
    if (!strcmp(mode, "enospc")) return call >= atol(at) && writes ? NO_SPACE : PASS;
    return call == atol(at) ? TEAR : PASS;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *bytes, size_t count) {
    switch (decide(fd, 1)) {
    case EIO_ONCE: errno = EIO; return -1;
    case NO_SPACE: errno = ENOSPC; return -1;
    case TEAR: REAL(write)(fd, bytes, count / 2); _exit(137);
    default: return REAL(write)(fd, bytes, count);
    }
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    switch (decide(fd, 1)) {
    case EIO_ONCE: errno = EIO; return -1;
    case NO_SPACE: errno = ENOSPC; return -1;
    case TEAR: REAL(pwrite)(fd, bytes, count / 2, offset); _exit(137);
    default: return REAL(pwrite)(fd, bytes, count, offset);
    }
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    switch (decide(fd, 1)) {
    case EIO_ONCE: errno = EIO; return -1;
    case NO_SPACE: errno = ENOSPC; return -1;
    case TEAR: REAL(pwrite64)(fd, bytes, count / 2, offset); _exit(137);
    default: return REAL(pwrite64)(fd, bytes, count, offset);
    }
}

#define FAILS(type, name, arguments, call, writes)           \
    type name arguments {                                    \
        switch (decide(fd, writes)) {                        \
        case EIO_ONCE: errno = EIO; return -1;               \
        case NO_SPACE: errno = ENOSPC; return -1;            \
        case TEAR: _exit(137);                               \
        default: return REAL(name) call;                     \
        }                                                    \
    }

FAILS(int, fsync, (int fd), (fd), 0)
FAILS(int, fdatasync, (int fd), (fd), 0)
FAILS(int, ftruncate, (int fd, off_t length), (fd, length), 1)
FAILS(int, ftruncate64, (int fd, off64_t length), (fd, length), 1)
