#include "daemon/announcer.h"

#include "base/log.h"
#include "daemon/notify.h"

#include <stdio.h>
#include <string.h>

enum {
	EXTEND_MS = 30000,         /* what systemd is asked for while starting */
	COMPLAIN_FIRST_MS = 5000,  /* a start that takes longer is worth a line on the log, */
	COMPLAIN_EVERY_MS = 60000, /* and again this often */
};

void announcer_init(struct announcer *a, int64_t now_ms)
{
	*a = (struct announcer){ .complain_ms = now_ms + COMPLAIN_FIRST_MS };
}

void announcer_readiness(struct announcer *a, int64_t now_ms, bool ready, const struct buffer *reasons)
{
	char line[sizeof a->told];
	size_t length = 0;
	while (length < reasons->length && length < sizeof line - 1 && reasons->data[length] != '\n')
		length++;
	if (length)
		memcpy(line, reasons->data, length);
	line[length] = '\0';
	if (ready && !a->was_ready)
		log_info("ready");
	if (!ready && (a->was_ready || now_ms >= a->complain_ms)) {
		log_warning("not ready: %s", line);
		a->complain_ms = now_ms + COMPLAIN_EVERY_MS;
	}
	a->was_ready = ready;
	const char *tell = ready ? "ready" : line;
	if (strcmp(tell, a->told) != 0) {
		(void)snprintf(a->told, sizeof a->told, "%s", tell);
		notify_status(tell);
	}
}

void announcer_start(struct announcer *a, int64_t now_ms, bool settled)
{
	if (a->told_ready)
		return;
	if (settled) {
		a->told_ready = true;
		notify_ready();
	} else if (now_ms >= a->extend_ms) {
		notify_extend(EXTEND_MS);
		a->extend_ms = now_ms + ANNOUNCER_EXTEND_EVERY_MS;
	}
}
