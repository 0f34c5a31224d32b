/* io/store under what breaks disks: writers killed at any instant, damaged files, a full disk. The store runs in child
 * processes, so that a crash is a count and not the end of the test. */
#include "io/store.h"
#include "base/clock.h"
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define WEEK_MS ((int64_t)7 * 86400000)
#define MEMORY_BYTES ((size_t)8 << 20)

enum { SHARDS = 3, USERS = 400, USERS_A_BATCH = 40, VALUE_BYTES = 700, BATCHES = 250, COPIES = 60 };

/* A child's exit. */
enum { RIGHT = 0, REPORTED = 10, WRONG = 20, UNUSABLE = 21 };

static char root[64];

/* ---- a disk that can be full: librocksdb's calls come here first ---- */

static _Atomic bool disk_full;

static bool refuse(void)
{
	if (atomic_load(&disk_full))
		errno = ENOSPC;
	return atomic_load(&disk_full);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
	return fd > 2 && refuse() ? -1 : syscall(SYS_write, fd, bytes, n);
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset)
{
	return refuse() ? -1 : syscall(SYS_pwrite64, fd, bytes, n, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t offset)
{
	return refuse() ? -1 : syscall(SYS_pwrite64, fd, bytes, n, offset);
}

/* ---- a history whose state at every moment is known ---- */

static int batch_first(int64_t n)
{
	return (int)(n * 17 % USERS);
}

/* The last batch up to `n` that wrote the user; -1: none. */
static int64_t last_batch(int user, int64_t n)
{
	for (; n >= 0; n--)
		if ((user - batch_first(n) + USERS) % USERS < USERS_A_BATCH)
			return n;
	return -1;
}

static size_t key_of(int user, char ret[32])
{
	return (size_t)snprintf(ret, 32, "user-%d", user);
}

static void value_of(int shard, int user, int64_t n, uint8_t ret[VALUE_BYTES])
{
	uint64_t x = (uint64_t)shard * 1000003 + (uint64_t)user * 7919 + (uint64_t)n * 104729 + 1;
	for (size_t i = 0; i < VALUE_BYTES; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		ret[i] = (uint8_t)(x >> 56);
	}
}

static enum status write_batch(struct store_shard *shard, int number, int64_t n, struct error *err)
{
	struct position position = { n, -1, 1, n + 1 };
	struct store_batch *batch = store_batch_new(shard);
	if (!batch)
		return error_set_memory(err);
	for (int i = 0; i < USERS_A_BATCH; i++) {
		char key[32];
		uint8_t value[VALUE_BYTES];
		int user = (batch_first(n) + i) % USERS;
		size_t key_bytes = key_of(user, key);
		value_of(number, user, n, value);
		store_batch_put(batch, (struct slice){ (const uint8_t *)key, key_bytes },
				(struct slice){ value, sizeof value });
	}
	enum status status = store_batch_write(batch, &position, err);
	store_batch_free(batch);
	return status;
}

/* Whether the shard is exactly the history's state at its position. */
static int check_shard(struct store_shard *shard, int number, int64_t *ret_position)
{
	struct error err;
	struct position position = { -1, -1, -1, -1 };
	struct buffer value = { 0 };
	bool found = false;
	int outcome = RIGHT;
	if (store_shard_position(shard, &position, &found, &err) != STATUS_OK)
		return REPORTED;
	*ret_position = found ? position.interactions : -1;
	for (int user = 0; outcome == RIGHT && user < USERS; user++) {
		char key[32];
		uint8_t good[VALUE_BYTES];
		size_t key_bytes = key_of(user, key);
		int64_t n = last_batch(user, *ret_position);
		buffer_clear(&value);
		if (store_shard_get(shard, (struct slice){ (const uint8_t *)key, key_bytes }, &value, &found, &err) !=
		    STATUS_OK) {
			outcome = REPORTED;
			break;
		}
		value_of(number, user, n, good);
		if (found != (n >= 0) ||
		    (found && (value.length != sizeof good || memcmp(value.data, good, sizeof good) != 0)))
			outcome = WRONG;
	}
	buffer_free(&value);
	return outcome;
}

static int run(int (*child)(const char *directory, int argument), const char *directory, int argument)
{
	(void)fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int quiet = open("/dev/null", O_WRONLY);
		if (quiet >= 0)
			(void)dup2(quiet, STDERR_FILENO);
		_exit(child(directory, argument));
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

/* Goes on with the history in every shard; leaves as a process that is killed does. */
static int go_on(const char *directory, int batches)
{
	struct store *s;
	struct store_shard *shards[SHARDS];
	struct error err;
	int64_t at[SHARDS];
	if (store_open(directory, "one", MEMORY_BYTES, WEEK_MS, &s, &err) != STATUS_OK)
		return UNUSABLE;
	for (int i = 0; i < SHARDS; i++)
		if (store_shard_open(s, i, &shards[i], &err) != STATUS_OK || check_shard(shards[i], i, &at[i]) != RIGHT)
			return UNUSABLE;
	for (int n = 0; n < batches; n++)
		for (int i = 0; i < SHARDS; i++)
			if (write_batch(shards[i], i, ++at[i], &err) != STATUS_OK)
				return UNUSABLE;
	return RIGHT;
}

/* Opens what may be damaged: every shard right, or reported and usable again after a reset. */
static int open_damaged(const char *directory, int argument)
{
	struct store *s;
	struct error err;
	int outcome = RIGHT;
	if (store_open(directory, "one", MEMORY_BYTES, WEEK_MS, &s, &err) != STATUS_OK)
		return err.status == STATUS_DATA ? UNUSABLE : REPORTED;
	for (int i = 0; i < SHARDS; i++) {
		struct store_shard *shard;
		int64_t at = -1;
		if (store_shard_open(s, i, &shard, &err) != STATUS_OK)
			return UNUSABLE;
		int found = check_shard(shard, i, &at);
		if (found == WRONG)
			return WRONG;
		if (found == REPORTED || at < BATCHES - 1)
			outcome = REPORTED;
		if (found == REPORTED && store_shard_reset(shard, &err) != STATUS_OK)
			return UNUSABLE;
		int64_t next = found == REPORTED ? 0 : at + 1;
		enum status status = write_batch(shard, i, next, &err);
		if (status == STATUS_DATA) /* damage that a write met: the shard is lost, reset, and good */
			status = store_shard_reset(shard, &err) == STATUS_OK ? write_batch(shard, i, 0, &err) : status;
		if (status != STATUS_OK || check_shard(shard, i, &at) != RIGHT)
			return UNUSABLE;
		store_shard_close(shard);
	}
	store_close(s);
	return outcome;
}

/* ---- files ---- */

static int make_root(void **state)
{
	(void)strcpy(root, "/tmp/peterd-crash-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static void remove_directory(const char *directory)
{
	char path[160];
	struct error err;
	(void)snprintf(path, sizeof path, "%s/store", directory);
	assert_int_equal(file_remove_folder(path, &err), STATUS_OK);
	assert_int_equal(file_remove_folder(directory, &err), STATUS_OK);
}

static int remove_root(void **state)
{
	static const char *const parts[] = { "whole", "copy" };
	struct error err;
	for (size_t i = 0; i < 2; i++) {
		char path[128];
		(void)snprintf(path, sizeof path, "%s/%s", root, parts[i]);
		remove_directory(path);
	}
	return file_remove_folder(root, &err) == STATUS_OK ? 0 : -1;
}

static void copy_file(const char *from, const char *to)
{
	char bytes[65536];
	ssize_t n;
	int in = open(from, O_RDONLY);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, bytes, sizeof bytes)) > 0)
		assert_int_equal(write(out, bytes, (size_t)n), n);
	(void)close(in);
	(void)close(out);
}

/* Copies the store; ret_names: its files (not the info log). */
static size_t copy_store(const char *from, const char *to, char ret_names[][64], size_t most)
{
	char source[160];
	char target[160];
	size_t count = 0;
	struct error err;
	struct dirent *entry;
	(void)snprintf(source, sizeof source, "%s/store", from);
	(void)snprintf(target, sizeof target, "%s/store", to);
	remove_directory(to);
	assert_int_equal(file_make_folder(target, &err), STATUS_OK);
	DIR *folder = opendir(source);
	assert_non_null(folder);
	while ((entry = readdir(folder))) {
		char a[512];
		char b[512];
		if (entry->d_name[0] == '.' || strncmp(entry->d_name, "LO", 2) == 0)
			continue;
		(void)snprintf(a, sizeof a, "%s/%s", source, entry->d_name);
		(void)snprintf(b, sizeof b, "%s/%s", target, entry->d_name);
		copy_file(a, b);
		assert_true(count < most);
		(void)snprintf(ret_names[count++], 64, "%.63s", entry->d_name);
	}
	(void)closedir(folder);
	return count;
}

/* Cuts, flips a bit of, overwrites, or removes a file. */
static void damage(const char *path, unsigned *seed)
{
	struct stat info;
	assert_int_equal(stat(path, &info), 0);
	off_t at = info.st_size > 0 ? (off_t)rand_r(seed) % info.st_size : 0;
	uint8_t bytes[64];
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	switch (rand_r(seed) % 7) {
	case 0:
		assert_int_equal(unlink(path), 0);
		break;
	case 1:
	case 2:
		assert_int_equal(ftruncate(fd, at), 0);
		break;
	case 3:
	case 4:
		if (pread(fd, bytes, 1, at) == 1) {
			bytes[0] ^= (uint8_t)(1 << (rand_r(seed) % 8));
			assert_int_equal(pwrite(fd, bytes, 1, at), 1);
		}
		break;
	default:
		for (size_t i = 0; i < sizeof bytes; i++)
			bytes[i] = (uint8_t)rand_r(seed);
		assert_int_equal(pwrite(fd, bytes, sizeof bytes, at), (ssize_t)sizeof bytes);
	}
	(void)close(fd);
}

static void damaged_copies_are_right_or_reported(void **state)
{
	char whole[96];
	char copy[96];
	char names[64][64];
	unsigned seed = 20240601;
	int right = 0;
	int reported = 0;
	(void)snprintf(whole, sizeof whole, "%s/whole", root);
	(void)snprintf(copy, sizeof copy, "%s/copy", root);
	assert_int_equal(run(go_on, whole, BATCHES), RIGHT);
	(void)copy_store(whole, copy, names, 64);
	assert_int_equal(run(open_damaged, copy, 0), RIGHT);
	for (int i = 0; i < COPIES; i++) {
		char path[512];
		size_t count = copy_store(whole, copy, names, 64);
		size_t which = (size_t)rand_r(&seed) % count;
		(void)snprintf(path, sizeof path, "%s/store/%s", copy, names[which]);
		damage(path, &seed);
		int outcome = run(open_damaged, copy, 0);
		right += outcome == RIGHT;
		reported += outcome == REPORTED;
		if (outcome != RIGHT && outcome != REPORTED)
			fail_msg("copy %d: %s damaged: outcome %d", i, names[which], outcome);
	}
	print_message("%d damaged copies: %d right, %d reported\n", COPIES, right, reported);
	assert_true(reported > COPIES / 4);
}

static int write_for_ever(const char *directory, int argument)
{
	return go_on(directory, 1 << 30);
}

static int64_t reached(const char *directory)
{
	int fd[2];
	int64_t at = -1;
	assert_int_equal(pipe(fd), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct store *s;
		struct error err;
		int64_t sum = 0;
		if (store_open(directory, "one", MEMORY_BYTES, WEEK_MS, &s, &err) != STATUS_OK)
			_exit(UNUSABLE);
		for (int i = 0; i < SHARDS; i++) {
			struct store_shard *shard;
			if (store_shard_open(s, i, &shard, &err) != STATUS_OK || check_shard(shard, i, &at) != RIGHT)
				_exit(WRONG);
			sum += at;
			store_shard_close(shard);
		}
		store_close(s);
		_exit(write(fd[1], &sum, sizeof sum) == sizeof sum ? RIGHT : UNUSABLE);
	}
	int status;
	(void)close(fd[1]);
	assert_int_equal(read(fd[0], &at, sizeof at), sizeof at);
	(void)close(fd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	return at;
}

/* Every key of a batch or none, and what was there stays. */
static void a_killed_writer_leaves_whole_batches(void **state)
{
	char whole[96];
	int64_t last = -SHARDS;
	(void)snprintf(whole, sizeof whole, "%s/whole", root);
	/* a slow machine needs more rounds to come somewhere */
	for (unsigned round = 0; round < 10 || (last <= 100 && round < 60); round++) {
		(void)fflush(NULL);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			_exit(write_for_ever(whole, 0));
		(void)usleep(150000 + 23000 * round);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		int64_t now = reached(whole);
		assert_true(now >= last);
		last = now;
	}
	assert_true(last > 100);
}

/* While the disk is full: writes fail, reads go on, nothing is lost; then it goes on. */
static int fill_the_disk(const char *directory, int argument)
{
	struct store *s;
	struct store_shard *shard;
	struct store_shard *other;
	struct error err;
	int64_t at;
	if (store_open(directory, "one", MEMORY_BYTES, WEEK_MS, &s, &err) != STATUS_OK ||
	    store_shard_open(s, 0, &shard, &err) != STATUS_OK || store_shard_open(s, 1, &other, &err) != STATUS_OK)
		return UNUSABLE;
	for (int64_t n = 0; n < 30; n++)
		if (write_batch(shard, 0, n, &err) != STATUS_OK || write_batch(other, 1, n, &err) != STATUS_OK)
			return UNUSABLE;
	atomic_store(&disk_full, true);
	for (int i = 0; i < argument; i++) {
		if (write_batch(shard, 0, 30, &err) != STATUS_IO || write_batch(other, 1, 30, &err) != STATUS_IO)
			return 30;
		if (check_shard(shard, 0, &at) != RIGHT || at < 29 || at > 30 || check_shard(other, 1, &at) != RIGHT ||
		    at < 29 || at > 30)
			return 31;
		(void)usleep(100000);
	}
	if (store_shard_reset(other, &err) != STATUS_IO)
		return 32;
	atomic_store(&disk_full, false);
	int tries = 0;
	while (write_batch(shard, 0, 30, &err) != STATUS_OK && ++tries < 50)
		(void)usleep(100000);
	if (tries == 50)
		return 33;
	for (int64_t n = 31; n < 200; n++)
		if (write_batch(shard, 0, n, &err) != STATUS_OK)
			return 34;
	if (check_shard(shard, 0, &at) != RIGHT || at != 199)
		return 35;
	if (store_shard_reset(other, &err) != STATUS_OK || check_shard(other, 1, &at) != RIGHT || at != -1)
		return 36;
	store_shard_close(shard);
	store_shard_close(other);
	store_close(s);
	return RIGHT;
}

static void a_full_disk_is_waited_out(void **state)
{
	char whole[96];
	(void)snprintf(whole, sizeof whole, "%s/whole", root);
	assert_int_equal(run(fill_the_disk, whole, 2), RIGHT);
	assert_int_equal(run(go_on, whole, 20), RIGHT);
	remove_directory(whole);
	assert_int_equal(run(fill_the_disk, whole, 80), RIGHT); /* past RocksDB's own attempts */
}

/* A disk that is full from the start. */
static int open_full(const char *directory, int argument)
{
	struct store *s;
	struct error err;
	atomic_store(&disk_full, true);
	enum status status = store_open(directory, "one", MEMORY_BYTES, WEEK_MS, &s, &err);
	if (status != STATUS_IO)
		return WRONG;
	atomic_store(&disk_full, false);
	return go_on(directory, 1);
}

static void opening_on_a_full_disk_fails_and_loses_nothing(void **state)
{
	char whole[96];
	(void)snprintf(whole, sizeof whole, "%s/whole", root);
	assert_int_equal(run(open_full, whole, 0), RIGHT);
	assert_int_equal(run(go_on, whole, 20), RIGHT);
	assert_int_equal(run(open_full, whole, 0), RIGHT);
	assert_int_equal(reached(whole), 21 * SHARDS);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)
	const struct CMUnitTest tests[] = {
		TEST(damaged_copies_are_right_or_reported),
		TEST(a_killed_writer_leaves_whole_batches),
		TEST(a_full_disk_is_waited_out),
		TEST(opening_on_a_full_disk_fails_and_loses_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
