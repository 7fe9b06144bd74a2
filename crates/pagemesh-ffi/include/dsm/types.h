/*
 * Types of libdsm, the C interface of pagemesh.
 *
 * Part of <dsm/dsm.h>. For C11 and C++11 and later.
 */
#ifndef DSM_TYPES_H
#define DSM_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of a page, the unit in which memory moves between nodes. */
#ifndef PAGE_SIZE
#define PAGE_SIZE 4096
#endif

/* Nodes of one mesh, at most. */
#define MAX_NODES 64

/* Bytes of a host's name, its NUL among them. */
#define MAX_HOSTNAME_LEN 256

typedef uint32_t node_id_t;    /* a node: 0 to num_nodes - 1; (node_id_t)-1 is none */
typedef uint64_t page_id_t;    /* a page's number in its region */
typedef uint64_t lock_id_t;    /* a lock's name: any number */
typedef uint64_t barrier_id_t; /* a barrier's name: any number, in a name space of its own */

/* What this node has of a page. */
typedef enum {
    PAGE_STATE_INVALID = 0,    /* nothing: an access faults */
    PAGE_STATE_READ_ONLY = 1,  /* a copy for reading; others may have one too */
    PAGE_STATE_READ_WRITE = 2  /* the only copy */
} page_state_t;

/* What an access needs. */
typedef enum {
    ACCESS_READ = 0,
    ACCESS_WRITE = 1
} access_type_t;

/* What calls return that return an int. */
typedef enum {
    DSM_SUCCESS = 0,
    DSM_ERROR_INIT = -1,        /* not between dsm_init and dsm_finalize, or joining lacks something of this machine */
    DSM_ERROR_MEMORY = -2,      /* no memory, no addresses, or a table is full */
    DSM_ERROR_NETWORK = -3,     /* the network failed */
    DSM_ERROR_TIMEOUT = -4,     /* a deadline passed */
    DSM_ERROR_NOT_FOUND = -5,   /* there is no such thing */
    DSM_ERROR_INVALID = -6,     /* an argument or a setting makes no sense */
    DSM_ERROR_BUSY = -7,        /* it is in use */
    DSM_ERROR_PERMISSION = -8,  /* the caller has no right to it */
    DSM_ERROR_OWNER_DIED = -9,  /* the lock is held now, and its holder before died */
    DSM_ERROR_NODE_DOWN = -10   /* a node is gone */
} dsm_error_t;

/* How much is logged, on standard error. */
#define LOG_LEVEL_NONE 0
#define LOG_LEVEL_ERROR 1
#define LOG_LEVEL_WARN 2
#define LOG_LEVEL_INFO 3
#define LOG_LEVEL_DEBUG 4

/* How a node joins. Zero what is not set. */
typedef struct {
    node_id_t node_id;                    /* this node */
    uint16_t port;                        /* where this node listens; 0: any, except for node 0 */
    char manager_host[MAX_HOSTNAME_LEN];  /* where node 0 is; "": on this machine. Node 0 listens there */
    uint16_t manager_port;                /* the port of node 0, for the others */
    int num_nodes;                        /* 1 to MAX_NODES, the same on every node */
    bool is_manager;                      /* true for node 0 */
    int log_level;                        /* LOG_LEVEL_NONE to LOG_LEVEL_DEBUG */
} dsm_config_t;

/* What this node did since it joined, or since dsm_reset_stats. */
typedef struct {
    uint64_t page_faults;             /* read_faults + write_faults */
    uint64_t read_faults;             /* by loads */
    uint64_t write_faults;            /* by stores, and by instructions that do both */
    uint64_t pages_fetched;           /* pages whose bytes came from another node */
    uint64_t pages_sent;              /* pages whose bytes went to another node */
    uint64_t invalidations_sent;      /* copies of others that this node, as their home, had dropped */
    uint64_t invalidations_received;  /* copies here that were dropped because another node writes */
    uint64_t network_bytes_sent;
    uint64_t network_bytes_received;
    uint64_t lock_acquires;
    uint64_t barrier_waits;
    uint64_t total_fault_latency_ns;  /* time that threads waited for pages: all of it, */
    uint64_t max_fault_latency_ns;    /* the longest wait, */
    uint64_t min_fault_latency_ns;    /* the shortest; 0 while there was none */
    uint64_t queued_requests;         /* requests of others that had to wait here, at the page's home, for an earlier one */
    uint64_t false_sharing_events;    /* faults on pages that were here before and went to another node's write: all of
                                         false sharing is among them, and true sharing too */
    uint64_t network_retries;         /* times a connection could not take at once what was to be sent */
    uint64_t network_failures;        /* nodes that were lost */
    uint64_t timeouts;                /* calls and accesses that gave up at their deadline */
} dsm_stats_t;

/* More of it. Set struct_size to sizeof(dsm_stats_ext_t) before the call. */
typedef struct {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t messages_sent;            /* of the protocol, to other nodes */
    uint64_t messages_received;
    uint64_t diffs_sent;               /* what was written, sent home by a release; only with DSM_PROTOCOL_RELEASE */
    uint64_t diff_bytes;               /* in all of them */
    uint64_t faults_resolved_locally;  /* page faults that needed no answer of another node */
    uint64_t prefetched_pages;         /* pages that dsm_prefetch asked another node for */
} dsm_stats_ext_t;

/* How copies of pages are kept coherent. */
#define DSM_PROTOCOL_WRITE_INVALIDATE 0u  /* many readers or one writer */
#define DSM_PROTOCOL_MIGRATION 1u         /* one holder; the page moves to whoever touches it */
#define DSM_PROTOCOL_RELEASE 2u           /* many readers and writers, who see each other's writes where they synchronise: for
                                             programs that order all accesses by locks and barriers */
#define DSM_PROTOCOL_ENTRY 3u             /* ranges of bytes under locks, which bring them: see dsm_range_rdlock; only with
                                             DSM_PLACE_SINGLE, whose node is the master */

/* Which node is the home of a page, and keeps the knowledge of its copies. */
#define DSM_PLACE_CYCLIC 0u       /* page p: node p mod num_nodes */
#define DSM_PLACE_BLOCK 1u        /* one contiguous part for each node */
#define DSM_PLACE_SINGLE 2u       /* placement_node for all */
#define DSM_PLACE_FIRST_TOUCH 3u  /* the node that touches the page first */

/* What a region is to be like. Zeroed, with struct_size set: the defaults, which are those of no options at all. */
typedef struct {
    uint32_t struct_size;     /* sizeof(dsm_region_options_t) */
    uint32_t protocol;        /* DSM_PROTOCOL_... */
    uint32_t placement;       /* DSM_PLACE_... */
    uint32_t placement_node;  /* for DSM_PLACE_SINGLE */
    void *address;            /* exactly there; NULL: where all nodes have room */
    uint32_t flags;           /* 0 */
} dsm_region_options_t;

/* A handle for a lock. */
typedef struct dsm_lock dsm_lock_t;

#ifdef __cplusplus
}
#endif

#endif /* DSM_TYPES_H */
