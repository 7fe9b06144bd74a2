/* Every call with right and wrong arguments, in a mesh of one, and before and after it. */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

static int mentions(const char *what) {
    return strstr(dsm_last_error(), what) != NULL;
}

static void nothing_works_outside(void) {
    int local = 0;
    void *base = NULL;
    dsm_stats_t stats;
    dsm_stats_ext_t more = {.struct_size = sizeof more};
    CHECK(dsm_finalize() == DSM_ERROR_INIT);
    CHECK(mentions("dsm_finalize") && mentions("dsm_init"));
    CHECK(dsm_get_node_id() == NOBODY);
    CHECK(dsm_get_num_nodes() == -1);
    CHECK(dsm_malloc(1) == NULL);
    CHECK(dsm_free(NULL) == DSM_ERROR_INIT);
    CHECK(dsm_free(&local) == DSM_ERROR_INIT);
    CHECK(dsm_get_allocation(0) == NULL);
    CHECK(dsm_region("a", 1, NULL) == NULL);
    CHECK(dsm_region_close(&local) == DSM_ERROR_INIT);
    CHECK(dsm_alloc(&local, 1, 1) == NULL);
    CHECK(dsm_realloc(&local, 1) == NULL);
    CHECK(dsm_release(&local) == DSM_ERROR_INIT);
    CHECK(dsm_prefetch(&local, 1, ACCESS_READ) == DSM_ERROR_INIT);
    CHECK(dsm_pin(&local, 1, ACCESS_READ) == DSM_ERROR_INIT);
    CHECK(dsm_unpin(&local, 1) == DSM_ERROR_INIT);
    CHECK(dsm_io_pointer(&local) == NULL);
    CHECK(dsm_fetch_add_u64(NULL, 1, NULL) == DSM_ERROR_INIT);
    CHECK(dsm_swap_u64(NULL, 1, NULL) == DSM_ERROR_INIT);
    CHECK(dsm_compare_swap_u64(NULL, 1, 2, NULL) == DSM_ERROR_INIT);
    CHECK(dsm_page_state(&local) == PAGE_STATE_INVALID);
    CHECK(dsm_page_home(&local) == NOBODY);
    CHECK(dsm_page_owner(&local) == NOBODY);
    CHECK(dsm_range_rdlock(&local, 1) == DSM_ERROR_INIT);
    CHECK(dsm_range_wrlock(&local, 1) == DSM_ERROR_INIT);
    CHECK(dsm_range_tryrdlock(NULL, 0) == DSM_ERROR_INIT);
    CHECK(dsm_range_trywrlock(NULL, 0) == DSM_ERROR_INIT);
    CHECK(dsm_range_unlock(&local, 1) == DSM_ERROR_INIT);
    CHECK(dsm_mutex_lock(1) == DSM_ERROR_INIT);
    CHECK(dsm_mutex_trylock(1) == DSM_ERROR_INIT);
    CHECK(dsm_mutex_timedlock(1, 1) == DSM_ERROR_INIT);
    CHECK(dsm_mutex_unlock(1) == DSM_ERROR_INIT);
    CHECK(dsm_lock_create(1) == NULL);
    CHECK(dsm_lock_acquire(NULL) == DSM_ERROR_INIT);
    CHECK(dsm_lock_release(NULL) == DSM_ERROR_INIT);
    CHECK(dsm_lock_destroy(NULL) == DSM_ERROR_INIT);
    CHECK(dsm_barrier(1, 1) == DSM_ERROR_INIT);
    CHECK(dsm_barrier_all(1) == DSM_ERROR_INIT);
    CHECK(dsm_broadcast(&local, sizeof local, 0) == DSM_ERROR_INIT);
    CHECK(dsm_get_stats(&stats) == DSM_ERROR_INIT);
    CHECK(dsm_get_stats_ext(&more) == DSM_ERROR_INIT);
    CHECK(dsm_reset_stats() == DSM_ERROR_INIT);
    CHECK(dsm_perf_log_init("/tmp/x") == DSM_ERROR_INIT);
    CHECK(dsm_perf_export_stats() == DSM_ERROR_INIT);
    dsm_print_stats();
    dsm_perf_print_summary();
    dsm_set_log_level(LOG_LEVEL_NONE);
    dsm_set_log_level(-5);
    CHECK(dsm_start(0, 1, NULL, 1, &base) == DSM_ERROR_INVALID);
    CHECK(dsm_fork(0) == DSM_ERROR_INVALID);
    CHECK(dsm_fork(-1) == DSM_ERROR_INVALID);
    CHECK(dsm_fork(MAX_NODES + 1) == DSM_ERROR_INVALID);
}

