// SPDX-License-Identifier: Apache-2.0
// The floor as a program, for tools that count instructions, and for a look without Python:
//   ort_loop LIBRARY MODEL THREADS CALLS in:NAME:TYPE:ITEMSIZE:1,4 ... out:NAME:TYPE:ITEMSIZE:1,4
//   ...
// Runs CALLS calls on zeros; `time` as a last word runs them one by one and prints median and p99
// in ns.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ort_loop.h"

enum { kMaxRank = 8 };

static int bind_argument(FloorModel* m, const char* argument) {
  char side[4], name[128], dims[128] = "";
  int type = 0, itemsize = 0;
  if (sscanf(argument, "%3[^:]:%127[^:]:%d:%d:%127s", side, name, &type, &itemsize, dims) < 4) {
    fprintf(stderr, "ort_loop: cannot read '%s'; wanted in|out:NAME:TYPE:ITEMSIZE:D0,D1\n",
            argument);
    return 1;
  }
  int64_t shape[kMaxRank];
  size_t rank = 0, bytes = (size_t)itemsize;
  for (char* d = strtok(dims, ","); d != NULL && rank < kMaxRank; d = strtok(NULL, ",")) {
    shape[rank] = strtoll(d, NULL, 10);
    bytes *= (size_t)shape[rank++];
  }
  const size_t room = (bytes / 64 + 1) * 64;  // kept until the process ends
  void* data = aligned_alloc(64, room);
  if (data == NULL) return 1;
  memset(data, 0, room);
  return strcmp(side, "in") == 0 ? floor_bind_input(m, name, data, bytes, shape, rank, type)
                                 : floor_bind_output(m, name, data, bytes, shape, rank, type);
}

static int ascending(const void* a, const void* b) {
  const int64_t x = *(const int64_t*)a, y = *(const int64_t*)b;
  return (x > y) - (x < y);
}

static int print_times(FloorModel* m, int64_t calls) {
  int64_t* ns = malloc(sizeof *ns * (size_t)calls);
  if (ns == NULL || floor_time(m, calls, 1, ns) != 0) return 1;
  qsort(ns, (size_t)calls, sizeof *ns, ascending);
  printf("median %lld ns  p99 %lld ns  calls %lld  onnxruntime %s\n", (long long)ns[calls / 2],
         (long long)ns[calls * 99 / 100], (long long)calls, floor_version(m));
  free(ns);
  return 0;
}

static int run_marked(FloorModel* m, int64_t calls) {
  floor_mark();
  int failed = floor_run(m, calls);
  floor_mark();
  failed = failed || floor_run(m, 2 * calls);
  floor_mark();
  return failed;
}

int main(int argc, char** argv) {
  if (argc < 6) {
    fprintf(stderr,
            "usage: ort_loop LIBRARY MODEL THREADS CALLS in:NAME:TYPE:ITEMSIZE:DIMS ... "
            "out:NAME:TYPE:ITEMSIZE:DIMS ... [time]\n");
    return 2;
  }
  const int timed = strcmp(argv[argc - 1], "time") == 0;
  const int64_t calls = strtoll(argv[4], NULL, 10);
  FloorModel* m = floor_load(argv[1], argv[2], atoi(argv[3]));
  int failed = m == NULL || calls < 1;
  for (int i = 5; i < argc - timed && !failed; ++i) failed = bind_argument(m, argv[i]);
  if (!failed) failed = floor_run(m, 100);
  if (!failed) failed = timed ? print_times(m, calls) : run_marked(m, calls);
  if (failed) fprintf(stderr, "ort_loop: %s\n", floor_error());
  floor_free(m);
  return failed;
}
