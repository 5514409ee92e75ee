// SPDX-License-Identifier: Apache-2.0
// Preloaded (LD_PRELOAD) to count calls of the malloc family by everything in the process: Python,
// zerolane, ONNX Runtime. Counts calls that take memory and calls that give it back; forwards to
// glibc's own entry points.
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);
extern void __libc_free(void*);

static atomic_long taken, given;

long allocations_taken(void) { return atomic_load_explicit(&taken, memory_order_relaxed); }
long allocations_given(void) { return atomic_load_explicit(&given, memory_order_relaxed); }

static void count_taken(void) { atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed); }

void* malloc(size_t bytes) {
  count_taken();
  return __libc_malloc(bytes);
}

void* calloc(size_t count, size_t bytes) {
  count_taken();
  return __libc_calloc(count, bytes);
}

void* realloc(void* block, size_t bytes) {
  count_taken();
  return __libc_realloc(block, bytes);
}

void* memalign(size_t alignment, size_t bytes) {
  count_taken();
  return __libc_memalign(alignment, bytes);
}

void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void** out, size_t alignment, size_t bytes) {
  if (alignment % sizeof(void*) != 0 || (alignment & (alignment - 1)) != 0) return EINVAL;
  void* block = memalign(alignment, bytes);
  if (block == NULL) return ENOMEM;
  *out = block;
  return 0;
}

void free(void* block) {
  if (block != NULL) atomic_fetch_add_explicit(&given, 1, memory_order_relaxed);
  __libc_free(block);
}
