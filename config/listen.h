/* "host:port" of http.listen as a socket address. The host is numeric, or localhost: nothing is resolved, so that a
 * check opens no socket. Any thread. */
#ifndef CONFIG_LISTEN_H
#define CONFIG_LISTEN_H

#include "base/error.h"

#include <sys/socket.h>

/* Parses IPv4:PORT, [IPv6]:PORT or localhost:PORT. Errors: STATUS_CONFIG with one line that names the fault. */
enum status listen_parse(const char *text, struct sockaddr_storage *ret, socklen_t *ret_length,
			 struct error *err) MUST_CHECK;

#endif
