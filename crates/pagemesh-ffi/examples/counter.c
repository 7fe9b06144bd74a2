/*
 * Every node counts to a thousand in one shared counter.
 *
 *     cc counter.c $(pkg-config --cflags --libs dsm) -o counter
 *     pagemesh run -n 4 -- ./counter
 */
#include <dsm/dsm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static void must(int result) {
    if (result != DSM_SUCCESS) {
        fprintf(stderr, "counter: %s\n", dsm_last_error());
        exit(EXIT_FAILURE);
    }
}

int main(void) {
    must(dsm_init(NULL));
    uint64_t *counter = dsm_region("counter", sizeof *counter, NULL);
    if (counter == NULL) must(DSM_ERROR_MEMORY);

    for (int round = 0; round < 1000; round++) {
        must(dsm_mutex_lock(1));
        *counter += 1;
        must(dsm_mutex_unlock(1));
    }
    must(dsm_barrier_all(1));

    printf("node %u of %d counts %llu\n", (unsigned)dsm_get_node_id(), dsm_get_num_nodes(),
           (unsigned long long)*counter);
    must(dsm_finalize());
    return EXIT_SUCCESS;
}
