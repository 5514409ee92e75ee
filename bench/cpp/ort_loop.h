// SPDX-License-Identifier: Apache-2.0
// The floor: one model on ONNX Runtime's C interface, inputs and outputs bound once, called in a
// loop. Nothing here is zerolane's: what this loop costs is what any caller of the library must
// pay.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FLOOR_API __attribute__((visibility("default")))

typedef struct FloorModel FloorModel;

// Functions that return int return 0 for success; otherwise floor_error() has the reason (per
// thread).
FLOOR_API const char* floor_error(void);

// Opens the library at `library` (shared with whoever opened the same path) and loads `model` from
// disk. One intra-op thread means no pool at all. NULL on failure.
FLOOR_API FloorModel* floor_load(const char* library, const char* model, int threads);

// The caller keeps `data` alive and in place until floor_free. `type` is ONNX's element type
// number.
FLOOR_API int floor_bind_input(FloorModel* m, const char* name, void* data, size_t bytes,
                               const int64_t* shape, size_t rank, int type);
FLOOR_API int floor_bind_output(FloorModel* m, const char* name, void* data, size_t bytes,
                                const int64_t* shape, size_t rank, int type);

// `calls` calls, untimed.
FLOOR_API int floor_run(FloorModel* m, int64_t calls);
// `batches` times the nanoseconds of `calls` calls together, into `ns` (one clock pair a batch).
FLOOR_API int floor_time(FloorModel* m, int64_t batches, int64_t calls, int64_t* ns);

// `ticks` due times, `period_ns` apart on the monotonic clock, slept for without slack. A tick is
// made if its time has not passed by a period when the thread wakes, and times that pass while one
// runs are left out. Of tick i goes into `late_ns` how late its call began, -1 where it was left
// out, and into `call_ns` what the call took.
FLOOR_API int floor_rate(FloorModel* m, int64_t period_ns, int64_t ticks, int64_t* late_ns,
                         int64_t* call_ns);

// Does nothing, at a place that callgrind can see (--dump-before=floor_marked, which it calls).
FLOOR_API void floor_mark(void);

FLOOR_API const char* floor_version(const FloorModel* m);
FLOOR_API void floor_free(FloorModel* m);
