#include "daemon/notify.h"

#include <inttypes.h>
#include <systemd/sd-daemon.h>

/* A lost notification is systemd's to notice: there is nobody else to tell. */

void notify_ready(void)
{
	(void)sd_notify(0, "READY=1");
}

void notify_stopping(void)
{
	(void)sd_notify(0, "STOPPING=1");
}

void notify_watchdog(void)
{
	(void)sd_notify(0, "WATCHDOG=1");
}

void notify_extend(int64_t timeout_ms)
{
	(void)sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRId64, timeout_ms * 1000);
}

void notify_status(const char *text)
{
	(void)sd_notifyf(0, "STATUS=%s", text);
}

int64_t notify_watchdog_interval_ms(void)
{
	uint64_t interval_us = 0;
	if (sd_watchdog_enabled(0, &interval_us) <= 0)
		return 0;
	int64_t half_ms = (int64_t)(interval_us / 2000);
	return half_ms > 0 ? half_ms : 1;
}
