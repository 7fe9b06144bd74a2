/* Nodes made by fork: they have copies of all private memory, share what is shared, and are waited for. */
#include "check.h"
#include <errno.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void one_cluster(int nodes, int private) {
    pid_t before = getpid();
    int me = dsm_fork(nodes);
    CHECK(me >= 0 && me < nodes);
    CHECK(private == 41 + nodes);
    private += me;
    CHECK((getpid() == before) == (me == 0));
    CHECK(dsm_get_node_id() == (node_id_t)me && dsm_get_num_nodes() == nodes);
    uint64_t *sum = dsm_region("sum", sizeof *sum, NULL);
    CHECK(sum != NULL);
    OK(dsm_mutex_lock(1));
    *sum += (uint64_t)private;
    OK(dsm_mutex_unlock(1));
    OK(dsm_barrier_all(1));
    uint64_t expected = 0;
    for (int node = 0; node < nodes; node++) expected += (uint64_t)(41 + nodes + node);
    CHECK(*sum == expected);
    /* Not read again before all have read it: then it would be another region's. */
    OK(dsm_finalize());
    if (me != 0) _exit(0);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

/* A plain fork of a joined process is no node, and can become one. */
static void a_plain_child_starts_anew(void) {
    dsm_config_t config;
    memset(&config, 0, sizeof config);
    config.num_nodes = 1;
    config.is_manager = true;
    OK(dsm_init(&config));
    char *shared = dsm_region("mine", 1, NULL);
    CHECK(shared != NULL);
    *shared = 1;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(dsm_get_num_nodes() == -1 && dsm_finalize() == DSM_ERROR_INIT);
        CHECK(dsm_page_state(shared) == PAGE_STATE_INVALID);
        OK(dsm_init(&config));
        char *own = dsm_region("mine", 1, NULL);
        CHECK(own != NULL && *own == 0);
        *own = 2;
        OK(dsm_finalize());
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(*shared == 1);
    OK(dsm_finalize());
}

static void an_error_leaves_no_child(void) {
    struct rlimit limit, none;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = limit;
    none.rlim_cur = 4;
    setenv("PAGEMESH_JOIN_TIMEOUT_MS", "500", 1);
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK(dsm_fork(3) < 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    CHECK(dsm_get_num_nodes() == -1);
    setenv("PAGEMESH_JOIN_TIMEOUT_MS", "soon", 1);
    CHECK(dsm_fork(3) == DSM_ERROR_INVALID);
    unsetenv("PAGEMESH_JOIN_TIMEOUT_MS");
}

/* A child that ends too soon is noticed, and is not left behind. */
static void a_child_that_dies_is_reaped(void) {
    int me = dsm_fork(3);
    CHECK(me >= 0);
    if (me == 2) _exit(3);
    int left = dsm_finalize();
    CHECK(left == DSM_ERROR_NODE_DOWN && strstr(dsm_last_error(), "node 2") != NULL);
    if (me != 0) _exit(0);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

int main(void) {
    an_error_leaves_no_child();
    for (int nodes = 1; nodes <= 4; nodes++) one_cluster(nodes, 41 + nodes);
    a_child_that_dies_is_reaped();
    a_plain_child_starts_anew();
    one_cluster(2, 43);
    SAY("done");
    return 0;
}
