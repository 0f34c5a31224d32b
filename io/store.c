#include "io/store_private.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FORMAT "peterd store 1"
#define DAY_MS ((int64_t)86400000)

enum { NAME_BYTES = 32, RETRY_US = 1000000, MARGIN_BYTES = 16 << 20 };

static const char identity_key[] = "identity";

/* Ends `n` bytes with their checksum. */
static void seal(uint8_t *bytes, size_t n)
{
	uint32_t sum = htole32(hash_checksum(bytes, n));
	memcpy(bytes + n, &sum, sizeof sum);
}

void store_written_encode(struct stamp stamp, uint8_t out[STORE_WRITTEN_BYTES])
{
	uint64_t words[2] = { htole64((uint64_t)stamp.written_ms), htole64(stamp.batch) };
	memcpy(out, words, sizeof words);
	seal(out, sizeof words);
}

void store_batch_number_encode(uint64_t batch, uint8_t ret_key[STORE_BATCH_KEY_BYTES],
			       uint8_t ret_value[STORE_BATCH_BYTES])
{
	uint64_t number = htole64(batch);
	memcpy(ret_key, "\0batch", STORE_BATCH_KEY_BYTES - 1);
	ret_key[STORE_BATCH_KEY_BYTES - 1] = (uint8_t)batch;
	memcpy(ret_value, &number, sizeof number);
	seal(ret_value, sizeof number);
}

/* Copies the key's value, which must be of n bytes. False where it is not there like that. */
static bool read_exactly(const struct store *s, const struct family *f, const void *key, size_t key_bytes, uint8_t *ret,
			 size_t n)
{
	char *why = NULL;
	size_t length = 0;
	char *value = rocksdb_get_cf(s->database.db, s->database.read, f->handle, key, key_bytes, &length, &why);
	bool found = value && length == n;
	if (found)
		memcpy(ret, value, n);
	rocksdb_free(value);
	rocksdb_free(why);
	return found;
}

static bool read_stamp(const struct store *s, const struct family *f, struct stamp *ret)
{
	uint8_t found[STORE_WRITTEN_BYTES];
	uint8_t good[STORE_WRITTEN_BYTES];
	uint64_t words[2];
	if (!read_exactly(s, f, STORE_WRITTEN_KEY, sizeof STORE_WRITTEN_KEY - 1, found, sizeof found))
		return false;
	memcpy(words, found, sizeof words);
	struct stamp stamp = { (int64_t)le64toh(words[0]), le64toh(words[1]) };
	store_written_encode(stamp, good);
	if (memcmp(found, good, sizeof good) != 0)
		return false;
	*ret = stamp;
	return true;
}

static bool has_batch(const struct store *s, const struct family *f, uint64_t batch)
{
	uint8_t key[STORE_BATCH_KEY_BYTES];
	uint8_t found[STORE_BATCH_BYTES];
	uint8_t good[STORE_BATCH_BYTES];
	store_batch_number_encode(batch, key, good);
	return read_exactly(s, f, key, sizeof key, found, sizeof found) && memcmp(found, good, sizeof good) == 0;
}

const char *store_family_fault(const struct store *s, const struct family *f, struct stamp *ret)
{
	static const struct stamp nothing = { -1, 0 };
	struct stamp stamp;
	int64_t now_ms = clock_wall_ms();
	*ret = nothing;
	if (!read_stamp(s, f, &stamp))
		return store_family_is_empty(s, f) ? NULL : "it does not say when it was written";
	/* a clock that went back by more than a day makes a time as worthless as one that is too old */
	if (stamp.written_ms < now_ms - s->max_age_ms || stamp.written_ms > now_ms + DAY_MS)
		return "it was last written too long ago";
	for (uint64_t back = 0; back < 256 && back < stamp.batch; back++)
		if (!has_batch(s, f, stamp.batch - back))
			return "a part of its history is missing";
	*ret = stamp;
	return NULL;
}

