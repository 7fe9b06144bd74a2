/* The other three nodes of the program in usage.c: they come to its barrier. */
#include "check.h"

int main(int count, char **arguments) {
    CHECK(count == 3);
    dsm_config_t config = {
        .node_id = (node_id_t)atoi(arguments[1]), .num_nodes = 4, .manager_port = (uint16_t)atoi(arguments[2])};
    OK(dsm_init(&config));
    OK(dsm_barrier(0, 4));
    OK(dsm_finalize());
    SAY("done");
    return 0;
}
