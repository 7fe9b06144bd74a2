/* Calls that wait for somebody else, on shared memory: no page may be pinned meanwhile, the bytes arrive, a signal interrupts them,
 * and a thread can be cancelled in them. The runtime is the program itself: its pages are always here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHECK(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "line %d: %s (errno %d)\n", __LINE__, #what, errno); \
            _exit(1); \
        } \
    } while (0)

static unsigned char arena[1 << 20] __attribute__((aligned(4096)));
static volatile int pins, pinned;

struct handlers {
    int (*pin)(uintptr_t, size_t, int);
    int (*unpin)(uintptr_t, size_t, int);
    int (*copy_in)(uintptr_t, const void *, size_t);
    int (*copy_out)(void *, uintptr_t, size_t);
};
static int pin(uintptr_t address, size_t bytes, int write) {
    (void)address, (void)bytes, (void)write;
    pins++, pinned++;
    return 0;
}
static int unpin(uintptr_t address, size_t bytes, int write) {
    (void)address, (void)bytes, (void)write;
    pins--;
    return 0;
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

struct work {
    int file;
    void *buffer;
    size_t bytes;
    long (*call)(struct work *);
    volatile int thread;
    long result;
    int error;
};

static long by_read(struct work *work) { return read(work->file, work->buffer, work->bytes); }
static long by_recv(struct work *work) { return recv(work->file, work->buffer, work->bytes, MSG_WAITALL); }
static long by_write(struct work *work) { return write(work->file, work->buffer, work->bytes); }

static void *run(void *argument) {
    struct work *work = argument;
    __atomic_store_n(&work->thread, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    work->result = work->call(work);
    work->error = errno;
    return NULL;
}

/* Waits until the thread sleeps in the kernel. */
static void until_asleep(struct work *work) {
    char name[64], line[256];
    for (int tries = 0; tries < 60000; tries++, usleep(1000)) {
        int thread = __atomic_load_n(&work->thread, __ATOMIC_SEQ_CST);
        if (thread == 0)
            continue;
        snprintf(name, sizeof name, "/proc/self/task/%d/stat", thread);
        FILE *file = fopen(name, "r");
        if (file == NULL)
            continue;
        char *got = fgets(line, sizeof line, file);
        fclose(file);
        if (got != NULL && strstr(line, ") S ") != NULL)
            return;
    }
    CHECK(!"the thread does not wait");
}

static void nothing(int number) { (void)number; }

int main(void) {
    int pipes[2], sockets[2];
    pthread_t thread;
    void *end;
    struct sigaction action = {.sa_handler = nothing};
    int (*add)(uintptr_t, size_t, const struct handlers *) =
        (int (*)(uintptr_t, size_t, const struct handlers *))dlsym(RTLD_DEFAULT, "pagemesh_preload_add_v1");
    CHECK(add != NULL && add((uintptr_t)arena, sizeof arena, &handlers) == 0);
    CHECK(pipe(pipes) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    sigaction(SIGUSR1, &action, NULL);

    /* A read that waits, with a small buffer and with a large one. */
    for (size_t bytes = 10; bytes <= 100000; bytes *= 100) {
        struct work work = {.file = pipes[0], .buffer = arena + 7, .bytes = bytes, .call = by_read};
        CHECK(pthread_create(&thread, NULL, run, &work) == 0);
        until_asleep(&work);
        CHECK(pins == 0);
        CHECK(write(pipes[1], "here", 4) == 4);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(work.result == 4 && memcmp(arena + 7, "here", 4) == 0 && pins == 0 && pinned > 0);
    }

    /* A receive that waits for all of it. */
    struct work all = {.file = sockets[0], .buffer = arena + 4000, .bytes = 8, .call = by_recv};
    CHECK(pthread_create(&thread, NULL, run, &all) == 0);
    CHECK(send(sockets[1], "four", 4, 0) == 4);
    until_asleep(&all);
    CHECK(pins == 0 && send(sockets[1], "more", 4, 0) == 4);
    CHECK(pthread_join(thread, NULL) == 0 && all.result == 8 && memcmp(arena + 4000, "fourmore", 8) == 0);

    /* A signal interrupts. */
    struct work interrupted = {.file = pipes[0], .buffer = arena, .bytes = 100, .call = by_read};
    CHECK(pthread_create(&thread, NULL, run, &interrupted) == 0);
    until_asleep(&interrupted);
    CHECK(pthread_kill(thread, SIGUSR1) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(interrupted.result == -1 && interrupted.error == EINTR && pins == 0);

    /* A write of more than the pipe holds waits, and writes all in the end. */
    for (size_t i = 0; i < sizeof arena; i++)
        arena[i] = (unsigned char)(i * 7 >> 4);
    struct work full = {.file = pipes[1], .buffer = arena, .bytes = sizeof arena, .call = by_write};
    CHECK(pthread_create(&thread, NULL, run, &full) == 0);
    until_asleep(&full);
    CHECK(pins == 0);
    for (size_t done = 0; done < sizeof arena;) {
        static unsigned char found[65536];
        ssize_t got = read(pipes[0], found, sizeof found);
        CHECK(got > 0 && memcmp(found, arena + done, (size_t)got) == 0);
        done += (size_t)got;
    }
    CHECK(pthread_join(thread, NULL) == 0 && full.result == (long)sizeof arena && pins == 0);

    /* A thread is cancelled, with a private buffer and with a shared one. */
    static char private_bytes[100];
    void *buffers[] = {private_bytes, arena, arena};
    size_t sizes[] = {100, 100, 100000};
    for (int which = 0; which < 3; which++) {
        struct work cancelled = {.file = pipes[0], .buffer = buffers[which], .bytes = sizes[which], .call = by_read};
        CHECK(pthread_create(&thread, NULL, run, &cancelled) == 0);
        until_asleep(&cancelled);
        CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &end) == 0);
        CHECK(end == PTHREAD_CANCELED && pins == 0);
    }
    CHECK(write(pipes[1], "x", 1) == 1 && read(pipes[0], arena, 1) == 1 && arena[0] == 'x');
    puts("ok");
    return 0;
}
