#include "daemon/http.h"

#include "config/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <assert.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECTIONS_MAX 64u
#define CONNECTION_TIMEOUT_S 3u
#define CONNECTION_MEMORY_BYTES ((size_t)16384)

struct http {
	struct MHD_Daemon *daemon;
	uv_poll_t poll;   /* on MHD's epoll */
	uv_timer_t timer; /* when MHD wants to run next without an event */
	int open_handles;
	http_answer *answer;
	void *arg;
	char address[INET6_ADDRSTRLEN + 16];
};

static enum MHD_Result respond(struct MHD_Connection *connection, unsigned status, struct buffer *body)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(body->length, body->data, MHD_RESPMEM_MUST_FREE);
	if (!response) {
		buffer_free(body);
		return MHD_NO;
	}
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
				      "text/plain; version=0.0.4; charset=utf-8");
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	enum MHD_Result result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

/* MHD calls first when the head has come; a body is not waited for, the connection closes after the answer. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url, const char *method,
				  const char *version, const char *upload, size_t *upload_bytes, void **state)
{
	struct http *h = arg;
	struct buffer body = { 0 };
	unsigned status;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
		status = MHD_HTTP_METHOD_NOT_ALLOWED;
		buffer_append(&body, "only GET\n", 9);
	} else {
		status = h->answer(h->arg, url, &body);
	}
	if (body.failed) {
		buffer_free(&body);
		return MHD_NO;
	}
	return respond(connection, status, &body);
}

static void on_timer(uv_timer_t *timer);

/* A run that begins at the limit of connections stops listening, and only one that begins below it listens again. */
static bool crowded(const struct http *h)
{
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
	return info && info->num_connections >= CONNECTIONS_MAX;
}

static void run(struct http *h)
{
	bool was_crowded = crowded(h);
	(void)MHD_run(h->daemon);
	MHD_UNSIGNED_LONG_LONG wait_ms = 0;
	if ((was_crowded && !crowded(h)) || MHD_get_timeout(h->daemon, &wait_ms) == MHD_YES)
		(void)uv_timer_start(&h->timer, on_timer, wait_ms, 0);
	else
		(void)uv_timer_stop(&h->timer);
}

static void on_timer(uv_timer_t *timer)
{
	run(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	run(poll->data);
}

static void note_address(struct http *h, int fd)
{
	struct sockaddr_storage a = { 0 };
	socklen_t length = sizeof a;
	char host[INET6_ADDRSTRLEN] = "";
	if (getsockname(fd, (struct sockaddr *)&a, &length))
		return;
	if (a.ss_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a;
		(void)snprintf(h->address, sizeof h->address, "[%s]:%u",
			       inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host), ntohs(v6->sin6_port));
	} else {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a;
		(void)snprintf(h->address, sizeof h->address, "%s:%u",
			       inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host), ntohs(v4->sin_port));
	}
}

static enum status open_socket(const char *listen_at, int *ret, struct error *err)
{
	struct sockaddr_storage address;
	socklen_t length;
	enum status s = listen_parse(listen_at, &address, &length, err);
	if (s)
		return s;
	int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set_errno(err, "socket");
	int on = 1;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&address, length) || listen(fd, SOMAXCONN)) {
		bool taken = errno == EADDRINUSE;
		s = error_set_errno(err, "cannot listen");
		if (taken)
			s = err->status = STATUS_UNAVAILABLE;
		(void)close(fd);
		return s;
	}
	*ret = fd;
	return STATUS_OK;
}

static enum status start_daemon(struct http *h, int fd, struct error *err)
{
	h->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, h, MHD_OPTION_LISTEN_SOCKET, fd,
				     MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
				     CONNECTION_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY_BYTES,
				     MHD_OPTION_END);
	if (!h->daemon) {
		(void)close(fd);
		return error_set(err, STATUS_IO, "the server does not start");
	}
	return STATUS_OK;
}

static enum status start_polling(struct http *h, uv_loop_t *loop, struct error *err)
{
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	int code = info ? uv_poll_init(loop, &h->poll, info->epoll_fd) : UV_EBADF;
	if (code)
		return error_set(err, STATUS_IO, "%s", uv_strerror(code));
	(void)uv_timer_init(loop, &h->timer);
	h->poll.data = h;
	h->timer.data = h;
	h->open_handles = 2;
	(void)uv_poll_start(&h->poll, UV_READABLE, on_poll);
	return STATUS_OK;
}

enum status http_open(uv_loop_t *loop, const char *listen, http_answer *answer, void *arg, struct http **ret,
		      struct error *err)
{
	struct http *h = calloc(1, sizeof *h);
	if (!h)
		return error_set_memory(err);
	h->answer = answer;
	h->arg = arg;
	int fd = -1;
	enum status s = open_socket(listen, &fd, err);
	if (!s)
		s = start_daemon(h, fd, err);
	if (!s) {
		note_address(h, fd);
		s = start_polling(h, loop, err);
	}
	if (s) {
		http_close(h);
		return s;
	}
	*ret = h;
	return STATUS_OK;
}

const char *http_address(const struct http *h)
{
	return h->address;
}

static void on_closed(uv_handle_t *handle)
{
	struct http *h = handle->data;
	if (--h->open_handles == 0)
		free(h);
}

void http_close(struct http *h)
{
	if (!h)
		return;
	bool polling = h->open_handles > 0;
	if (polling)
		(void)uv_poll_stop(&h->poll); /* before MHD closes its epoll */
	if (h->daemon)
		MHD_stop_daemon(h->daemon);
	h->daemon = NULL;
	if (!polling) {
		free(h);
		return;
	}
	uv_close((uv_handle_t *)&h->poll, on_closed);
	uv_close((uv_handle_t *)&h->timer, on_closed);
}
