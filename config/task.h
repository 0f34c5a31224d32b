/* A task's definition: its keys, what they must be, and its hash.
 *
 * The keys are the same in an entry of `tasks:`, in a file for `peterctl task put` and in a record on the tasks topic, and stand
 * once, in task.def. A definition is filled from one of the three, checked and completed by config_task_check, and immutable
 * afterwards. Pure; any thread. */
#ifndef CONFIG_TASK_H
#define CONFIG_TASK_H

#include "base/error.h"
#include "base/hash.h"
#include "config/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TASK_BLOCK_AT_MOST 256 /* the last level of the largest backbone there may be */

enum task_key {
#define NAME(field, ...) TASK_KEY_##field,
#define CHOICE NAME
#define LIST NAME
#define BLOCKS NAME
#define WHOLE NAME
#define REAL NAME
#define FLAG NAME
#include "config/task.def"
#undef NAME
#undef CHOICE
#undef LIST
#undef BLOCKS
#undef WHOLE
#undef REAL
#undef FLAG
	TASK_KEYS
};

struct config_task {
#define NAME(field, ...) char *field;
#define CHOICE(field, ...) char *field; /* NULL: left to the learner */
#define LIST(field, ...) struct config_list field;
#define BLOCKS(field, ...) struct config_numbers field; /* ascending; means something where given only */
#define WHOLE(field, ...) int64_t field;                /* -1: left to the configuration or the learner */
#define REAL(field, ...) double field;
#define FLAG(field, ...) bool field;
#include "config/task.def"
#undef NAME
#undef CHOICE
#undef LIST
#undef BLOCKS
#undef WHOLE
#undef REAL
#undef FLAG
	uint32_t
		given; /* 1 << enum task_key: the definition says it; the other fields hold defaults once it is checked */
	int line;      /* in the file; 0: it comes from a record */
};

enum task_kind { TASK_NAME, TASK_CHOICE, TASK_LIST, TASK_BLOCKS, TASK_WHOLE, TASK_REAL, TASK_FLAG };
enum task_scope { TASK_ANY, TASK_SIDE, TASK_INSIDE, TASK_CLASSES, TASK_RANKING };

struct task_row { /* one of task.def */
	enum task_kind kind;
	const char *name;
	size_t offset;                    /* of the field in struct config_task */
	const char *choices;              /* "a|b|c" */
	const char *text_default;         /* NULL: must be given; "": left open */
	int64_t whole_default, low, high; /* -1: left open; TASK_FLAG: 0 or 1 */
	const char *unit;
	double real_default, least, most;
	enum task_scope scope;
	bool trains;
	const char *text; /* for people */
};

extern const struct task_row task_rows[TASK_KEYS]; /* by enum task_key */

/* The row of a name, or NULL. */
const struct task_row *task_row_find(const char *name);

/* The field of a row: char *, struct config_list, struct config_numbers, int64_t, double or bool. */
void *task_field(struct config_task *t, const struct task_row *row);
const void *task_field_const(const struct config_task *t, const struct task_row *row);

void config_task_clear(struct config_task *task); /* frees and zeroes; a zeroed one is fine */

/* Checks what is given, alone and together, and fills in the defaults. Errors: STATUS_DATA, the reason in *err without the key's
 * name, which is *ret_key; STATUS_MEMORY. */
enum status config_task_check(struct config_task *task, enum task_key *ret_key, struct error *err) MUST_CHECK;

/* What only a backbone can tell: whether it has the blocks (`blocks` of them) and is wide enough (`channels`). Of a checked
 * definition. Errors as above. */
enum status config_task_fits(const struct config_task *task, uint32_t channels, uint32_t blocks, enum task_key *ret_key,
			     struct error *err) MUST_CHECK;

/* Whether a checked definition has a value for the key: it is in its scope and not left open. */
bool config_task_has(const struct config_task *task, enum task_key key);

/* The canonical text of what trains, and its SHA-256: two definitions with the same text make the same model, by whatever name
 * and cadence. Of a checked definition; a default written out changes nothing. Errors: STATUS_MEMORY. The text is the caller's. */
enum status config_task_canonical(const struct config_task *task, char **ret, struct error *err) MUST_CHECK;
enum status config_task_hash(const struct config_task *task, char ret[HASH_HEX_LENGTH + 1],
			     struct error *err) MUST_CHECK;

#endif