static dsm_config_t alone(void) {
    dsm_config_t config;
    memset(&config, 0, sizeof config);
    config.num_nodes = 1;
    config.is_manager = true;
    return config;
}

static void bad_configurations_are_refused(void) {
    dsm_config_t config = alone();
    config.num_nodes = 0;
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID);
    config.num_nodes = -3;
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID);
    config.num_nodes = MAX_NODES + 1;
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID);
    config.num_nodes = 2;
    config.node_id = 2;
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID && mentions("node 2"));
    config.node_id = NOBODY;
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID);
    config.node_id = 0;
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID && mentions("port"));
    config.node_id = 1;
    config.manager_port = 5000;
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID && mentions("manager"));
    config.is_manager = false;
    config.log_level = 5;
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID && mentions("log level"));
    config.log_level = 0;
    strcpy(config.manager_host, "no such host!");
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID && mentions("no such host!"));
    memset(config.manager_host, 'x', sizeof config.manager_host);
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID && mentions("manager_host"));
    memset(config.manager_host, 0, sizeof config.manager_host);
    config.manager_host[0] = (char)0xff;
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID);

    config = alone();
    setenv("PAGEMESH_PAGER", "magic", 1);
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID && mentions("auto, sigbus, handler or sigsegv"));
    unsetenv("PAGEMESH_PAGER");
    setenv("PAGEMESH_PROTOCOL", "magic", 1);
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID && mentions("write-invalidate, migration, release and entry"));
    unsetenv("PAGEMESH_PROTOCOL");
    setenv("PAGEMESH_TRANSPORT", "pigeon", 1);
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID && mentions("auto, tcp or ring"));
    unsetenv("PAGEMESH_TRANSPORT");
    setenv("PAGEMESH_JOIN_TIMEOUT_MS", "soon", 1);
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID && mentions("PAGEMESH_JOIN_TIMEOUT_MS"));
    unsetenv("PAGEMESH_JOIN_TIMEOUT_MS");
    setenv("PAGEMESH_LEASE_MS", "999", 1);
    CHECK(dsm_init(&config) == DSM_ERROR_INVALID && mentions("PAGEMESH_LEASE_MS") && mentions("from 1000 to 3600000"));
    unsetenv("PAGEMESH_LEASE_MS");
    CHECK(dsm_init(NULL) == DSM_ERROR_INVALID && mentions("PAGEMESH_NODE"));
}

static void memory(void) {
    int local = 0;
    char *one = dsm_malloc(1), *two = dsm_malloc(3 * PAGE_SIZE);
    CHECK(one != NULL && two == one + PAGE_SIZE);
    CHECK(one[PAGE_SIZE - 1] == 0);
    memset(two, 7, 3 * PAGE_SIZE);
    CHECK(dsm_malloc(0) == NULL && mentions("0 bytes"));
    CHECK(dsm_malloc(SIZE_MAX) == NULL);
    CHECK(dsm_malloc((size_t)1 << 50) == NULL);
    CHECK(dsm_get_allocation(0) == one && dsm_get_allocation(1) == two);
    CHECK(dsm_get_allocation(2) == NULL && dsm_get_allocation(-1) == NULL);
    CHECK(dsm_get_allocation(0x7fffffff) == NULL);

    OK(dsm_free(NULL));
    CHECK(dsm_free(&local) == DSM_ERROR_INVALID);
    CHECK(dsm_free(two + 1) == DSM_ERROR_INVALID);
    CHECK(dsm_free(two + PAGE_SIZE) == DSM_ERROR_INVALID);
    CHECK(dsm_free(two + 3 * PAGE_SIZE) == DSM_ERROR_INVALID);
    OK(dsm_free(two));
    CHECK(dsm_free(two) == DSM_ERROR_INVALID && mentions("freed already"));
    CHECK(dsm_get_allocation(1) == NULL);
    /* Freed pages come back, as zeros and as a new allocation. */
    char *again = dsm_malloc(2 * PAGE_SIZE + 1);
    CHECK(again == two && dsm_get_allocation(2) == two && dsm_get_allocation(1) == NULL);
    for (int at = 0; at < 3 * PAGE_SIZE; at++) CHECK(again[at] == 0);
    OK(dsm_free(again));
    CHECK(dsm_malloc(PAGE_SIZE) > (void *)two);

    CHECK(dsm_page_state(one) == PAGE_STATE_READ_ONLY);
    one[5] = 1;
    CHECK(dsm_page_state(one + 5) == PAGE_STATE_READ_WRITE);
    CHECK(dsm_page_home(one) == 0 && dsm_page_owner(one) == 0);
    CHECK(dsm_page_state(&local) == PAGE_STATE_INVALID);
    CHECK(dsm_page_home(NULL) == NOBODY && dsm_page_owner(&local) == NOBODY);
    CHECK(dsm_page_state((char *)dsm_malloc(1) + PAGE_SIZE) == PAGE_STATE_INVALID);

    OK(dsm_prefetch(one, 1, ACCESS_WRITE));
    OK(dsm_prefetch(one + 1, 2, ACCESS_READ));
    CHECK(dsm_prefetch(one, 0, ACCESS_READ) == DSM_ERROR_INVALID);
    CHECK(dsm_prefetch(one, SIZE_MAX, ACCESS_READ) == DSM_ERROR_INVALID);
    CHECK(dsm_prefetch(one, (size_t)1 << 40, ACCESS_READ) == DSM_ERROR_INVALID);
    CHECK(dsm_prefetch(NULL, 1, ACCESS_READ) == DSM_ERROR_INVALID);
    CHECK(dsm_prefetch(&local, 1, ACCESS_READ) == DSM_ERROR_INVALID);
    CHECK(dsm_prefetch(one, 1, (access_type_t)2) == DSM_ERROR_INVALID);
}

