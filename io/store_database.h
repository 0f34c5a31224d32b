/* RocksDB as the store wants it: options for a memory budget, opening with every column family, its error texts
 * sorted into ours. Private to io/store.c. */
#ifndef IO_STORE_DATABASE_H
#define IO_STORE_DATABASE_H

#include "base/error.h"

#include <rocksdb/c.h>
#include <stddef.h>

struct database {
	rocksdb_t *db; /* NULL: closed */
	char **names;  /* of the column families found at opening; NULL: the default one alone */
	rocksdb_column_family_handle_t **handles; /* likewise; taken out (NULL) by whoever goes on to own one */
	size_t count;
	rocksdb_options_t *options;
	rocksdb_writeoptions_t *write;
	rocksdb_readoptions_t *read;
};

/* The options; opens nothing. database_free closes a half-built one too. Errors: STATUS_MEMORY. */
enum status database_init(struct database *d, size_t memory_bytes, struct error *err) MUST_CHECK;
void database_free(struct database *d);

enum database_mode { DATABASE_WRITE, DATABASE_READ, DATABASE_MAKE };

/* Opens the database in the folder `path`, for reading alone (nothing is written to the disk), or makes it. Errors:
 * STATUS_DATA (damaged), STATUS_IO, STATUS_UNAVAILABLE (locked), STATUS_MEMORY; closed then. */
enum status database_open(struct database *d, const char *path, enum database_mode mode, struct error *err) MUST_CHECK;
void database_close(struct database *d);

/* Turns RocksDB's error text, which it frees, into ours. */
enum status database_error(char *text, struct error *err);

#endif
