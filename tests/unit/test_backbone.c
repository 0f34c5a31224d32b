/* What backbone_load accepts and refuses: one good file, and one change at a time. */
#include "model_fixture.h"
#include "model/safetensors.h"

#include <string.h>

#define MAX_ENTRIES 64

static char path[] = "/tmp/peterd-test-XXXXXX";

/* A backbone file taken apart: d = 8, k = 3, two blocks, 50 items. */
struct file {
	struct safetensors *st;
	struct safetensors_tensor tensors[MAX_ENTRIES];
	size_t tensor_count;
	struct safetensors_string metadata[MAX_ENTRIES];
	size_t metadata_count;
};

static void open_file(struct file *f)
{
	const struct random_backbone r = { 8, 3, "1,4", true, 0, 1 };
	struct error err;
	memset(f, 0, sizeof *f);
	fixture_write(path, &r);
	if (safetensors_open(path, &f->st, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < safetensors_count(f->st); i++)
		f->tensors[f->tensor_count++] = *safetensors_at(f->st, i);
	for (size_t i = 0; i < safetensors_metadata_count(f->st); i++)
		f->metadata[f->metadata_count++] = safetensors_metadata_at(f->st, i);
}

/* value NULL: takes the key out. */
static void set(struct file *f, const char *key, const char *value)
{
	size_t at = 0;
	while (at < f->metadata_count && strcmp(f->metadata[at].key, key) != 0)
		at++;
	if (value == NULL)
		f->metadata[at] = f->metadata[--f->metadata_count];
	else
		f->metadata[at] = (struct safetensors_string){ key, value };
	f->metadata_count += at == f->metadata_count && value != NULL;
}

static struct safetensors_tensor *tensor(struct file *f, const char *name)
{
	for (size_t i = 0; i < f->tensor_count; i++) {
		if (strcmp(f->tensors[i].name, name) == 0)
			return &f->tensors[i];
	}
	fail_msg("no %s", name);
	return NULL;
}

/* Writes, loads, closes. why NULL: it must load. */
static void expect(struct file *f, const char *why)
{
	struct error err = { 0 };
	struct backbone *b = NULL;
	if (safetensors_write(path, f->tensors, f->tensor_count, f->metadata, f->metadata_count, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	enum status status = backbone_load(path, &b, &err);
	safetensors_close(f->st);
	if (why == NULL && status != STATUS_OK)
		fail_msg("%s", err.text);
	if (why != NULL && (status != STATUS_DATA || strstr(err.text, why) == NULL || strstr(err.text, path) == NULL))
		fail_msg("status %d, '%s', expected '%s'", status, err.text, why);
	assert_int_equal(b != NULL, why == NULL);
	backbone_free(b);
}

static void expect_metadata(const char *key, const char *value, const char *why)
{
	struct file f;
	open_file(&f);
	set(&f, key, value);
	expect(&f, why);
}

static void test_metadata(void **unused)
{
	expect_metadata("anything", "else", NULL);
	expect_metadata("format", NULL, "metadata: format is missing");
	expect_metadata("format", "peterd.patch.v1", "metadata: format is 'peterd.patch.v1'");
	expect_metadata("format", "a\nb\x7f", "metadata: format is 'a?b?'");
	expect_metadata("arch", NULL, "metadata: arch is missing");
	expect_metadata("arch", "transformer", "metadata: arch 'transformer' is not known");
	expect_metadata("causal", NULL, "metadata: causal is missing");
	expect_metadata("causal", "yes", "metadata: causal is 'yes'");
	expect_metadata("causal", "false", NULL);
	expect_metadata("channels", NULL, "metadata: channels is missing");
	expect_metadata("channels", "9", "item_embedding.weight: shape [53, 8], expected [53, 9]");
	expect_metadata("channels", "0", "metadata: channels is '0'");
	expect_metadata("channels", "8x", "metadata: channels is '8x'");
	expect_metadata("channels", "-8", "metadata: channels is '-8'");
	expect_metadata("channels", "18446744073709551624", "metadata: channels is '18446744073709551624'");
	expect_metadata("kernel_size", NULL, "metadata: kernel_size is missing");
	expect_metadata("kernel_size", "2", "blocks.0.conv1.weight: shape [8, 8, 3], expected [8, 8, 2]");
	expect_metadata("kernel_size", "", "metadata: kernel_size is ''");
	expect_metadata("layer_norm_eps", NULL, NULL);
	expect_metadata("layer_norm_eps", "nan", "metadata: layer_norm_eps is 'nan'");
	expect_metadata("layer_norm_eps", "0", "metadata: layer_norm_eps is '0'");
	expect_metadata("layer_norm_eps", "1e-8 ", "metadata: layer_norm_eps is '1e-8 '");
	expect_metadata("pad_index", NULL, NULL);
	expect_metadata("pad_index", "1", "metadata: pad_index is '1'");
	expect_metadata("tcl_index", "2", "metadata: tcl_index is '2'");
	expect_metadata("oov_index", "0", "metadata: oov_index is '0'");
	expect_metadata("next_item", "tcl", NULL);
	expect_metadata("next_item", "first", "metadata: next_item is 'first'");
	expect_metadata("window", "0", "metadata: window is '0'");
}

static void test_dilations(void **unused)
{
	expect_metadata("dilations", NULL, "metadata: dilations is missing");
	expect_metadata("dilations", "", "metadata: dilations is ''");
	expect_metadata("dilations", "1,", "metadata: dilations is '1,'");
	expect_metadata("dilations", "1;4", "metadata: dilations is '1;4'");
	expect_metadata("dilations", "1,0", "metadata: dilations is '1,0'");
	expect_metadata("dilations", "1, 4", NULL);
	expect_metadata("dilations", "1,4,1", "blocks.2.conv1.weight: no such tensor");
	expect_metadata("dilations", "1", "dilations has only 1 entries");
	expect_metadata("dilations", "1,10921", NULL); /* 1 + 6 * 10922 = 65,533 */
	expect_metadata("dilations", "2,10921", "metadata: the receptive field is 65539");
	expect_metadata("dilations", "1,65535", "metadata: the receptive field is");
	expect_metadata("dilations", "1,99999999999999999999", "metadata: dilations is");
}

static void test_vocabulary_size(void **unused)
{
	expect_metadata("vocabulary", NULL, "vocabulary: neither the metadata key nor both tensors");
	expect_metadata("vocabulary", "[\"a\"]", "item_embedding.weight: shape [53, 8], expected [4, 8]");
	expect_metadata("vocabulary", "[\"a\",\"a\"]", "vocabulary: entries 0 and 1 are equal ('a')");
}

static void test_tensors(void **unused)
{
	static const char *const names[] = {
		"item_embedding.weight", "blocks.0.conv1.weight", "blocks.0.conv1.bias",   "blocks.1.norm1.weight",
		"blocks.0.norm2.bias",   "blocks.1.conv2.weight", "blocks.1.norm2.weight", "blocks.1.norm2.bias",
	};
	struct file f;
	char why[128];
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		open_file(&f);
		tensor(&f, names[i])->name = "other";
		(void)snprintf(why, sizeof why, "%s: no such tensor", names[i]);
		expect(&f, why);

		open_file(&f);
		struct safetensors_tensor *t = tensor(&f, names[i]);
		t->shape[t->rank++] = 1;
		(void)snprintf(why, sizeof why, "%s: shape [", names[i]);
		expect(&f, why);

		open_file(&f);
		tensor(&f, names[i])->type = SAFETENSORS_I32;
		(void)snprintf(why, sizeof why, "%s: dtype I32", names[i]);
		expect(&f, why);

		open_file(&f);
		t = tensor(&f, names[i]);
		float *values = malloc(t->bytes);
		memcpy(values, t->data, t->bytes);
		values[t->bytes / sizeof *values - 1] = i % 2 == 0 ? NAN : INFINITY;
		t->data = values;
		(void)snprintf(why, sizeof why, "%s: value %zu is not finite", names[i], t->bytes / sizeof *values - 1);
		expect(&f, why);
		free(values);
	}
}

static void test_output_layer(void **unused)
{
	static float weight[53 * 8];
	const struct safetensors_tensor good[] = {
		{ "output.weight", SAFETENSORS_F32, 2, { 53, 8 }, weight, sizeof weight },
		{ "output.bias", SAFETENSORS_F32, 1, { 53 }, weight, 53 * sizeof weight[0] },
	};
	struct file f;
	for (int i = 0; i < 4; i++) {
		open_file(&f);
		memcpy(&f.tensors[f.tensor_count], good, sizeof good);
		f.tensor_count += i == 1 ? 1 : 2;
		weight[52] = i == 2 ? NAN : 0;
		if (i == 3)
			tensor(&f, "output.bias")->rank = 2, tensor(&f, "output.bias")->shape[1] = 1;
		expect(&f, i == 0   ? NULL
			   : i == 1 ? "output.bias: no such tensor"
			   : i == 2 ? "output.weight: value 52 is not finite"
				    : "output.bias: shape [53, 1], expected [53]");
	}
}

/* Half-precision weights give what the same numbers give as float32. */
static void test_half_precision(void **unused)
{
	struct error err;
	struct backbone *b[2] = { NULL, NULL };
	float out[2][8];
	const size_t offsets[] = { 0, 3 };
	const uint32_t items[] = { 3, 9, 4 };
	for (int half = 0; half < 2; half++) {
		struct file f;
		open_file(&f);
		static uint16_t brain[MAX_ENTRIES][4096];
		static float single[MAX_ENTRIES][4096];
		for (size_t i = 0; i < f.tensor_count; i++) {
			struct safetensors_tensor *t = &f.tensors[i];
			size_t n = t->bytes / 4;
			for (size_t k = 0; k < n; k++) {
				uint32_t bits;
				memcpy(&bits, (const char *)t->data + 4 * k, 4);
				brain[i][k] = (uint16_t)(bits >> 16);
				bits &= 0xffff0000;
				memcpy(&single[i][k], &bits, 4);
			}
			t->data = half ? (const void *)brain[i] : single[i];
			t->type = half ? SAFETENSORS_BF16 : SAFETENSORS_F32;
			t->bytes = half ? 2 * n : 4 * n;
		}
		assert_int_equal(safetensors_write(path, f.tensors, f.tensor_count, f.metadata, f.metadata_count, &err),
				 STATUS_OK);
		safetensors_close(f.st);
		assert_int_equal(backbone_load(path, &b[half], &err), STATUS_OK);
		struct backbone_workspace *ws = fixture_workspace(b[half]);
		backbone_embed(b[half], ws, 1, offsets, items, NULL, out[half]);
		backbone_workspace_free(ws);
	}
	assert_memory_equal(out[0], out[1], sizeof out[0]);
	assert_string_not_equal(backbone_hash(b[0]), backbone_hash(b[1]));
	backbone_free(b[0]);
	backbone_free(b[1]);
}

static void test_what_it_says_of_itself(void **unused)
{
	struct file f;
	struct error err;
	struct backbone *b = NULL;
	open_file(&f);
	assert_int_equal(backbone_load(path, &b, &err), STATUS_OK);
	assert_string_equal(backbone_hash(b), safetensors_hash(f.st));
	assert_string_equal(backbone_arch(b), "nextitnet");
	assert_int_equal(backbone_dim(b), 8);
	assert_int_equal(backbone_window(b), 30);
	assert_int_equal(backbone_items(b), 53);
	assert_true(backbone_causal(b));
	assert_int_equal(backbone_item(b, hash_item("item 0", 6)), 3);
	assert_int_equal(backbone_item(b, hash_item("item 49", 7)), 52);
	assert_int_equal(backbone_item(b, hash_item("item 50", 7)), BACKBONE_OOV);
	backbone_free(b);
	set(&f, "causal", "false");
	assert_int_equal(safetensors_write(path, f.tensors, f.tensor_count, f.metadata, f.metadata_count, &err),
			 STATUS_OK);
	safetensors_close(f.st);
	assert_int_equal(backbone_load(path, &b, &err), STATUS_OK);
	assert_int_equal(backbone_window(b), 512);
	assert_int_equal(backbone_state_bytes(b), 0);
	assert_false(backbone_causal(b));
	backbone_free(b);
	assert_int_equal(backbone_load("/nonexistent", &b, &err), STATUS_NO_INPUT);
	backbone_free(NULL);
}

static int make_file(void **unused)
{
	int fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **unused)
{
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_metadata),
		cmocka_unit_test(test_dilations),
		cmocka_unit_test(test_vocabulary_size),
		cmocka_unit_test(test_tensors),
		cmocka_unit_test(test_output_layer),
		cmocka_unit_test(test_half_precision),
		cmocka_unit_test(test_what_it_says_of_itself),
	};
	return cmocka_run_group_tests(tests, make_file, remove_file);
}
