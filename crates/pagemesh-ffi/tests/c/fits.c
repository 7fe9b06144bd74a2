/* Joins as node argv[1] of argv[2] at port argv[3], and says what came of it. */
#include "check.h"

int main(int count, char **arguments) {
    dsm_config_t config;
    CHECK(count == 4);
    memset(&config, 0, sizeof config);
    config.node_id = (node_id_t)atoi(arguments[1]);
    config.num_nodes = atoi(arguments[2]);
    config.manager_port = config.port = (uint16_t)atoi(arguments[3]);
    if (config.node_id != 0) config.port = 0;
    int result = dsm_init(&config);
    SAY("%d", result);
    if (result == DSM_SUCCESS) OK(dsm_finalize());
    return 0;
}
