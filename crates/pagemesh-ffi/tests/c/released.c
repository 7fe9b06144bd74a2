/* Four nodes: all write one page of a release region at the same time, system calls work on pinned pages, and what is pinned too
 * long goes. */
#include "check.h"
#include <unistd.h>

enum { ROUNDS = 20, BYTES = 3 * PAGE_SIZE };

static node_id_t me;
static size_t nodes;

static void all_write_one_page(uint64_t *words) {
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        for (size_t at = me; at < PAGE_SIZE / sizeof *words; at += nodes) words[at] = round * 100 + at;
        OK(dsm_barrier_all(1));
        for (size_t at = 0; at < PAGE_SIZE / sizeof *words; at++) CHECK(words[at] == round * 100 + at);
        OK(dsm_barrier_all(1));
    }
    for (int turn = 0; turn < ROUNDS; turn++) {
        OK(dsm_mutex_lock(5));
        words[0] += 1;
        OK(dsm_mutex_unlock(5));
    }
    OK(dsm_barrier_all(1));
    CHECK(words[0] == ROUNDS * 100 + ROUNDS * nodes);
    dsm_stats_ext_t more = {.struct_size = sizeof more};
    OK(dsm_get_stats_ext(&more));
    /* The home of the page, node 0, has nothing to send. */
    CHECK((more.diffs_sent >= ROUNDS) == (me != 0) && (more.diff_bytes > 0) == (me != 0));
    OK(dsm_barrier_all(1));
}

static char byte_of(size_t at) {
    return (char)(at * 31 + at / 4096 + 1);
}

/* Node 1 reads a file into pinned memory, the second half of it after a barrier. */
static void a_pin_outlasts_a_barrier(char *memory) {
    FILE *file = NULL;
    char *to = memory + 100;
    if (me == 1) {
        file = tmpfile();
        CHECK(file != NULL);
        for (size_t at = 0; at < BYTES; at++) CHECK(fputc(byte_of(at), file) != EOF);
        CHECK(fflush(file) == 0 && lseek(fileno(file), 0, SEEK_SET) == 0);
        OK(dsm_pin(to, BYTES, ACCESS_WRITE));
    }
    for (size_t half = 1; half <= 2; half++) {
        if (me == 1) {
            char *place = half == 1 ? dsm_io_pointer(to) : to + BYTES / 2;
            CHECK(place != NULL && read(fileno(file), place, BYTES / 2) == BYTES / 2);
        }
        OK(dsm_barrier_all(1));
        for (size_t at = 0; at < BYTES; at++) CHECK(to[at] == (at < half * BYTES / 2 ? byte_of(at) : 0));
        OK(dsm_barrier_all(1));
    }
    if (me == 1) {
        OK(dsm_unpin(to, BYTES));
        CHECK(fclose(file) == 0);
    }
}

/* Others write beside what is pinned, and this node synchronises with them. */
static void a_notice_takes_a_pinned_page(char *memory) {
    if (me == 1) OK(dsm_pin(memory, 1, ACCESS_READ));
    if (me == 2) memory[PAGE_SIZE - 1] = 9;
    OK(dsm_barrier_all(1));
    if (me == 1) CHECK(dsm_unpin(memory, 1) == DSM_ERROR_TIMEOUT);
    CHECK(memory[PAGE_SIZE - 1] == 9);
    OK(dsm_barrier_all(1));
}

/* Where one node writes at a time, who wants a pinned page waits until the deadline. */
static void a_deadline_takes_a_pinned_page(char *memory) {
    if (me == 1) {
        OK(dsm_pin(memory, 1, ACCESS_WRITE));
        memory[0] = 1;
    }
    OK(dsm_barrier_all(1));
    if (me == 2) memory[0] += 1;
    OK(dsm_barrier_all(1));
    if (me == 1) CHECK(dsm_unpin(memory, 1) == DSM_ERROR_TIMEOUT && memory[0] == 2);
    OK(dsm_barrier_all(1));
}

int main(void) {
    CHECK(setenv("PAGEMESH_PIN_MS", "100", 1) == 0);
    OK(dsm_init(NULL));
    me = dsm_get_node_id();
    nodes = (size_t)dsm_get_num_nodes();
    dsm_region_options_t options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.protocol = DSM_PROTOCOL_RELEASE;
    options.placement = DSM_PLACE_SINGLE;
    uint64_t *words = dsm_region("words", PAGE_SIZE, &options);
    options.placement = DSM_PLACE_CYCLIC;
    char *memory = dsm_region("file", BYTES + PAGE_SIZE, &options);
    char *coherent = dsm_region("coherent", PAGE_SIZE, NULL);
    CHECK(words != NULL && memory != NULL && coherent != NULL);
    all_write_one_page(words);
    a_pin_outlasts_a_barrier(memory);
    a_notice_takes_a_pinned_page(memory);
    a_deadline_takes_a_pinned_page(coherent);
    OK(dsm_finalize());
    SAY("done");
    return 0;
}
