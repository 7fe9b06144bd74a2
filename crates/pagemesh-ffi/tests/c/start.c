/* One call that joins and shares; the others are told what is wrong with their numbers. */
#include "check.h"

static void refuse(void) {
    const char *addresses[3] = {"127.0.0.1:4711", "127.0.0.1:4712", NULL};
    void *base = NULL;
    CHECK(dsm_start(0, 0, addresses, 1, &base) == DSM_ERROR_INVALID);
    CHECK(dsm_start(2, 2, addresses, 1, &base) == DSM_ERROR_INVALID);
    CHECK(dsm_start(-1, 2, addresses, 1, &base) == DSM_ERROR_INVALID);
    CHECK(dsm_start(0, 2, addresses, 0, &base) == DSM_ERROR_INVALID);
    CHECK(dsm_start(0, 2, addresses, SIZE_MAX, &base) == DSM_ERROR_INVALID);
    CHECK(dsm_start(0, 2, addresses, 1, NULL) == DSM_ERROR_INVALID);
    CHECK(dsm_start(0, 2, NULL, 1, &base) == DSM_ERROR_INVALID);
    CHECK(dsm_start(0, 3, addresses, 1, &base) == DSM_ERROR_INVALID);
    addresses[0] = "nowhere";
    CHECK(dsm_start(0, 2, addresses, 1, &base) == DSM_ERROR_INVALID);
    CHECK(dsm_get_num_nodes() == -1 && base == NULL);
}

int main(int count, char **arguments) {
    enum { PAGES = 10 };
    CHECK(count == 5);
    refuse();
    const char *const *addresses = (const char *const *)&arguments[2];
    void *base = NULL;
    int me = atoi(arguments[1]);
    OK(dsm_start(me, 3, addresses, PAGES, &base));
    char *pages = base;
    for (int page = 0; page < PAGES; page++) {
        CHECK(dsm_page_home(pages + page * PAGE_SIZE) == (node_id_t)(page % 3));
    }
    OK(dsm_barrier_all(1));
    for (int page = me; page < PAGES; page += 3) {
        CHECK(pages[page * PAGE_SIZE] == 0);
        pages[page * PAGE_SIZE] = (char)(page + 1);
    }
    OK(dsm_barrier_all(1));
    for (int page = 0; page < PAGES; page++) CHECK(pages[page * PAGE_SIZE] == (char)(page + 1));
    OK(dsm_finalize());
    SAY("done");
    return 0;
}
