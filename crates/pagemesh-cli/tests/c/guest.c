/* A program that knows nothing of shared memory: it fills and empties buffers with plain calls, and compares them with plain
 * loads. Its host says where the buffers are and how to wait for the other nodes. Two nodes; returns 0, or the line of the
 * call that did not do what it should, with errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define CHECK(what) \
    do { \
        if (!(what)) \
            return __LINE__; \
    } while (0)

#define PAGE 4096
#define AREA (40 * PAGE)
#define BULK (37 * PAGE + 1234)
#define ROUNDS 40

static unsigned char expected(size_t seed, size_t index) { return (unsigned char)((seed * 97 + index * 2654435761u) >> 13); }

static FILE *pattern_file(size_t seed, size_t bytes) {
    FILE *file = tmpfile();
    for (size_t i = 0; file != NULL && i < bytes; i++)
        fputc(expected(seed, i), file);
    if (file != NULL)
        rewind(file);
    return file;
}

static int is_pattern(const char *bytes, size_t seed, size_t count) {
    for (size_t i = 0; i < count; i++)
        if ((unsigned char)bytes[i] != expected(seed, i))
            return 0;
    return 1;
}

/* Fills the areas, each in another way. */
static int fill(char *shared, size_t seed) {
    int sockets[2], pipes[2];
    char *area = shared;
    FILE *file = pattern_file(seed, BULK);
    CHECK(file != NULL);
    CHECK(lseek(fileno(file), 0, SEEK_SET) == 0 && read(fileno(file), area, AREA) == BULK);
    CHECK(read(fileno(file), area, 100) == 0);

    area += AREA;
    rewind(file);
    CHECK(fread(area, 1, BULK, file) == BULK && !feof(file) && fread(area + BULK, 1, 1, file) == 0 && feof(file));

    area += AREA;
    struct iovec list[3] = {{area, 5 * PAGE + 7}, {area + 5 * PAGE + 7, 1}, {area + 5 * PAGE + 8, 10 * PAGE}};
    CHECK(lseek(fileno(file), 0, SEEK_SET) == 0 && readv(fileno(file), list, 3) == 15 * PAGE + 8);
    fclose(file);

    area += AREA;
    file = pattern_file(seed, 3 * PAGE);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0 && pipe(pipes) == 0);
    char *private_bytes = malloc(3 * PAGE);
    CHECK(private_bytes != NULL && fread(private_bytes, 1, 3 * PAGE, file) == 3 * PAGE);
    CHECK(send(sockets[0], private_bytes, 3 * PAGE, 0) == 3 * PAGE);
    CHECK(recv(sockets[1], area, 3 * PAGE, MSG_WAITALL) == 3 * PAGE);
    CHECK(write(pipes[1], private_bytes, 3 * PAGE) == 3 * PAGE);
    CHECK(read(pipes[0], area + 4 * PAGE, 4 * PAGE) == 3 * PAGE);
    free(private_bytes);
    fclose(file);

    area += AREA;
    file = tmpfile();
    CHECK(file != NULL && fputs("first line\nsecond line\nno end", file) >= 0);
    rewind(file);
    CHECK(fgets(area + PAGE - 4, 100, file) == area + PAGE - 4);
    CHECK(fgets(area + 2 * PAGE, 100, file) != NULL && fgets(area + 3 * PAGE, 100, file) != NULL);
    CHECK(fgets(area + 4 * PAGE, 100, file) == NULL && feof(file));
    fclose(file);
    close(sockets[0]), close(sockets[1]), close(pipes[0]), close(pipes[1]);
    return 0;
}

