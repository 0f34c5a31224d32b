/* A task's lineage in the learner lane: its learner, the examples that wait for it, and the records of what became of them.
 *
 * Examples are taken in the order of their offsets and worked off in cuts; every cut, decision and checkpoint becomes a
 * record (io/patch_record.h), to be written in the transaction that commits the offsets behind it. A lineage that is opened
 * from the topic begins at its newest checkpoint, or where it was created: it reads the examples since then again, and is
 * the same to the bit after the recorded cuts and decisions. A transaction that fails takes the lineage with it: it is
 * closed, and opened from the topic again.
 *
 * Belongs to the learner lane's thread. */
#ifndef DAEMON_LINEAGE_H
#define DAEMON_LINEAGE_H

#include "daemon/example_input.h"
#include "daemon/learner_setup.h"
#include "io/patch_topic.h"

struct lineage_context { /* outlives the lineages */
	const struct config *config;
	const struct backbone *backbone;
	const struct network *net;
	struct example_input *input;
};

struct lineage_write { /* a record that is complete, and its bytes where it has any */
	struct patch_record record;
	struct buffer bytes;
};

struct lineage_counts { /* since the lineage was opened; repeated work does not count */
	uint64_t labels, dropped, steps, skipped, promoted, rejected, rolled_back, shed;
};

struct lineage {
	struct lineage *next; /* of the lane */
	const struct lineage_context *ctx;
	struct served_task *task; /* held */
	struct learner_setup setup;
	struct learner *learner;
	struct patch_plan plan;
	struct lineage_counts counts;
	int32_t partition;   /* of examples */
	int64_t read_offset; /* of the next example to be handed to it */
	int64_t next_offset; /* of the next one to train on; those before it fill the reservoir again */
	bool filled;         /* the reservoir wants nothing any more */
	int64_t low, high;   /* where examples begin and end */
	bool lagging;        /* behind the others of its partition */
	bool rewind;         /* reading is to start again at read_offset: the lane's to do */
	int64_t created_ms; /* wall clock: when it was created here; requests that are older mean another one. 0: not here */
	bool failed;        /* it cannot be learnt, which has been said */
	bool differs;       /* what was done again has other bytes, and it was said */

	struct taken_example *waiting; /* [waiting_count] from waiting_first on */
	size_t waiting_first, waiting_count, waiting_capacity;
	struct learner_example *cut; /* scratch, [cut_capacity] */
	size_t cut_capacity;

	struct patch_record *repeats; /* to be done again, in their order */
	size_t repeat_count, repeat_at, cut_at;

	struct patch_record record; /* gathers cuts until something is decided; number 0: not written yet */
	bool dirty;                 /* it says more than was written */
	struct lineage_write *writes;
	size_t write_count, write_capacity;
	int64_t quiet_until_us;     /* monotonic: nothing is decided before */
	int64_t behind_us;          /* monotonic: since when too many examples wait; 0: they do not */
	int64_t checkpoint_us;      /* monotonic: of the last one */
	uint64_t checkpoint_labels; /* consumed then */
};

/* Opens the task's lineage, `entry` being what the topic has of the task (NULL: nothing), from which nothing is kept; examples
 * begin at low and end before high. A task that no learner can be made for is logged, and fails. Errors:
 * STATUS_MEMORY. */
enum status lineage_open(const struct lineage_context *ctx, struct served_task *task, const struct patch_entry *entry,
			 int32_t partition, int64_t low, int64_t high, struct lineage **ret,
			 struct error *err) MUST_CHECK;
void lineage_close(struct lineage *l); /* NULL is fine */

/* Another definition of the same hash: perhaps another cadence. */
void lineage_set_task(struct lineage *l, struct served_task *task);

/* Takes an example of the task, of the offsets from read_offset on in their order; one that the lineage knows already, or
 * that does not fit it, is passed over. Errors: STATUS_MEMORY. */
enum status lineage_take(struct lineage *l, int64_t offset, const struct example *example,
			 struct error *err) MUST_CHECK;

bool lineage_is_full(const struct lineage *l); /* take no more before it has worked */
bool lineage_busy(const struct lineage *l);    /* there is more to do at once */

/* Works off at most one cut, or repeats what is recorded, and decides. position: everything before it was handed to
 * lineage_take. Errors: STATUS_MEMORY, STATUS_DATA; the lineage may only be closed. */
enum status lineage_work(struct lineage *l, int64_t position, struct error *err) MUST_CHECK;

bool lineage_has_writes(const struct lineage *l);

/* Produces what there is to be written into the open transaction. Errors: those of patch_writer_write. */
enum status lineage_write(struct lineage *l, struct patch_writer *writer, struct error *err) MUST_CHECK;

#endif
