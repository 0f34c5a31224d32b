#include "io/store_summary.h"

#include "io/store_database.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MEMORY_BYTES = 32 << 20 };

static enum status find_folder(const char *directory, char folder[PATH_MAX], struct error *err)
{
	if (access(directory, R_OK))
		return error_set_errno(err, "%s", directory);
	for (int inside = 1; inside >= 0; inside--) {
		char current[PATH_MAX + 16];
		int length = snprintf(folder, PATH_MAX, "%s%s", directory, inside ? "/store" : "");
		(void)snprintf(current, sizeof current, "%s/CURRENT", folder);
		if (length < PATH_MAX && access(current, R_OK) == 0)
			return STATUS_OK;
	}
	return error_set(err, STATUS_DATA, "%s: no store in it", directory);
}

static void count_record(struct store_summary_shard *s, struct slice key, struct slice value)
{
	struct sequence sequence = { 0 };
	struct slice user_id;
	struct error ignored;
	struct record_label label;
	int64_t offset;
	s->bytes += (int64_t)(key.length + value.length);
	switch (record_key_parse(key, &user_id)) {
	case RECORD_USER:
		if (record_user_decode(value, &sequence, &offset, &ignored)) {
			s->damaged++;
		} else {
			s->users++;
			s->events += sequence.length;
		}
		sequence_free(&sequence);
		break;
	case RECORD_POSITION:
		s->has_position = record_position_decode(value, &s->position, &ignored) == STATUS_OK;
		s->damaged += !s->has_position;
		break;
	case RECORD_OWED:
		s->owed++;
		break;
	case RECORD_LABEL:
		if (record_label_decode(value, &label, &ignored))
			s->damaged++;
		else
			s->labels++;
		break;
	case RECORD_UNKNOWN: /* the store's own notes */
		break;
	}
}

static enum status read_shard(struct database *d, size_t family, struct store_summary_shard *s, struct error *err)
{
	char *why = NULL;
	rocksdb_iterator_t *i = rocksdb_create_iterator_cf(d->db, d->read, d->handles[family]);
	for (rocksdb_iter_seek_to_first(i); rocksdb_iter_valid(i); rocksdb_iter_next(i)) {
		struct slice key;
		struct slice value;
		key.data = (const uint8_t *)rocksdb_iter_key(i, &key.length);
		value.data = (const uint8_t *)rocksdb_iter_value(i, &value.length);
		count_record(s, key, value);
	}
	rocksdb_iter_get_error(i, &why);
	rocksdb_iter_destroy(i);
	return why ? database_error(why, err) : STATUS_OK;
}

static enum status read_identity(struct database *d, size_t family, struct store_summary *ret, struct error *err)
{
	char *why = NULL;
	size_t length = 0;
	char *value = rocksdb_get_cf(d->db, d->read, d->handles[family], "identity", strlen("identity"), &length, &why);
	if (why)
		return database_error(why, err);
	ret->identity = value ? strndup(value, length) : NULL;
	rocksdb_free(value);
	return STATUS_OK;
}

static int by_partition(const void *a, const void *b)
{
	const struct store_summary_shard *left = a;
	const struct store_summary_shard *right = b;
	return (left->partition > right->partition) - (left->partition < right->partition);
}

static enum status read_families(struct database *d, struct store_summary *ret, struct error *err)
{
	ret->shards = calloc(d->count ? d->count : 1, sizeof *ret->shards);
	enum status status = ret->shards ? STATUS_OK : error_set_memory(err);
	for (size_t i = 0; i < d->count && !status; i++) {
		struct store_summary_shard *shard = &ret->shards[ret->count];
		char rest;
		if (!strcmp(d->names[i], "default")) {
			status = read_identity(d, i, ret, err);
		} else if (sscanf(d->names[i], "shard-%d%c", &shard->partition, &rest) == 1) {
			ret->count++;
			status = read_shard(d, i, shard, err);
		}
	}
	if (!status)
		qsort(ret->shards, ret->count, sizeof *ret->shards, by_partition);
	return status;
}

enum status store_summary_read(const char *directory, struct store_summary *ret, struct error *err)
{
	char folder[PATH_MAX];
	struct database database = { 0 };
	struct store_summary summary = { 0 };
	enum status status = find_folder(directory, folder, err);
	if (status)
		return status;
	status = database_init(&database, MEMORY_BYTES, err);
	if (!status)
		status = database_open(&database, folder, DATABASE_READ, err);
	if (!status)
		status = read_families(&database, &summary, err);
	database_free(&database);
	if (status) {
		store_summary_free(&summary);
		return error_prefix(err, "store %s", folder);
	}
	*ret = summary;
	return STATUS_OK;
}

void store_summary_free(struct store_summary *s)
{
	free(s->identity);
	free(s->shards);
	memset(s, 0, sizeof *s);
}