/* Empties the areas into files and pipes, without a touch before. */
static int empty(char *shared, size_t seed) {
    int sockets[2], pipes[2];
    static char found[AREA];
    char *area = shared;
    FILE *file = tmpfile();
    CHECK(file != NULL && write(fileno(file), area, BULK) == BULK);
    CHECK(pread(fileno(file), found, AREA, 0) == BULK && is_pattern(found, seed, BULK));

    area += AREA;
    rewind(file);
    CHECK(fwrite(area, 1, BULK, file) == BULK && fflush(file) == 0);
    memset(found, 0, sizeof found);
    CHECK(pread(fileno(file), found, BULK, 0) == BULK && is_pattern(found, seed, BULK));

    area += AREA;
    struct iovec list[2] = {{area, 9 * PAGE}, {area + 9 * PAGE, 6 * PAGE + 8}};
    CHECK(lseek(fileno(file), 0, SEEK_SET) == 0 && writev(fileno(file), list, 2) == 15 * PAGE + 8);
    CHECK(pread(fileno(file), found, BULK, 0) == BULK && is_pattern(found, seed, 15 * PAGE + 8));

    area += AREA;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0 && pipe(pipes) == 0);
    CHECK(send(sockets[0], area, 3 * PAGE, 0) == 3 * PAGE);
    CHECK(recv(sockets[1], found, 3 * PAGE, MSG_WAITALL) == 3 * PAGE && is_pattern(found, seed, 3 * PAGE));
    CHECK(write(pipes[1], area + 4 * PAGE, 3 * PAGE) == 3 * PAGE);
    CHECK(read(pipes[0], found, 3 * PAGE) == 3 * PAGE && is_pattern(found, seed, 3 * PAGE));

    area += AREA;
    rewind(file);
    CHECK(fputs(area + PAGE - 4, file) >= 0 && fputs(area + 2 * PAGE, file) >= 0 && fflush(file) == 0);
    CHECK(pread(fileno(file), found, 23, 0) == 23 && memcmp(found, "first line\nsecond line\n", 23) == 0);
    CHECK(strcmp(area + 3 * PAGE, "no end") == 0);
    fclose(file);
    close(sockets[0]), close(sockets[1]), close(pipes[0]), close(pipes[1]);
    return 0;
}

/* Both nodes read into their halves of the same pages and write the other's out, again and again: the pages are taken away in the
 * middle of the calls. */
static int fight(char *shared, int node, void (*barrier)(void)) {
    static char found[PAGE / 2];
    FILE *file = pattern_file(50 + (size_t)node, PAGE / 2), *out = tmpfile();
    CHECK(file != NULL && out != NULL);
    for (int round = 0; round < ROUNDS; round++) {
        char *page = shared + round % 8 * PAGE;
        CHECK(pread(fileno(file), page + node * (PAGE / 2), PAGE / 2, 0) == PAGE / 2);
        CHECK(pwrite(fileno(out), page, PAGE, 0) == PAGE);
        CHECK(pread(fileno(out), found, PAGE / 2, node * (PAGE / 2)) == PAGE / 2);
        CHECK(is_pattern(found, 50 + (size_t)node, PAGE / 2));
    }
    barrier();
    for (int page = 0; page < 8; page++) {
        CHECK(pwrite(fileno(out), shared + page * PAGE, PAGE, 0) == PAGE);
        for (int half = 0; half < 2; half++) {
            CHECK(pread(fileno(out), found, PAGE / 2, half * (PAGE / 2)) == PAGE / 2);
            CHECK(is_pattern(found, 50 + (size_t)half, PAGE / 2));
        }
    }
    fclose(file);
    fclose(out);
    return 0;
}

int guest(char *shared, size_t bytes, int node, void (*barrier)(void)) {
    int line = 0;
    CHECK(bytes >= 6 * AREA);
    for (int round = 0; round < 2; round++) {
        if (node == round && (line = fill(shared, 3 + (size_t)round)) != 0)
            return line;
        barrier();
        if (node != round && (line = empty(shared, 3 + (size_t)round)) != 0)
            return line;
        barrier();
        if (node == round && (line = empty(shared, 3 + (size_t)round)) != 0)
            return line;
        barrier();
    }
    return fight(shared + 5 * AREA, node, barrier);
}

/* The plainest of it, for where there is no library: a page that the other node has cannot be written out. */
int plain_guest(char *shared, size_t bytes, int node, void (*barrier)(void)) {
    FILE *file = tmpfile();
    CHECK(file != NULL && bytes >= PAGE);
    if (node == 0)
        shared[0] = 'a';
    barrier();
    errno = 0;
    CHECK(node == 0 || write(fileno(file), shared, 1) == 1);
    barrier();
    fclose(file);
    return 0;
}