bool store_family_is_empty(const struct store *s, const struct family *f)
{
	rocksdb_iterator_t *i = rocksdb_create_iterator_cf(s->database.db, s->database.read, f->handle);
	rocksdb_iter_seek_to_first(i);
	char *why = NULL;
	rocksdb_iter_get_error(i, &why);
	bool empty = !why && !rocksdb_iter_valid(i);
	rocksdb_free(why);
	rocksdb_iter_destroy(i);
	return empty;
}

struct family *store_family_find(struct store *s, int32_t partition)
{
	struct family *f = s->families;
	while (f && f->partition != partition)
		f = f->next;
	return f;
}

static enum status family_add(struct store *s, int32_t partition, rocksdb_column_family_handle_t *handle,
			      struct family **ret, struct error *err)
{
	struct family *f = calloc(1, sizeof *f);
	if (!f)
		return error_set_memory(err);
	f->partition = partition;
	f->handle = handle;
	f->next = s->families;
	s->families = f;
	if (ret)
		*ret = f;
	return STATUS_OK;
}

static enum status family_create(struct store *s, int32_t partition, rocksdb_column_family_handle_t **ret,
				 struct error *err)
{
	char name[NAME_BYTES];
	char *why = NULL;
	(void)snprintf(name, sizeof name, "shard-%d", partition);
	rocksdb_column_family_handle_t *handle =
		rocksdb_create_column_family(s->database.db, s->database.options, name, &why);
	if (why)
		return database_error(why, err);
	*ret = handle;
	return STATUS_OK;
}

enum status store_family_new(struct store *s, int32_t partition, struct family **ret, struct error *err)
{
	struct family *f;
	enum status status = family_add(s, partition, NULL, &f, err);
	if (status != STATUS_OK)
		return status;
	status = family_create(s, partition, &f->handle, err);
	if (status != STATUS_OK) {
		s->families = f->next; /* where family_add put it */
		free(f);
		return status;
	}
	*ret = f;
	return STATUS_OK;
}

/* Another one takes its name. */
enum status store_family_renew(struct store *s, struct family *f, struct error *err)
{
	char *why = NULL;
	if (f->handle) {
		rocksdb_drop_column_family(s->database.db, f->handle, &why);
		if (why)
			return database_error(why, err);
		rocksdb_column_family_handle_destroy(f->handle);
		f->handle = NULL;
	}
	return family_create(s, f->partition, &f->handle, err);
}

/* Takes over the handles of an opened database. */
static enum status adopt_families(struct store *s, struct error *err)
{
	for (size_t i = 0; i < s->database.count; i++) {
		rocksdb_column_family_handle_t *handle = s->database.handles[i];
		const char *name = s->database.names ? s->database.names[i] : "default";
		int32_t partition;
		char rest;
		enum status status = STATUS_OK;
		struct family *known;
		if (strcmp(name, "default") == 0)
			s->default_handle = handle;
		else if (sscanf(name, "shard-%d%c", &partition, &rest) != 1)
			status = error_set(err, STATUS_DATA, "column family %s is none of ours", name);
		else if ((known = store_family_find(s, partition)))
			known->handle = handle;
		else
			status = family_add(s, partition, handle, NULL, err);
		if (status != STATUS_OK)
			return status;
		s->database.handles[i] = NULL;
	}
	return STATUS_OK;
}

static void close_database(struct store *s)
{
	struct family *kept = NULL;
	struct family *next;
	for (struct family *f = s->families; f; f = next) {
		next = f->next;
		if (f->handle)
			rocksdb_column_family_handle_destroy(f->handle);
		f->handle = NULL;
		if (f->shard) {
			f->next = kept;
			kept = f;
		} else {
			free(f);
		}
	}
	s->families = kept;
	if (s->default_handle)
		rocksdb_column_family_handle_destroy(s->default_handle);
	s->default_handle = NULL;
	database_close(&s->database);
}

