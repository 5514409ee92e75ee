// SPDX-License-Identifier: Apache-2.0
// The floor of an op in ONNX Runtime: y = 2 * x written by hand against the C interface, with the
// fewest calls that do it. Loaded by onnxruntime's own register_custom_ops_library.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// Places of the functions in the table of interface version 24 and later.
enum {
  kCreateCustomOpDomain = 26,
  kCustomOpDomainAdd = 27,
  kAddCustomOpDomain = 28,
  kGetTensorMutableData = 51,
  kGetInput = 90,
  kGetOutput = 91,
  kShapeReference = 414,
};

typedef void* Status;
typedef struct {
  const void* (*get_api)(uint32_t version);
} Base;

// The record of a custom op as of interface version 16, up to KernelComputeV2.
typedef struct HandOp {
  uint32_t version;
  void* (*create)(const struct HandOp*, const void*, const void*);
  const char* (*name)(const struct HandOp*);
  const char* (*provider)(const struct HandOp*);
  int32_t (*input_type)(const struct HandOp*, size_t);
  size_t (*inputs)(const struct HandOp*);
  int32_t (*output_type)(const struct HandOp*, size_t);
  size_t (*outputs)(const struct HandOp*);
  void (*compute)(void*, void*);
  void (*destroy)(void*);
  int32_t (*input_kind)(const struct HandOp*, size_t);
  int32_t (*output_kind)(const struct HandOp*, size_t);
  int32_t (*input_memory)(const struct HandOp*, size_t);
  int (*min_arity)(const struct HandOp*);
  int (*homogeneous)(const struct HandOp*);
  int (*output_min_arity)(const struct HandOp*);
  int (*output_homogeneous)(const struct HandOp*);
  Status (*create_v2)(const struct HandOp*, const void*, const void*, void**);
  Status (*compute_v2)(void*, void*);
  void* later[8];
} HandOp;

static void* const* g_api;

static const char* name(const HandOp* op) {
  (void)op;
  return "HandScale";
}
static const char* provider(const HandOp* op) {
  (void)op;
  return NULL;
}
static int32_t type(const HandOp* op, size_t index) {
  (void)op;
  (void)index;
  return 1;  // float32
}
static size_t one(const HandOp* op) {
  (void)op;
  return 1;
}
static int32_t zero(const HandOp* op, size_t index) {
  (void)op;
  (void)index;
  return 0;
}
static int one_int(const HandOp* op) {
  (void)op;
  return 1;
}
static Status create(const HandOp* op, const void* api, const void* info, void** kernel) {
  (void)op;
  (void)api;
  (void)info;
  *kernel = malloc(1);
  return NULL;
}

static Status compute(void* kernel, void* context) {
  (void)kernel;
  const void* input = NULL;
  void *output = NULL, *from = NULL, *to = NULL;
  int32_t element = 0;
  const int64_t* dims = NULL;
  size_t rank = 0;
  Status status = ((Status(*)(const void*, size_t, const void**))g_api[kGetInput])(context, 0, &input);
  if (status == NULL)
    status = ((Status(*)(const void*, int32_t*, const int64_t**, size_t*))g_api[kShapeReference])(
        input, &element, &dims, &rank);
  if (status == NULL)
    status = ((Status(*)(void*, size_t, const int64_t*, size_t, void**))g_api[kGetOutput])(
        context, 0, dims, rank, &output);
  if (status == NULL)
    status = ((Status(*)(const void*, void**))g_api[kGetTensorMutableData])(input, &from);
  if (status == NULL)
    status = ((Status(*)(const void*, void**))g_api[kGetTensorMutableData])(output, &to);
  if (status != NULL) return status;
  int64_t count = 1;
  for (size_t i = 0; i < rank; ++i) count *= dims[i];
  for (int64_t i = 0; i < count; ++i) ((float*)to)[i] = 2 * ((const float*)from)[i];
  return NULL;
}

__attribute__((visibility("default"))) Status RegisterCustomOps(void* options, const Base* base) {
  static HandOp op;
  static void* domain;
  g_api = base->get_api(24);
  if (g_api == NULL) abort();
  op.version = 16;
  op.name = name;
  op.provider = provider;
  op.input_type = op.output_type = type;
  op.inputs = op.outputs = one;
  op.destroy = free;
  op.input_kind = op.output_kind = op.input_memory = zero;
  op.min_arity = op.homogeneous = op.output_min_arity = op.output_homogeneous = one_int;
  op.create_v2 = create;
  op.compute_v2 = compute;
  Status status =
      ((Status(*)(const char*, void**))g_api[kCreateCustomOpDomain])("hand", &domain);
  if (status == NULL)
    status = ((Status(*)(void*, const void*))g_api[kCustomOpDomainAdd])(domain, &op);
  if (status == NULL)
    status = ((Status(*)(void*, void*))g_api[kAddCustomOpDomain])(options, domain);
  return status;
}

// The same loop with nothing around it, for calls from Python: ns a call.
__attribute__((visibility("default"))) void bare(const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = 2 * x[i];
}
__attribute__((visibility("default"))) void bare_many(const float* x, float* y, int64_t count,
                                                      int64_t times) {
  void (*volatile call)(const float*, float*, int64_t) = bare;
  for (int64_t i = 0; i < times; ++i) call(x, y, count);
}
