#include "tools/child.h"

#include "base/clock.h"
#include "tools/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct child {
	pid_t pid;  /* 0: ended and reaped */
	int status; /* of waitpid, once reaped */
	int notify; /* where READY=1 comes */
	char notify_name[64];
	char program[PATH_MAX];
	char log[PATH_MAX];
};

static enum status find_program(struct child *c, struct error *err)
{
	ssize_t length = readlink("/proc/self/exe", c->program, sizeof c->program - sizeof "peterd");
	if (length < 0)
		return error_set_errno(err, "/proc/self/exe");
	c->program[length] = '\0';
	char *name = strrchr(c->program, '/') + 1;
	memcpy(name, "peterd", sizeof "peterd");
	return access(c->program, X_OK) ? error_set_errno(err, "%s", c->program) : STATUS_OK;
}

/* A datagram socket in the abstract namespace: nothing of it stays behind. */
static enum status open_notify(struct child *c, struct error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	(void)snprintf(c->notify_name, sizeof c->notify_name, "@peterctl-%ld-%lld", (long)getpid(),
		       (long long)clock_monotonic_us());
	size_t length = strlen(c->notify_name);
	memcpy(address.sun_path, c->notify_name, length);
	address.sun_path[0] = '\0';
	c->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (c->notify < 0 ||
	    bind(c->notify, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)))
		return error_set_errno(err, "notification socket");
	return STATUS_OK;
}

/* Our environment with the notification socket in place of what systemd told us. NULL: out of memory. */
static char **daemon_environment(char *notify)
{
	static const char *const ours[] = { "NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=", "JOURNAL_STREAM=" };
	size_t count = 0;
	while (environ[count])
		count++;
	char **copy = calloc(count + 2, sizeof *copy);
	size_t used = 0;
	for (size_t i = 0; copy && i < count; i++) {
		bool keep = true;
		for (size_t j = 0; j < CTL_COUNT(ours); j++)
			keep = keep && strncmp(environ[i], ours[j], strlen(ours[j]));
		if (keep)
			copy[used++] = environ[i];
	}
	if (copy)
		copy[used] = notify;
	return copy;
}

/* In the new process, from fork to exec: other threads' locks are as they were, so system calls only. */
static void become_daemon(const struct child *c, const char *config, char **environment, pid_t parent, int log)
{
	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent || dup2(log, STDERR_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0)
		_exit(126);
	(void)signal(SIGPIPE, SIG_DFL);
	(void)execle(c->program, "peterd", "--config", config, (char *)NULL, environment);
	_exit(127);
}

enum status child_start(const char *config, const char *log, struct child **ret, struct error *err)
{
	struct child *c = calloc(1, sizeof *c);
	if (!c)
		return error_set_memory(err);
	c->notify = -1;
	(void)snprintf(c->log, sizeof c->log, "%s", log);
	enum status status = find_program(c, err);
	if (!status)
		status = open_notify(c, err);
	int fd = -1;
	if (!status && (fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) < 0)
		status = error_set_errno(err, "%s", log);
	char notify[sizeof c->notify_name + sizeof "NOTIFY_SOCKET="];
	(void)snprintf(notify, sizeof notify, "NOTIFY_SOCKET=%s", c->notify_name);
	char **environment = daemon_environment(notify);
	if (!status && !environment)
		status = error_set_memory(err);
	pid_t parent = getpid();
	if (!status && (c->pid = fork()) < 0) {
		c->pid = 0;
		status = error_set_errno(err, "%s", c->program);
	} else if (!status && c->pid == 0) {
		become_daemon(c, config, environment, parent, fd);
	}
	free(environment);
	if (fd >= 0)
		(void)close(fd);
	if (status) {
		child_free(c);
		return status;
	}
	*ret = c;
	return STATUS_OK;
}

/* The log's last line that is not empty. */
static void last_line(const char *path, char *out, size_t size)
{
	char line[1024];
	FILE *file = fopen(path, "re");
	out[0] = '\0';
	while (file && fgets(line, sizeof line, file)) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0])
			(void)snprintf(out, size, "%.*s", (int)size - 1, line);
	}
	if (file)
		(void)fclose(file);
}

/* How it ended, as an error. */
static enum status ended(struct child *c, struct error *err)
{
	char last[300];
	last_line(c->log, last, sizeof last);
	if (WIFSIGNALED(c->status))
		return error_set(err, STATUS_BUG, "peterd was killed by signal %d: %s", WTERMSIG(c->status), last);
	return error_set(err, STATUS_BUG, "peterd ended with exit code %d: %s", WEXITSTATUS(c->status), last);
}

static bool reap(struct child *c, int options)
{
	if (c->pid && waitpid(c->pid, &c->status, options) == c->pid)
		c->pid = 0;
	return c->pid == 0;
}

enum status child_check(struct child *c, struct error *err)
{
	return reap(c, WNOHANG) ? ended(c, err) : STATUS_OK;
}

enum status child_await_ready(struct child *c, int64_t timeout_ms, struct error *err)
{
	int64_t deadline_us = clock_monotonic_us() + timeout_ms * 1000;
	while (clock_monotonic_us() < deadline_us && !ctl_stopping()) {
		char text[2048];
		struct pollfd wait = { .fd = c->notify, .events = POLLIN };
		enum status status = child_check(c, err);
		if (status)
			return status;
		if (poll(&wait, 1, 100) <= 0)
			continue;
		ssize_t length = recv(c->notify, text, sizeof text - 1, MSG_DONTWAIT);
		text[length > 0 ? length : 0] = '\0';
		if (strstr(text, "READY=1"))
			return STATUS_OK;
	}
	return error_set(err, STATUS_UNAVAILABLE, "%s",
			 ctl_stopping() ? "stopped by a signal" : "peterd does not get ready");
}

enum status child_stop(struct child *c, int64_t timeout_ms, struct error *err)
{
	int64_t deadline_us = clock_monotonic_us() + timeout_ms * 1000;
	if (c->pid)
		(void)kill(c->pid, SIGTERM);
	while (!reap(c, WNOHANG)) {
		if (clock_monotonic_us() > deadline_us) {
			(void)kill(c->pid, SIGKILL);
			(void)reap(c, 0);
			return error_set(err, STATUS_BUG, "peterd did not stop within %lld ms", (long long)timeout_ms);
		}
		(void)usleep(20000);
	}
	return WIFEXITED(c->status) && WEXITSTATUS(c->status) == 0 ? STATUS_OK : ended(c, err);
}

int64_t child_cpu_us(const struct child *c)
{
	char path[64];
	char text[1024];
	unsigned long user = 0;
	unsigned long system = 0;
	(void)snprintf(path, sizeof path, "/proc/%ld/stat", (long)c->pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return 0;
	size_t length = fread(text, 1, sizeof text - 1, file);
	(void)fclose(file);
	text[length] = '\0';
	const char *rest = strrchr(text, ')'); /* the name in parentheses may hold anything */
	if (!rest || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
		return 0;
	return (int64_t)((user + system) * 1000000 / (unsigned long)sysconf(_SC_CLK_TCK));
}

void child_free(struct child *c)
{
	if (!c)
		return;
	if (c->pid) {
		(void)kill(c->pid, SIGKILL);
		(void)reap(c, 0);
	}
	if (c->notify >= 0)
		(void)close(c->notify);
	free(c);
}
