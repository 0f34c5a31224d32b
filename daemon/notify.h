/* What systemd is told, sd_notify(3). Nothing happens where NOTIFY_SOCKET is not set. Main thread. */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

#include "base/error.h"

#include <stdint.h>

void notify_ready(void);
void notify_stopping(void);
void notify_watchdog(void);
void notify_extend(int64_t timeout_ms); /* a start or stop may take this much longer, from now */
void notify_status(const char *text);   /* one line for systemctl status */

/* How often the watchdog wants to be fed: half of WATCHDOG_USEC; 0: there is none. */
int64_t notify_watchdog_interval_ms(void);

#endif
