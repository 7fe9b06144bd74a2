/*
 * Threads that call whatever there is while others join and leave: each call works or fails with an error, none hangs, and
 * what waited when its node left is told so.
 */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { THREADS = 6, ROUNDS = 30 };

static atomic_int stop;
static atomic_int joined;
static atomic_int arrived;

static dsm_config_t alone(void) {
    dsm_config_t config;
    memset(&config, 0, sizeof config);
    config.num_nodes = 1;
    config.is_manager = true;
    return config;
}

static int is_known(int result) {
    return result == DSM_SUCCESS || result == DSM_ERROR_INIT || result == DSM_ERROR_BUSY ||
           result == DSM_ERROR_PERMISSION || result == DSM_ERROR_INVALID || result == DSM_ERROR_NOT_FOUND;
}

static void *call_everything(void *argument) {
    uint64_t me = (uint64_t)(uintptr_t)argument;
    while (!atomic_load(&stop)) {
        dsm_stats_t stats;
        void *memory = dsm_malloc(5000);
        void *region = dsm_region("region", 1 << 16, NULL);
        CHECK(is_known(dsm_prefetch(region, 1 << 16, ACCESS_WRITE)));
        void *block = dsm_alloc(region, 100 * (me + 1), 0);
        void *moved = dsm_realloc(block, 3000);
        CHECK(is_known(dsm_release(moved != NULL ? moved : block)));
        (void)dsm_page_state(region);
        (void)dsm_page_home(memory);
        (void)dsm_get_allocation((int)me);
        int locked = dsm_mutex_lock(me % 2);
        CHECK(is_known(locked));
        if (locked == DSM_SUCCESS) CHECK(is_known(dsm_mutex_unlock(me % 2)));
        dsm_lock_t *lock = dsm_lock_create(1000 + me);
        CHECK(is_known(dsm_lock_acquire(lock)));
        CHECK(is_known(dsm_lock_release(lock)));
        CHECK(is_known(dsm_lock_destroy(lock)));
        CHECK(is_known(dsm_barrier(me, 1)));
        CHECK(is_known(dsm_get_stats(&stats)));
        CHECK(is_known(dsm_free(memory)));
    }
    return NULL;
}

static void *wait_for_ever(void *unused) {
    (void)unused;
    atomic_store(&arrived, 1);
    CHECK(dsm_barrier(77, 2) == DSM_ERROR_INIT);
    return NULL;
}

static void *try_to_join(void *unused) {
    (void)unused;
    dsm_config_t config = alone();
    int result = dsm_init(&config);
    CHECK(result == DSM_SUCCESS || result == DSM_ERROR_BUSY);
    if (result == DSM_SUCCESS) atomic_fetch_add(&joined, 1);
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS], waiter;
    /* Of many who join at once, one does. */
    for (int thread = 0; thread < THREADS; thread++) {
        CHECK(pthread_create(&threads[thread], NULL, try_to_join, NULL) == 0);
    }
    for (int thread = 0; thread < THREADS; thread++) CHECK(pthread_join(threads[thread], NULL) == 0);
    CHECK(joined == 1);

    /* Who waits when the node leaves is told so. */
    CHECK(pthread_create(&waiter, NULL, wait_for_ever, NULL) == 0);
    while (!atomic_load(&arrived)) sched_yield();
    OK(dsm_finalize());
    CHECK(pthread_join(waiter, NULL) == 0);

    for (uintptr_t thread = 0; thread < THREADS; thread++) {
        CHECK(pthread_create(&threads[thread], NULL, call_everything, (void *)thread) == 0);
    }
    for (int round = 0; round < ROUNDS; round++) {
        dsm_config_t config = alone();
        OK(dsm_init(&config));
        for (int calls = 0; calls < 20; calls++) OK(dsm_barrier(500, 1));
        OK(dsm_finalize());
    }
    atomic_store(&stop, 1);
    for (int thread = 0; thread < THREADS; thread++) CHECK(pthread_join(threads[thread], NULL) == 0);
    SAY("done");
    return 0;
}
