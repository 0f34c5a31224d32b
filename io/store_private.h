/* What the two halves of the store share: io/store.c opens, closes and begins anew, io/store_shard.c reads and writes. */
#ifndef IO_STORE_PRIVATE_H
#define IO_STORE_PRIVATE_H

#include "io/store.h"
#include "io/store_database.h"

#include <limits.h>
#include <pthread.h>

struct family { /* a column family */
	int32_t partition;
	rocksdb_column_family_handle_t *handle; /* NULL: the database is closed, or a reset broke off */
	struct store_shard *shard;              /* NULL: not open */
	struct family *next;
};

struct store {
	char folder[PATH_MAX];
	char *identity;
	int64_t max_age_ms;
	int lock_fd;
	pthread_rwlock_t gate;    /* shared: using the database; exclusive: changing what is below */
	struct database database; /* db NULL: closed by a disk error */
	bool writable;            /* false after a disk error: read only or closed, until store_make_writable */
	char trouble[512];        /* that error */
	int64_t retry_at_us;      /* monotonic: not before */
	uint64_t needed_bytes;    /* room on the disk that an opening may want */
	struct family *families;
	rocksdb_column_family_handle_t *default_handle;
};

struct stamp {              /* "\0written" */
	int64_t written_ms; /* -1: nothing has been written */
	uint64_t batch;
};

struct store_shard {
	struct store *store;
	struct family *family;
	struct stamp stamp; /* what "\0written" holds */
	uint64_t epoch;     /* counts resets: a batch of an earlier one is void */
	bool lost;          /* the contents cannot be believed, until the next reset; under the gate */
};

enum { STORE_WRITTEN_BYTES = 20, STORE_BATCH_BYTES = 12, STORE_BATCH_KEY_BYTES = 7 };
#define STORE_WRITTEN_KEY "\0written" /* without the NUL that ends it */

void store_written_encode(struct stamp stamp, uint8_t out[STORE_WRITTEN_BYTES]);
void store_batch_number_encode(uint64_t batch, uint8_t ret_key[STORE_BATCH_KEY_BYTES],
			       uint8_t ret_value[STORE_BATCH_BYTES]);

/* Why what a family holds cannot be used: too old, or with a hole; NULL where it can, and *ret is its stamp then. */
const char *store_family_fault(const struct store *s, const struct family *f, struct stamp *ret);

/* The following want the gate closed (exclusive). */
struct family *store_family_find(struct store *s, int32_t partition);
enum status store_family_new(struct store *s, int32_t partition, struct family **ret, struct error *err) MUST_CHECK;
enum status store_family_renew(struct store *s, struct family *f, struct error *err) MUST_CHECK; /* empties it */
bool store_family_is_empty(const struct store *s, const struct family *f);

/* After a failed write to the disk. A RocksDB with assertions (Debian's) aborts the process when a log that failed is
 * written again, and its own recovery does just that: so the database is closed at once, and opened for reading. */
void store_stall(struct store *s, const struct error *why);

/* Opens a stalled database for writing again, once in a while and where the disk has room. Errors: STATUS_IO (still
 * stalled), STATUS_DATA (begun anew: every open shard is lost), STATUS_MEMORY. */
enum status store_make_writable(struct store *s, struct error *err) MUST_CHECK;

/* For damage that cannot be laid at one shard's door: an empty database; every open shard is lost. */
enum status store_begin_anew(struct store *s, const char *reason, struct error *err) MUST_CHECK;

#endif
