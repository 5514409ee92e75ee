// SPDX-License-Identifier: Apache-2.0
#define _POSIX_C_SOURCE 200809L
#include "ort_loop.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

// Positions in the function table that GetApi returns. Releases only append, so version 18 serves
// all later ones.
enum {
  kApiVersion = 18,
  kGetErrorMessage = 2,
  kCreateEnv = 3,
  kCreateSession = 7,
  kCreateSessionOptions = 10,
  kSetExecutionMode = 13,
  kSetGraphLevel = 23,
  kSetIntraOpThreads = 24,
  kSetInterOpThreads = 25,
  kCreateTensor = 49,
  kCreateCpuMemoryInfo = 69,
  kReleaseStatus = 93,
  kReleaseMemoryInfo = 94,
  kReleaseSession = 95,
  kReleaseValue = 96,
  kReleaseSessionOptions = 100,
  kRunWithBinding = 133,
  kCreateIoBinding = 134,
  kReleaseIoBinding = 135,
  kBindInput = 136,
  kBindOutput = 137,
};
enum { kSequential = 0, kOptimizeAll = 99, kLogError = 3, kDeviceAllocator = 0, kMemDefault = 0 };
enum { kMaxValues = 64 };

// Every vendor object is opaque here; a status is NULL for success.
typedef void* Status;
typedef void (*Function)(void);
typedef struct {
  const Function* (*get_api)(uint32_t version);
  const char* (*get_version)(void);
} ApiBase;

struct FloorModel {
  const Function* api;
  const char* version;
  void *options, *session, *memory, *binding;
  void* values[kMaxValues];
  size_t value_count;
};

static _Thread_local char error_text[512];
static void* environment;  // one for the process, kept: loading a model must not pay for it again

const char* floor_error(void) { return error_text; }
const char* floor_version(const FloorModel* m) { return m->version; }

static int fail(const char* doing, const char* found) {
  snprintf(error_text, sizeof error_text, "%s: %s", doing, found);
  return 1;
}

static int check(const FloorModel* m, const char* doing, Status status) {
  if (status == NULL) return 0;
  fail(doing, ((const char* (*)(Status))m->api[kGetErrorMessage])(status));
  ((void (*)(Status))m->api[kReleaseStatus])(status);
  return 1;
}

static void release(const FloorModel* m, int slot, void* object) {
  if (object != NULL) ((void (*)(void*))m->api[slot])(object);
}

void floor_free(FloorModel* m) {
  if (m == NULL) return;
  if (m->api != NULL) {
    release(m, kReleaseIoBinding, m->binding);
    for (size_t i = 0; i < m->value_count; ++i) release(m, kReleaseValue, m->values[i]);
    release(m, kReleaseSession, m->session);
    release(m, kReleaseMemoryInfo, m->memory);
    release(m, kReleaseSessionOptions, m->options);
  }
  free(m);
}

static int open_library(FloorModel* m, const char* library) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);  // never closed: others may share it
  if (handle == NULL) return fail("opening the library", dlerror());
  void* symbol = dlsym(handle, "OrtGetApiBase");
  if (symbol == NULL) return fail("looking up OrtGetApiBase", library);
  const ApiBase* base = ((const ApiBase* (*)(void))symbol)();
  m->version = base->get_version();
  m->api = base->get_api(kApiVersion);
  return m->api != NULL ? 0 : fail("asking for interface version 18", m->version);
}

