/* Makes many random calls on one array and prints what each returned and left behind. The array is private, or registered as
 * shared memory whose pages are mostly absent: the kernel cannot use them (EFAULT), and a touch raises SIGSEGV, which
 * brings the page. What is printed must not depend on that.
 *
 * random_calls MODE SEED CALLS; MODE is private, kept (pages stay while they are pinned) or taken (they may go at once). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 600
#define BYTES ((size_t)PAGES * PAGE)

static unsigned char arena[BYTES] __attribute__((aligned(PAGE)));
static int shared, taken;
static volatile int pins;
static uint64_t state;
static uint64_t thief = 88172645463325252u;

static uint64_t next(uint64_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static uint64_t below(uint64_t bound) { return next(&state) % bound; }

static void rights(uintptr_t address, size_t bytes, int value) {
    uintptr_t first = address & ~(uintptr_t)(PAGE - 1);
    if (bytes > 0 && mprotect((void *)first, address + bytes - first, value) != 0)
        abort();
}

static void come(uintptr_t address, size_t bytes) { rights(address, bytes, PROT_READ | PROT_WRITE); }
static void go(uintptr_t address, size_t bytes) { rights(address, bytes, PROT_NONE); }

static void fault(int number, siginfo_t *info, void *context) {
    uintptr_t address = (uintptr_t)info->si_addr;
    (void)number;
    (void)context;
    if (!shared || address < (uintptr_t)arena || address >= (uintptr_t)arena + BYTES)
        abort();
    come(address, 1);
}

/* What the runtime does for the library. */
struct handlers {
    int (*pin)(uintptr_t, size_t, int);
    int (*unpin)(uintptr_t, size_t, int);
    int (*copy_in)(uintptr_t, const void *, size_t);
    int (*copy_out)(void *, uintptr_t, size_t);
};

static int pin(uintptr_t address, size_t bytes, int write) {
    (void)write;
    come(address, bytes);
    pins++;
    if (taken && next(&thief) % 3 != 0)
        go(address + (bytes > PAGE ? next(&thief) % bytes : 0), 1);
    return 0;
}
static int unpin(uintptr_t address, size_t bytes, int write) {
    (void)write;
    pins--;
    go(address, bytes);
    return taken ? EAGAIN : 0;
}
static int copy_in(uintptr_t address, const void *from, size_t bytes) {
    memcpy((void *)address, from, bytes);
    return 0;
}
static int copy_out(void *to, uintptr_t address, size_t bytes) {
    memcpy(to, (const void *)address, bytes);
    return 0;
}
static const struct handlers handlers = {pin, unpin, copy_in, copy_out};

static void share(void) {
    int (*add)(uintptr_t, size_t, const struct handlers *) =
        (int (*)(uintptr_t, size_t, const struct handlers *))dlsym(RTLD_DEFAULT, "pagemesh_preload_add_v1");
    struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO};
    if (add == NULL || add((uintptr_t)arena, BYTES, &handlers) != 0)
        abort();
    sigaction(SIGSEGV, &action, NULL);
}

static uint64_t hash(const unsigned char *bytes, size_t count) {
    uint64_t value = 14695981039346656037u;
    for (size_t i = 0; i < count; i++)
        value = (value ^ bytes[i]) * 1099511628211u;
    return value;
}

enum { FILE_IN, FILE_OUT, PIPE_IN, PIPE_OUT, STREAM_A, STREAM_B, MESSAGE_A, MESSAGE_B, ZERO, NOWHERE, FOLDER, BAD, KINDS };
static int descriptor[KINDS];
static FILE *in, *out;

static int any(void) { return descriptor[below(KINDS)]; }

static void setup(void) {
    int pair[2];
    char name[] = "/tmp/pagemesh-calls-XXXXXX";
    static unsigned char bytes[3 << 20];
    descriptor[FILE_IN] = mkstemp(name);
    unlink(name);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)((i * 2654435761u) >> 13);
    for (size_t i = 97; i < sizeof bytes; i += 1 + i % 391)
        bytes[i] = '\n';
    if (write(descriptor[FILE_IN], bytes, sizeof bytes) != (ssize_t)sizeof bytes)
        abort();
    strcpy(name, "/tmp/pagemesh-calls-XXXXXX");
    descriptor[FILE_OUT] = mkstemp(name);
    unlink(name);
    if (pipe2(pair, O_NONBLOCK) != 0)
        abort();
    descriptor[PIPE_IN] = pair[0], descriptor[PIPE_OUT] = pair[1];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0)
        abort();
    descriptor[STREAM_A] = pair[0], descriptor[STREAM_B] = pair[1];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) != 0)
        abort();
    descriptor[MESSAGE_A] = pair[0], descriptor[MESSAGE_B] = pair[1];
    descriptor[ZERO] = open("/dev/zero", O_RDWR);
    descriptor[NOWHERE] = open("/dev/null", O_RDWR);
    descriptor[FOLDER] = open("/tmp", O_RDONLY);
    descriptor[BAD] = 999;
    in = fdopen(dup(descriptor[FILE_IN]), "r");
    out = tmpfile();
}

static size_t some_bytes(void) {
    switch (below(5)) {
    case 0: return below(3);
    case 1: return below(300);
    case 2: return below(9000);
    case 3: return below(200000);
    default: return below(30) == 0 ? below(BYTES) : PAGE * below(20);
    }
}

