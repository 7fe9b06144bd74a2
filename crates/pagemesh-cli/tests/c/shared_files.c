/*
 * A program as a user writes it: two nodes share a region through libdsm, and read files straight into it and write it straight into
 * files with plain calls of libc, each with streams of every kind of buffer. Whatever one node has read, the other writes out, untouched by
 * any load or store of its own; who reads, and who writes, changes from round to round.
 */
#define _GNU_SOURCE
#include <dsm/dsm.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s: %m; %s\n", __FILE__, __LINE__, #condition, dsm_last_error()); \
            exit(1); \
        } \
    } while (0)

enum { PAGES = 20, BYTES = PAGES * PAGE_SIZE, AREAS = 8, ROUNDS = 6, LINES = 300 };

static char *areas[AREAS];
static char expected[BYTES + 1], found[BYTES + 1];
static char text[LINES * 120];
static size_t text_bytes;

/* The modes of setvbuf(3), and a buffer that is larger than any call. */
static const struct { int mode; size_t bytes; } buffers[] = {
    {_IOFBF, 4096}, {_IONBF, 0}, {_IOLBF, 1024}, {_IOFBF, 2 * BYTES}};

static void prepare(int round) {
    for (size_t at = 0; at < BYTES; at++) expected[at] = (char)((at * 2654435761u + (size_t)round * 977) >> 11 | 1);
    text_bytes = 0;
    for (int line = 0; line < LINES; line++) {
        int letters = (line * 37 + round) % 100 + 1;
        memset(text + text_bytes, 'a' + line % 26, (size_t)letters);
        text_bytes += (size_t)letters;
        text[text_bytes++] = '\n';
    }
}

static FILE *file_with(const char *bytes, size_t count, int buffer) {
    FILE *file = tmpfile();
    CHECK(file != NULL && (count == 0 || fwrite(bytes, 1, count, file) == count) && fflush(file) == 0);
    rewind(file);
    CHECK(setvbuf(file, NULL, buffers[buffer].mode, buffers[buffer].bytes) == 0);
    return file;
}

/* Node `reader` fills every area, each by another call. */
static void fill(int round) {
    for (int buffer = 0; buffer < 4; buffer++) {
        FILE *file = file_with(expected, BYTES, buffer);
        CHECK(fread(areas[buffer], 1, BYTES, file) == BYTES && fgetc(file) == EOF && feof(file));
        CHECK(fclose(file) == 0);
    }
    FILE *file = file_with(expected, BYTES, 0);
    int descriptor = fileno(file);
    CHECK(lseek(descriptor, 0, SEEK_SET) == 0 && read(descriptor, areas[4], BYTES) == BYTES);
    CHECK(pread(descriptor, areas[5] + 100, BYTES - 100, 100) == BYTES - 100);
    struct iovec halves[2] = {{areas[6], BYTES / 2 + 11}, {areas[6] + BYTES / 2 + 11, BYTES / 2 - 11}};
    CHECK(lseek(descriptor, 0, SEEK_SET) == 0 && readv(descriptor, halves, 2) == BYTES);
    CHECK(fclose(file) == 0);
    /* Line by line, across pages; the zero byte behind each line is there before the next one begins. */
    file = file_with(text, text_bytes, round % 4);
    char *line = areas[7];
    memset(line, '?', 1);
    for (int lines = 0; lines < LINES; lines++) {
        CHECK(fgets(line, 120, file) == line);
        line += strlen(line);
    }
    CHECK(line == areas[7] + text_bytes && fgets(line, 120, file) == NULL && feof(file) && *line == 0);
    rewind(file);
    /* A word by the scanner's own stores, and a line that is longer than its room. */
    CHECK(fscanf(file, "%100s", line + 1) == 1 && strlen(line + 1) == (size_t)(round % 100 + 1));
    rewind(file);
    CHECK(fgets(line + 1, 2, file) == line + 1 && strcmp(line + 1, "a") == 0);
    CHECK(fclose(file) == 0);
}

static void compare(int descriptor, const char *with, size_t from, size_t count) {
    memset(found, 0, sizeof found);
    CHECK(pread(descriptor, found, count, 0) == (ssize_t)count);
    CHECK(memcmp(found, with + from, count) == 0);
    CHECK(pread(descriptor, found, 1, (off_t)count) == 0);
}

/* The other node writes every area out, and compares what has arrived in the files. */
static void empty(int round) {
    for (int buffer = 0; buffer < 4; buffer++) {
        FILE *file = file_with(NULL, 0, buffer);
        CHECK(fwrite(areas[buffer], PAGE_SIZE, PAGES, file) == PAGES && fflush(file) == 0);
        compare(fileno(file), expected, 0, BYTES);
        CHECK(fclose(file) == 0);
    }
    for (int area = 4; area < 7; area++) {
        size_t from = area == 5 ? 100 : 0;
        FILE *file = file_with(NULL, 0, 0);
        CHECK(write(fileno(file), areas[area] + from, BYTES - from) == (ssize_t)(BYTES - from));
        compare(fileno(file), expected, from, BYTES - from);
        CHECK(fclose(file) == 0);
    }
    FILE *file = file_with(NULL, 0, round % 4);
    CHECK(fputs(areas[7], file) >= 0 && fflush(file) == 0);
    compare(fileno(file), text, 0, text_bytes);
    CHECK(fclose(file) == 0);
}

int main(void) {
    CHECK(dsm_init(NULL) == DSM_SUCCESS && dsm_get_num_nodes() == 2);
    char *region = dsm_region("files", (size_t)AREAS * (BYTES + PAGE_SIZE), NULL);
    CHECK(region != NULL);
    for (int area = 0; area < AREAS; area++) areas[area] = region + area * (BYTES + PAGE_SIZE);
    for (int round = 0; round < ROUNDS; round++) {
        int is_reader = dsm_get_node_id() == (node_id_t)round % 2;
        prepare(round);
        if (is_reader) fill(round);
        CHECK(dsm_barrier_all(1) == DSM_SUCCESS);
        if (!is_reader) empty(round);
        CHECK(dsm_barrier_all(1) == DSM_SUCCESS);
    }
    CHECK(dsm_finalize() == DSM_SUCCESS);
    /* In one piece. */
    CHECK(write(STDOUT_FILENO, "done\n", 5) == 5);
    return 0;
}
