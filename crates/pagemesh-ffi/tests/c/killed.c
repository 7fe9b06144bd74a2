/*
 * What the others find when one of three nodes is killed, in whatever they or it wait for: DSM_ERROR_NODE_DOWN, soon, and a way
 * out. The locks that it had go to the next, who is told.
 */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

static sigjmp_buf back;
static void *volatile told;

static void on_lost_page(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    told = info->si_addr;
    siglongjmp(back, 1);
}

/* What the last load found that did not end in SIGBUS. */
static volatile char loaded;

/* Whether a load of the page ends in SIGBUS with its address. */
static int is_lost(volatile char *byte) {
    if (sigsetjmp(back, 1) == 0) {
        loaded = *byte;
        return 0;
    }
    CHECK(told == (void *)byte);
    return 1;
}

enum { PAGES = 6, LOCKS = 12, READ = 1000 };

static node_id_t victim;
static volatile char *pages;
/* Entry regions: one whose master lives on, one whose master is the victim. */
static char *ranges, *gone;

static void wait_until_a_node_is_lost(void) {
    dsm_stats_t stats;
    do {
        OK(dsm_get_stats(&stats));
        sched_yield();
    } while (stats.network_failures == 0);
}

/* What the victim does until it is killed. */
static void wait_for_death(const char *what) {
    if (strcmp(what, "reading") == 0) {
        for (unsigned round = 0;; round++) {
            for (int page = 0; page < PAGES; page++) pages[page * PAGE_SIZE] = (char)(1 + round % 100);
        }
    }
    if (strcmp(what, "its barrier") == 0) (void)dsm_barrier(6, 3);
    if (strcmp(what, "its wait for a lock") == 0) (void)dsm_mutex_lock(100);
    for (;;) pause();
}

/* Locks that the victim had are inherited, each by one of us, but for those whose home it was. */
static void find_locks(void) {
    int inherited = 0, down = 0;
    for (uint64_t id = 0; id < LOCKS; id++) {
        int got = dsm_mutex_lock(id);
        if (got == DSM_ERROR_OWNER_DIED) inherited++;
        if (got == DSM_ERROR_NODE_DOWN) down++;
        CHECK(got == DSM_SUCCESS || got == DSM_ERROR_OWNER_DIED || got == DSM_ERROR_NODE_DOWN);
        CHECK(got == DSM_ERROR_NODE_DOWN || dsm_mutex_unlock(id) == DSM_SUCCESS);
        CHECK(got != DSM_ERROR_NODE_DOWN || dsm_mutex_unlock(id) == DSM_ERROR_PERMISSION);
    }
    CHECK(down > 0);
    SAY("%d %d", inherited, down);
}

/* Reader-writer locks stay with the node that used them last. Those that the victim wrote under count as written under when it died, as nobody
 * else knows; those that it read under, and had for reading, are as if it had never been. */
static void find_kept_locks(void) {
    int inherited = 0, down = 0;
    /* It would else give back what it does not need. */
    wait_until_a_node_is_lost();
    for (uint64_t id = 0; id < LOCKS; id++) {
        int got = dsm_rwlock_wrlock(id);
        if (got == DSM_ERROR_OWNER_DIED) inherited++;
        if (got == DSM_ERROR_NODE_DOWN) down++;
        CHECK(got == DSM_SUCCESS || got == DSM_ERROR_OWNER_DIED || got == DSM_ERROR_NODE_DOWN);
        CHECK(got == DSM_ERROR_NODE_DOWN || dsm_rwlock_unlock(id) == DSM_SUCCESS);
        got = dsm_rwlock_wrlock(READ + id);
        CHECK(got == DSM_SUCCESS || got == DSM_ERROR_NODE_DOWN);
        CHECK(got == DSM_ERROR_NODE_DOWN || dsm_rwlock_unlock(READ + id) == DSM_SUCCESS);
    }
    CHECK(down > 0);
    SAY("%d %d", inherited, down);
}