/* Inlined, so that the compiler knows the array's size and, if asked to, calls the forms that check it. */
__attribute__((always_inline)) static inline long call(unsigned which, unsigned char *at, size_t bytes) {
    struct iovec list[4];
    struct msghdr message;
    int count = 0, file = any();
    off_t position = (off_t)below(3 << 20);
    for (size_t done = 0; done < bytes && count < 4; count++) {
        size_t part = count == 3 ? bytes - done : below(bytes - done + 1);
        list[count].iov_base = at + done, list[count].iov_len = part;
        done += part;
    }
    memset(&message, 0, sizeof message);
    message.msg_iov = list, message.msg_iovlen = (size_t)count;
    switch (which) {
    case 0: return read(file, at, bytes);
    case 1: return write(file, at, bytes);
    case 2: return pread(file, at, bytes, position);
    case 3: return pwrite(file, at, bytes, position);
    case 4: return readv(file, list, count);
    case 5: return writev(file, list, count);
    case 6: return preadv(file, list, count, position);
    case 7: return pwritev(file, list, count, position);
    case 8: return recv(file, at, bytes, 0);
    case 9: return send(file, at, bytes, MSG_NOSIGNAL);
    case 10: return recvfrom(file, at, bytes, MSG_PEEK, NULL, NULL);
    case 11: return sendto(file, at, bytes, MSG_NOSIGNAL | MSG_EOR, NULL, 0);
    case 12: {
        long got = recvmsg(file, &message, 0);
        return got < 0 ? got : got * 1000 + message.msg_flags;
    }
    case 13: return sendmsg(file, &message, MSG_NOSIGNAL);
    case 14: return (long)fread(at, 1 + bytes % 7, bytes / (1 + bytes % 7), in);
    case 15: return (long)fwrite(at, 1 + bytes % 7, bytes / (1 + bytes % 7), out);
    case 16: return fgets((char *)at, (int)bytes, in) != NULL;
    case 17: return fputs((char *)at, out);
    case 18: return lseek(descriptor[FILE_IN], position, SEEK_SET);
    case 19: return fseek(in, position, SEEK_SET) + (fseek(out, 0, SEEK_SET) << 4);
    case 20: return preadv2(file, list, count, -1, 0);
    case 21: return recv(file, at, bytes, MSG_TRUNC);
    case 22: return below(2) ? readv(file, NULL, (int)below(3) - 1) : readv(file, list, below(2) ? -1 : 0);
    case 23: return (long)fread_unlocked(at, 1, bytes, in);
    case 24: return (long)fwrite_unlocked(at, 1, bytes, out);
    case 25: return pwritev2(file, list, count, -1, 0);
    default: return read(file, below(2) ? NULL : at, bytes);
    }
}

/* Before main, as an initialiser of a library would. */
__attribute__((constructor)) static void early(void) {
    char byte;
    int zero = open("/dev/zero", O_RDONLY);
    if (read(zero, &byte, 1) != 1 || byte != 0)
        abort();
    close(zero);
}

int main(int count, char **arguments) {
    if (count != 4)
        return 2;
    shared = strcmp(arguments[1], "private") != 0;
    taken = strcmp(arguments[1], "taken") == 0;
    state = strtoull(arguments[2], NULL, 10) * 2654435761u + 1;
    setup();
    for (size_t i = 0; i < BYTES; i++)
        arena[i] = (unsigned char)(i * 31 >> 5);
    if (shared)
        share();
    if (strcmp(arguments[2], "too-many") == 0) /* one byte more, which the compiler cannot know */
        return (int)read(descriptor[FILE_IN], arena, BYTES + (size_t)atol(arguments[3]));
    for (long calls = atol(arguments[3]); calls > 0; calls--) {
        size_t bytes = some_bytes(), at = below(BYTES - bytes);
        unsigned which = (unsigned)below(27);
        if (which == 17) /* a text has to end */
            come((uintptr_t)arena + at, bytes + 1), arena[at + bytes] = 0;
        if (shared)
            go((uintptr_t)arena, BYTES);
        errno = 77;
        long result = call(which, arena + at, bytes);
        int error = result < 0 ? errno : (which > 13 && which < 18) || which > 22 ? 0 : errno;
        if (pins != 0)
            abort();
        come((uintptr_t)arena, BYTES);
        size_t from = at > 64 ? at - 64 : 0, to = at + bytes + 64 < BYTES ? at + bytes + 64 : BYTES;
        printf("%u %zu %zu: %ld %d %016llx %ld %ld %d%d%d%d\n", which, at, bytes, result, error,
               (unsigned long long)hash(arena + from, to - from), (long)lseek(descriptor[FILE_IN], 0, SEEK_CUR), ftell(in),
               feof(in) != 0, ferror(in) != 0, feof(out) != 0, ferror(out) != 0);
    }
    fflush(out);
    come((uintptr_t)arena, BYTES);
    for (int which = 0; which < 2; which++) {
        int file = which == 0 ? descriptor[FILE_OUT] : fileno(out);
        ssize_t got;
        lseek(file, 0, SEEK_SET);
        for (uint64_t all = 0; (got = read(file, arena, 1 << 20)) >= 0; ) {
            all = all * 31 + hash(arena, (size_t)got);
            if (got == 0) {
                printf("file %d: %016llx\n", which, (unsigned long long)all);
                break;
            }
        }
    }
    return 0;
}