static enum status check_identity(struct store *s, struct error *err)
{
	char *why = NULL;
	size_t length = 0;
	char *value = rocksdb_get_cf(s->database.db, s->database.read, s->default_handle, identity_key,
				     sizeof identity_key - 1, &length, &why);
	if (why)
		return database_error(why, err);
	bool same = value && length == strlen(s->identity) && memcmp(value, s->identity, length) == 0;
	bool none = !value;
	rocksdb_free(value);
	if (none)
		return error_set(err, STATUS_DATA, "it was never finished");
	return same ? STATUS_OK : error_set(err, STATUS_DATA, "it belongs to another group, topic or version");
}

static enum status write_identity(struct store *s, struct error *err)
{
	char *why = NULL;
	rocksdb_put_cf(s->database.db, s->database.write, s->default_handle, identity_key, sizeof identity_key - 1,
		       s->identity, strlen(s->identity), &why);
	return why ? database_error(why, err) : STATUS_OK;
}

/* An empty database; what open shards held is lost. */
static enum status begin(struct store *s, struct error *err)
{
	for (struct family *f = s->families; f; f = f->next)
		if (f->shard)
			f->shard->lost = true;
	enum status status = file_remove_folder(s->folder, err);
	if (status == STATUS_OK)
		status = file_make_folder(s->folder, err);
	if (status == STATUS_OK)
		status = database_open(&s->database, s->folder, DATABASE_MAKE, err);
	if (status == STATUS_OK)
		status = adopt_families(s, err);
	if (status == STATUS_OK)
		status = write_identity(s, err);
	for (struct family *f = s->families; status == STATUS_OK && f; f = f->next)
		status = family_create(s, f->partition, &f->handle, err);
	if (status != STATUS_OK)
		close_database(s);
	return status;
}

/* Empties the families that nobody has open and nobody could use. */
static enum status drop_faulty(struct store *s, struct error *err)
{
	enum status status = STATUS_OK;
	for (struct family *f = s->families; status == STATUS_OK && f; f = f->next) {
		struct stamp stamp;
		const char *fault = f->shard ? NULL : store_family_fault(s, f, &stamp);
		if (!fault)
			continue;
		log_warning("store %s: shard %d discarded, to be rebuilt: %s", s->folder, f->partition, fault);
		status = store_family_renew(s, f, err);
	}
	return status;
}

static enum status reopen(struct store *s, struct error *err)
{
	enum status status = database_open(&s->database, s->folder, DATABASE_WRITE, err);
	if (status == STATUS_OK)
		status = adopt_families(s, err);
	if (status == STATUS_OK)
		status = check_identity(s, err);
	if (status == STATUS_OK)
		status = drop_faulty(s, err);
	if (status != STATUS_OK)
		close_database(s);
	return status;
}

static bool has_file(const struct store *s, const char *name)
{
	char path[PATH_MAX + 16];
	(void)snprintf(path, sizeof path, "%s/%s", s->folder, name);
	return access(path, F_OK) == 0;
}

static enum status open_or_begin(struct store *s, struct error *err)
{
	if (!has_file(s, "CURRENT")) {
		if (has_file(s, "IDENTITY"))
			log_warning("store %s: CURRENT is missing: discarded", s->folder);
		return begin(s, err);
	}
	enum status status = reopen(s, err);
	if (status != STATUS_DATA)
		return status;
	log_warning("store %s: discarded, to be rebuilt: %s", s->folder, err->text);
	return begin(s, err);
}

static enum status take_lock(struct store *s, const char *directory, struct error *err)
{
	char path[PATH_MAX];
	bool taken;
	if ((size_t)snprintf(path, sizeof path, "%s/lock", directory) >= sizeof path)
		return error_set(err, STATUS_IO, "%.200s: the path is too long", directory);
	enum status status = file_lock(path, &s->lock_fd, &taken, err);
	if (status == STATUS_OK && !taken)
		status = error_set(err, STATUS_UNAVAILABLE, "%s: another process holds it", path);
	return status;
}