/* The victim's range is free, one of us is told, and what was not published is lost. */
static void find_ranges(void) {
    char name[16];
    int got = dsm_range_wrlock(ranges, PAGE_SIZE);
    CHECK(got == DSM_SUCCESS || got == DSM_ERROR_OWNER_DIED);
    snprintf(name, sizeof name, "node %u", (unsigned)victim);
    CHECK(got == DSM_SUCCESS || strstr(dsm_last_error(), name) != NULL);
    CHECK(ranges[15] == 0);
    OK(dsm_range_unlock(ranges, PAGE_SIZE));
    CHECK(dsm_range_rdlock(gone, 1) == DSM_ERROR_NODE_DOWN);
    CHECK(dsm_range_unlock(gone, 1) == DSM_ERROR_PERMISSION);
    SAY("%d", got == DSM_ERROR_OWNER_DIED);
}

static void open_ranges(node_id_t holder) {
    dsm_region_options_t options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.protocol = DSM_PROTOCOL_ENTRY;
    options.placement = DSM_PLACE_SINGLE;
    options.placement_node = holder;
    ranges = dsm_region("ranges", PAGE_SIZE, &options);
    options.placement_node = victim;
    gone = dsm_region("gone", PAGE_SIZE, &options);
    CHECK(ranges != NULL && gone != NULL);
}

/* Words of the entry region that lives on, where the victim has not locked anything. */
static uint64_t *once_of(size_t index) {
    return (uint64_t *)(void *)(ranges + 512) + index;
}

static int begun;
static pthread_mutex_t beginning = PTHREAD_MUTEX_INITIALIZER;

static void begin_and_never_end(void) {
    CHECK(pthread_mutex_lock(&beginning) == 0);
    begun++;
    CHECK(pthread_mutex_unlock(&beginning) == 0);
    for (;;) pause();
}

static void *do_once(void *word) {
    (void)dsm_once(word, begin_and_never_end);
    return NULL;
}

/* The victim is in the middle of all of them. */
static void begin_all(void) {
    for (size_t index = 0; index < LOCKS; index++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, do_once, once_of(index)) == 0);
    }
    int all = 0;
    while (!all) {
        sched_yield();
        CHECK(pthread_mutex_lock(&beginning) == 0);
        all = begun == LOCKS;
        CHECK(pthread_mutex_unlock(&beginning) == 0);
    }
}

static void done_at_last(void) {
    begun++;
}

/* Two nodes meet where the home of no barrier died. */
static void meet_the_other(barrier_id_t *barrier) {
    int met;
    do {
        met = dsm_barrier((*barrier)++, 2);
        CHECK(met == DSM_SUCCESS || met == DSM_ERROR_NODE_DOWN);
    } while (met != DSM_SUCCESS);
}

/* All are told, also who comes second; and it can be done anew. */
static void find_begun(node_id_t me, node_id_t holder) {
    int died = 0, down = 0;
    barrier_id_t barrier = 200;
    wait_until_a_node_is_lost();
    for (int round = 0; round < 2; round++) {
        died = down = 0;
        for (size_t index = 0; index < LOCKS; index++) {
            int got = dsm_once(once_of(index), done_at_last);
            CHECK(got == DSM_ERROR_OWNER_DIED || got == DSM_ERROR_NODE_DOWN);
            died += got == DSM_ERROR_OWNER_DIED;
            down += got == DSM_ERROR_NODE_DOWN;
        }
    }
    CHECK(begun == 0 && died > 0);
    meet_the_other(&barrier);
    for (size_t index = 0; me == holder && index < LOCKS; index++) {
        OK(dsm_swap_u64(once_of(index), 0, NULL));
        int got = dsm_once(once_of(index), done_at_last);
        CHECK(got == DSM_SUCCESS || got == DSM_ERROR_NODE_DOWN);
    }
    CHECK(me != holder || begun == died);
    meet_the_other(&barrier);
    SAY("%d %d", died, down);
}

static void find_pages_lost(void) {
    /* Until the loss is known, a page may still be on its way. */
    while (dsm_barrier(5, 3) != DSM_ERROR_NODE_DOWN) {
    }
    for (int page = 0; page < PAGES; page++) {
        volatile char *byte = pages + page * PAGE_SIZE;
        CHECK(is_lost(byte));
        CHECK(dsm_prefetch((void *)byte, 1, ACCESS_READ) == DSM_ERROR_NODE_DOWN);
        CHECK(dsm_fetch_add_u64((uint64_t *)(void *)byte, 1, NULL) == DSM_ERROR_NODE_DOWN);
    }
}

