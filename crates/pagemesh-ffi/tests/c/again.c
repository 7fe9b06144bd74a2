/* Locks that their last holder takes again: no message goes. Then another takes them, and has what was written. */
#include "check.h"

enum { ROUNDS = 1000, MUTEX = 7, RWLOCK = 8, COMMON = 9 };

static uint64_t sent(void) {
    dsm_stats_ext_t more = {.struct_size = sizeof more};
    OK(dsm_get_stats_ext(&more));
    return more.messages_sent;
}

int main(void) {
    OK(dsm_init(NULL));
    node_id_t me = dsm_get_node_id();
    int nodes = dsm_get_num_nodes();
    uint64_t *count = dsm_region("count", PAGE_SIZE, NULL);
    CHECK(count != NULL);
    OK(dsm_barrier_all(1));
    for (int turn = 0; turn < nodes; turn++) {
        if ((node_id_t)turn == me) {
            uint64_t before = 0;
            for (uint64_t round = 0; round <= ROUNDS; round++) {
                OK(dsm_mutex_lock(MUTEX));
                OK(round % 2 == 0 ? dsm_rwlock_wrlock(RWLOCK) : dsm_rwlock_trywrlock(RWLOCK));
                *count += 1;
                OK(dsm_rwlock_unlock(RWLOCK));
                OK(dsm_mutex_unlock(MUTEX));
                /* Kept for writing, it is there for reading too. */
                OK(dsm_rwlock_rdlock(RWLOCK));
                OK(dsm_rwlock_unlock(RWLOCK));
                if (round == 0) before = sent();
            }
            CHECK(sent() == before);
            CHECK(*count == (uint64_t)(turn + 1) * (ROUNDS + 1));
        }
        OK(dsm_barrier_all(1));
    }
    /* All read, and nobody hears of it. */
    OK(dsm_rwlock_rdlock(COMMON));
    OK(dsm_rwlock_unlock(COMMON));
    OK(dsm_barrier_all(1));
    uint64_t before = sent();
    for (int round = 0; round < ROUNDS; round++) {
        OK(dsm_rwlock_rdlock(COMMON));
        OK(dsm_rwlock_unlock(COMMON));
    }
    /* But for what a node passes on that keeps the barrier. */
    CHECK(sent() - before <= 16);
    OK(dsm_barrier_all(1));
    OK(dsm_rwlock_wrlock(COMMON));
    count[1] += 1;
    OK(dsm_rwlock_unlock(COMMON));
    OK(dsm_barrier_all(1));
    CHECK(count[1] == (uint64_t)nodes);
    OK(dsm_finalize());
    SAY("done");
    return 0;
}
