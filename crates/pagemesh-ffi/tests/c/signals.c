/*
 * SIGSEGV and SIGBUS that are not ours reach the program's own handler, whether it was set before dsm_init or after, by
 * sigaction or by signal; page faults of ours do not. And the program is told what it has set.
 */
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef STRICT
/* Strict POSIX leaves it out. */
#define MAP_ANONYMOUS 0x20
#endif

static sigjmp_buf back;
static volatile int heard;
static void *volatile address;

static void with_information(int number, siginfo_t *info, void *context) {
    (void)context;
    heard = number;
    address = info->si_addr;
    siglongjmp(back, 1);
}

static void with_number(int number) {
    heard = 100 + number;
    siglongjmp(back, 1);
}

static char *protected_page, *page_past_the_end;

/* Provokes a signal of the program's own; returns what its handler has noted. */
static int provoke(int number) {
    volatile char *byte = number == SIGSEGV ? protected_page : page_past_the_end;
    heard = 0;
    if (sigsetjmp(back, 1) == 0) {
        *byte = 1;
        CHECK(!"the store has an end");
    }
    return heard;
}

static void set(int number) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = with_information;
    action.sa_flags = SA_SIGINFO;
    CHECK(sigaction(number, &action, NULL) == 0);
}

static void is_set(int number) {
    struct sigaction found;
    CHECK(sigaction(number, NULL, &found) == 0);
    CHECK(found.sa_sigaction == with_information && (found.sa_flags & SA_SIGINFO) != 0);
    CHECK(provoke(number) == number);
    CHECK(address == (void *)(number == SIGSEGV ? protected_page : page_past_the_end));
}

static void join(void) {
    dsm_config_t config;
    memset(&config, 0, sizeof config);
    config.num_nodes = 1;
    config.is_manager = true;
    OK(dsm_init(&config));
}

static void faults_are_ours(void) {
    char *pages = dsm_malloc(8 * PAGE_SIZE);
    CHECK(pages != NULL);
    heard = 0;
    for (int page = 0; page < 8; page++) pages[page * PAGE_SIZE] = (char)page;
    for (int page = 0; page < 8; page++) CHECK(pages[page * PAGE_SIZE] == (char)page);
    CHECK(heard == 0);
    OK(dsm_free(pages));
}

/* A child that does this ends by `number`. */
static void dies_of(int number, void (*way)(int)) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        way(number);
        _exit(77);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == number);
}

static void by_the_default(int number) {
    CHECK(signal(number, SIG_DFL) != SIG_ERR);
    *(number == SIGSEGV ? (volatile char *)protected_page : (volatile char *)page_past_the_end) = 1;
}

/* As crash reporters do: note it, set the default, return. */
static void report(int number) {
    heard = number;
    CHECK(signal(number, SIG_DFL) != SIG_ERR);
}

static void after_a_report(int number) {
    CHECK(signal(number, report) != SIG_ERR);
    *(number == SIGSEGV ? (volatile char *)protected_page : (volatile char *)page_past_the_end) = 1;
}

/* A joined process in a child of its own, since what is forked has not joined. */
static void in_a_node(int number) {
    join();
    faults_are_ours();
    after_a_report(number);
}

static void in_a_node_by_default(int number) {
    join();
    faults_are_ours();
    by_the_default(number);
}

int main(void) {
    static const int both[2] = {SIGSEGV, SIGBUS};
    char name[] = "/tmp/pagemesh-signals-XXXXXX";
    int file = mkstemp(name);
    CHECK(file >= 0 && unlink(name) == 0);
    protected_page = mmap(NULL, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page_past_the_end = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(protected_page != MAP_FAILED && page_past_the_end != MAP_FAILED);

    /* Set before, asked for and called during and after. */
    for (int at = 0; at < 2; at++) set(both[at]);
    join();
    faults_are_ours();
    for (int at = 0; at < 2; at++) is_set(both[at]);
    faults_are_ours();
    OK(dsm_finalize());
    for (int at = 0; at < 2; at++) is_set(both[at]);

    /* Set during, by signal and by sigaction. */
    join();
    faults_are_ours();
    for (int at = 0; at < 2; at++) {
        struct sigaction found;
        void (*before)(int) = signal(both[at], with_number);
        CHECK(before != SIG_ERR && (void (*)(void))before == (void (*)(void))with_information);
        CHECK(provoke(both[at]) == 100 + both[at]);
        faults_are_ours();
        CHECK(sigaction(both[at], NULL, &found) == 0);
#ifdef STRICT
        /* In strict ISO C, glibc gives signal its System V meaning: the handler was called once. */
        CHECK(found.sa_handler == SIG_DFL);
#else
        CHECK(found.sa_handler == with_number && (found.sa_flags & SA_RESTART) != 0);
        CHECK(provoke(both[at]) == 100 + both[at]);
#endif
        set(both[at]);
        is_set(both[at]);
        faults_are_ours();
    }
    /* Others, and nonsense, are as they were. */
    errno = 0;
    CHECK(signal(SIGUSR1, with_number) == SIG_DFL && signal(SIGUSR1, SIG_DFL) == with_number);
    CHECK(signal(1000, with_number) == SIG_ERR && errno == EINVAL);
    CHECK(signal(SIGBUS, SIG_ERR) == SIG_ERR);
    CHECK(sigaction(1000, NULL, NULL) == -1);
    OK(dsm_finalize());
    for (int at = 0; at < 2; at++) is_set(both[at]);

    for (int at = 0; at < 2; at++) {
        dies_of(both[at], by_the_default);
        dies_of(both[at], after_a_report);
        dies_of(both[at], in_a_node);
        dies_of(both[at], in_a_node_by_default);
    }
    SAY("done");
    return 0;
}
