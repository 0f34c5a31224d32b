#include "io/store_private.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t owed_prefix[] = { 0, 'o', 'w', 'e', 'd', 0 };
static const uint8_t label_prefix[] = { 0, 'l', 'a', 'b', 'e', 'l', 0 };
static const uint8_t first_user[] = { 1 }; /* every other key begins with a NUL */

struct store_batch {
	struct store_shard *shard;
	uint64_t epoch;
	struct buffer records; /* an entry, its key, its value, and so on */
};

struct entry {
	uint32_t key_bytes;
	uint32_t value_bytes; /* FORGET: none */
};
#define FORGET UINT32_MAX

static void gate_enter(struct store *s)
{
	(void)pthread_rwlock_rdlock(&s->gate);
}

static void gate_close(struct store *s)
{
	(void)pthread_rwlock_wrlock(&s->gate);
}

static void gate_leave(struct store *s)
{
	(void)pthread_rwlock_unlock(&s->gate);
}

static enum status usable(const struct store_shard *shard, struct error *err)
{
	if (shard->lost)
		return error_set(err, STATUS_DATA, "lost with a damaged database");
	if (!shard->family->handle)
		return error_set(err, STATUS_IO, "closed: %s", shard->store->trouble);
	return STATUS_OK;
}

/* Leaves the gate; names the shard in an error. */
static enum status leave(struct store_shard *shard, enum status status, struct error *err)
{
	gate_leave(shard->store);
	if (status != STATUS_OK)
		(void)error_prefix(err, "store %s: shard %d", shard->store->folder, shard->family->partition);
	return status;
}

/* Finds or makes the shard's family; an old one is emptied. Behind the closed gate. */
static enum status attach(struct store_shard *shard, int32_t partition, struct error *err)
{
	struct store *s = shard->store;
	enum status status = store_make_writable(s, err);
	struct family *f = store_family_find(s, partition);
	if (status == STATUS_OK && !f)
		status = store_family_new(s, partition, &f, err);
	if (status != STATUS_OK)
		return status;
	if (f->shard)
		return error_set(err, STATUS_BUG, "shard %d is open already", partition);
	struct stamp stamp;
	const char *fault = store_family_fault(s, f, &stamp);
	if (fault) {
		log_warning("store %s: shard %d discarded, to be rebuilt: %s", s->folder, partition, fault);
		status = store_family_renew(s, f, err);
	}
	if (status != STATUS_OK)
		return status;
	f->shard = shard;
	shard->family = f;
	shard->stamp = stamp;
	return STATUS_OK;
}

enum status store_shard_open(struct store *s, int32_t partition, struct store_shard **ret, struct error *err)
{
	struct store_shard *shard = calloc(1, sizeof *shard);
	if (!shard)
		return error_set_memory(err);
	shard->store = s;
	gate_close(s);
	enum status status = attach(shard, partition, err);
	if (status == STATUS_IO && s->writable)
		store_stall(s, err);
	gate_leave(s);
	if (status != STATUS_OK) {
		free(shard);
		return error_prefix(err, "store %s: shard %d", s->folder, partition);
	}
	*ret = shard;
	return STATUS_OK;
}

void store_shard_close(struct store_shard *shard)
{
	if (!shard)
		return;
	gate_close(shard->store);
	shard->family->shard = NULL;
	gate_leave(shard->store);
	free(shard);
}

enum status store_shard_reset(struct store_shard *shard, struct error *err)
{
	struct store *s = shard->store;
	gate_close(s);
	enum status status = store_make_writable(s, err);
	if (status == STATUS_OK)
		status = store_family_renew(s, shard->family, err);
	if (status == STATUS_DATA) { /* the damage is the database's */
		char reason[sizeof err->text];
		memcpy(reason, err->text, sizeof reason);
		status = store_begin_anew(s, reason, err);
	}
	if (status == STATUS_IO && s->writable)
		store_stall(s, err);
	if (status == STATUS_OK) {
		shard->lost = false;
		shard->stamp = (struct stamp){ -1, 0 };
		shard->epoch++;
	} else {
		shard->lost = true;
	}
	return leave(shard, status, err);
}