static void regions(void) {
    dsm_region_options_t options;
    char name[70];
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    char *first = dsm_region("first", 10, NULL);
    CHECK(first != NULL && (uintptr_t)first % PAGE_SIZE == 0);
    first[4095] = 1;
    CHECK(dsm_region("first", 4096, &options) == first);
    CHECK(dsm_region("first", 4097, NULL) == NULL && mentions("4096 bytes"));
    CHECK(dsm_region(NULL, 1, NULL) == NULL);
    CHECK(dsm_region("", 1, NULL) == NULL);
    CHECK(dsm_region("\xff", 1, NULL) == NULL);
    CHECK(dsm_region("\x01mine", 1, NULL) == NULL);
    CHECK(dsm_region("none", 0, NULL) == NULL);
    CHECK(dsm_region("none", SIZE_MAX, NULL) == NULL);
    memset(name, 'n', sizeof name);
    name[64] = 0;
    CHECK(dsm_region(name, 1, NULL) == NULL);
    name[63] = 0;
    CHECK(dsm_region(name, 1, NULL) != NULL);

    options.protocol = DSM_PROTOCOL_MIGRATION;
    CHECK(dsm_region("first", 10, &options) == NULL && mentions("protocol"));
    options.placement = DSM_PLACE_BLOCK;
    CHECK(dsm_region("block", 1 << 20, &options) != NULL);
    options.placement = DSM_PLACE_FIRST_TOUCH;
    char *touched = dsm_region("touched", 1 << 20, &options);
    CHECK(touched != NULL && dsm_page_home(touched) == NOBODY && dsm_page_owner(touched) == NOBODY);
    touched[0] = 1;
    CHECK(dsm_page_home(touched) == 0 && dsm_page_owner(touched) == 0);
    options.placement = DSM_PLACE_SINGLE;
    CHECK(dsm_region("single", 1, &options) != NULL);
    options.placement_node = 1;
    CHECK(dsm_region("nobody's", 1, &options) == NULL);
    options.placement_node = 100000;
    CHECK(dsm_region("nobody's", 1, &options) == NULL);
    options.placement_node = 0;
    options.placement = 4;
    CHECK(dsm_region("nowhere", 1, &options) == NULL && mentions("DSM_PLACE_CYCLIC"));
    options.placement = 0;
    options.protocol = DSM_PROTOCOL_RELEASE;
    uint64_t *released = dsm_region("released", 1, &options);
    CHECK(released != NULL);
    OK(dsm_mutex_lock(3));
    *released = 7;
    OK(dsm_mutex_unlock(3));
    /* Nobody else has a copy: the page stays writable at its home. */
    CHECK(*released == 7 && dsm_page_state(released) == PAGE_STATE_READ_WRITE);
    options.protocol = DSM_PROTOCOL_ENTRY;
    CHECK(dsm_region("entered", 1, &options) == NULL && mentions("DSM_PLACE_SINGLE"));
    options.protocol = 4;
    CHECK(dsm_region("entered", 1, &options) == NULL && mentions("DSM_PROTOCOL_ENTRY") && mentions("DSM_PROTOCOL_RELEASE"));
    options.protocol = 0;
    options.flags = 1;
    CHECK(dsm_region("flagged", 1, &options) == NULL && mentions("flags"));
    options.flags = 0;
    options.struct_size = 4;
    CHECK(dsm_region("short", 1, &options) == NULL && mentions("struct_size"));
    options.struct_size = sizeof options + 8;
    CHECK(dsm_region("long", 1, &options) == NULL);
    options.struct_size = sizeof options;

    options.address = (void *)0x310000000000;
    CHECK(dsm_region("here", 1, &options) == options.address);
    CHECK(dsm_region("there", 1, &options) == NULL && mentions("0x310000000000"));
    CHECK(dsm_region("here", 1, NULL) == options.address);
    options.address = (void *)0x310000010001;
    CHECK(dsm_region("crooked", 1, &options) == NULL);
    options.address = NULL;

    /* Terabytes of addresses. */
    char *large = dsm_region("large", (size_t)4 << 40, NULL);
    CHECK(large != NULL);
    large[((size_t)4 << 40) - 1] = 1;
    CHECK(dsm_page_state(large + ((size_t)4 << 40)) == PAGE_STATE_INVALID);
    CHECK(dsm_prefetch(large + ((size_t)4 << 40) - 1, 2, ACCESS_READ) == DSM_ERROR_INVALID);

    CHECK(dsm_region_close(NULL) == DSM_ERROR_INVALID);
    CHECK(dsm_region_close(large + 1) == DSM_ERROR_INVALID);
    OK(dsm_region_close(large));
    CHECK(dsm_region_close(large) == DSM_ERROR_INVALID);
    CHECK(dsm_page_state(large) == PAGE_STATE_INVALID);
    CHECK(dsm_region("first", 10, NULL) == first && first[4095] == 1);
}

