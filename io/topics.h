/* The topics of a configuration: what they must look like, and making the missing ones.
 *
 * Every call opens and closes a handle of its own and blocks up to its time-out: not on a loop. Errors: STATUS_UNAVAILABLE
 * (brokers away or not answering), STATUS_CONFIG (a topic is missing or has the wrong shape; refused by the brokers),
 * STATUS_MEMORY. */
#ifndef IO_TOPICS_H
#define IO_TOPICS_H

#include "base/error.h"
#include "config/config.h"

#include <librdkafka/rdkafka.h>

enum topic {
	TOPIC_INTERACTIONS,
	TOPIC_LABELS,
	TOPIC_UPDATES,
	TOPIC_CHANGELOG,
	TOPIC_DEADLETTERS,
	TOPIC_EXAMPLES,
	TOPIC_PATCHES,
	TOPIC_TASKS,
	TOPIC_COUNT
};

struct topics {
	int32_t partitions[TOPIC_COUNT]; /* 0: there is no such topic, or it may not be seen */
	bool created[TOPIC_COUNT];       /* by this call */
};

const char *topic_name(const struct config *config, enum topic topic); /* the configured name */
const char *topic_cleanup(enum topic topic); /* the cleanup policy that we create it with; NULL: the brokers' default */

/* How many partitions each has now. */
enum status topics_read(const struct config *config, int timeout_ms, struct topics *ret, struct error *err) MUST_CHECK;

/* The same, and whether the daemon can run on them: interactions, updates, changelog and deadletters exist; labels has as
 * many partitions as interactions (it may be missing, with a warning, where no task is configured); updates and changelog
 * have at least as many; with tasks configured the topics of the learner exist too. */
enum status topics_check(const struct config *config, int timeout_ms, struct topics *ret, struct error *err) MUST_CHECK;

/* Creates what is missing; returns once the brokers' metadata shows it. Topics that exist stay as they are.
 * interactions and labels get `partitions` (0: as many as the other has, or 6), the rest as many as interactions. */
enum status topics_create(const struct config *config, int32_t partitions, int timeout_ms, struct topics *ret,
			  struct error *err) MUST_CHECK;

/* Those that the daemon may create by itself (create_topics: true), with `create_partitions`: not interactions and labels. */
enum status topics_create_internal(const struct config *config, int timeout_ms, struct topics *ret,
				   struct error *err) MUST_CHECK;

/* Whether the existing topics that must be compacted are, and nothing else: the first that is not is STATUS_CONFIG. The
 * brokers' settings are not shown to everybody: STATUS_UNAVAILABLE says nothing of the topics. */
enum status topics_check_cleanup(const struct config *config, int timeout_ms, struct error *err) MUST_CHECK;

/* Whether the existing topics that we write to take messages as large as one record may become: otherwise likewise. */
enum status topics_check_sizes(const struct config *config, int timeout_ms, struct error *err) MUST_CHECK;

/* Deletes all of them that exist: for topics that a demonstration made. */
enum status topics_delete(const struct config *config, int timeout_ms, struct error *err) MUST_CHECK;

/* Partitions of any one topic on an open handle, 0 where there is none. */
enum status topics_partitions(rd_kafka_t *rk, const char *name, int timeout_ms, int32_t *ret,
			      struct error *err) MUST_CHECK;

#endif
