#include <dsm/dsm.h>

int main() {
    dsm_config_t config = {
        .node_id = 0,
        .port = 5000,
        .num_nodes = 4,
        .is_manager = true,
        .log_level = LOG_LEVEL_INFO
    };
    dsm_init(&config);

    int *shared_array = dsm_malloc(1000 * sizeof(int));

    shared_array[0] = 42;

    dsm_lock_t *lock = dsm_lock_create(1);
    dsm_lock_acquire(lock);
    dsm_lock_release(lock);

    dsm_barrier(0, 4);

    dsm_free(shared_array);
    dsm_finalize();
    return 0;
}