static void pins(void) {
    int local = 0, ends[2];
    char *memory = dsm_region("pinned", 5 * PAGE_SIZE, NULL);
    CHECK(memory != NULL);
    CHECK(dsm_pin(&local, 1, ACCESS_READ) == DSM_ERROR_INVALID);
    CHECK(dsm_pin(NULL, 1, ACCESS_READ) == DSM_ERROR_INVALID);
    CHECK(dsm_pin(memory, 0, ACCESS_READ) == DSM_ERROR_INVALID);
    CHECK(dsm_pin(memory, 1, (access_type_t)2) == DSM_ERROR_INVALID && mentions("ACCESS_WRITE"));
    CHECK(dsm_pin(memory + 1, 5 * PAGE_SIZE, ACCESS_READ) == DSM_ERROR_INVALID);
    CHECK(dsm_pin(memory, SIZE_MAX, ACCESS_READ) == DSM_ERROR_INVALID);
    CHECK(dsm_unpin(memory, 1) == DSM_ERROR_INVALID && mentions("not pinned"));
    CHECK(dsm_io_pointer(NULL) == NULL && dsm_io_pointer(&local) == NULL);

    /* A pipe's bytes into shared memory, through either pointer, and out again. */
    CHECK(pipe(ends) == 0);
    char *other = dsm_io_pointer(memory + PAGE_SIZE - 3);
    CHECK(other != NULL && other != memory + PAGE_SIZE - 3);
    OK(dsm_pin(memory + PAGE_SIZE - 3, 10, ACCESS_WRITE));
    OK(dsm_pin(memory + PAGE_SIZE, 1, ACCESS_READ));
    CHECK(dsm_page_state(memory) == PAGE_STATE_READ_WRITE);
    CHECK(dsm_page_state(memory + PAGE_SIZE) == PAGE_STATE_READ_WRITE);
    CHECK(write(ends[1], "0123456789", 10) == 10);
    CHECK(read(ends[0], memory + PAGE_SIZE - 3, 6) == 6 && read(ends[0], other + 6, 4) == 4);
    CHECK(dsm_unpin(memory + PAGE_SIZE - 3, 9) == DSM_ERROR_INVALID);
    OK(dsm_unpin(memory + PAGE_SIZE - 3, 10));
    OK(dsm_unpin(memory + PAGE_SIZE, 1));
    CHECK(dsm_unpin(memory + PAGE_SIZE, 1) == DSM_ERROR_INVALID);
    CHECK(memcmp(memory + PAGE_SIZE - 3, "0123456789", 10) == 0);
    char *allocated = dsm_malloc(8193 * (size_t)PAGE_SIZE);
    CHECK(allocated != NULL);
    CHECK(dsm_pin(allocated, 8193 * (size_t)PAGE_SIZE, ACCESS_READ) == DSM_ERROR_MEMORY && mentions("8192"));
    OK(dsm_pin(allocated, 1, ACCESS_READ));
    OK(dsm_unpin(allocated, 1));
    OK(dsm_free(allocated));
    OK(dsm_region_close(memory));
    CHECK(dsm_pin(memory, 1, ACCESS_READ) == DSM_ERROR_INVALID);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
}

