/* Files that appear whole, and links that stay links. */
#include "base/atomic_file.h"

#include "text_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

static void expect(const char *path, const char *text)
{
	char found[64] = "";
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	assert_int_equal(fread(found, 1, sizeof found - 1, file), strlen(text));
	assert_int_equal(fclose(file), 0);
	assert_string_equal(found, text);
}

static void write_text(const char *path, const char *text)
{
	struct error err;
	const struct atomic_file_part part = { text, strlen(text) };
	assert_int_equal(atomic_file_try(path, &err), STATUS_OK);
	assert_int_equal(atomic_file_write(path, &part, 1, &err), STATUS_OK);
}

static void a_file_is_replaced(void **state)
{
	struct stat before;
	struct stat after;
	char path[256];
	text_file_make(".txt", "a longer text", 13, path);
	assert_int_equal(stat(path, &before), 0);
	write_text(path, "short");
	assert_int_equal(stat(path, &after), 0);
	assert_int_not_equal(before.st_ino, after.st_ino);
	expect(path, "short");
	assert_int_equal(unlink(path), 0);
}

/* /dev/stdout is a link, to a regular file where the output is sent to one. */
static void a_link_is_followed(void **state)
{
	struct stat about;
	char path[256];
	char name[300];
	text_file_make(".txt", "a longer text", 13, path);
	(void)snprintf(name, sizeof name, "%s.link", path);
	assert_int_equal(symlink(path, name), 0);
	write_text(name, "short");
	assert_int_equal(lstat(name, &about), 0);
	assert_true(S_ISLNK(about.st_mode));
	expect(path, "short");
	assert_int_equal(unlink(name), 0);
	assert_int_equal(unlink(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_is_replaced),
		cmocka_unit_test(a_link_is_followed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
