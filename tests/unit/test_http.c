#include "daemon/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { BIG = 300000 };

static unsigned answer(void *arg, const char *path, struct buffer *body)
{
	unsigned *asked = arg;
	++*asked;
	if (!strcmp(path, "/big")) {
		uint8_t *bytes = buffer_extend(body, BIG);
		if (bytes)
			memset(bytes, 'x', BIG);
		return 200;
	}
	if (!strcmp(path, "/no-memory")) {
		body->failed = true;
		return 200;
	}
	buffer_append(body, path, strlen(path));
	return !strcmp(path, "/unready") ? 503 : 200;
}

struct fixture {
	uv_loop_t loop;
	struct http *http;
	unsigned asked;
};

static void open_fixture(struct fixture *f, const char *listen_at)
{
	struct error err;
	memset(f, 0, sizeof *f);
	assert_int_equal(uv_loop_init(&f->loop), 0);
	if (http_open(&f->loop, listen_at, answer, &f->asked, &f->http, &err))
		fail_msg("%s", err.text);
}

static void close_fixture(struct fixture *f)
{
	http_close(f->http);
	(void)uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&f->loop), 0);
}

static uint16_t port_of(const struct fixture *f)
{
	return (uint16_t)atoi(strrchr(http_address(f->http), ':') + 1);
}

static int connect_to(const struct fixture *f)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port_of(f)) };
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	return fd;
}

/* Runs the loop until the server closes the connection. */
static void receive(struct fixture *f, int fd, struct buffer *out)
{
	for (;;) {
		uint8_t bytes[4096];
		(void)uv_run(&f->loop, UV_RUN_NOWAIT);
		ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
		if (n > 0)
			buffer_append(out, bytes, (size_t)n);
		else if (n == 0 || errno != EAGAIN)
			break;
	}
	buffer_append_byte(out, 0);
	assert_false(out->failed);
}

static void ask(struct fixture *f, const char *request, struct buffer *out)
{
	int fd = connect_to(f);
	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	receive(f, fd, out);
	(void)close(fd);
}

static void assert_answer(struct fixture *f, const char *request, const char *head, const char *body)
{
	struct buffer out = { 0 };
	ask(f, request, &out);
	const char *text = (const char *)out.data;
	const char *end = strstr(text, "\r\n\r\n");
	assert_non_null(end);
	assert_int_equal(strncmp(text, head, strlen(head)), 0);
	assert_string_equal(end + 4, body);
	buffer_free(&out);
}

static void pages_are_answered(void **state)
{
	struct fixture f;
	open_fixture(&f, "127.0.0.1:0");
	assert_int_equal(strncmp(http_address(f.http), "127.0.0.1:", 10), 0);
	assert_int_not_equal(port_of(&f), 0);
	assert_answer(&f, "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\n",
		      "/livez");
	assert_answer(&f, "GET /unready?x=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 503 ",
		      "/unready");
	assert_answer(&f, "HEAD /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\n", "");
	assert_int_equal(f.asked, 3);
	assert_answer(&f, "POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
		      "HTTP/1.1 405 ", "only GET\n");
	assert_answer(&f, "DELETE /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 405 ",
		      "only GET\n");
	assert_int_equal(f.asked, 3);
	close_fixture(&f);
}

