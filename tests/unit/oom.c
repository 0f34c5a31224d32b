#include "oom.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

static atomic_size_t count;
static atomic_size_t first; /* the allocation that fails, 0: none */
static atomic_size_t last;

void oom_fail_at(size_t n)
{
	atomic_store(&count, 0);
	atomic_store(&last, n);
	atomic_store(&first, n);
}

void oom_fail_from(size_t n)
{
	atomic_store(&count, 0);
	atomic_store(&last, (size_t)-1);
	atomic_store(&first, n);
}

void oom_reset(void)
{
	atomic_store(&first, 0);
	atomic_store(&count, 0);
}

size_t oom_count(void)
{
	return atomic_load(&count);
}

bool oom_failed(void)
{
	size_t n = atomic_load(&first);
	return n != 0 && atomic_load(&count) >= n;
}

static bool fails(void)
{
	size_t now = atomic_fetch_add(&count, 1) + 1;
	size_t n = atomic_load(&first);
	if (n == 0 || now < n || now > atomic_load(&last))
		return false;
	errno = ENOMEM;
	return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t members, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_reallocarray(void *memory, size_t members, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t length);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t members, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_reallocarray(void *memory, size_t members, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t length);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t members, size_t size)
{
	return fails() ? NULL : __real_calloc(members, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
	return fails() ? NULL : __real_realloc(memory, size);
}

void *__wrap_reallocarray(void *memory, size_t members, size_t size)
{
	return fails() ? NULL : __real_reallocarray(memory, members, size);
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t length)
{
	return fails() ? NULL : __real_strndup(text, length);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return fails() ? NULL : __real_aligned_alloc(alignment, size);
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t size)
{
	return fails() ? ENOMEM : __real_posix_memalign(memory, alignment, size);
}