static void words(void) {
    uint64_t local = 7, old = 99;
    uint64_t *word = dsm_malloc(2 * sizeof *word), *shared = dsm_region("words", PAGE_SIZE, NULL);
    uint64_t *crooked = (uint64_t *)(void *)((char *)shared + 4);
    CHECK(word != NULL && shared != NULL);
    OK(dsm_fetch_add_u64(word, 5, &old));
    CHECK(old == 0 && *word == 5);
    OK(dsm_fetch_add_u64(word, (uint64_t)-6, NULL));
    CHECK(*word == UINT64_MAX);
    OK(dsm_swap_u64(word, 3, &old));
    CHECK(old == UINT64_MAX && *word == 3);
    OK(dsm_compare_swap_u64(word, 4, 8, &old));
    CHECK(old == 3 && *word == 3);
    OK(dsm_compare_swap_u64(word, 3, 8, NULL));
    CHECK(*word == 8);
    /* What it was may go to shared memory, even to the word after it. */
    OK(dsm_swap_u64(word, 1, word + 1));
    CHECK(word[1] == 8);
    OK(dsm_fetch_add_u64(shared + PAGE_SIZE / sizeof *shared - 1, 1, &old));
    CHECK(old == 0);
    CHECK(dsm_fetch_add_u64(crooked, 1, &old) == DSM_ERROR_INVALID && mentions("multiple of 8"));
    CHECK(dsm_swap_u64(shared + PAGE_SIZE / sizeof *shared, 1, &old) == DSM_ERROR_INVALID);
    CHECK(dsm_compare_swap_u64(&local, 7, 1, &old) == DSM_ERROR_INVALID);
    CHECK(dsm_fetch_add_u64(NULL, 1, &old) == DSM_ERROR_INVALID);
    CHECK(local == 7 && old == 0);
    OK(dsm_broadcast(&local, sizeof local, 0));
    OK(dsm_broadcast(NULL, 0, 0));
    CHECK(local == 7);
    CHECK(dsm_broadcast(NULL, 1, 0) == DSM_ERROR_INVALID && mentions("NULL"));
    CHECK(dsm_broadcast(&local, 1, 1) == DSM_ERROR_INVALID && mentions("root"));
    CHECK(dsm_broadcast(&local, 1, NOBODY) == DSM_ERROR_INVALID);
    CHECK(dsm_broadcast(&local, SIZE_MAX, 0) == DSM_ERROR_INVALID);
    OK(dsm_region_close(shared));
    CHECK(dsm_swap_u64(shared, 1, NULL) == DSM_ERROR_INVALID);
    OK(dsm_free(word));
}

