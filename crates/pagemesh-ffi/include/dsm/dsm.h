/*
 * libdsm, the C interface of pagemesh: distributed shared memory for ordinary processes.
 *
 * Processes join a mesh, share memory at one address, read and write it with plain loads and stores, and wait for each other
 * by locks, semaphores, condition variables and barriers. See dsm(7).
 *
 * Threads: every call may be made from any thread at any time, also while another thread is in the same call, except that
 * dsm_fork is for programs that have no other threads which matter to the children (see fork(2)). A lock belongs to the thread that
 * took it. No call is for signal handlers. dsm_last_error speaks of the calling thread.
 *
 * Errors: calls that return an int return DSM_SUCCESS or a negative dsm_error_t; dsm_last_error says more. Before dsm_init and
 * after dsm_finalize they return DSM_ERROR_INIT. No call prints, but for the three that are for it; none ends the process.
 *
 * Waiting: every wait has a deadline. Waits for a page end after 30 s (PAGEMESH_FAULT_TIMEOUT_MS), those for locks and the like, barriers and
 * dsm_finalize after 10 min (PAGEMESH_WAIT_TIMEOUT_MS). When a node dies, whoever needs it gets DSM_ERROR_NODE_DOWN within 5 s.
 *
 * For C11 and C++11 and later. Linux on x86-64.
 */
#ifndef DSM_DSM_H
#define DSM_DSM_H

#include <dsm/types.h>

/* The version of this header; dsm_version() tells that of the library. The library's soname changes when a program has to
 * be compiled anew. */
#define DSM_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Joining and leaving ---- */

/*
 * Joins, and returns when all nodes have. Node 0 listens on config->port, the others go to manager_host:manager_port and keep trying
 * until it is there. With NULL the environment says who and where: PAGEMESH_NODE, PAGEMESH_NODES, PAGEMESH_COORDINATOR
 * (host:port), as `pagemesh run` sets them.
 *
 * DSM_ERROR_INVALID at once: a configuration or setting that cannot be, an id that is taken, another num_nodes than node 0 has,
 * a host without an address. DSM_ERROR_TIMEOUT: not all came within 30 s (PAGEMESH_JOIN_TIMEOUT_MS). DSM_ERROR_NETWORK: the port is
 * in use, and the like. DSM_ERROR_NODE_DOWN: a node ended meanwhile. DSM_ERROR_BUSY: joined already.
 */
int dsm_init(const dsm_config_t *config);

/*
 * Leaves: waits until every node is here, so that nobody loses pages, then ends all threads, connections and mappings of the
 * library. Every pointer into shared memory and every dsm_lock_t ends with it. dsm_init may follow. DSM_ERROR_NODE_DOWN: a node was
 * lost before it came here; this one has left all the same, as with any other error.
 *
 * In the caller of dsm_fork it also waits until its children have ended.
 */
int dsm_finalize(void);

/*
 * For a program that has not joined: forks into `nodes` nodes of this machine, which have a copy of all private memory, and joins.
 * Returns the node's number in each; 0 in the caller. On failure a negative error in the caller, and no child is left.
 */
int dsm_fork(int nodes);

/*
 * One call for all: joins num_nodes nodes, of which node i listens at addresses[i] ("host:port"), and shares `pages` pages of
 * zeros, kept by write-invalidate, page p at home at node p mod num_nodes. *base is their address, the same on every node.
 */
int dsm_start(int node, int num_nodes, const char *const *addresses, size_t pages, void **base);

/* This node's number; (node_id_t)-1 when it has not joined. */
node_id_t dsm_get_node_id(void);

/* How many nodes joined; -1 when this one has not. */
int dsm_get_num_nodes(void);

/* ---- Memory ---- */

/*
 * Allocates shared memory, rounded up to pages, all zeros. Any node, at any time; the address means the same on every node. NULL
 * on failure. Sequentially consistent, unless PAGEMESH_PROTOCOL is "release" or "entry", which are for programs that order all accesses by locks
 * and barriers; then freed pages are not used again. With "entry" too every lock and barrier brings all that was written before it was given
 * back; dsm_range_rdlock and the like are among them.
 */
