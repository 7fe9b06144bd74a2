/* Every call on reader-writer locks, semaphores, condition variables and what is done once, with right and wrong arguments, in a mesh of one, before it
 * and after it. */
#include "check.h"
#include <limits.h>
#include <pthread.h>

static int mentions(const char *what) {
    return strstr(dsm_last_error(), what) != NULL;
}

static uint64_t private_word;
static int times;

static void count_once(void) {
    times++;
}

static void nothing_works_outside(void) {
    CHECK(dsm_rwlock_rdlock(1) == DSM_ERROR_INIT && mentions("dsm_rwlock_rdlock") && mentions("dsm_init"));
    CHECK(dsm_rwlock_wrlock(1) == DSM_ERROR_INIT);
    CHECK(dsm_rwlock_tryrdlock(1) == DSM_ERROR_INIT);
    CHECK(dsm_rwlock_trywrlock(1) == DSM_ERROR_INIT);
    CHECK(dsm_rwlock_timedrdlock(1, 1) == DSM_ERROR_INIT && dsm_rwlock_timedwrlock(1, 1) == DSM_ERROR_INIT);
    CHECK(dsm_rwlock_unlock(1) == DSM_ERROR_INIT);
    CHECK(dsm_sem_timedwait(1, 1) == DSM_ERROR_INIT);
    CHECK(dsm_once(&private_word, count_once) == DSM_ERROR_INIT);
    CHECK(dsm_sem_init(1, 1) == DSM_ERROR_INIT);
    CHECK(dsm_sem_wait(1) == DSM_ERROR_INIT);
    CHECK(dsm_sem_trywait(1) == DSM_ERROR_INIT);
    CHECK(dsm_sem_post(1) == DSM_ERROR_INIT);
    CHECK(dsm_cond_wait(1, 1) == DSM_ERROR_INIT);
    CHECK(dsm_cond_timedwait(1, 1, 1) == DSM_ERROR_INIT);
    CHECK(dsm_cond_signal(1) == DSM_ERROR_INIT);
    CHECK(dsm_cond_broadcast(1) == DSM_ERROR_INIT);
}

static void *read_too(void *unused) {
    (void)unused;
    CHECK(dsm_rwlock_unlock(5) == DSM_ERROR_PERMISSION);
    OK(dsm_rwlock_rdlock(5));
    CHECK(dsm_rwlock_trywrlock(5) == DSM_ERROR_BUSY);
    OK(dsm_rwlock_unlock(5));
    return NULL;
}

static void *stay_out(void *unused) {
    (void)unused;
    CHECK(dsm_rwlock_tryrdlock(5) == DSM_ERROR_BUSY && dsm_rwlock_trywrlock(5) == DSM_ERROR_BUSY);
    CHECK(dsm_rwlock_timedrdlock(5, 0) == DSM_ERROR_TIMEOUT && dsm_rwlock_timedwrlock(5, 0) == DSM_ERROR_TIMEOUT);
    CHECK(dsm_rwlock_timedrdlock(5, 2000000) == DSM_ERROR_TIMEOUT && mentions("held for writing by node 0"));
    CHECK(dsm_rwlock_timedwrlock(5, 2000000) == DSM_ERROR_TIMEOUT && mentions("held for writing by node 0"));
    CHECK(dsm_rwlock_unlock(5) == DSM_ERROR_PERMISSION);
    return NULL;
}

static void in_another_thread(void *work(void *)) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, work, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void rwlocks(void) {
    CHECK(dsm_rwlock_unlock(5) == DSM_ERROR_PERMISSION);
    OK(dsm_rwlock_rdlock(5));
    CHECK(dsm_rwlock_rdlock(5) == DSM_ERROR_BUSY && dsm_rwlock_wrlock(5) == DSM_ERROR_BUSY);
    CHECK(dsm_rwlock_tryrdlock(5) == DSM_ERROR_BUSY && dsm_rwlock_trywrlock(5) == DSM_ERROR_BUSY);
    in_another_thread(read_too);
    OK(dsm_rwlock_unlock(5));
    CHECK(dsm_rwlock_unlock(5) == DSM_ERROR_PERMISSION);
    OK(dsm_rwlock_wrlock(5));
    CHECK(dsm_rwlock_rdlock(5) == DSM_ERROR_BUSY && dsm_rwlock_wrlock(5) == DSM_ERROR_BUSY);
    in_another_thread(stay_out);
    OK(dsm_rwlock_unlock(5));
    OK(dsm_rwlock_timedrdlock(5, 0));
    CHECK(dsm_rwlock_timedwrlock(5, 1000) == DSM_ERROR_BUSY);
    OK(dsm_rwlock_unlock(5));
    OK(dsm_rwlock_timedwrlock(5, 0));
    OK(dsm_rwlock_unlock(5));
    OK(dsm_rwlock_trywrlock(UINT64_MAX));
    OK(dsm_rwlock_unlock(UINT64_MAX));
    OK(dsm_rwlock_tryrdlock(0));
    OK(dsm_rwlock_unlock(0));
    /* Very many at a time. */
    for (uint64_t id = 1; id <= 65536; id++) OK(id % 2 == 0 ? dsm_rwlock_rdlock(id << 30) : dsm_rwlock_wrlock(id << 30));
    CHECK(dsm_rwlock_rdlock(5) == DSM_ERROR_MEMORY);
    for (uint64_t id = 1; id <= 65536; id++) OK(dsm_rwlock_unlock(id << 30));
    /* The name spaces are apart. */
    OK(dsm_rwlock_wrlock(6));
    OK(dsm_mutex_trylock(6));
    CHECK(dsm_sem_trywait(6) == DSM_ERROR_BUSY);
    OK(dsm_mutex_unlock(6));
    OK(dsm_rwlock_unlock(6));
}