/* A page that the victim went on writing is lost or has what was written at some time; it is never zeros. */
static void read_until_a_node_is_lost(void) {
    dsm_stats_t stats;
    do {
        for (int page = 0; page < PAGES; page++) {
            volatile char *byte = pages + page * PAGE_SIZE;
            CHECK(is_lost(byte) || loaded != 0);
        }
        OK(dsm_get_stats(&stats));
    } while (stats.network_failures == 0);
}

/* The lock that the victim waited for is had by who comes after it. */
static void pass_the_lock_on(node_id_t me, node_id_t holder) {
    wait_until_a_node_is_lost();
    if (me == holder) {
        int given = dsm_mutex_unlock(100);
        CHECK(given == DSM_SUCCESS || given == DSM_ERROR_NODE_DOWN);
    } else {
        int got = dsm_mutex_lock(100);
        /* Its home may have heard of the death later than of the release. */
        CHECK(got == DSM_SUCCESS || got == DSM_ERROR_OWNER_DIED || got == DSM_ERROR_NODE_DOWN);
    }
}

static void catch_lost_pages(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_lost_page;
    action.sa_flags = SA_SIGINFO;
    CHECK(sigaction(SIGBUS, &action, NULL) == 0);
}

int main(int count, char **arguments) {
    CHECK(count == 3);
    const char *what = arguments[1];
    victim = (node_id_t)atoi(arguments[2]);
    OK(dsm_init(NULL));
    node_id_t me = dsm_get_node_id(), holder = victim == 0 ? 1 : 0;
    pages = dsm_region("pages", PAGES * PAGE_SIZE, NULL);
    CHECK(pages != NULL);
    open_ranges(holder);
    if (me == victim) {
        OK(dsm_range_wrlock(ranges + 10, 10));
        ranges[15] = 1;
        for (int page = 0; page < PAGES; page++) pages[page * PAGE_SIZE] = 9;
        for (uint64_t id = 0; id < LOCKS; id++) {
            OK(dsm_mutex_lock(id));
            OK(dsm_rwlock_wrlock(id));
            if (id % 2 == 0) OK(dsm_rwlock_unlock(id));
            OK(dsm_rwlock_rdlock(READ + id));
            if (id % 2 == 0) OK(dsm_rwlock_unlock(READ + id));
        }
    }
    if (me == victim && strcmp(what, "once") == 0) begin_all();
    if (me == holder) OK(dsm_mutex_lock(100));
    OK(dsm_barrier_all(1));
    SAY("ready");
    if (me == victim) wait_for_death(what);
    catch_lost_pages();
    if (strcmp(what, "barrier") == 0 || strcmp(what, "its barrier") == 0) {
        char name[16];
        /* In its barrier it would else meet us. */
        if (strcmp(what, "barrier") != 0) wait_until_a_node_is_lost();
        CHECK(dsm_barrier(6, 3) == DSM_ERROR_NODE_DOWN);
        snprintf(name, sizeof name, "node %u", (unsigned)victim);
        CHECK(strstr(dsm_last_error(), name) != NULL);
    } else if (strcmp(what, "broadcast") == 0) {
        char buffer[5000] = {0}, name[16];
        CHECK(dsm_broadcast(buffer, sizeof buffer, holder) == DSM_ERROR_NODE_DOWN);
        snprintf(name, sizeof name, "node %u", (unsigned)victim);
        CHECK(strstr(dsm_last_error(), name) != NULL);
        CHECK(dsm_broadcast(buffer, 0, 0) == DSM_ERROR_NODE_DOWN);
    } else if (strcmp(what, "lock") == 0) {
        find_locks();
    } else if (strcmp(what, "kept lock") == 0) {
        find_kept_locks();
    } else if (strcmp(what, "range") == 0) {
        find_ranges();
    } else if (strcmp(what, "once") == 0) {
        find_begun(me, holder);
    } else if (strcmp(what, "its wait for a lock") == 0) {
        pass_the_lock_on(me, holder);
    } else if (strcmp(what, "reading") == 0) {
        read_until_a_node_is_lost();
    } else {
        find_pages_lost();
    }
    SAY("told");
    CHECK(dsm_finalize() == DSM_ERROR_NODE_DOWN);
    SAY("left");
    return 0;
}
