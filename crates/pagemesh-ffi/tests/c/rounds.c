/* Joining and leaving a hundred times leaves no threads, descriptors, mappings or handlers behind. */
#include "check.h"
#include <dirent.h>
#include <signal.h>
#include <unistd.h>

static int entries(const char *folder) {
    int count = 0;
    DIR *open = opendir(folder);
    CHECK(open != NULL);
    while (readdir(open) != NULL) count++;
    CHECK(closedir(open) == 0);
    return count;
}

/* Lines of the maps, but for those of memory that the C library keeps for itself and gives back when it likes. */
static int mappings(void) {
    char line[1024];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        if (strstr(line, "/memfd:") != NULL || strchr(line, '/') != NULL) count++;
        CHECK(strstr(line, "pagemesh") == NULL);
    }
    CHECK(fclose(maps) == 0);
    return count;
}

static int no_sockets(void) {
    char link[64], name[64];
    for (int file = 0; file < 256; file++) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        ssize_t length = readlink(link, name, sizeof name - 1);
        name[length < 0 ? 0 : length] = 0;
        if (strstr(name, "socket:") != NULL || strstr(name, "userfaultfd") != NULL) return 0;
    }
    return 1;
}

static void handler(int number) {
    (void)number;
}

/* What the kernel has, asked past every library: the field is the first of the kernel's structure. */
extern int __sigaction(int, const struct sigaction *, struct sigaction *);

static void (*installed(int number))(int) {
    struct sigaction now;
    CHECK(__sigaction(number, NULL, &now) == 0);
    return now.sa_handler;
}

int main(int count, char **arguments) {
    CHECK(count == 2);
    int rounds = atoi(arguments[1]), threads = 0, files = 0, maps = 0;
    struct sigaction action;
    /* A program that is linked with the library, and has not joined, has nothing of it. */
    CHECK(installed(SIGBUS) == SIG_DFL && installed(SIGSEGV) == SIG_DFL && installed(SIGPIPE) == SIG_DFL);
    CHECK(entries("/proc/self/task") == 3 && no_sockets());
    mappings();
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    CHECK(sigaction(SIGBUS, &action, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0);
    for (int round = 0; round < rounds; round++) {
        OK(dsm_init(NULL));
        uint64_t *one = dsm_malloc(100000), *other = dsm_region("region", 1 << 20, NULL);
        CHECK(one != NULL && other != NULL);
        one[dsm_get_node_id()] = other[dsm_get_node_id()] = 1;
        dsm_lock_t *lock = dsm_lock_create(1);
        OK(dsm_lock_acquire(lock));
        OK(dsm_lock_release(lock));
        OK(dsm_barrier_all(1));
        OK(dsm_finalize());
        CHECK(installed(SIGBUS) == handler && installed(SIGSEGV) == handler);
        CHECK(entries("/proc/self/task") == 3 && no_sockets());
        if (round == 4) {
            threads = entries("/proc/self/task");
            files = entries("/proc/self/fd");
            maps = mappings();
        }
    }
    CHECK(entries("/proc/self/task") == threads);
    CHECK(entries("/proc/self/fd") == files);
    CHECK(mappings() == maps);
    SAY("done");
    return 0;
}
