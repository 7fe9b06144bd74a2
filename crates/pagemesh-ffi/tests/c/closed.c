/* Nodes that open, close and open anew: what was closed everywhere is new, what one still has is as it was, and there is no end of regions. */
#include "check.h"

enum { ROUNDS = 300, WORDS = PAGE_SIZE / sizeof(uint64_t) };

static uint64_t *opened(const char *name, uint32_t protocol) {
    dsm_region_options_t options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.protocol = protocol;
    uint64_t *words = dsm_region(name, 2 * PAGE_SIZE, &options);
    CHECK(words != NULL);
    return words;
}

static void misused(void) {
    uint64_t local = 0, *words = opened("misused", DSM_PROTOCOL_WRITE_INVALIDATE);
    CHECK(dsm_region_close(NULL) == DSM_ERROR_INVALID);
    CHECK(dsm_region_close(&local) == DSM_ERROR_INVALID);
    CHECK(dsm_region_close(words + 1) == DSM_ERROR_INVALID);
    OK(dsm_pin(words, 8, ACCESS_READ));
    CHECK(dsm_region_close(words) == DSM_ERROR_BUSY && strstr(dsm_last_error(), "unpin") != NULL);
    OK(dsm_unpin(words, 8));
    /* A region that was opened twice is closed once. */
    CHECK(opened("misused", DSM_PROTOCOL_WRITE_INVALIDATE) == words);
    OK(dsm_region_close(words));
    CHECK(dsm_region_close(words) == DSM_ERROR_INVALID);
    CHECK(dsm_pin(words, 8, ACCESS_READ) == DSM_ERROR_INVALID);
    CHECK(dsm_fetch_add_u64(words, 1, NULL) == DSM_ERROR_INVALID);
}

/* Who never opened a region has no say in when it goes; who closes it last, has. */
static void one_never_opens(node_id_t me) {
    node_id_t stranger = (node_id_t)dsm_get_num_nodes() - 1;
    for (size_t round = 1; round <= 5; round++) {
        char *bytes = me == stranger ? NULL : dsm_region("passing", round * PAGE_SIZE, NULL);
        CHECK(me == stranger || (bytes != NULL && bytes[round * PAGE_SIZE - 1] == 0));
        OK(dsm_barrier_all(2));
        if (me == 0) bytes[round * PAGE_SIZE - 1] = 1;
        OK(dsm_barrier_all(2));
        if (me != stranger) {
            CHECK(bytes[round * PAGE_SIZE - 1] == 1);
            OK(dsm_region_close(bytes));
        }
        OK(dsm_barrier_all(2));
        /* The last to open it is somebody else each time. */
        if (me == round % (stranger + 1)) {
            char *alone = dsm_region("passing", (round + 20) * PAGE_SIZE, NULL);
            CHECK(alone != NULL && alone[round * PAGE_SIZE - 1] == 0);
            alone[round * PAGE_SIZE - 1] = 1;
            OK(dsm_region_close(alone));
        }
        OK(dsm_barrier_all(2));
    }
}

int main(void) {
    OK(dsm_init(NULL));
    node_id_t me = dsm_get_node_id();
    uint64_t others = (uint64_t)dsm_get_num_nodes() - 1;
    misused();
    OK(dsm_barrier_all(1));

    /* One keeps it open: the data stays, whoever wrote it. */
    uint64_t *words = opened("kept", DSM_PROTOCOL_WRITE_INVALIDATE);
    OK(dsm_barrier_all(1));
    if (me != 0) OK(dsm_fetch_add_u64(words + WORDS, me, NULL));
    OK(dsm_barrier_all(1));
    if (me != 0) OK(dsm_region_close(words));
    OK(dsm_barrier_all(1));
    if (me == 0) CHECK(words[WORDS] == others * (others + 1) / 2);
    OK(dsm_barrier_all(1));
    CHECK(opened("kept", DSM_PROTOCOL_WRITE_INVALIDATE) == words && words[WORDS] == others * (others + 1) / 2);
    OK(dsm_barrier_all(1));
    OK(dsm_region_close(words));
    OK(dsm_barrier_all(1));

    /* All have closed it: it is new, and may be another kind. */
    static const uint32_t protocols[] = {DSM_PROTOCOL_RELEASE, DSM_PROTOCOL_MIGRATION, DSM_PROTOCOL_WRITE_INVALIDATE};
    for (int round = 0; round < ROUNDS; round++) {
        words = opened("kept", protocols[round % 3]);
        OK(dsm_barrier_all(1));
        if (me == (node_id_t)round % 2) {
            CHECK(words[0] == 0 && words[WORDS] == 0);
            words[0] = words[WORDS] = (uint64_t)round + 1;
        }
        OK(dsm_barrier_all(1));
        CHECK(words[0] == (uint64_t)round + 1 && words[WORDS] == words[0]);
        OK(dsm_barrier_all(1));
        OK(dsm_region_close(words));
        OK(dsm_barrier_all(1));
    }
    one_never_opens(me);
    OK(dsm_finalize());
    SAY("done");
}