void *dsm_malloc(size_t bytes);

/* Frees what dsm_malloc returned on any node. Its pages are used again by later allocations. NULL is no error. */
int dsm_free(void *address);

/* The index-th allocation of the whole mesh, in the order in which they were made, from 0; NULL if there is none, or no more. */
void *dsm_get_allocation(int index);

/*
 * Opens the region of this name (1 to 63 bytes of UTF-8): the first caller makes it, of `bytes` bytes rounded up to pages, all zeros;
 * later callers, on any node, get the same. It lies at the same address on every node. NULL options are the defaults, as a structure of
 * zeros is, whatever PAGEMESH_PROTOCOL says. NULL on
 * failure: among others, when it exists with another size or other options, or when options->address is taken on some node.
 *
 * A page costs memory only when it is touched: terabytes are no trouble.
 */
void *dsm_region(const char *name, size_t bytes, const dsm_region_options_t *options);

/*
 * This node is done with a region: calls take its address no more, and the program must not touch it any more. One call ends all that
 * dsm_region returned for it here. The node goes on serving its pages to others. When every node that opened the region has closed it, or is lost, it
 * is gone: memory and addresses are free on all nodes, touching them raises SIGSEGV, and dsm_region makes a new region of that name, all zeros.
 * A node that opens it before the last has closed it gets it as it is. Locks belong to no region, and stay as they are.
 *
 * DSM_ERROR_INVALID: dsm_region did not return this, or it is closed. DSM_ERROR_BUSY, and nothing is closed: threads of this node have some of it
 * pinned, or ranges of it locked.
 */
int dsm_region_close(void *base);

/*
 * Allocates `bytes` bytes in a region of dsm_region, at a multiple of `align`, a power of two; 0 is 16. Any node, at any time, blocks of
 * any size up to the region's. They hold what was there before: zeros where nobody has written yet. From the first call on,
 * all of the region is for these blocks. NULL on failure: DSM_ERROR_MEMORY where there is no room.
 *
 * Neither this nor dsm_release touches a page of the region. Blocks of different nodes lie on different pages while there is room.
 */
void *dsm_alloc(void *region, size_t bytes, size_t align);

/*
 * Makes a block of dsm_alloc one of `bytes` bytes, which may lie elsewhere, at a multiple of 16. What was in it is in it still, as far as it
 * fits. NULL on failure; the block is as it was then.
 */
void *dsm_realloc(void *block, size_t bytes);

/*
 * Frees what dsm_alloc returned on any node; any node may get it next. NULL is no error. DSM_ERROR_INVALID: no block begins there, or it is
 * free. DSM_ERROR_NODE_DOWN: what is known of the block was lost with a node; it stays allocated.
 */
int dsm_release(void *block);

/* Gets the pages of these bytes here, many requests at a time, before they are touched. Others may take them away again at once. */
int dsm_prefetch(const void *address, size_t bytes, access_type_t access);

/*
 * Pins: gets the pages of these bytes here, readable or writable, and keeps them so until dsm_unpin, for a system call that is to use
 * them: read(2) into shared memory, or write(2) from it, fails with EFAULT where a page is not here. Pins nest. Others who want the
 * pages wait, for 1 s (PAGEMESH_PIN_MS); then the pages go. So pin for one call that does not block, and not while waiting for
 * another node. A thread that pins several ranges takes them in the order of their addresses. With DSM_PROTOCOL_RELEASE nobody waits for
 * pins: a page goes when a thread of this node takes a lock, or passes a barrier, after others have written the page.
 *
 * DSM_ERROR_INVALID: the bytes are not in one piece of shared memory. DSM_ERROR_MEMORY: 8,192 pages are pinned at a time at most.
 */
int dsm_pin(void *address, size_t bytes, access_type_t access);

/*
 * Ends the newest pin of just these bytes. DSM_ERROR_TIMEOUT: a page of them went before; what was done with it since does not
 * count. DSM_ERROR_INVALID: just these bytes are not pinned.
 */