static void large_answers_come_whole(void **state)
{
	struct fixture f;
	open_fixture(&f, "127.0.0.1:0");
	struct buffer out = { 0 };
	ask(&f, "GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &out);
	const char *body = strstr((const char *)out.data, "\r\n\r\n");
	assert_non_null(body);
	assert_int_equal(strlen(body + 4), BIG);
	buffer_free(&out);
	close_fixture(&f);
}

/* Garbage, oversized heads and answers that memory does not suffice for end their connection, not the server. */
static void bad_requests_end_their_connection(void **state)
{
	struct fixture f;
	open_fixture(&f, "127.0.0.1:0");
	char *head = malloc(100000);
	assert_non_null(head);
	(void)snprintf(head, 100000, "GET /livez HTTP/1.1\r\nHost: a\r\nX: %090000d\r\n\r\n", 1);
	const char *const requests[] = { "\r\n\r\n\x01\x02\x03\r\n\r\n", "GET\r\n\r\n",
					 "GET /no-memory HTTP/1.1\r\nHost: a\r\n\r\n" };
	for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
		struct buffer out = { 0 };
		int fd = connect_to(&f);
		assert_true(send(fd, requests[i], strlen(requests[i]), MSG_NOSIGNAL) > 0);
		assert_int_equal(shutdown(fd, SHUT_WR), 0);
		receive(&f, fd, &out);
		(void)close(fd);
		buffer_free(&out);
	}
	int fd = connect_to(&f);
	(void)send(fd, head, strlen(head), MSG_NOSIGNAL | MSG_DONTWAIT);
	struct buffer out = { 0 };
	receive(&f, fd, &out);
	(void)close(fd);
	assert_null(strstr((const char *)out.data, "HTTP/1.1 200"));
	buffer_free(&out);
	free(head);
	assert_answer(&f, "GET /livez HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "/livez");
	close_fixture(&f);
}

static size_t open_files(void)
{
	size_t count = 0;
	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* More connections than the limit: the rest waits for its turn, and closing drops those that are open. */
static void connections_are_limited(void **state)
{
	enum { MANY = 80, LIMIT = 64 };
	static const char request[] = "GET /livez HTTP/1.0\r\n\r\n";
	struct fixture f;
	struct buffer out = { 0 };
	int fds[MANY];
	open_fixture(&f, "localhost:0");
	for (size_t i = 0; i < MANY; i++)
		fds[i] = connect_to(&f);
	size_t before = open_files();
	for (int i = 0; i < 500; i++)
		(void)uv_run(&f.loop, UV_RUN_NOWAIT);
	assert_int_equal(open_files() - before, LIMIT);
	assert_int_equal(send(fds[MANY - 1], request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
	for (int i = 0; i < 500; i++)
		(void)uv_run(&f.loop, UV_RUN_NOWAIT);
	assert_int_equal(f.asked, 0);
	for (size_t i = 0; i < MANY / 2; i++)
		(void)close(fds[i]);
	receive(&f, fds[MANY - 1], &out);
	assert_int_equal(f.asked, 1);
	buffer_free(&out);
	close_fixture(&f);
	for (size_t i = MANY / 2; i < MANY; i++)
		(void)close(fds[i]);
}

static void wake(uv_timer_t *timer)
{
}

/* All connections go in one turn of the loop, and no event is left that would wake a server which has stopped listening:
 * the loop sleeps here as the daemon's does. */
static void it_listens_again_after_its_limit(void **state)
{
	enum { LIMIT = 64 };
	static const char request[] = "GET /livez HTTP/1.0\r\n\r\n";
	struct fixture f;
	uv_timer_t timer;
	int fds[LIMIT];
	open_fixture(&f, "127.0.0.1:0");
	for (size_t i = 0; i < LIMIT; i++)
		fds[i] = connect_to(&f);
	for (int i = 0; i < 500; i++)
		(void)uv_run(&f.loop, UV_RUN_NOWAIT);
	for (size_t i = 0; i < LIMIT; i++)
		(void)close(fds[i]);
	int fd = connect_to(&f);
	assert_int_equal(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
	assert_int_equal(uv_timer_init(&f.loop, &timer), 0);
	assert_int_equal(uv_timer_start(&timer, wake, 2000, 0), 0); /* or a server that fails would sleep for ever */
	while (f.asked == 0 && uv_is_active((uv_handle_t *)&timer))
		(void)uv_run(&f.loop, UV_RUN_ONCE);
	assert_int_equal(f.asked, 1);
	(void)close(fd);
	uv_close((uv_handle_t *)&timer, NULL);
	close_fixture(&f);
}

static void a_taken_port_is_an_error(void **state)
{
	struct fixture f;
	struct error err;
	struct http *second = NULL;
	open_fixture(&f, "[::1]:0");
	assert_int_equal(strncmp(http_address(f.http), "[::1]:", 6), 0);
	assert_int_equal(http_open(&f.loop, http_address(f.http), answer, NULL, &second, &err), STATUS_UNAVAILABLE);
	assert_string_equal(err.text, "cannot listen: Address already in use");
	assert_int_equal(http_open(&f.loop, "nonsense", answer, NULL, &second, &err), STATUS_CONFIG);
	assert_null(second);
	http_close(NULL);
	close_fixture(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_are_answered),
		cmocka_unit_test(large_answers_come_whole),
		cmocka_unit_test(bad_requests_end_their_connection),
		cmocka_unit_test(connections_are_limited),
		cmocka_unit_test(it_listens_again_after_its_limit),
		cmocka_unit_test(a_taken_port_is_an_error),
	};
	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
