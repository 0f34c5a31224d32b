/* What the records of the tasks topic say, by key: definitions, and those that were refused or removed.
 *
 * Pure; one thread. Entries are the table's, until it is freed; they change with every record. */
#ifndef IO_TASK_TABLE_H
#define IO_TASK_TABLE_H

#include "base/buffer.h"
#include "base/error.h"
#include "config/task.h"

enum task_state {
	TASK_VALID,
	TASK_REFUSED, /* the newest record makes no sense, or does not fit; a definition before it stays in force where it was
		       * seen */
	TASK_REMOVED, /* by a tombstone */
};

struct task_place {
	int32_t partition;
	int64_t offset;
	int64_t timestamp_ms;
};

struct task_entry {
	enum task_state state;
	bool defined; /* `task` and `definition` hold the newest definition that is not refused */
	struct config_task task;
	char definition[HASH_HEX_LENGTH + 1]; /* its hash */
	char *reason;                         /* TASK_REFUSED */
	bool sound;                           /* there was a record that is not refused */
	struct task_place place;              /* of the newest such record; while all are refused, of the newest */
	char *key;                            /* [key_length], any bytes, and a NUL */
	size_t key_length;
};

/* What a definition that makes sense has to fit besides. `fits` returns STATUS_DATA with the reason, or STATUS_MEMORY. */
struct task_judge {
	enum status (*fits)(const void *arg, const struct config_task *task, struct error *err);
	const void *arg; /* borrowed */
};

struct task_table;

/* `judge` is copied; NULL: whatever makes sense is valid. Errors: STATUS_MEMORY. */
enum status task_table_new(const struct task_judge *judge, struct task_table **ret, struct error *err) MUST_CHECK;
void task_table_free(struct task_table *t); /* NULL is fine */

/* Takes a record; value.data NULL: a tombstone. *ret is the entry that it made or changed, NULL where it counts for nothing: it
 * has no key, or a newer one of its key, not refused, stands in another partition. Errors: STATUS_MEMORY, the table as before. */
enum status task_table_apply(struct task_table *t, struct slice key, struct slice value, const struct task_place *place,
			     const struct task_entry **ret, struct error *err) MUST_CHECK;

const struct task_entry *task_table_find(const struct task_table *t, struct slice key); /* NULL: never seen */

/* The entries in the order of their keys: the first for NULL, NULL at the end. */
const struct task_entry *task_table_next(const struct task_table *t, const struct task_entry *entry);

#endif
