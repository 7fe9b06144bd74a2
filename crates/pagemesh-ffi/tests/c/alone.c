/* A mesh of one, if the pager that PAGEMESH_PAGER names can be had here; else an error that names it. */
#include "check.h"

int main(void) {
    int result = dsm_init(NULL);
    CHECK(result == DSM_SUCCESS || result == DSM_ERROR_INIT);
    if (result == DSM_SUCCESS) {
        char *memory = dsm_malloc(1);
        CHECK(memory != NULL);
        *memory = 1;
        OK(dsm_finalize());
    } else {
        CHECK(strstr(dsm_last_error(), getenv("PAGEMESH_PAGER")) != NULL);
        CHECK(dsm_malloc(1) == NULL && dsm_finalize() == DSM_ERROR_INIT);
    }
    SAY(result == DSM_SUCCESS ? "started" : "refused");
    return 0;
}
