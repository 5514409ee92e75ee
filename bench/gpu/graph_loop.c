// SPDX-License-Identifier: Apache-2.0
// The floor of a call on a GPU: launch a captured graph (or enqueue copies) and wait, in C, through the
// function pointers of zerolane's CUDA table.
#include <stdint.h>
#include <stddef.h>
#include <time.h>

typedef int32_t (*launch_function)(int32_t device, void* graph, void* stream);
typedef int32_t (*wait_function)(int32_t device, void* stream);
typedef int32_t (*copy_function)(int32_t device, void* to, const void* from, uint64_t bytes,
                                 int32_t kind, void* stream);

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// Nanoseconds of each of `batches` batches of `calls` calls; the first failing status, or 0.
__attribute__((visibility("default"))) int32_t time_graph(launch_function launch, wait_function wait,
                                                          void* graph, void* stream,
                                                          int64_t batches, int64_t calls,
                                                          int64_t* ns) {
  for (int64_t b = 0; b < batches; ++b) {
    int64_t start = now_ns();
    for (int64_t c = 0; c < calls; ++c) {
      int32_t status = launch(0, graph, stream);
      if (status == 0) status = wait(0, stream);
      if (status != 0) return status;
    }
    ns[b] = now_ns() - start;
  }
  return 0;
}

__attribute__((visibility("default"))) int32_t time_copy(copy_function copy, wait_function wait,
                                                         void* to, const void* from, uint64_t bytes,
                                                         int32_t kind, void* stream,
                                                         int64_t batches, int64_t calls,
                                                         int64_t* ns) {
  for (int64_t b = 0; b < batches; ++b) {
    int64_t start = now_ns();
    for (int64_t c = 0; c < calls; ++c) {
      int32_t status = copy(0, to, from, bytes, kind, stream);
      if (status == 0) status = wait(0, stream);
      if (status != 0) return status;
    }
    ns[b] = now_ns() - start;
  }
  return 0;
}
