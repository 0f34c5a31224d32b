/* A place to try peterd in: a folder of its own under $TMPDIR, a backbone, topics of its own on a broker, a
 * configuration, and a daemon on it. All of it is gone after site_close. One thread. */
#ifndef TOOLS_SITE_H
#define TOOLS_SITE_H

#include "base/error.h"
#include "config/config.h"
#include "tools/child.h"
#include "tools/simulation.h"

struct site_options {
	const char *name;      /* part of folder, group and topics */
	const char *bootstrap; /* a running Kafka; NULL: the development broker in this process */
	int32_t partitions;
	int64_t interval_ms;           /* between commits */
	struct simulation *simulation; /* whose items the backbone knows */
	uint32_t
		history; /* events of it that the backbone is pre-trained on, said on the terminal; 0: random weights */
	uint64_t seed;
};

struct site;

/* Errors: STATUS_IO (the folder), STATUS_UNAVAILABLE (brokers; a signal to us), STATUS_CONFIG, STATUS_MEMORY, STATUS_BUG
 * (pre-training failed). */
enum status site_open(const struct site_options *options, struct site **ret, struct error *err) MUST_CHECK;

/* Starts the daemon and waits until it is ready. Errors: child_start, child_await_ready. */
enum status site_start_daemon(struct site *s, struct error *err) MUST_CHECK;

void site_close(struct site *s); /* NULL is fine */

/* Borrowed, until site_close. */
const struct config *site_config(const struct site *s);
const char *site_directory(const struct site *s);
const char *site_servers(const struct site *s);
struct child *site_daemon(const struct site *s); /* NULL before it is started */

#endif