int dsm_unpin(void *address, size_t bytes);

/*
 * Where the byte lies in a second mapping of the same memory, which never faults and is not protected, with all bytes of its piece
 * around it: for system calls, and devices, while the bytes are pinned. NULL for an address that is none of ours.
 */
void *dsm_io_pointer(void *address);

/*
 * Change a word of 8 bytes in shared memory where its page is, at once for all nodes, without bringing the page here: add to it, replace it,
 * or replace it if it is `expected`. *old becomes what it was; with a NULL old nobody is told. The word lies on a multiple of 8.
 *
 * Atomic also with this processor's own atomic instructions on the word, by any node; except with DSM_PROTOCOL_RELEASE, where between two
 * synchronisations a word is to be used by these calls only. There each call also orders all memory, as giving a lock back and taking it.
 *
 * A call that succeeds has done it, once. DSM_ERROR_TIMEOUT: it was not done. DSM_ERROR_NODE_DOWN: the page is lost, or the node that was
 * asked for it is gone or does not answer; it was done once, or not. DSM_ERROR_INVALID: there is no such word.
 */
int dsm_fetch_add_u64(uint64_t *word, uint64_t add, uint64_t *old);
int dsm_swap_u64(uint64_t *word, uint64_t value, uint64_t *old);
int dsm_compare_swap_u64(uint64_t *word, uint64_t expected, uint64_t desired, uint64_t *old);

/* What this node has of the page; PAGE_STATE_INVALID for an address that is none of ours. */
page_state_t dsm_page_state(const void *address);

/* The node that keeps the knowledge of the page's copies; (node_id_t)-1 if there is none yet, or the address is none of ours. */
node_id_t dsm_page_home(const void *address);

/* The node whose copy counts; (node_id_t)-1 while nobody has touched the page, when it is lost, or when the address is none of ours. */
node_id_t dsm_page_owner(const void *address);

/* ---- Locks and what else threads wait for ---- */

/*
 * Locks are named by any number; the same number is the same lock on every node, and none has to be created. They are taken in the
 * order in which they were asked for, and belong to the thread that took them.
 *
 * DSM_ERROR_BUSY: this thread holds it already, or, for a try, somebody does. DSM_ERROR_TIMEOUT: still waiting at the deadline.
 * DSM_ERROR_OWNER_DIED: the node that held it died; the caller HOLDS IT NOW, what it protects may be half written, and nobody else is
 * told (compare EOWNERDEAD of pthread_mutex_lock(3)). DSM_ERROR_NODE_DOWN: the node that keeps the lock's queue died; it
 * is not held, and cannot be had any more. DSM_ERROR_MEMORY: more than 65,536 locks are in use at one node.
 */
int dsm_mutex_lock(uint64_t id);
int dsm_mutex_trylock(uint64_t id);
int dsm_mutex_timedlock(uint64_t id, uint64_t timeout_ns);

/* DSM_ERROR_PERMISSION: this thread does not hold it. */
int dsm_mutex_unlock(uint64_t id);

/* A handle for lock `id`: dsm_lock_acquire(dsm_lock_create(n)) is dsm_mutex_lock(n). NULL on failure. */
dsm_lock_t *dsm_lock_create(lock_id_t id);
int dsm_lock_acquire(dsm_lock_t *lock);
int dsm_lock_release(dsm_lock_t *lock);

/* Ends the handle, not the lock. DSM_ERROR_BUSY while a thread of this node holds the lock. */
int dsm_lock_destroy(dsm_lock_t *lock);

/*
 * Reader-writer locks, named by any number, in a name space of their own: one writer or any number of readers of all nodes. All stand in
 * one line, so that readers that keep coming do not keep a writer out. A thread holds a lock once, for reading too: asking again is
 * DSM_ERROR_BUSY. The errors are those of dsm_mutex_lock; the tries return DSM_ERROR_BUSY also when a writer waits.
 * DSM_ERROR_OWNER_DIED: a node died while it wrote, or was the last to have written and could have again; the caller HOLDS IT NOW. All takers
 * are told so, up to and with the next writer.
 *
 * Taking a lock again costs no message: a mutex and, for writing, a lock of this kind where the node was the last to have it; for reading as long as
 * nobody has written, on any number of nodes.
 */
