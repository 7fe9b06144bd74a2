/* Nodes of three threads: reader-writer locks, semaphores and condition variables. */
#include "check.h"
#include <pthread.h>

enum { THREADS = 3, ROUNDS = 30, LOCK = 5, RWLOCK = 5, PLACES = 2 };

struct shared {
    uint64_t turn;
    uint64_t one;
    char far[2048];
    uint64_t other;
    uint64_t inside;
    uint64_t most;
    uint64_t once;
    uint64_t filled;
};

static struct shared *shared;
static uint64_t threads;

static void read_and_write(uint64_t me) {
    for (uint64_t round = 0; round < ROUNDS; round++) {
        if ((round + me) % 3 == 0) {
            OK(dsm_rwlock_wrlock(RWLOCK));
            CHECK(dsm_rwlock_rdlock(RWLOCK) == DSM_ERROR_BUSY);
            shared->one++;
            shared->other++;
        } else {
            OK(dsm_rwlock_rdlock(RWLOCK));
            CHECK(shared->one == shared->other);
        }
        OK(dsm_rwlock_unlock(RWLOCK));
    }
    CHECK(dsm_rwlock_unlock(RWLOCK) == DSM_ERROR_PERMISSION);
}

/* Each in turn. */
static void wait_for_turns(uint64_t me) {
    for (uint64_t round = 0; round < ROUNDS / 3; round++) {
        OK(dsm_mutex_lock(LOCK));
        while (shared->turn % threads != me) OK(dsm_cond_wait(1, LOCK));
        shared->turn++;
        OK(dsm_cond_broadcast(1));
        OK(dsm_mutex_unlock(LOCK));
    }
    CHECK(dsm_cond_wait(1, LOCK) == DSM_ERROR_PERMISSION);
}

/* Never more inside than there are places. */
static void crowd(void) {
    OK(dsm_sem_init(9, PLACES));
    for (int round = 0; round < ROUNDS / 3; round++) {
        OK(dsm_sem_wait(9));
        OK(dsm_mutex_lock(LOCK));
        shared->inside++;
        if (shared->inside > shared->most) shared->most = shared->inside;
        OK(dsm_mutex_unlock(LOCK));
        OK(dsm_mutex_lock(LOCK));
        shared->inside--;
        OK(dsm_mutex_unlock(LOCK));
        OK(dsm_sem_post(9));
    }
}

/* All threads of all nodes come to it at the same time, and all see what one of them did. */
static void fill(void) {
    shared->filled += 7;
}

static void *work(void *argument) {
    uint64_t me = *(uint64_t *)argument;
    OK(dsm_once(&shared->once, fill));
    CHECK(shared->filled == 7);
    read_and_write(me);
    wait_for_turns(me);
    crowd();
    OK(dsm_barrier(1, (int)threads));
    return NULL;
}

/* What is found when nobody else is at it: one node after the other. */
static void alone(void) {
    CHECK(dsm_sem_trywait(77) == DSM_ERROR_BUSY);
    OK(dsm_sem_post(77));
    OK(dsm_sem_trywait(77));
    CHECK(dsm_sem_timedwait(77, 2000000) == DSM_ERROR_TIMEOUT);
    OK(dsm_sem_post(77));
    OK(dsm_sem_timedwait(77, 1));
    CHECK(dsm_sem_init(9, PLACES + 1) == DSM_ERROR_INVALID);
    CHECK(strstr(dsm_last_error(), "semaphore 9") != NULL);
    OK(dsm_rwlock_tryrdlock(8));
    OK(dsm_rwlock_unlock(8));
    OK(dsm_rwlock_trywrlock(8));
    OK(dsm_rwlock_unlock(8));
    OK(dsm_rwlock_timedrdlock(8, 1));
    OK(dsm_rwlock_unlock(8));
    OK(dsm_rwlock_timedwrlock(8, 1));
    OK(dsm_rwlock_unlock(8));
    OK(dsm_mutex_lock(LOCK));
    OK(dsm_cond_signal(1));
    CHECK(dsm_cond_timedwait(1, LOCK, 2000000) == DSM_ERROR_TIMEOUT);
    CHECK(dsm_mutex_lock(LOCK) == DSM_ERROR_BUSY);
    OK(dsm_mutex_unlock(LOCK));
}

int main(void) {
    CHECK(dsm_rwlock_rdlock(1) == DSM_ERROR_INIT);
    CHECK(dsm_sem_init(1, 1) == DSM_ERROR_INIT);
    CHECK(dsm_cond_signal(1) == DSM_ERROR_INIT);
    OK(dsm_init(NULL));
    uint64_t me = dsm_get_node_id();
    threads = (uint64_t)dsm_get_num_nodes() * THREADS;
    shared = dsm_region("shared", sizeof *shared, NULL);
    CHECK(shared != NULL);
    pthread_t running[THREADS];
    uint64_t numbers[THREADS];
    for (uint64_t index = 0; index < THREADS; index++) {
        numbers[index] = me * THREADS + index;
        CHECK(pthread_create(&running[index], NULL, work, &numbers[index]) == 0);
    }
    for (int index = 0; index < THREADS; index++) CHECK(pthread_join(running[index], NULL) == 0);
    CHECK(shared->one == threads * ROUNDS / 3 && shared->other == shared->one);
    CHECK(shared->turn == threads * (ROUNDS / 3));
    CHECK(shared->inside == 0 && shared->most >= 1 && shared->most <= PLACES);
    for (int node = 0; node < dsm_get_num_nodes(); node++) {
        OK(dsm_barrier_all(2));
        if ((uint64_t)node == me) alone();
    }
    OK(dsm_barrier_all(2));
    OK(dsm_finalize());
    SAY("done");
    return 0;
}
