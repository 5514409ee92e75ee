// SPDX-License-Identifier: Apache-2.0
// Preloaded (LD_PRELOAD) to count the memory that one module takes: calls of the malloc family that
// return into a range of addresses. Forwards to glibc's own entry points.
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);

static atomic_ulong from, to;
static atomic_long taken;

void watch_range(unsigned long begin, unsigned long end) {
  atomic_store(&from, begin);
  atomic_store(&to, end);
}
long own_allocations(void) { return atomic_load(&taken); }

static void count(const void* caller) {
  unsigned long address = (unsigned long)caller;
  if (address >= atomic_load(&from) && address < atomic_load(&to)) atomic_fetch_add(&taken, 1);
}

void* malloc(size_t bytes) {
  count(__builtin_return_address(0));
  return __libc_malloc(bytes);
}
void* calloc(size_t number, size_t bytes) {
  count(__builtin_return_address(0));
  return __libc_calloc(number, bytes);
}
void* realloc(void* block, size_t bytes) {
  count(__builtin_return_address(0));
  return __libc_realloc(block, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  count(__builtin_return_address(0));
  return __libc_memalign(alignment, bytes);
}