/* Appends the key's value. Behind the gate. */
static enum status get(struct store_shard *shard, struct slice key, struct buffer *value, bool *ret_found,
		       struct error *err)
{
	char *why = NULL;
	struct database *d = &shard->store->database;
	rocksdb_pinnableslice_t *pinned =
		rocksdb_get_pinned_cf(d->db, d->read, shard->family->handle, (const char *)key.data, key.length, &why);
	if (why)
		return database_error(why, err);
	if (pinned) {
		size_t length;
		const char *bytes = rocksdb_pinnableslice_value(pinned, &length);
		buffer_append(value, bytes, length);
		rocksdb_pinnableslice_destroy(pinned);
		if (value->failed)
			return error_set_memory(err);
	}
	*ret_found = pinned != NULL;
	return STATUS_OK;
}

enum status store_shard_get(struct store_shard *shard, struct slice key, struct buffer *value, bool *ret_found,
			    struct error *err)
{
	gate_enter(shard->store);
	enum status status = usable(shard, err);
	if (status == STATUS_OK)
		status = get(shard, key, value, ret_found, err);
	return leave(shard, status, err);
}

enum status store_shard_position(struct store_shard *shard, struct position *ret, bool *ret_found, struct error *err)
{
	struct buffer key = { 0 };
	struct buffer value = { 0 };
	bool found = false;
	record_key_position(&key);
	gate_enter(shard->store);
	enum status status = key.failed ? error_set_memory(err) : usable(shard, err);
	if (status == STATUS_OK)
		status = get(shard, (struct slice){ key.data, key.length }, &value, &found, err);
	if (status == STATUS_OK && found)
		status = record_position_decode((struct slice){ value.data, value.length }, ret, err);
	/* users without a position are no moment of the changelog */
	if (status == STATUS_OK && !found && !store_family_is_empty(shard->store, shard->family))
		status = error_set(err, STATUS_DATA, "it holds users but no position");
	if (status == STATUS_OK)
		*ret_found = found;
	buffer_free(&key);
	buffer_free(&value);
	return leave(shard, status, err);
}

/* Visits the keys from `at` on that begin with `prefix`, at most `most`. Behind the gate. */
static enum status iterate(struct store_shard *shard, struct slice at, struct slice prefix, size_t most,
			   enum status (*visit)(void *arg, struct slice key, struct slice value, struct error *err),
			   void *arg, bool *ret_more, struct error *err)
{
	struct database *d = &shard->store->database;
	rocksdb_iterator_t *i = rocksdb_create_iterator_cf(d->db, d->read, shard->family->handle);
	enum status status = STATUS_OK;
	bool more = false;
	for (rocksdb_iter_seek(i, (const char *)at.data, at.length); status == STATUS_OK && rocksdb_iter_valid(i);
	     rocksdb_iter_next(i)) {
		struct slice key;
		struct slice value;
		key.data = (const uint8_t *)rocksdb_iter_key(i, &key.length);
		if (key.length < prefix.length || memcmp(key.data, prefix.data, prefix.length) != 0)
			break;
		more = most == 0;
		if (more)
			break;
		most--;
		value.data = (const uint8_t *)rocksdb_iter_value(i, &value.length);
		status = visit(arg, key, value, err);
	}
	char *why = NULL;
	rocksdb_iter_get_error(i, &why);
	rocksdb_iter_destroy(i);
	if (status != STATUS_OK)
		rocksdb_free(why);
	else if (why)
		status = database_error(why, err);
	if (status == STATUS_OK)
		*ret_more = more;
	return status;
}

struct label_visitor {
	enum status (*visit)(void *arg, struct slice value, struct error *err);
	void *arg;
};

static enum status visit_label(void *arg, struct slice key, struct slice value, struct error *err)
{
	struct label_visitor *v = arg;
	return v->visit(v->arg, value, err);
}

