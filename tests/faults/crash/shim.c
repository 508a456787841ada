/* Writes down, and may end the process at, every call that changes one folder's files. Loaded by LD_PRELOAD.
 *
 * Python calls crash_watch, crash_arm, crash_note and crash_stop through ctypes. The record lies in memory that the
 * caller shares with its children, so that it outlives a child that was killed. One thread only. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* The same numbers stand in recorder.py. */
enum kind { SEEN, CREATED, WROTE, CUT, SYNCED, SYNCED_FOLDER, RENAMED, LINKED, UNLINKED, NOTED };
enum moment { NEVER, BEFORE, HALFWAY, AFTER };

struct head {
    uint64_t used;  /* bytes of records */
    uint64_t calls; /* that change something */
    uint64_t last;  /* kind of the last of them */
};
struct record {
    uint32_t kind, size;
    uint64_t file, offset;
};

#define MAX_DESCRIPTORS 4096
#define OTHER 0
#define FOLDER 1 /* no file has this number: it is that of a file system's bad blocks */

static char folder[4096];
static size_t folder_length;
static struct head *head;
static char *records;
static size_t capacity;
static uint64_t watched[MAX_DESCRIPTORS]; /* number of the file, FOLDER or OTHER */
static uint64_t deadly_call;
static enum moment deadly_moment;

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static void fail(const char *why)
{
    fprintf(stderr, "crash shim: %s\n", why);
    abort();
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static void record(enum kind kind, uint64_t file, uint64_t offset, const void *data, size_t size)
{
    size_t padded = (size + 7) & ~(size_t)7;
    if (head->used + sizeof(struct record) + padded > capacity) fail("the record is full; give it more memory");
    struct record *next = (struct record *)(records + head->used);
    *next = (struct record){kind, (uint32_t)size, file, offset};
    memcpy(next + 1, data, size);
    head->used += sizeof(struct record) + padded;
}

/* The name of a path inside the folder; NULL for all others, and for what dies with the processes that share it. */
static const char *name_of(const char *path)
{
    if (!folder_length || strncmp(path, folder, folder_length) || path[folder_length] != '/') return NULL;
    size_t length = strlen(path);
    return strcmp(path + length - 4, "-shm") ? path + folder_length + 1 : NULL;
}

/* Counts a call, and dies if it is the one to die before. */
static enum moment count(enum kind kind)
{
    head->last = kind;
    enum moment moment = ++head->calls == deadly_call ? deadly_moment : NEVER;
    if (moment == BEFORE) die();
    return moment;
}

static uint64_t number_of(int descriptor)
{
    if (descriptor < 0 || !folder_length) return OTHER;
    if (descriptor >= MAX_DESCRIPTORS) fail("too many descriptors");
    return watched[descriptor];
}

static int opened(int descriptor, const char *path, const char *name, enum kind kind)
{
    struct stat found;
    if (descriptor < 0 || !folder_length) return descriptor;
    if (descriptor >= MAX_DESCRIPTORS) fail("too many descriptors");
    watched[descriptor] = OTHER;
    if (name) {
        if (fstat(descriptor, &found)) fail("cannot tell which file was opened");
        watched[descriptor] = found.st_ino;
        record(kind, found.st_ino, 0, name, strlen(name));
    } else if (!strcmp(path, folder)) {
        watched[descriptor] = FOLDER;
    }
    return descriptor;
}

static int open_watched(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode)
{
    const char *name = name_of(path);
    if (!name) return opened(real(path, flags, mode), path, NULL, SEEN);
    int is_there = !access(path, F_OK);
    int creates = (flags & O_CREAT) && !is_there, cuts = (flags & O_TRUNC) && is_there;
    enum moment moment = creates || cuts ? count(creates ? CREATED : CUT) : NEVER;
    if (moment == HALFWAY) die();
    int descriptor = opened(real(path, flags, mode), path, name, creates ? CREATED : SEEN);
    int error = errno;
    if (descriptor >= 0 && cuts) record(CUT, watched[descriptor], 0, "", 0);
    if (moment) die();
    errno = error;
    return descriptor;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return open_watched(real, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int close(int descriptor)
{
    REAL(close);
    if (descriptor >= 0 && descriptor < MAX_DESCRIPTORS) watched[descriptor] = OTHER;
    return real(descriptor);
}

/* What a write has done is known only afterwards: how much of it, and where an appending one went. */
static ssize_t wrote(int descriptor, const void *data, ssize_t done, off_t offset, enum moment moment)
{
    int error = errno;
    if (offset < 0) offset = lseek(descriptor, 0, SEEK_CUR) - done;
    if (done > 0) record(WROTE, watched[descriptor], (uint64_t)offset, data, (size_t)done);
    if (moment) die();
    errno = error;
    return done;
}

ssize_t write(int descriptor, const void *data, size_t size)
{
    REAL(write);
    if (number_of(descriptor) == OTHER) return real(descriptor, data, size);
    enum moment moment = count(WROTE);
    return wrote(descriptor, data, real(descriptor, data, moment == HALFWAY ? size / 2 : size), -1, moment);
}

#define PWRITE(name, type) \
    ssize_t name(int descriptor, const void *data, size_t size, type offset) \
    { \
        REAL(name); \
        if (number_of(descriptor) == OTHER) return real(descriptor, data, size, offset); \
        enum moment moment = count(WROTE); \
        size_t part = moment == HALFWAY ? size / 2 : size; \
        return wrote(descriptor, data, real(descriptor, data, part, offset), offset, moment); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

/* Nobody here gathers. Whoever begins to must be watched, not missed. */
#define GATHER(name, parameters, arguments) \
    ssize_t name parameters \
    { \
        REAL(name); \
        if (number_of(descriptor) != OTHER) fail(#name " is not recorded yet"); \
        return real arguments; \
    }
GATHER(writev, (int descriptor, const struct iovec *parts, int n), (descriptor, parts, n))
GATHER(pwritev, (int descriptor, const struct iovec *parts, int n, off_t at), (descriptor, parts, n, at))
GATHER(pwritev64, (int descriptor, const struct iovec *parts, int n, off64_t at), (descriptor, parts, n, at))

#define SYNC(name) \
    int name(int descriptor) \
    { \
        REAL(name); \
        uint64_t file = number_of(descriptor); \
        if (file == OTHER) return real(descriptor); \
        enum moment moment = count(file == FOLDER ? SYNCED_FOLDER : SYNCED); \
        if (moment == HALFWAY) die(); \
        int result = real(descriptor), error = errno; \
        if (!result) record(file == FOLDER ? SYNCED_FOLDER : SYNCED, file, 0, "", 0); \
        if (moment) die(); \
        errno = error; \
        return result; \
    }
SYNC(fsync)
SYNC(fdatasync)

#define FTRUNCATE(name, type) \
    int name(int descriptor, type size) \
    { \
        REAL(name); \
        uint64_t file = number_of(descriptor); \
        if (file == OTHER) return real(descriptor, size); \
        enum moment moment = count(CUT); \
        if (moment == HALFWAY) die(); \
        int result = real(descriptor, size), error = errno; \
        if (!result) record(CUT, file, (uint64_t)size, "", 0); \
        if (moment) die(); \
        errno = error; \
        return result; \
    }
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)

#define TRUNCATE(name, type) \
    int name(const char *path, type size) \
    { \
        REAL(name); \
        if (name_of(path)) fail(#name " is not recorded yet"); \
        return real(path, size); \
    }
TRUNCATE(truncate, off_t)
TRUNCATE(truncate64, off64_t)

#define TWO_NAMES(call, kind) \
    int call(const char *from, const char *to) \
    { \
        REAL(call); \
        const char *one = name_of(from), *two = name_of(to); \
        char both[8192]; \
        if (!one && !two) return real(from, to); \
        if (!one || !two) fail(#call " across the folder's border is not recorded"); \
        enum moment moment = count(kind); \
        if (moment == HALFWAY) die(); \
        int result = real(from, to), error = errno; \
        int size = snprintf(both, sizeof both, "%s/%s", one, two); \
        if (!result) record(kind, 0, 0, both, (size_t)size); \
        if (moment) die(); \
        errno = error; \
        return result; \
    }
TWO_NAMES(rename, RENAMED)
TWO_NAMES(link, LINKED)

int unlink(const char *path)
{
    REAL(unlink);
    const char *name = name_of(path);
    if (!name) return real(path);
    enum moment moment = count(UNLINKED);
    if (moment == HALFWAY) die();
    int result = real(path), error = errno;
    if (!result) record(UNLINKED, 0, 0, name, strlen(name));
    if (moment) die();
    errno = error;
    return result;
}

/* Begins a new record in `memory` of what happens below the absolute `path`. */
void crash_watch(const char *path, void *memory, size_t size)
{
    head = memory;
    records = (char *)(head + 1);
    capacity = size - sizeof *head;
    *head = (struct head){0, 0, 0};
    memset(watched, 0, sizeof watched);
    deadly_call = 0;
    folder_length = strlen(path);
    if (folder_length >= sizeof folder) fail("the folder's path is too long");
    memcpy(folder, path, folder_length + 1);
}

/* Lets the process be killed before, half-way through or after its call number `call`. */
void crash_arm(uint64_t call, enum moment moment)
{
    deadly_call = call;
    deadly_moment = moment;
}

/* Writes down what is no call: what was intended or acknowledged between two of them. */
void crash_note(const void *data, size_t size)
{
    if (folder_length) record(NOTED, 0, 0, data, size);
}

void crash_stop(void)
{
    folder_length = 0;
}
