/* Records of the patches topic without memory: decoding, the table and a version's bytes say so and leak nothing (the sanitizers
 * watch). */
#include "io/patch_table.h"
#include "oom.h"
#include "patch_record_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void decoding(void **state)
{
	const struct patch_record r = record_full();
	struct buffer value = { 0 };
	patch_record_encode(&r, &value);
	for (size_t n = 1;; n++) {
		struct patch_record back = { .number = 7 };
		struct error err = { 0 };
		oom_fail_at(n);
		enum status s = patch_record_decode(slice_of_buffer(&value), &back, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(s, STATUS_OK);
			assert_int_equal(n, 5); /* two arrays, two names */
			patch_record_clear(&back);
			break;
		}
		assert_int_equal(s, STATUS_MEMORY);
		assert_int_equal(back.number, 7);
	}
	buffer_free(&value);
}

/* A version: two chunks, manifest, decision. */
static enum status fill(struct patch_table *t, const struct buffer *manifest, struct error *err)
{
	const struct {
		const char *key;
		struct slice value;
	} records[] = { { "films/2/0", slice_of("one") },
			{ "films/2/1", slice_of("two") },
			{ "films/2/manifest", slice_of_buffer(manifest) },
			{ "films/decision/234", slice_of_buffer(manifest) } };
	struct patch_change change;
	for (size_t i = 0; i < sizeof records / sizeof *records; i++)
		if (patch_table_apply(t, slice_of(records[i].key), records[i].value, 0, (int64_t)i, &change, err) !=
		    STATUS_OK)
			return err->status;
	return STATUS_OK;
}

static void a_table(void **state)
{
	struct patch_record r = record_full();
	struct buffer manifest = { 0 };
	r.weights.chunks = 2;
	r.weights.bytes = 6;
	hash_sha256_hex("onetwo", 6, r.patch);
	memcpy(r.weights.sha256, r.patch, sizeof r.patch);
	patch_record_encode(&r, &manifest);
	for (size_t n = 1;; n++) {
		struct patch_table *t = NULL;
		struct buffer out = { 0 };
		struct error err = { 0 };
		oom_fail_at(n);
		enum status s = patch_table_new(true, &t, &err);
		if (!s)
			s = fill(t, &manifest, &err);
		const struct patch_entry *e = s ? NULL : patch_table_find(t, "films");
		if (e)
			s = patch_entry_bytes(e, patch_entry_live(e), &out, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(s, STATUS_OK);
			assert_int_equal(out.length, 6);
			assert_true(n > 15);
		} else {
			assert_int_equal(s, STATUS_MEMORY);
			if (t) { /* the same records again: nothing of the failed one is left */
				assert_int_equal(fill(t, &manifest, &err), STATUS_OK);
				assert_non_null(patch_entry_live(patch_table_find(t, "films")));
				assert_int_equal(patch_table_find(t, "films")->decision_count, 1);
			}
		}
		buffer_free(&out);
		patch_table_free(t);
		if (!failed)
			break;
	}
	buffer_free(&manifest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decoding),
		cmocka_unit_test(a_table),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