enum status store_shard_labels(struct store_shard *shard,
			       enum status (*visit)(void *arg, struct slice value, struct error *err), void *arg,
			       struct error *err)
{
	struct slice prefix = { label_prefix, sizeof label_prefix };
	struct label_visitor v = { visit, arg };
	bool more;
	gate_enter(shard->store);
	enum status status = usable(shard, err);
	if (status == STATUS_OK)
		status = iterate(shard, prefix, prefix, SIZE_MAX, visit_label, &v, &more, err);
	return leave(shard, status, err);
}

struct owed_visitor {
	enum status (*visit)(void *arg, struct slice user_id, struct error *err);
	void *arg;
};

static enum status visit_owed(void *arg, struct slice key, struct slice value, struct error *err)
{
	struct owed_visitor *v = arg;
	return v->visit(v->arg, (struct slice){ key.data + sizeof owed_prefix, key.length - sizeof owed_prefix }, err);
}

enum status store_shard_owed(struct store_shard *shard,
			     enum status (*visit)(void *arg, struct slice user_id, struct error *err), void *arg,
			     struct error *err)
{
	struct slice prefix = { owed_prefix, sizeof owed_prefix };
	struct owed_visitor v = { visit, arg };
	bool more;
	gate_enter(shard->store);
	enum status status = usable(shard, err);
	if (status == STATUS_OK)
		status = iterate(shard, prefix, prefix, SIZE_MAX, visit_owed, &v, &more, err);
	return leave(shard, status, err);
}

enum status store_shard_walk(struct store_shard *shard, struct slice from, size_t most,
			     enum status (*visit)(void *arg, struct slice user_id, struct slice value,
						  struct error *err),
			     void *arg, bool *ret_more, struct error *err)
{
	struct buffer after = { 0 };
	/* the key that follows `from` is `from` and a NUL, which no id holds */
	buffer_append(&after, from.length ? from.data : first_user, from.length ? from.length : sizeof first_user);
	if (from.length)
		buffer_append_byte(&after, 0);
	gate_enter(shard->store);
	enum status status = after.failed ? error_set_memory(err) : usable(shard, err);
	if (status == STATUS_OK)
		status = iterate(shard, (struct slice){ after.data, after.length }, (struct slice){ first_user, 0 },
				 most, visit, arg, ret_more, err);
	buffer_free(&after);
	return leave(shard, status, err);
}

struct store_batch *store_batch_new(struct store_shard *shard)
{
	struct store_batch *batch = calloc(1, sizeof *batch);
	if (!batch)
		return NULL;
	batch->shard = shard;
	batch->epoch = shard->epoch;
	return batch;
}

void store_batch_put(struct store_batch *batch, struct slice key, struct slice value)
{
	struct entry e = { (uint32_t)key.length, value.data ? (uint32_t)value.length : FORGET };
	if (key.length >= FORGET || (value.data && value.length >= FORGET)) {
		batch->records.failed = true;
		return;
	}
	buffer_append(&batch->records, &e, sizeof e);
	buffer_append(&batch->records, key.data, key.length);
	if (value.data)
		buffer_append(&batch->records, value.data, value.length);
}

size_t store_batch_bytes(const struct store_batch *batch)
{
	return batch->records.length;
}

void store_batch_free(struct store_batch *batch)
{
	if (!batch)
		return;
	buffer_free(&batch->records);
	free(batch);
}

static void fill(rocksdb_writebatch_t *w, rocksdb_column_family_handle_t *handle, const struct buffer *records)
{
	const char *at = (const char *)records->data;
	const char *end = at + records->length;
	while (at < end) {
		struct entry e;
		memcpy(&e, at, sizeof e);
		at += sizeof e;
		if (e.value_bytes == FORGET) {
			rocksdb_writebatch_delete_cf(w, handle, at, e.key_bytes);
			at += e.key_bytes;
			continue;
		}
		rocksdb_writebatch_put_cf(w, handle, at, e.key_bytes, at + e.key_bytes, e.value_bytes);
		at += e.key_bytes + e.value_bytes;
	}
}

