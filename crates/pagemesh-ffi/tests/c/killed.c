/*
 * What the others find when node 2 of 3 is killed, in whatever they wait for: DSM_ERROR_NODE_DOWN, soon, and a way out. The last
 * lock of the test was its own: the next to take it is told.
 */
#include "check.h"
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

/* Whether a load of the page ends in SIGBUS with its address. */
static int is_lost(volatile char *byte) {
    if (sigsetjmp(back, 1) == 0) {
        (void)*byte;
        return 0;
    }
    CHECK(told == (void *)byte);
    return 1;
}

int main(int count, char **arguments) {
    CHECK(count == 2);
    const char *what = arguments[1];
    OK(dsm_init(NULL));
    node_id_t me = dsm_get_node_id();
    char *pages = dsm_region("pages", 6 * PAGE_SIZE, NULL);
    CHECK(pages != NULL);
    if (me == 2) {
        for (int page = 0; page < 6; page++) pages[page * PAGE_SIZE] = 9;
        for (uint64_t id = 0; id < 12; id++) OK(dsm_mutex_lock(id));
    }
    OK(dsm_barrier_all(1));
    SAY("ready");
    if (me == 2) {
        for (;;) pause();
    }
    if (strcmp(what, "barrier") == 0) {
        CHECK(dsm_barrier(5, 3) == DSM_ERROR_NODE_DOWN);
        CHECK(strstr(dsm_last_error(), "node 2") != NULL);
    } else if (strcmp(what, "lock") == 0) {
        int inherited = 0, down = 0;
        for (uint64_t id = 0; id < 12; id++) {
            int got = dsm_mutex_lock(id);
            if (got == DSM_ERROR_OWNER_DIED) inherited++;
            if (got == DSM_ERROR_NODE_DOWN) down++;
            CHECK(got == DSM_SUCCESS || got == DSM_ERROR_OWNER_DIED || got == DSM_ERROR_NODE_DOWN);
            CHECK(got == DSM_ERROR_NODE_DOWN || dsm_mutex_unlock(id) == DSM_SUCCESS);
            CHECK(got != DSM_ERROR_NODE_DOWN || dsm_mutex_unlock(id) == DSM_ERROR_PERMISSION);
        }
        /* Some had their home at the dead node; of the rest, each told one of us. */
        CHECK(down > 0);
        SAY("%d %d", inherited, down);
    } else {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_sigaction = on_lost_page;
        action.sa_flags = SA_SIGINFO;
        CHECK(sigaction(SIGBUS, &action, NULL) == 0);
        /* Until the loss is known, a page may still be on its way. */
        while (dsm_barrier(5, 3) != DSM_ERROR_NODE_DOWN) {
        }
        for (int page = 0; page < 6; page++) {
            CHECK(is_lost(pages + page * PAGE_SIZE));
            CHECK(dsm_prefetch(pages + page * PAGE_SIZE, 1, ACCESS_READ) == DSM_ERROR_NODE_DOWN);
        }
    }
    SAY("told");
    CHECK(dsm_finalize() == DSM_ERROR_NODE_DOWN);
    SAY("left");
    return 0;
}
