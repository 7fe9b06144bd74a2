/* Terabytes of addresses are in use where regions would lie first: they lie elsewhere. */
#include "check.h"
#include <sys/mman.h>

/* Where regions begin that ask for no address. */
#define FIRST ((char *)0x200000000000)
#define BYTES ((size_t)5 << 40)

int main(void) {
    void *wanted = FIRST;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    CHECK(mmap(wanted, BYTES, PROT_NONE, flags, -1, 0) == wanted);
    OK(dsm_init(NULL));
    char *region = dsm_region("region", 1 << 20, NULL), *memory = dsm_malloc(100000);
    CHECK(region >= FIRST + BYTES && memory >= FIRST + BYTES);
    /* What is in the way is not in the way again. */
    char *next = dsm_region("next", (size_t)1 << 40, NULL);
    CHECK(next > region);
    region[0] = memory[99999] = next[((size_t)1 << 40) - 1] = 1;
    OK(dsm_barrier_all(1));
    OK(dsm_finalize());
    SAY("done");
    return 0;
}