static int make_session(FloorModel* m, const char* model, int threads) {
  const Function* api = m->api;
  if (environment == NULL && check(m, "CreateEnv",
                                   ((Status (*)(int, const char*, void**))api[kCreateEnv])(
                                       kLogError, "floor", &environment)) != 0) {
    return 1;
  }
  return check(m, "CreateSessionOptions",
               ((Status (*)(void**))api[kCreateSessionOptions])(&m->options)) ||
         check(m, "SetSessionExecutionMode",
               ((Status (*)(void*, int))api[kSetExecutionMode])(m->options, kSequential)) ||
         check(m, "SetSessionGraphOptimizationLevel",
               ((Status (*)(void*, int))api[kSetGraphLevel])(m->options, kOptimizeAll)) ||
         check(m, "SetIntraOpNumThreads",
               ((Status (*)(void*, int))api[kSetIntraOpThreads])(m->options, threads)) ||
         check(m, "SetInterOpNumThreads",
               ((Status (*)(void*, int))api[kSetInterOpThreads])(m->options, 1)) ||
         check(m, "CreateSession",
               ((Status (*)(void*, const char*, void*, void**))api[kCreateSession])(
                   environment, model, m->options, &m->session)) ||
         check(m, "CreateCpuMemoryInfo",
               ((Status (*)(int, int, void**))api[kCreateCpuMemoryInfo])(
                   kDeviceAllocator, kMemDefault, &m->memory)) ||
         check(m, "CreateIoBinding",
               ((Status (*)(void*, void**))api[kCreateIoBinding])(m->session, &m->binding));
}

FloorModel* floor_load(const char* library, const char* model, int threads) {
  FloorModel* m = calloc(1, sizeof *m);
  if (m == NULL) {
    fail("allocating the model record", "no memory");
    return NULL;
  }
  if (open_library(m, library) != 0 || make_session(m, model, threads) != 0) {
    floor_free(m);
    return NULL;
  }
  return m;
}

static int bind(FloorModel* m, int slot, const char* name, void* data, size_t bytes,
                const int64_t* shape, size_t rank, int type) {
  if (m->value_count == kMaxValues) return fail("binding", "more than 64 inputs and outputs");
  void* value = NULL;
  if (check(m, "CreateTensorWithDataAsOrtValue",
            ((Status (*)(void*, void*, size_t, const int64_t*, size_t, int, void**))
                 m->api[kCreateTensor])(m->memory, data, bytes, shape, rank, type, &value)) != 0) {
    return 1;
  }
  m->values[m->value_count++] = value;
  return check(m, name,
               ((Status (*)(void*, const char*, void*))m->api[slot])(m->binding, name, value));
}

int floor_bind_input(FloorModel* m, const char* name, void* data, size_t bytes,
                     const int64_t* shape, size_t rank, int type) {
  return bind(m, kBindInput, name, data, bytes, shape, rank, type);
}

int floor_bind_output(FloorModel* m, const char* name, void* data, size_t bytes,
                      const int64_t* shape, size_t rank, int type) {
  return bind(m, kBindOutput, name, data, bytes, shape, rank, type);
}

typedef Status (*RunWithBinding)(void* session, const void* run_options, const void* binding);

int floor_run(FloorModel* m, int64_t calls) {
  const RunWithBinding run = (RunWithBinding)m->api[kRunWithBinding];
  for (int64_t i = 0; i < calls; ++i) {
    Status status = run(m->session, NULL, m->binding);
    if (status != NULL) return check(m, "RunWithBinding", status);
  }
  return 0;
}

// Two steps, because callgrind does not see the call that libffi makes for ctypes.
__attribute__((noinline, visibility("hidden"))) void floor_marked(void) {
  __asm__ volatile("" ::: "memory");
}

void floor_mark(void) {
  floor_marked();
  __asm__ volatile("" ::: "memory");  // not a tail call
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int floor_time(FloorModel* m, int64_t batches, int64_t calls, int64_t* ns) {
  for (int64_t i = 0; i < batches; ++i) {
    const int64_t start = now_ns();
    if (floor_run(m, calls) != 0) return 1;
    ns[i] = now_ns() - start;
  }
  return 0;
}

int floor_rate(FloorModel* m, int64_t period_ns, int64_t ticks, int64_t* late_ns,
               int64_t* call_ns) {
  prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  const int64_t begin = now_ns();
  int64_t ended = begin;  // when the last call was done
  for (int64_t i = 0; i < ticks; ++i) {
    late_ns[i] = -1;
    const int64_t due = begin + (i + 1) * period_ns;
    if (due <= ended) continue;
    const struct timespec time = {due / 1000000000, due % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
    const int64_t start = now_ns();
    if (start - due >= period_ns) continue;
    if (floor_run(m, 1) != 0) return 1;
    ended = now_ns();
    late_ns[i] = start - due;
    call_ns[i] = ended - start;
  }
  return 0;
}