int dsm_rwlock_rdlock(uint64_t id);
int dsm_rwlock_wrlock(uint64_t id);
int dsm_rwlock_tryrdlock(uint64_t id);
int dsm_rwlock_trywrlock(uint64_t id);
int dsm_rwlock_timedrdlock(uint64_t id, uint64_t timeout_ns);
int dsm_rwlock_timedwrlock(uint64_t id, uint64_t timeout_ns);

/* Gives it back, however it was taken. DSM_ERROR_PERMISSION: this thread does not hold it. */
int dsm_rwlock_unlock(uint64_t id);

/*
 * Ranges of a region with DSM_PROTOCOL_ENTRY or DSM_PROTOCOL_RELEASE, or of memory of dsm_malloc with PAGEMESH_PROTOCOL=entry or release: any bytes of it, inside one page or over many, locked for reading with others or for
 * writing alone. When the call returns, this node has what was published last to each of them; dsm_range_unlock publishes what this
 * thread wrote. In memory that is not of DSM_PROTOCOL_ENTRY a range orders all memory, as every other lock does. In a region that is, loads and stores outside of locked ranges are not checked: they find what this node last had, and nobody else
 * sees what they store. Ranges that overlap are had in the order in which they were asked for, so neither readers nor writers starve;
 * others know nothing of each other.
 *
 * A range belongs to the thread that locked it. DSM_ERROR_BUSY: this thread has some of it already, for whatever access, or, for a try,
 * others have or want it. DSM_ERROR_INVALID: the bytes are not in one such region. DSM_ERROR_TIMEOUT: still waiting
 * at the deadline. DSM_ERROR_OWNER_DIED: a node died that had some of it for writing, and what it had not published is lost; the caller
 * HAS THE RANGE NOW, and nobody else is told. DSM_ERROR_NODE_DOWN: the master died; nothing is locked, and nothing can be any more.
 * DSM_ERROR_MEMORY: more than 16,384 ranges are locked or waited for at one master.
 */
int dsm_range_rdlock(void *address, size_t bytes);
int dsm_range_wrlock(void *address, size_t bytes);
int dsm_range_tryrdlock(void *address, size_t bytes);
int dsm_range_trywrlock(void *address, size_t bytes);

/*
 * Gives back just these bytes, however they were locked. DSM_ERROR_PERMISSION: this thread has not locked just these.
 * DSM_ERROR_NODE_DOWN: the master died, and what was written is for this node alone.
 */
int dsm_range_unlock(void *address, size_t bytes);

/*
 * Semaphores, named by any number, in a name space of their own, need no creation. dsm_sem_init gives one its first units, at most
 * 2^31 - 1; every node may call it with the same number, of which the first counts, and with another it is DSM_ERROR_INVALID. Before
 * that there are no units but those that were posted. Units have no owners: those that a dead node had taken do not come back.
 *
 * DSM_ERROR_BUSY: dsm_sem_trywait found no unit. DSM_ERROR_TIMEOUT: still waiting at the deadline. DSM_ERROR_NODE_DOWN: the node
 * that keeps the semaphore died. DSM_ERROR_MEMORY: more than 65,536 are in use at one node, or too many units in this one.
 */
int dsm_sem_init(uint64_t id, unsigned units);
int dsm_sem_wait(uint64_t id);
int dsm_sem_trywait(uint64_t id);
int dsm_sem_timedwait(uint64_t id, uint64_t timeout_ns);
int dsm_sem_post(uint64_t id);