static void put(rocksdb_writebatch_t *w, rocksdb_column_family_handle_t *handle, const void *key, size_t key_bytes,
		const void *value, size_t value_bytes)
{
	rocksdb_writebatch_put_cf(w, handle, key, key_bytes, value, value_bytes);
}

/* Behind the gate. */
static enum status write_batch(struct store_batch *batch, const struct position *position, struct stamp stamp,
			       struct error *err)
{
	struct store_shard *shard = batch->shard;
	struct database *d = &shard->store->database;
	rocksdb_column_family_handle_t *handle = shard->family->handle;
	struct buffer tail = { 0 };
	uint8_t written[STORE_WRITTEN_BYTES];
	uint8_t number_key[STORE_BATCH_KEY_BYTES];
	uint8_t number[STORE_BATCH_BYTES];
	record_key_position(&tail);
	size_t key_bytes = tail.length;
	record_position_encode(position, &tail);
	if (tail.failed || batch->records.failed) {
		buffer_free(&tail);
		return error_set_memory(err);
	}
	store_written_encode(stamp, written);
	store_batch_number_encode(stamp.batch, number_key, number);
	rocksdb_writebatch_t *w = rocksdb_writebatch_create();
	fill(w, handle, &batch->records);
	put(w, handle, tail.data, key_bytes, tail.data + key_bytes, tail.length - key_bytes);
	put(w, handle, STORE_WRITTEN_KEY, sizeof STORE_WRITTEN_KEY - 1, written, sizeof written);
	put(w, handle, number_key, sizeof number_key, number, sizeof number);
	char *why = NULL;
	rocksdb_write(d->db, d->write, w, &why);
	rocksdb_writebatch_destroy(w);
	buffer_free(&tail);
	if (why)
		return database_error(why, err);
	shard->stamp = stamp;
	return STATUS_OK;
}

/* What follows a write that failed: nothing that follows it may touch RocksDB's log again. */
static void handle_failure(struct store_shard *shard, const struct error *why)
{
	struct store *s = shard->store;
	struct error err;
	gate_close(s);
	if (why->status == STATUS_DATA && !shard->lost)
		/* a damaged file that a compaction met stops every write of the database: only a new one helps */
		(void)!store_begin_anew(s, why->text, &err);
	else if (why->status == STATUS_IO && s->writable)
		store_stall(s, why);
	gate_leave(s);
}

static enum status write_checked(struct store_batch *batch, const struct position *position, bool behind,
				 struct error *err)
{
	struct store_shard *shard = batch->shard;
	struct store *s = shard->store;
	gate_enter(s);
	if (!s->writable && !shard->lost) {
		gate_leave(s);
		gate_close(s);
		enum status status = store_make_writable(s, err);
		if (status != STATUS_OK)
			return leave(shard, status, err);
		gate_leave(s);
		gate_enter(s);
	}
	enum status status = usable(shard, err);
	if (status == STATUS_OK && !s->writable)
		status = error_set(err, STATUS_IO, "read only: %s", s->trouble);
	if (status == STATUS_OK && batch->epoch != shard->epoch)
		status = error_set(err, STATUS_DATA, "the batch is older than the shard's last reset");
	if (status != STATUS_OK)
		return leave(shard, status, err);
	struct stamp stamp = { clock_wall_ms(), shard->stamp.batch + 1 };
	if (behind && shard->stamp.written_ms >= 0)
		stamp.written_ms = shard->stamp.written_ms;
	status = write_batch(batch, position, stamp, err);
	struct error why = *err;
	status = leave(shard, status, err);
	if (status == STATUS_IO || status == STATUS_DATA)
		handle_failure(shard, &why);
	return status;
}

enum status store_batch_write(struct store_batch *batch, const struct position *position, struct error *err)
{
	return write_checked(batch, position, false, err);
}

enum status store_batch_write_behind(struct store_batch *batch, const struct position *position, struct error *err)
{
	return write_checked(batch, position, true, err);
}