static enum status store_init(struct store *s, const char *directory, const char *identity, size_t memory_bytes,
			      struct error *err)
{
	if ((size_t)snprintf(s->folder, sizeof s->folder, "%s/store", directory) >= sizeof s->folder)
		return error_set(err, STATUS_IO, "%.200s: the path is too long", directory);
	size_t length = strlen(FORMAT) + strlen(identity) + 2;
	s->identity = malloc(length);
	if (!s->identity)
		return error_set_memory(err);
	(void)snprintf(s->identity, length, FORMAT " %s", identity);
	enum status status = file_make_folder(directory, err);
	if (status == STATUS_OK)
		status = take_lock(s, directory, err);
	if (status == STATUS_OK)
		status = database_init(&s->database, memory_bytes, err);
	if (status == STATUS_OK)
		status = open_or_begin(s, err);
	s->writable = status == STATUS_OK;
	return status;
}

enum status store_open(const char *directory, const char *identity, size_t memory_bytes, int64_t max_age_ms,
		       struct store **ret, struct error *err)
{
	struct store *s = calloc(1, sizeof *s);
	if (!s)
		return error_set_memory(err);
	s->max_age_ms = max_age_ms;
	s->needed_bytes = memory_bytes / 4 + MARGIN_BYTES;
	s->lock_fd = -1;
	(void)pthread_rwlock_init(&s->gate, NULL);
	enum status status = store_init(s, directory, identity, memory_bytes, err);
	if (status != STATUS_OK) {
		(void)error_prefix(err, "store %s", s->folder);
		store_close(s);
		return status;
	}
	*ret = s;
	return STATUS_OK;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	close_database(s);
	database_free(&s->database);
	if (s->lock_fd >= 0)
		(void)close(s->lock_fd);
	(void)pthread_rwlock_destroy(&s->gate);
	free(s->identity);
	free(s);
}

enum status store_begin_anew(struct store *s, const char *reason, struct error *err)
{
	log_warning("store %s: discarded, to be rebuilt: %s", s->folder, reason);
	close_database(s);
	enum status status = begin(s, err);
	if (status != STATUS_OK)
		store_stall(s, err);
	else
		s->writable = true;
	return status;
}

void store_stall(struct store *s, const struct error *why)
{
	struct error err;
	if (strcmp(s->trouble, why->text) != 0)
		log_warning("store %s: read only until the disk can be written: %s", s->folder, why->text);
	(void)snprintf(s->trouble, sizeof s->trouble, "%s", why->text);
	s->writable = false;
	s->retry_at_us = clock_monotonic_us() + RETRY_US;
	close_database(s);
	enum status status = database_open(&s->database, s->folder, DATABASE_READ, &err);
	if (status == STATUS_OK)
		status = adopt_families(s, &err);
	if (status != STATUS_OK)
		close_database(s);
}

static bool has_room(const struct store *s)
{
	struct statvfs disk;
	return statvfs(s->folder, &disk) != 0 || (uint64_t)disk.f_bavail * disk.f_frsize >= s->needed_bytes;
}

enum status store_make_writable(struct store *s, struct error *err)
{
	if (s->writable)
		return STATUS_OK;
	if (clock_monotonic_us() < s->retry_at_us || !has_room(s))
		return error_set(err, STATUS_IO, "read only: %s", s->trouble);
	close_database(s);
	enum status status = open_or_begin(s, err);
	/* a reset that broke off left its shard without a family */
	for (struct family *f = s->families; status == STATUS_OK && f; f = f->next)
		if (!f->handle)
			status = family_create(s, f->partition, &f->handle, err);
	if (status == STATUS_OK) {
		log_info("store %s: writable again", s->folder);
		s->trouble[0] = '\0';
		s->writable = true;
	} else {
		store_stall(s, err);
	}
	return status;
}
