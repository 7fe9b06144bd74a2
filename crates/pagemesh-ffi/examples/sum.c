/*
 * A program becomes four nodes by itself, and they sum up an array together. What was in private memory before, all of them have.
 *
 *     cc sum.c $(pkg-config --cflags --libs dsm) -o sum && ./sum
 */
#include <dsm/dsm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { NODES = 4, ITEMS = 1 << 20 };

static void fail(const char *what) {
    fprintf(stderr, "sum: %s: %s\n", what, dsm_last_error());
    exit(EXIT_FAILURE);
}

int main(void) {
    uint32_t *items = malloc(ITEMS * sizeof *items);
    if (items == NULL) return EXIT_FAILURE;
    for (uint32_t item = 0; item < ITEMS; item++) items[item] = item % 1000;

    int me = dsm_fork(NODES);
    if (me < 0) fail("dsm_fork");

    uint64_t *sums = dsm_region("sums", NODES * sizeof *sums, NULL);
    if (sums == NULL) fail("dsm_region");
    uint64_t sum = 0;
    for (int item = me * (ITEMS / NODES); item < (me + 1) * (ITEMS / NODES); item++) sum += items[item];
    sums[me] = sum;
    if (dsm_barrier_all(1) != DSM_SUCCESS) fail("dsm_barrier_all");

    if (me == 0) {
        uint64_t total = 0;
        for (int node = 0; node < NODES; node++) total += sums[node];
        printf("the sum of %d items is %llu\n", ITEMS, (unsigned long long)total);
    }
    if (dsm_finalize() != DSM_SUCCESS) fail("dsm_finalize");
    free(items);
    return EXIT_SUCCESS;
}