static void blocks(void) {
    int local = 0;
    size_t bytes = 1 << 20;
    char *region = dsm_region("blocks", bytes, NULL), *page = dsm_malloc(1);
    CHECK(region != NULL);
    char *one = dsm_alloc(region, 24, 0), *two = dsm_alloc(region, 24, 64), *large = dsm_alloc(region, 300000, 4096);
    CHECK(one != NULL && two != NULL && large != NULL && one != two);
    CHECK((uintptr_t)one % 16 == 0 && (uintptr_t)two % 64 == 0 && (uintptr_t)large % 4096 == 0);
    CHECK(one >= region && two >= region && large >= region && large + 300000 <= region + bytes);
    strcpy(one, "what is in it");
    memset(large, 1, 300000);

    CHECK(dsm_alloc(NULL, 1, 1) == NULL && mentions("dsm_region"));
    CHECK(dsm_alloc(region + PAGE_SIZE, 1, 1) == NULL);
    CHECK(dsm_alloc(page, 1, 1) == NULL);
    CHECK(dsm_alloc(region, 0, 1) == NULL && mentions("0 bytes"));
    CHECK(dsm_alloc(region, 1, 3) == NULL && mentions("power of two"));
    CHECK(dsm_alloc(region, bytes, 1) == NULL && mentions("in one piece"));
    CHECK(dsm_alloc(region, SIZE_MAX, 1) == NULL && mentions("in one piece"));

    CHECK(dsm_realloc(NULL, 1) == NULL && dsm_realloc(&local, 1) == NULL && dsm_realloc(page, 1) == NULL);
    CHECK(dsm_realloc(one, 0) == NULL && dsm_realloc(one + 1, 1) == NULL);
    CHECK(dsm_realloc(one, SIZE_MAX) == NULL && strcmp(one, "what is in it") == 0);
    one = dsm_realloc(one, 10000);
    CHECK(one != NULL && strcmp(one, "what is in it") == 0);
    one = dsm_realloc(one, 14);
    CHECK(one != NULL && strcmp(one, "what is in it") == 0);

    OK(dsm_release(NULL));
    CHECK(dsm_release(&local) == DSM_ERROR_INVALID && mentions("no region"));
    CHECK(dsm_release(page) == DSM_ERROR_INVALID);
    CHECK(dsm_release(one + 1) == DSM_ERROR_INVALID && mentions("not the beginning"));
    CHECK(dsm_release(large + PAGE_SIZE) == DSM_ERROR_INVALID);
    OK(dsm_release(one));
    CHECK(dsm_release(one) == DSM_ERROR_INVALID && mentions("not allocated"));
    OK(dsm_release(large));
    CHECK(dsm_release(large) == DSM_ERROR_INVALID && mentions("not allocated"));
    /* Nobody else has it: opened again, it is a new heap. */
    OK(dsm_region_close(region));
    CHECK(dsm_release(two) == DSM_ERROR_INVALID && dsm_alloc(region, 1, 1) == NULL);
    region = dsm_region("blocks", bytes, NULL);
    CHECK(region != NULL && dsm_alloc(region, bytes, 1) == region && region[0] == 0);
    OK(dsm_release(region));
    OK(dsm_free(page));
}

static char *entered;

static void *another_reader(void *unused) {
    (void)unused;
    CHECK(dsm_range_unlock(entered + 100, 100) == DSM_ERROR_PERMISSION);
    CHECK(dsm_range_tryrdlock(entered + 199, 2) == DSM_ERROR_BUSY && mentions("locked or waited for"));
    CHECK(dsm_range_trywrlock(entered + 199, 2) == DSM_ERROR_BUSY);
    OK(dsm_range_trywrlock(entered + 200, 2));
    OK(dsm_range_unlock(entered + 200, 2));
    OK(dsm_range_rdlock(entered, 10));
    OK(dsm_range_unlock(entered, 10));
    return NULL;
}

