/* Nodes of two threads, and ranges that overlap inside one page and over the border of two: every addition is seen by the next. In a region whose
 * bytes come with its ranges; with the argument "malloc" in memory of dsm_malloc, which the setting PAGEMESH_PROTOCOL=entry is for. */
#include "check.h"
#include <pthread.h>

enum { THREADS = 2, ROUNDS = 60, COUNTERS = 8 };

static char *region;
static size_t nodes;

/* The fourth lies in two pages. */
static char *counter(size_t index) {
    return region + PAGE_SIZE - 3 * sizeof(uint64_t) - 4 + index * sizeof(uint64_t);
}

static uint64_t get(size_t index) {
    uint64_t value;
    memcpy(&value, counter(index), sizeof value);
    return value;
}

static void *work(void *argument) {
    size_t me = *(size_t *)argument;
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t first = (round + me) % COUNTERS, last = first + 1 + round % 3;
        if (last > COUNTERS) last = COUNTERS;
        char *start = counter(first);
        size_t bytes = (last - first) * sizeof(uint64_t);
        OK(dsm_range_wrlock(start, bytes));
        CHECK(dsm_range_wrlock(start, 1) == DSM_ERROR_BUSY);
        for (size_t index = first; index < last; index++) {
            uint64_t value = get(index) + 1;
            memcpy(counter(index), &value, sizeof value);
        }
        OK(dsm_range_unlock(start, bytes));
    }
    return NULL;
}

/* The setting is for dsm_malloc: no options and zeros mean one thing, whatever it is. */
static void regions_are_what_they_were(void) {
    dsm_region_options_t zeros;
    memset(&zeros, 0, sizeof zeros);
    zeros.struct_size = sizeof zeros;
    char *plain = dsm_region("plain", 1, dsm_get_node_id() % 2 == 0 ? NULL : &zeros);
    CHECK(plain != NULL && plain == dsm_region("plain", 1, NULL) && plain == dsm_region("plain", 1, &zeros));
    CHECK(dsm_range_rdlock(plain, 1) == DSM_ERROR_INVALID);
    OK(dsm_barrier_all(1));
}

/* Such memory is right for the other locks too, and a range orders what a mutex protects. */
static void other_locks_do_as_well(void) {
    uint64_t *sums = dsm_get_allocation(1);
    CHECK(sums != NULL);
    for (int round = 0; round < ROUNDS; round++) {
        OK(dsm_mutex_lock(1));
        sums[0] += 1;
        OK(dsm_mutex_unlock(1));
        OK(dsm_rwlock_wrlock(1));
        sums[1] += 1;
        OK(dsm_rwlock_unlock(1));
        OK(dsm_range_wrlock(region, 1));
        sums[2] += 1;
        OK(dsm_range_unlock(region, 1));
        sums[8 + dsm_get_node_id()] += 1;
    }
    OK(dsm_barrier_all(1));
    for (int index = 0; index < 3; index++) CHECK(sums[index] == ROUNDS * nodes);
    for (size_t node = 0; node < nodes; node++) CHECK(sums[8 + node] == ROUNDS);
}

int main(int count, char **arguments) {
    dsm_region_options_t options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.protocol = DSM_PROTOCOL_ENTRY;
    options.placement = DSM_PLACE_SINGLE;
    options.placement_node = 1;
    OK(dsm_init(NULL));
    nodes = (size_t)dsm_get_num_nodes();
    bool allocated = count > 1 && strcmp(arguments[1], "malloc") == 0;
    if (allocated) {
        if (dsm_get_node_id() == 0) CHECK(dsm_malloc(2 * PAGE_SIZE) != NULL && dsm_malloc(PAGE_SIZE) != NULL);
        OK(dsm_barrier_all(1));
        region = dsm_get_allocation(0);
        other_locks_do_as_well();
        regions_are_what_they_were();
    } else {
        region = dsm_region("ranges", 2 * PAGE_SIZE, &options);
    }
    CHECK(region != NULL);
    pthread_t running[THREADS];
    size_t numbers[THREADS];
    for (size_t index = 0; index < THREADS; index++) {
        numbers[index] = dsm_get_node_id() * THREADS + index;
        CHECK(pthread_create(&running[index], NULL, work, &numbers[index]) == 0);
    }
    for (int index = 0; index < THREADS; index++) CHECK(pthread_join(running[index], NULL) == 0);
    OK(dsm_barrier_all(1));
    uint64_t added = 0, found = 0;
    for (size_t me = 0; me < nodes * THREADS; me++) {
        for (size_t round = 0; round < ROUNDS; round++) {
            size_t first = (round + me) % COUNTERS, last = first + 1 + round % 3;
            added += (last > COUNTERS ? COUNTERS : last) - first;
        }
    }
    OK(dsm_range_rdlock(region, 2 * PAGE_SIZE));
    for (size_t index = 0; index < COUNTERS; index++) found += get(index);
    OK(dsm_range_unlock(region, 2 * PAGE_SIZE));
    CHECK(found == added);
    OK(dsm_finalize());
    SAY("done");
    return 0;
}
