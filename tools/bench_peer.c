#include "tools/bench_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct bench_peer {
	pid_t pid;
	FILE *in;      /* what it reads */
	FILE *out;     /* what it writes */
	json_t *hello; /* its first line */
	char *line;
	size_t capacity;
};

/* The next line that it writes, as an object; NULL: none, or something else. */
static json_t *read_object(struct bench_peer *p)
{
	if (getline(&p->line, &p->capacity, p->out) < 0)
		return NULL;
	json_t *object = json_loads(p->line, 0, NULL);
	if (!json_is_object(object)) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static bool start(struct bench_peer *p, const char *python, const char *script, int threads)
{
	char count[16];
	int in[2];
	int out[2];
	(void)snprintf(count, sizeof count, "%d", threads);
	char *const argv[] = { (char *)(uintptr_t)python, (char *)(uintptr_t)script, count, NULL };
	if (access(script, R_OK) != 0 || pipe2(in, O_CLOEXEC) != 0)
		return false;
	if (pipe2(out, O_CLOEXEC) != 0) {
		(void)close(in[0]);
		(void)close(in[1]);
		return false;
	}
	posix_spawn_file_actions_t actions;
	bool good = posix_spawn_file_actions_init(&actions) == 0;
	if (good) {
		good = posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO) == 0 &&
		       posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO) == 0 &&
		       posix_spawnp(&p->pid, python, &actions, NULL, argv, environ) == 0;
		(void)posix_spawn_file_actions_destroy(&actions);
	}
	(void)close(in[0]);
	(void)close(out[1]);
	p->in = fdopen(in[1], "w");
	p->out = fdopen(out[0], "r");
	return good && p->in != NULL && p->out != NULL;
}

struct bench_peer *bench_peer_start(const char *python, const char *script, int threads)
{
	struct bench_peer *p = calloc(1, sizeof *p);
	if (p == NULL)
		return NULL;
	if (!start(p, python, script, threads)) {
		fprintf(stderr, "peers skipped: no %s, or no %s to run it\n", script, python);
		bench_peer_stop(p);
		return NULL;
	}
	p->hello = read_object(p); /* where it has none, it has said why */
	if (!json_is_string(json_object_get(p->hello, "peer"))) {
		bench_peer_stop(p);
		return NULL;
	}
	return p;
}

void bench_peer_stop(struct bench_peer *p)
{
	if (p == NULL)
		return;
	if (p->in != NULL)
		(void)fclose(p->in); /* its signal to end */
	if (p->out != NULL)
		(void)fclose(p->out);
	while (p->pid > 0 && waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
		;
	json_decref(p->hello);
	free(p->line);
	free(p);
}

const char *bench_peer_name(const struct bench_peer *p)
{
	return json_string_value(json_object_get(p->hello, "peer"));
}

size_t bench_peer_modes(const struct bench_peer *p)
{
	const size_t count = json_array_size(json_object_get(p->hello, "modes"));
	return count < BENCH_PEER_MODES ? count : BENCH_PEER_MODES;
}

const char *bench_peer_mode(const struct bench_peer *p, size_t number)
{
	return json_string_value(json_array_get(json_object_get(p->hello, "modes"), number));
}

bool bench_peer_run(struct bench_peer *p, const char *what, size_t mode, double seconds, double *ret_per_second)
{
	if (fprintf(p->in, "%s %s %.3f\n", what, bench_peer_mode(p, mode), seconds) < 0 || fflush(p->in) != 0)
		return false;
	json_t *answer = read_object(p);
	const char *error = json_string_value(json_object_get(answer, "error"));
	const json_t *rate = json_object_get(answer, "per_second");
	const bool good = json_is_number(rate);
	if (good)
		*ret_per_second = json_number_value(rate);
	else
		fprintf(stderr, "%s, %s, %s: %s\n", bench_peer_name(p), bench_peer_mode(p, mode), what,
			error == NULL ? "it has ended" : error);
	json_decref(answer);
	return good;
}