static void ranges(void) {
    dsm_region_options_t options;
    pthread_t thread;
    int local = 0;
    char *plain = dsm_malloc(1), *first = dsm_region("first", 10, NULL);
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.protocol = DSM_PROTOCOL_ENTRY;
    options.placement = DSM_PLACE_SINGLE;
    char *region = entered = dsm_region("entered", 2 * PAGE_SIZE, &options);
    CHECK(region != NULL && plain != NULL && first != NULL);
    OK(dsm_range_wrlock(region + 100, 100));
    memset(region + 100, 7, 100);
    OK(dsm_range_rdlock(region, 100));
    CHECK(dsm_range_wrlock(region + 100, 100) == DSM_ERROR_BUSY && mentions("100..200"));
    CHECK(dsm_range_rdlock(region + 199, 1) == DSM_ERROR_BUSY);
    CHECK(dsm_range_trywrlock(region + 99, 1) == DSM_ERROR_BUSY);
    CHECK(dsm_range_tryrdlock(region, 2 * PAGE_SIZE) == DSM_ERROR_BUSY);
    CHECK(dsm_range_unlock(region + 100, 99) == DSM_ERROR_PERMISSION && mentions("just what was locked"));
    CHECK(dsm_range_unlock(region + 101, 99) == DSM_ERROR_PERMISSION);
    CHECK(dsm_range_unlock(region + 300, 1) == DSM_ERROR_PERMISSION);
    CHECK(pthread_create(&thread, NULL, another_reader, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    OK(dsm_range_unlock(region + 100, 100));
    OK(dsm_range_unlock(region, 100));
    CHECK(dsm_range_unlock(region, 100) == DSM_ERROR_PERMISSION);
    OK(dsm_range_tryrdlock(region, 2 * PAGE_SIZE));
    CHECK(region[99] == 0 && region[100] == 7 && region[199] == 7 && region[2 * PAGE_SIZE - 1] == 0);
    OK(dsm_range_unlock(region, 2 * PAGE_SIZE));

    int (*const calls[])(void *, size_t) = {dsm_range_rdlock, dsm_range_wrlock, dsm_range_tryrdlock,
                                            dsm_range_trywrlock, dsm_range_unlock};
    for (int call = 0; call < 5; call++) {
        CHECK(calls[call](NULL, 1) == DSM_ERROR_INVALID && calls[call](&local, 1) == DSM_ERROR_INVALID);
        CHECK(calls[call](region, 0) == DSM_ERROR_INVALID && calls[call](region, SIZE_MAX) == DSM_ERROR_INVALID);
        CHECK(calls[call](region, 2 * PAGE_SIZE + 1) == DSM_ERROR_INVALID);
        CHECK(calls[call](region + 2 * PAGE_SIZE, 1) == DSM_ERROR_INVALID);
        CHECK(calls[call](plain, 1) == DSM_ERROR_INVALID && mentions("DSM_PROTOCOL_ENTRY"));
        CHECK(calls[call](first, 1) == DSM_ERROR_INVALID && mentions("DSM_PROTOCOL_ENTRY"));
    }
    CHECK(dsm_alloc(region, 1, 1) == NULL && mentions("entry region"));
    CHECK(dsm_page_owner(region) == 0 && dsm_page_home(region + PAGE_SIZE) == 0);
    OK(dsm_region_close(region));
    CHECK(dsm_range_rdlock(region, 1) == DSM_ERROR_INVALID);
    OK(dsm_free(plain));
}

static void *another_thread(void *unused) {
    (void)unused;
    CHECK(strcmp(dsm_last_error(), "") == 0);
    CHECK(dsm_mutex_trylock(7) == DSM_ERROR_BUSY);
    CHECK(dsm_mutex_timedlock(7, 1000000) == DSM_ERROR_TIMEOUT);
    CHECK(mentions("lock 7: waited 1ms; held by node 0 for ") && mentions("; 1 thread of node 0 waits for it"));
    CHECK(dsm_mutex_timedlock(7, 0) == DSM_ERROR_TIMEOUT);
    CHECK(dsm_mutex_unlock(7) == DSM_ERROR_PERMISSION);
    return NULL;
}

static void *two_come(void *unused) {
    (void)unused;
    int met;
    /* While one is there alone, the other number may be that of the first. */
    while ((met = dsm_barrier(50, 2)) == DSM_ERROR_INVALID) sched_yield();
    OK(met);
    return NULL;
}

static void locks(void) {
    pthread_t thread;
    int local = 0;
    OK(dsm_mutex_lock(7));
    CHECK(dsm_mutex_lock(7) == DSM_ERROR_BUSY);
    CHECK(dsm_mutex_trylock(7) == DSM_ERROR_BUSY);
    CHECK(dsm_mutex_timedlock(7, UINT64_MAX) == DSM_ERROR_BUSY);
    CHECK(pthread_create(&thread, NULL, another_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    OK(dsm_mutex_unlock(7));
    CHECK(dsm_mutex_unlock(7) == DSM_ERROR_PERMISSION);
    OK(dsm_mutex_trylock(0));
    OK(dsm_mutex_timedlock(UINT64_MAX, UINT64_MAX));
    OK(dsm_mutex_timedlock((uintptr_t)&local, 0));
    OK(dsm_mutex_unlock(UINT64_MAX));
    OK(dsm_mutex_unlock((uintptr_t)&local));

    dsm_lock_t *lock = dsm_lock_create(7), *same = dsm_lock_create(7);
    CHECK(lock != NULL && same != NULL);
    OK(dsm_lock_acquire(lock));
    CHECK(dsm_lock_acquire(same) == DSM_ERROR_BUSY);
    CHECK(dsm_mutex_trylock(7) == DSM_ERROR_BUSY);
    CHECK(dsm_lock_destroy(lock) == DSM_ERROR_BUSY);
    OK(dsm_lock_release(same));
    CHECK(dsm_lock_release(lock) == DSM_ERROR_PERMISSION);
    OK(dsm_lock_destroy(lock));
    CHECK(dsm_lock_destroy(lock) == DSM_ERROR_INVALID);
    CHECK(dsm_lock_acquire(lock) == DSM_ERROR_INVALID);
    CHECK(dsm_lock_acquire(NULL) == DSM_ERROR_INVALID);
    CHECK(dsm_lock_acquire((dsm_lock_t *)(void *)&local) == DSM_ERROR_INVALID);
    CHECK(dsm_lock_release(NULL) == DSM_ERROR_INVALID);
    CHECK(dsm_lock_destroy(NULL) == DSM_ERROR_INVALID);

    /* Very many at a time, by names that are far from each other. */
    OK(dsm_mutex_unlock(0));
    for (uint64_t id = 1; id <= 65536; id++) OK(dsm_mutex_lock(id << 40));
    CHECK(dsm_mutex_lock(7) == DSM_ERROR_MEMORY);
    for (uint64_t id = 1; id <= 65536; id++) OK(dsm_mutex_unlock(id << 40));
    OK(dsm_mutex_lock(7));
    OK(dsm_mutex_unlock(7));

    CHECK(pthread_create(&thread, NULL, two_come, NULL) == 0);
    while (dsm_barrier(50, 1) == DSM_SUCCESS) sched_yield();
    CHECK(mentions("1") && mentions("2"));
    OK(dsm_barrier(50, 2));
    CHECK(pthread_join(thread, NULL) == 0);

    OK(dsm_barrier(7, 1));
    OK(dsm_barrier(7, 1));
    OK(dsm_barrier_all(UINT64_MAX));
    CHECK(dsm_barrier(7, 0) == DSM_ERROR_INVALID);
    CHECK(dsm_barrier(7, -1) == DSM_ERROR_INVALID);
}

static void reports(const char *file) {
    dsm_stats_t stats;
    dsm_stats_ext_t more = {.struct_size = sizeof more};
    OK(dsm_get_stats(&stats));
    CHECK(stats.page_faults > 0 && stats.page_faults == stats.read_faults + stats.write_faults);
    CHECK(stats.lock_acquires > 65000 && stats.barrier_waits >= 5);
    CHECK(stats.min_fault_latency_ns > 0 && stats.min_fault_latency_ns <= stats.max_fault_latency_ns);
    CHECK(stats.max_fault_latency_ns <= stats.total_fault_latency_ns && stats.timeouts > 0);
    CHECK(dsm_get_stats(NULL) == DSM_ERROR_INVALID);
    OK(dsm_get_stats_ext(&more));
    CHECK(more.faults_resolved_locally > 0 && more.messages_sent == 0);
    CHECK(dsm_get_stats_ext(NULL) == DSM_ERROR_INVALID);
    more.struct_size = 4;
    CHECK(dsm_get_stats_ext(&more) == DSM_ERROR_INVALID && mentions("struct_size"));

    CHECK(dsm_perf_export_stats() == DSM_ERROR_NOT_FOUND);
    CHECK(dsm_perf_log_init(NULL) == DSM_ERROR_INVALID);
    CHECK(dsm_perf_log_init("/no/such/folder/file.csv") == DSM_ERROR_NOT_FOUND);
    OK(dsm_perf_log_init(file));
    OK(dsm_perf_export_stats());
    OK(dsm_perf_export_stats());
    dsm_print_stats();
    dsm_perf_print_summary();
    OK(dsm_reset_stats());
    OK(dsm_get_stats(&stats));
    CHECK(stats.page_faults == 0 && stats.lock_acquires == 0 && stats.min_fault_latency_ns == 0);

    CHECK(strcmp(dsm_strerror(DSM_SUCCESS), "success") == 0);
    for (int error = DSM_ERROR_NODE_DOWN; error < 0; error++) CHECK(strlen(dsm_strerror(error)) > 0);
    CHECK(strcmp(dsm_strerror(77), dsm_strerror(-77)) == 0);
    CHECK(strcmp(dsm_version(), DSM_VERSION) == 0);
}

int main(int count, char **arguments) {
    CHECK(count == 2);
    nothing_works_outside();
    bad_configurations_are_refused();
    nothing_works_outside();
    dsm_config_t config = alone();
    OK(dsm_init(&config));
    CHECK(dsm_init(&config) == DSM_ERROR_BUSY && dsm_fork(2) == DSM_ERROR_BUSY);
    CHECK(dsm_get_node_id() == 0 && dsm_get_num_nodes() == 1);
    memory();
    regions();
    pins();
    words();
    blocks();
    locks();
    ranges();
    reports(arguments[1]);
    OK(dsm_finalize());
    nothing_works_outside();
    SAY("done");
    return 0;
}
