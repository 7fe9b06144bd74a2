/* Three nodes of three threads: a counter, a flag and a lock, each a word that is changed where it is. */
#include "check.h"
#include <pthread.h>
#include <sched.h>

enum { THREADS = 3, ROUNDS = 30, KINDS = 3 };

static uint64_t *counters[KINDS];
static const uint32_t protocols[KINDS] = {DSM_PROTOCOL_WRITE_INVALIDATE, DSM_PROTOCOL_MIGRATION,
                                          DSM_PROTOCOL_RELEASE};

static uint64_t *open_words(uint32_t kind) {
    char name[] = "words 0";
    dsm_region_options_t options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.protocol = protocols[kind];
    name[6] += (char)kind;
    uint64_t *words = dsm_region(name, PAGE_SIZE, &options);
    CHECK(words != NULL);
    return words;
}

static void *work(void *argument) {
    (void)argument;
    for (int kind = 0; kind < KINDS; kind++) {
        uint64_t *words = counters[kind], last = 0, old;
        for (int round = 0; round < ROUNDS; round++) {
            OK(dsm_fetch_add_u64(words, 1, &old));
            CHECK(round == 0 || old > last);
            last = old;
            /* What lies beside the lock belongs to who has it. */
            do {
                OK(dsm_compare_swap_u64(words + 8, 0, 1, &old));
                if (old != 0) sched_yield();
            } while (old != 0);
            words[9] += 1;
            OK(dsm_swap_u64(words + 8, 0, &old));
            CHECK(old == 1);
        }
    }
    return NULL;
}

int main(void) {
    OK(dsm_init(NULL));
    for (uint32_t kind = 0; kind < KINDS; kind++) counters[kind] = open_words(kind);
    OK(dsm_barrier_all(1));
    pthread_t running[THREADS];
    for (int index = 0; index < THREADS; index++) CHECK(pthread_create(&running[index], NULL, work, NULL) == 0);
    for (int index = 0; index < THREADS; index++) CHECK(pthread_join(running[index], NULL) == 0);
    OK(dsm_barrier_all(1));
    uint64_t all = (uint64_t)dsm_get_num_nodes() * THREADS * ROUNDS, old;
    for (int kind = 0; kind < KINDS; kind++) {
        CHECK(counters[kind][0] == all && counters[kind][9] == all);
        OK(dsm_fetch_add_u64(counters[kind], 0, &old));
        CHECK(old == all);
    }
    OK(dsm_finalize());
    SAY("done");
    return 0;
}
