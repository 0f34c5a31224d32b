/* The one local store of the process, opened when a lane first needs it.
 *
 * Opening waits: another process of the same identity may hold the lock until it notices that it is fenced, and a full
 * disk may be emptied. Restorer threads of all lanes; the gate outlives them. */
#ifndef DAEMON_STORE_GATE_H
#define DAEMON_STORE_GATE_H

#include "base/error.h"
#include "config/config.h"
#include "io/store.h"

#include <stdatomic.h>
#include <stdbool.h>

struct store_gate;

/* Opens nothing yet. Errors: STATUS_MEMORY. */
enum status store_gate_new(const struct config *config, struct store_gate **ret, struct error *err) MUST_CHECK;
void store_gate_free(struct store_gate *g); /* closes the store; every shard is closed before; NULL is fine */

/* The store, opening it if need be; tries again and again while *cancel is false. Errors: STATUS_UNAVAILABLE
 * (cancelled), STATUS_MEMORY. */
enum status store_gate_wait(struct store_gate *g, const _Atomic bool *cancel, struct store **ret,
			    struct error *err) MUST_CHECK;

/* Why the store cannot be opened, "" where it is open or was not asked for. Any thread; copies at most n bytes. */
void store_gate_trouble(struct store_gate *g, char *ret, size_t n);

#endif
