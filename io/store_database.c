#include "io/store_database.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

enum { PROBE_BYTES = 1 << 20, BLOOM_BITS = 10, OPEN_FILES = 512, LEVEL_HEADER = 5, POINT_IN_TIME = 2 };

/* Half of the budget for blocks (indexes and filters among them), a quarter for what is not yet in files; the rest is
 * the margin for what RocksDB does not count. */
static void set_memory(rocksdb_options_t *o, size_t memory_bytes)
{
	if (memory_bytes < 8 * MIB)
		memory_bytes = 8 * MIB;
	rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
	rocksdb_cache_t *cache = rocksdb_cache_create_lru(memory_bytes / 2);
	rocksdb_block_based_options_set_block_cache(table, cache);
	rocksdb_cache_destroy(cache); /* the table options hold it */
	rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
	rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
	rocksdb_options_set_block_based_table_factory(o, table);
	rocksdb_block_based_options_destroy(table);
	rocksdb_options_set_db_write_buffer_size(o, memory_bytes / 4);
	rocksdb_options_set_write_buffer_size(o, memory_bytes / 4);
	rocksdb_options_set_arena_block_size(o, 64 << 10); /* a column family that is hardly written costs only this */
	rocksdb_options_set_max_total_wal_size(o, memory_bytes); /* what an opening replays */
	rocksdb_options_set_max_open_files(o, OPEN_FILES);
	rocksdb_options_set_allow_mmap_reads(o, 0); /* a damaged file is an error text, not a SIGBUS */
	rocksdb_options_set_allow_mmap_writes(o, 0);
}

/* A log that is missing or cut between two others would be a hole in the history: with this the manifest knows which
 * logs there must be, and how long. The C API has no call for it. */
static rocksdb_options_t *create_options(void)
{
	rocksdb_options_t *base = rocksdb_options_create();
	rocksdb_options_t *options = rocksdb_options_create();
	char *why = NULL;
	if (base && options)
		rocksdb_get_options_from_string(base, "track_and_verify_wals_in_manifest=true", options, &why);
	if (base)
		rocksdb_options_destroy(base);
	rocksdb_free(why); /* a library that has dropped the option does so by itself */
	return options;
}

enum status database_init(struct database *d, size_t memory_bytes, struct error *err)
{
	memset(d, 0, sizeof *d);
	d->options = create_options();
	d->write = rocksdb_writeoptions_create(); /* the log, without fsync: survives kill -9, not power */
	d->read = rocksdb_readoptions_create();
	if (!d->options || !d->write || !d->read) {
		database_free(d);
		return error_set_memory(err);
	}
	rocksdb_options_t *o = d->options;
	set_memory(o, memory_bytes);
	rocksdb_options_set_paranoid_checks(o, 1);
	rocksdb_options_set_wal_recovery_mode(o, POINT_IN_TIME);
	rocksdb_options_set_compression(o, rocksdb_no_compression); /* hashes: nothing to gain */
	rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
	rocksdb_options_set_max_background_jobs(o, 2);
	/* a second line to a log file on a full disk aborts a RocksDB with assertions (Debian's): only opening says anything,
	 * after a look for room; what goes wrong comes back as an error text */
	rocksdb_options_set_info_log_level(o, LEVEL_HEADER);
	rocksdb_options_set_keep_log_file_num(o, 2);
	rocksdb_options_set_stats_dump_period_sec(o, 0);
	rocksdb_options_set_stats_persist_period_sec(o, 0);
	rocksdb_readoptions_set_verify_checksums(d->read, 1);
	return STATUS_OK;
}

void database_free(struct database *d)
{
	database_close(d);
	if (d->options)
		rocksdb_options_destroy(d->options);
	if (d->write)
		rocksdb_writeoptions_destroy(d->write);
	if (d->read)
		rocksdb_readoptions_destroy(d->read);
	memset(d, 0, sizeof *d);
}

enum status database_error(char *text, struct error *err)
{
	static const char io[] = "IO error";
	enum status status = STATUS_DATA;
	if (strstr(text, "While lock file") || strstr(text, "lock hold by"))
		status = STATUS_UNAVAILABLE;
	else if (strstr(text, "No such file or directory"))
		status = STATUS_DATA; /* a file that the manifest names is gone */
	else if (strncmp(text, io, sizeof io - 1) == 0)
		status = STATUS_IO;
	(void)error_set(err, status, "%s", text);
	rocksdb_free(text);
	return status;
}

enum status database_open(struct database *d, const char *path, enum database_mode mode, struct error *err)
{
	static const char *const only[] = { "default" };
	char *why = NULL;
	if (mode != DATABASE_READ) {
		enum status status = file_probe_room(path, PROBE_BYTES, err);
		if (status != STATUS_OK)
			return status;
	}
	d->count = 1;
	if (mode != DATABASE_MAKE)
		d->names = rocksdb_list_column_families(d->options, path, &d->count, &why);
	if (why) {
		d->names = NULL;
		d->count = 0;
		return database_error(why, err);
	}
	const rocksdb_options_t **options = calloc(d->count, sizeof *options);
	d->handles = calloc(d->count, sizeof *d->handles);
	if (!options || !d->handles) {
		free(options);
		database_close(d);
		return error_set_memory(err);
	}
	for (size_t i = 0; i < d->count; i++)
		options[i] = d->options;
	rocksdb_options_set_create_if_missing(d->options, mode == DATABASE_MAKE);
	const char *const *names = d->names ? (const char *const *)d->names : only;
	if (mode == DATABASE_READ)
		d->db = rocksdb_open_for_read_only_column_families(d->options, path, (int)d->count, names, options,
								   d->handles, 0, &why);
	else
		d->db = rocksdb_open_column_families(d->options, path, (int)d->count, names, options, d->handles, &why);
	free(options);
	if (!why)
		return STATUS_OK;
	d->db = NULL;
	memset(d->handles, 0, d->count * sizeof *d->handles);
	database_close(d);
	return database_error(why, err);
}

void database_close(struct database *d)
{
	for (size_t i = 0; d->handles && i < d->count; i++)
		if (d->handles[i])
			rocksdb_column_family_handle_destroy(d->handles[i]);
	free(d->handles);
	d->handles = NULL;
	if (d->names)
		rocksdb_list_column_families_destroy(d->names, d->count);
	d->names = NULL;
	d->count = 0;
	if (d->db)
		rocksdb_close(d->db);
	d->db = NULL;
}
