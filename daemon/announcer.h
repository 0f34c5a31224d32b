/* How the process is, told to the log and to systemd where it is news, or has gone on for long. Main thread. */
#ifndef DAEMON_ANNOUNCER_H
#define DAEMON_ANNOUNCER_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stdint.h>

enum { ANNOUNCER_EXTEND_EVERY_MS = 5000 }; /* systemd is asked for more time this often */

struct announcer {
	bool told_ready;     /* systemd knows */
	bool was_ready;      /* as last logged */
	char told[256];      /* STATUS= as last told */
	int64_t extend_ms;   /* when systemd must be asked again */
	int64_t complain_ms; /* when the log is told again that it is not ready */
};

void announcer_init(struct announcer *a, int64_t now_ms);

/* The first line of the reasons: to systemd where it changed, on the log when it turns up and now and then after. */
void announcer_readiness(struct announcer *a, int64_t now_ms, bool ready, const struct buffer *reasons);

/* Until the start is settled, which is READY=1, systemd is asked for more time, again and again. */
void announcer_start(struct announcer *a, int64_t now_ms, bool settled);

#endif
