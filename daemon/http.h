/* A small HTTP server inside a libuv loop: GET and HEAD of a few paths, text answers. libmicrohttpd does the protocol,
 * without threads of its own; connections are few and time out. The loop's thread. */
#ifndef DAEMON_HTTP_H
#define DAEMON_HTTP_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdint.h>
#include <uv.h>

struct http;

/* Answers `path`: appends the body and returns the HTTP status (200, 503, 404). */
typedef unsigned http_answer(void *arg, const char *path, struct buffer *body);

/* Listens on `listen` (config/listen.h); port 0 takes any free one. Errors: STATUS_CONFIG (no such address syntax),
 * STATUS_UNAVAILABLE (the address is taken: it may be free later), STATUS_IO (it is not this machine's), STATUS_MEMORY. */
enum status http_open(uv_loop_t *loop, const char *listen, http_answer *answer, void *arg, struct http **ret,
		      struct error *err) MUST_CHECK;

/* "127.0.0.1:9464", "[::1]:9464": where it listens. */
const char *http_address(const struct http *h);

/* Stops at once; memory is freed once the loop has run its close callbacks. NULL is fine. */
void http_close(struct http *h);

#endif