static void semaphores(void) {
    CHECK(dsm_sem_trywait(1) == DSM_ERROR_BUSY);
    CHECK(dsm_sem_init(1, (unsigned)INT_MAX + 1) == DSM_ERROR_MEMORY && mentions("2^31 - 1"));
    CHECK(dsm_sem_init(1, UINT_MAX) == DSM_ERROR_MEMORY);
    OK(dsm_sem_init(1, 2));
    OK(dsm_sem_init(1, 2));
    CHECK(dsm_sem_init(1, 3) == DSM_ERROR_INVALID && mentions("semaphore 1"));
    OK(dsm_sem_wait(1));
    OK(dsm_sem_trywait(1));
    CHECK(dsm_sem_trywait(1) == DSM_ERROR_BUSY);
    CHECK(dsm_sem_timedwait(1, 0) == DSM_ERROR_TIMEOUT && mentions("semaphore 1"));
    CHECK(dsm_sem_timedwait(1, 2000000) == DSM_ERROR_TIMEOUT && mentions("waits for a unit"));
    OK(dsm_sem_post(1));
    OK(dsm_sem_timedwait(1, 0));
    OK(dsm_sem_post(1));
    OK(dsm_sem_wait(1));
    OK(dsm_sem_init(2, INT_MAX));
    CHECK(dsm_sem_post(2) == DSM_ERROR_MEMORY);
    OK(dsm_sem_wait(2));
    OK(dsm_sem_post(2));
    OK(dsm_sem_init(3, 0));
    CHECK(dsm_sem_trywait(3) == DSM_ERROR_BUSY);
    OK(dsm_sem_post(UINT64_MAX));
    OK(dsm_sem_wait(UINT64_MAX));
}

static void conditions(void) {
    CHECK(dsm_cond_wait(1, 9) == DSM_ERROR_PERMISSION);
    CHECK(dsm_cond_timedwait(1, 9, 1000) == DSM_ERROR_PERMISSION);
    OK(dsm_cond_signal(1));
    OK(dsm_cond_broadcast(UINT64_MAX));
    OK(dsm_mutex_lock(9));
    CHECK(dsm_cond_timedwait(1, 9, 0) == DSM_ERROR_TIMEOUT);
    CHECK(dsm_cond_timedwait(1, 9, 1000000) == DSM_ERROR_TIMEOUT);
    CHECK(dsm_cond_wait(1, 10) == DSM_ERROR_PERMISSION);
    /* It is held after a wait that was in vain. */
    CHECK(dsm_mutex_lock(9) == DSM_ERROR_BUSY);
    OK(dsm_mutex_unlock(9));
    CHECK(dsm_mutex_unlock(9) == DSM_ERROR_PERMISSION);
}

static void once(void) {
    uint64_t *words = dsm_region("once", 4096, NULL);
    CHECK(words != NULL);
    OK(dsm_once(&words[3], count_once));
    OK(dsm_once(&words[3], count_once));
    CHECK(times == 1 && words[3] != 0 && words[2] == 0 && words[4] == 0);
    OK(dsm_swap_u64(&words[3], 0, NULL));
    OK(dsm_once(&words[3], count_once));
    OK(dsm_once(&words[511], count_once));
    CHECK(times == 3);
    CHECK(dsm_once(NULL, count_once) == DSM_ERROR_INVALID && mentions("dsm_once"));
    CHECK(dsm_once(&private_word, count_once) == DSM_ERROR_INVALID && mentions("shared memory"));
    CHECK(dsm_once((uint64_t *)((char *)words + 4), count_once) == DSM_ERROR_INVALID && mentions("multiple of 8"));
    CHECK(dsm_once(&words[5], NULL) == DSM_ERROR_INVALID && mentions("function"));
    CHECK(times == 3 && private_word == 0);
    uint64_t *allocated = dsm_malloc(64);
    CHECK(allocated != NULL);
    OK(dsm_once(allocated, count_once));
    CHECK(times == 4);
    OK(dsm_free(allocated));
}

int main(void) {
    dsm_config_t config;
    memset(&config, 0, sizeof config);
    config.num_nodes = 1;
    config.is_manager = true;
    nothing_works_outside();
    OK(dsm_init(&config));
    rwlocks();
    semaphores();
    conditions();
    once();
    OK(dsm_finalize());
    nothing_works_outside();
    SAY("done");
    return 0;
}
