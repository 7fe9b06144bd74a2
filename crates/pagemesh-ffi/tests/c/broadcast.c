/* Four nodes: private bytes of each for all, of sizes from nothing to more than is passed on at once; and calls that do not fit. */
#include "check.h"
#include <pthread.h>

enum { THREADS = 3 };

static const size_t sizes[] = {0, 1, 4096, 5000, ((size_t)1 << 20) + 3, 3000000};

static unsigned char byte_of(size_t index, node_id_t root) {
    return (unsigned char)(index * 31 + index / 4096 + root);
}

static void share(size_t bytes, node_id_t root) {
    unsigned char *buffer = malloc(bytes + 1);
    CHECK(buffer != NULL);
    memset(buffer, 0xee, bytes + 1);
    if (dsm_get_node_id() == root) {
        for (size_t index = 0; index < bytes; index++) buffer[index] = byte_of(index, root);
    }
    OK(dsm_broadcast(buffer, bytes, root));
    for (size_t index = 0; index < bytes; index++) CHECK(buffer[index] == byte_of(index, root));
    CHECK(buffer[bytes] == 0xee);
    free(buffer);
}

static void *share_some(void *argument) {
    (void)argument;
    for (int round = 0; round < 5; round++) share(20000, 1);
    return NULL;
}

int main(void) {
    static const char fixed[] = "only read";
    char own[sizeof fixed];
    OK(dsm_init(NULL));
    node_id_t me = dsm_get_node_id(), nodes = (node_id_t)dsm_get_num_nodes();
    for (size_t at = 0; at < sizeof sizes / sizeof *sizes; at++) {
        for (node_id_t root = 0; root < nodes; root++) share(sizes[at], root);
    }
    /* The root's buffer may be one that cannot be written. */
    OK(dsm_broadcast(me == 2 ? (void *)(uintptr_t)fixed : own, sizeof fixed, 2));
    CHECK(me == 2 || memcmp(own, fixed, sizeof fixed) == 0);
    /* All are told, whoever is wrong. */
    CHECK(dsm_broadcast(own, me == 3 ? 4 : 5, 1) == DSM_ERROR_INVALID);
    CHECK(dsm_broadcast(own, 5, me == 0 ? 2 : 1) == DSM_ERROR_INVALID);
    CHECK(dsm_broadcast(me == 1 ? NULL : own, 5, 1) == DSM_ERROR_INVALID);
    CHECK(dsm_broadcast(own, 5, me == 2 ? nodes : 1) == DSM_ERROR_INVALID);
    CHECK(dsm_broadcast(own, 5, nodes) == DSM_ERROR_INVALID);
    pthread_t running[THREADS];
    for (int index = 0; index < THREADS; index++) CHECK(pthread_create(&running[index], NULL, share_some, NULL) == 0);
    for (int index = 0; index < THREADS; index++) CHECK(pthread_join(running[index], NULL) == 0);
    OK(dsm_finalize());
    SAY("done");
    return 0;
}
