/* Four nodes of four threads, started by the environment or by structures: memory, regions, locks, barriers and counts. */
#include "check.h"
#include <pthread.h>

enum { THREADS = 4, ROUNDS = 200 };

static uint64_t *counter;
static uint64_t *squares;
static uint64_t *parts;
static int nodes;
static int threads;

static void *work(void *argument) {
    size_t me = *(size_t *)argument;
    dsm_lock_t *lock = dsm_lock_create(11);
    CHECK(lock != NULL);
    for (int round = 0; round < ROUNDS; round++) {
        if (round % 2 == 0) {
            OK(dsm_mutex_lock(11));
            *counter += 1;
            OK(dsm_mutex_unlock(11));
        } else {
            OK(dsm_lock_acquire(lock));
            *counter += 1;
            OK(dsm_lock_release(lock));
        }
    }
    squares[me] = me * me;
    for (int round = 0; round < 5; round++) OK(dsm_barrier(3, threads));
    /* Not before: a lock that another thread of this node holds is busy. */
    OK(dsm_lock_destroy(lock));
    uint64_t sum = 0, expected = 0;
    for (size_t other = 0; other < (size_t)threads; other++) {
        sum += squares[other];
        expected += other * other;
    }
    CHECK(sum == expected);
    CHECK(*counter == (uint64_t)threads * ROUNDS);
    return NULL;
}

static void share(void) {
    node_id_t me = dsm_get_node_id();
    nodes = dsm_get_num_nodes();
    threads = nodes * THREADS;
    dsm_region_options_t options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.protocol = DSM_PROTOCOL_MIGRATION;
    options.placement = DSM_PLACE_BLOCK;
    parts = dsm_region("parts", (size_t)nodes * PAGE_SIZE, &options);
    CHECK(parts != NULL);
    /* Node 0 allocates, the others find it by its place in the order. */
    if (me == 0) {
        counter = dsm_malloc(sizeof *counter);
        squares = dsm_malloc((size_t)threads * sizeof *squares);
    }
    OK(dsm_barrier_all(1));
    if (me != 0) {
        counter = dsm_get_allocation(0);
        squares = dsm_get_allocation(1);
    }
    CHECK(counter != NULL && squares != NULL && dsm_get_allocation(2) == NULL);
    OK(dsm_barrier_all(2));
    /* All allocate at once: nobody gets what another has. */
    uint64_t *mine[8];
    for (int at = 0; at < 8; at++) {
        mine[at] = dsm_malloc(sizeof(uint64_t));
        CHECK(mine[at] != NULL);
        *mine[at] = me;
    }
    OK(dsm_barrier_all(1));
    for (int at = 0; at < 8; at++) CHECK(*mine[at] == me);
    CHECK(dsm_get_allocation(2 + 8 * nodes - 1) != NULL && dsm_get_allocation(2 + 8 * nodes) == NULL);
    /* What one has allocated another frees. */
    OK(dsm_barrier_all(1));
    for (int at = 0; at < 8; at++) {
        uint64_t *theirs = dsm_get_allocation(2 + 8 * (int)me + at);
        CHECK(theirs != NULL);
        OK(dsm_free(theirs));
    }
    OK(dsm_barrier_all(1));
    for (int at = 2; at < 2 + 8 * nodes; at++) CHECK(dsm_get_allocation(at) == NULL);
}

/* A list in shared memory: every node adds links of its own, and frees those of others. */
struct link {
    struct link *next;
    uint64_t node;
};

static void link_blocks(void) {
    enum { LINKS = 20 };
    uint64_t me = dsm_get_node_id(), found = 0;
    char *region = dsm_region("blocks", 1 << 20, NULL);
    struct link **head = dsm_region("head", sizeof *head, NULL);
    CHECK(region != NULL && head != NULL);
    for (int link = 0; link < LINKS; link++) {
        struct link *new = dsm_alloc(region, sizeof *new, 0);
        CHECK(new != NULL);
        new->node = me;
        OK(dsm_mutex_lock(12));
        new->next = *head;
        *head = new;
        OK(dsm_mutex_unlock(12));
    }
    OK(dsm_barrier_all(4));
    for (struct link *link = *head; link != NULL; link = link->next) found += link->node;
    CHECK(found == LINKS * (uint64_t)nodes * ((uint64_t)nodes - 1) / 2);
    OK(dsm_barrier_all(4));
    for (;;) {
        OK(dsm_mutex_lock(12));
        struct link *first = *head;
        if (first != NULL) *head = first->next;
        OK(dsm_mutex_unlock(12));
        if (first == NULL) break;
        OK(dsm_release(first));
        CHECK(dsm_release(first) == DSM_ERROR_INVALID);
    }
    OK(dsm_barrier_all(4));
    if (me == 0) {
        void *all = dsm_alloc(region, 1 << 20, 1);
        CHECK(all == region);
        OK(dsm_release(all));
    }
    OK(dsm_barrier_all(4));
}

static void finish(void) {
    node_id_t me = dsm_get_node_id();
    parts[(size_t)me * PAGE_SIZE / sizeof *parts] = 100 + me;
    OK(dsm_barrier_all(9));
    size_t next = (me + 1) % (size_t)nodes;
    uint64_t *theirs = parts + next * PAGE_SIZE / sizeof *parts;
    CHECK(dsm_page_home(theirs) == next);
    CHECK(*theirs == 100 + next);
    CHECK(dsm_page_state(theirs) == PAGE_STATE_READ_WRITE && dsm_page_owner(theirs) == me);
    OK(dsm_prefetch(squares, (size_t)threads * sizeof *squares, ACCESS_READ));
    dsm_stats_t stats;
    dsm_stats_ext_t more;
    memset(&more, 0, sizeof more);
    more.struct_size = sizeof more;
    OK(dsm_get_stats(&stats));
    OK(dsm_get_stats_ext(&more));
    CHECK(stats.lock_acquires == THREADS * ROUNDS);
    CHECK(nodes == 1 || (stats.pages_fetched > 0 && stats.network_bytes_received > 4096));
    CHECK(nodes == 1 || (more.messages_sent > 0 && more.messages_received > 0));
    CHECK(stats.network_failures == 0 && stats.timeouts == 0);
    OK(dsm_barrier_all(9));
}

static void run(void) {
    pthread_t running[THREADS];
    size_t numbers[THREADS];
    share();
    link_blocks();
    OK(dsm_reset_stats());
    for (size_t thread = 0; thread < THREADS; thread++) {
        numbers[thread] = dsm_get_node_id() * (size_t)THREADS + thread;
        CHECK(pthread_create(&running[thread], NULL, work, &numbers[thread]) == 0);
    }
    for (int thread = 0; thread < THREADS; thread++) CHECK(pthread_join(running[thread], NULL) == 0);
    finish();
    OK(dsm_finalize());
    SAY("done");
}

/* With two arguments, a node and the manager's port: by a structure. Else by the environment. */
int main(int count, char **arguments) {
    if (count == 3) {
        dsm_config_t config;
        memset(&config, 0, sizeof config);
        config.node_id = (node_id_t)atoi(arguments[1]);
        config.num_nodes = 4;
        if (config.node_id == 0) {
            config.port = (uint16_t)atoi(arguments[2]);
            config.is_manager = true;
        } else {
            config.manager_port = (uint16_t)atoi(arguments[2]);
            if (config.node_id == 2) strcpy(config.manager_host, "localhost");
        }
        OK(dsm_init(&config));
        CHECK(dsm_get_node_id() == config.node_id);
    } else {
        OK(dsm_init(NULL));
    }
    run();
    return 0;
}
