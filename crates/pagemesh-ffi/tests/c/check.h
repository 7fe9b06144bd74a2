/* What the test programs have in common: checks that say where they failed. */
#ifndef CHECK_H
#define CHECK_H

#ifdef STRICT
#define _POSIX_C_SOURCE 200809L
#elif !defined _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dsm/dsm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                            \
    do {                                                                                            \
        if (!(condition)) {                                                                         \
            fprintf(stderr, "%s:%d: %s does not hold; last error: %s\n", __FILE__, __LINE__,        \
                    #condition, dsm_last_error());                                                  \
            fflush(NULL);                                                                           \
            abort();                                                                                \
        }                                                                                           \
    } while (0)

#define OK(call) CHECK((call) == DSM_SUCCESS)

/* Says something to the test. */
#define SAY(...)                                                                                    \
    do {                                                                                            \
        printf("@@ ");                                                                              \
        printf(__VA_ARGS__);                                                                        \
        printf("\n");                                                                               \
        fflush(stdout);                                                                             \
    } while (0)

#define NOBODY ((node_id_t)-1)

#endif