/*
 * Condition variables, named by any number, in a name space of their own. The caller holds lock `mutex` of dsm_mutex_lock; the wait gives
 * it back, and has it again when it returns. Who takes the lock after the wait began, and signals, wakes it: no signal is lost. As
 * with pthread_cond_wait(3), look again at what was waited for.
 *
 * DSM_ERROR_PERMISSION: this thread does not hold the lock. DSM_ERROR_TIMEOUT: nobody signalled before the deadline; the lock is held.
 * DSM_ERROR_OWNER_DIED: as for dsm_mutex_lock; the lock is held. DSM_ERROR_NODE_DOWN: the node that keeps the condition, or that of the
 * lock, died; the lock is held unless it went too, and then dsm_mutex_unlock is DSM_ERROR_PERMISSION.
 */
int dsm_cond_wait(uint64_t cond, uint64_t mutex);
int dsm_cond_timedwait(uint64_t cond, uint64_t mutex, uint64_t timeout_ns);

/* Wake the thread that has waited longest, or all that wait; nobody, if none waits. The lock need not be held. */
int dsm_cond_signal(uint64_t cond);
int dsm_cond_broadcast(uint64_t cond);

/*
 * Calls work() unless some thread on some node has done so under this word of shared memory, a multiple of 8 that was 0 at first (compare
 * pthread_once(3)); waits while one does. After DSM_SUCCESS all that it did is seen here, as behind a lock. work() returns, and does not call
 * this for the same word. Nothing else uses the word, nor lock 2^63 + its address of dsm_mutex_lock.
 *
 * DSM_ERROR_OWNER_DIED: a node died in it, for all who come; dsm_swap_u64(once, 0, NULL) lets it be done anew. DSM_ERROR_NODE_DOWN: the
 * word is lost with a node, or the node that keeps the line of those who wait. DSM_ERROR_INVALID: there is no such word, or no function.
 */
int dsm_once(uint64_t *once, void (*work)(void));

/*
 * Waits until num_participants threads, of whatever nodes, are at this barrier. It can be used again at once. DSM_ERROR_INVALID: others
 * gave another number. DSM_ERROR_NODE_DOWN: a node is lost without which they cannot all come.
 */
int dsm_barrier(barrier_id_t id, int num_participants);

/* dsm_barrier for one thread of every node. */
int dsm_barrier_all(uint64_t id);

/*
 * Makes the `bytes` bytes of private memory at `buffer` on every node what they are on node `root`, where they are only read. One thread
 * of every node calls it, with the same size and root; a second thread of a node waits for its turn. Any size, also 0. Nobody returns before
 * all have called, and memory is ordered as by dsm_barrier_all. The bytes move once to each node.
 *
 * DSM_ERROR_INVALID, on all nodes: sizes or roots differ, or on one node an argument makes no sense. DSM_ERROR_NODE_DOWN: a node is lost.
 * DSM_ERROR_TIMEOUT: not all came within 10 min (PAGEMESH_WAIT_TIMEOUT_MS). After an error the buffer may be filled in part.
 */
int dsm_broadcast(void *buffer, size_t bytes, node_id_t root);

/* ---- What a node did ---- */

int dsm_get_stats(dsm_stats_t *stats);
int dsm_get_stats_ext(dsm_stats_ext_t *stats);
int dsm_reset_stats(void);

/* Prints dsm_get_stats on standard output. */
void dsm_print_stats(void);

/* Creates a file of comma-separated values with a line of titles; dsm_perf_export_stats adds a line to it. dsm_finalize closes it. */
int dsm_perf_log_init(const char *csv_file);
int dsm_perf_export_stats(void);

/* Prints, on standard output, what the numbers come to. */
void dsm_perf_print_summary(void);

/* How much is logged from now on, on standard error: LOG_LEVEL_NONE (the default) to LOG_LEVEL_DEBUG. At any time. */
void dsm_set_log_level(int level);

/* ---- Errors ---- */

/* What an error number means. Never NULL, and never to be freed. */
const char *dsm_strerror(int error);

/* Why the last call that failed on this thread failed, in full; "" if none did. Stays until the next failure on this thread. */
const char *dsm_last_error(void);

/* The version of the library, as DSM_VERSION. */
const char *dsm_version(void);

#ifdef __cplusplus
}
#endif

#endif /* DSM_DSM_H */
