// SPDX-License-Identifier: Apache-2.0
/* The binary contract between a library of ops and zerolane, as C. Authors of ops include
 * zerolane/op.h instead, which fills these tables in. README.md beside this file documents the
 * contract; tests/cpp/test_op_abi.cpp asserts the layout.
 *
 * Rules. Records only grow at their end, and numbers keep their meaning, for as long as ZL_OP_ABI
 * is the same. A record that carries `size` (its bytes, as the side that made it was compiled) is
 * read no further than that. Everything is plain C: no exception crosses, each side frees what it
 * allocated. Text is UTF-8 and ends with a zero byte. */
#ifndef ZEROLANE_OP_ABI_H
#define ZEROLANE_OP_ABI_H

#include <stdint.h>

#include "dlpack/dlpack.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ZL_OP_ABI 1

/* What went wrong, handed to the `fail` functions. */
enum {
  kZlInvalidArgument = 0,
  kZlShapeMismatch = 1,
  kZlUnsupported = 2,
  kZlOutOfMemory = 5,
  kZlDevice = 10,
  kZlInternal = 11,
};

/* Attributes. Floats are ONNX's float32 in a model and double here. */
enum {
  kZlInt = 1,
  kZlFloat = 2,
  kZlString = 3,
  kZlInts = 4,
  kZlFloats = 5,
};

typedef struct ZlValue {
  int32_t type;
  int32_t reserved;
  int64_t integer;         /* kZlInt */
  double real;             /* kZlFloat */
  const char* text;        /* kZlString */
  const int64_t* integers; /* kZlInts: count of them */
  const double* reals;     /* kZlFloats: count of them */
  uint64_t count;
} ZlValue;

typedef struct ZlAttribute {
  const char* name;
  const char* doc;
  int32_t type;
  int32_t required; /* 1: there is no fallback */
  ZlValue fallback;
  double least; /* of a number, of each number in a list; inclusive */
  double greatest;
  uint64_t least_count; /* of a list */
  uint64_t greatest_count;
  const char* const* choices; /* of a string; null: any */
  uint64_t choice_count;
} ZlAttribute;

/* A set of element types that arguments name. Arguments of one type have one element type in a
 * call; a type with several must be that of a required input. */
typedef struct ZlType {
  const char* name;
  const DLDataType* dtypes;
  uint64_t dtype_count;
} ZlType;

enum {
  kZlRequired = 0,
  kZlOptional = 1, /* may be left out; an output may be unwanted */
  kZlVariadic = 2, /* the last input alone: one or more tensors */
};

typedef struct ZlArgument {
  const char* name;
  const char* doc;
  int32_t kind;
  int32_t type; /* index into the op's types */
} ZlArgument;

/* Shapes are computed on extents that may be numbers, unknown, or expressions of TensorRT; only
 * the host knows what a ZlDim is. Inputs are counted as the node has them, variadic ones one by
 * one. */
typedef uint64_t ZlDim;

enum {
  kZlAdd = 0,
  kZlMultiply = 1,
  kZlMax = 2,
  kZlMin = 3,
  kZlSubtract = 4,
  kZlFloorDivide = 7,
  kZlCeilDivide = 8,
};

typedef struct ZlShapes ZlShapes;
typedef struct ZlShapeCalls {
  uint64_t size;
  uint32_t (*input_count)(ZlShapes*);
  int32_t (*rank)(ZlShapes*, uint32_t input); /* -1: left out */
  ZlDim (*dim)(ZlShapes*, uint32_t input, int32_t axis);
  ZlDim (*number)(ZlShapes*, int64_t value);
  ZlDim (*combine)(ZlShapes*, int32_t operation, ZlDim a, ZlDim b);
  int32_t (*known)(ZlShapes*, ZlDim, int64_t* value); /* 1: *value is set */
  /* An extent that the data decides: at most `most`, usually about `usual`. */
  ZlDim (*counted)(ZlShapes*, ZlDim usual, ZlDim most);
  void (*output)(ZlShapes*, uint32_t output, int32_t rank, const ZlDim* dims);
  void (*fail)(ZlShapes*, int32_t code, const char* message);
} ZlShapeCalls;
struct ZlShapes {
  const ZlShapeCalls* calls;
};

/* One execution. Tensors are dense and row-major, on the host for run_cpu and on one GPU for
 * run_cuda, aligned to their element. Inputs are not written to. */
typedef struct ZlCall ZlCall;
struct ZlCall {
  uint64_t size;
  uint32_t input_count;
  uint32_t output_count;
  const DLTensor* const* inputs; /* null: left out */
  DLTensor* const* outputs;      /* null: unwanted. Counted extents: see allocate and counts */
  void* scratch;                 /* what the op's `scratch` asked for, aligned to 64 (host), 256 */
  void* stream;                  /* run_cuda: a cudaStream_t */
  const void* const*
      constants; /* what the op's `constants` named; copies on the GPU for run_cuda */
  /* run_cpu, for an output with a counted extent: gives its memory, null after a failure. */
  void* (*allocate)(const ZlCall*, uint32_t output, const int64_t* dims);
  /* run_cuda: on the GPU, one number for each counted extent, in the order in which the shape
   * function made them; outputs have memory for the most. */
  int64_t* const* counts;
  void (*fail)(const ZlCall*, int32_t code, const char* message);
};

typedef struct ZlConstant {
  const void* data; /* host memory of the state */
  uint64_t bytes;
} ZlConstant;

typedef struct ZlFailure ZlFailure;
struct ZlFailure {
  void (*fail)(ZlFailure*, int32_t code, const char* message);
};

/* One op. Functions that return int32_t: 0 for success, else `fail` was called. A state is made
 * from the attributes alone, once, and never changes: any number of threads use it at once. */
typedef struct ZlOp ZlOp;
struct ZlOp {
  uint64_t size;
  const char* domain; /* "" is not allowed: that is ONNX's own */
  const char* name;
  const char* doc;
  int32_t version;  /* of the op's definition, from 1 */
  int32_t reserved; /* 0 */
  const ZlType* types;
  uint64_t type_count;
  const ZlAttribute* attributes;
  uint64_t attribute_count;
  const ZlArgument* inputs;
  uint64_t input_count;
  const ZlArgument* outputs;
  uint64_t output_count;
  const void* user; /* the library's own */
  /* `values`: one for each attribute, in order, within its bounds; borrowed for the call. */
  void* (*create)(const ZlOp*, const ZlValue* values, ZlFailure*);
  void (*destroy)(const ZlOp*, void* state);
  int32_t (*shape)(const ZlOp*, const void* state, ZlShapes*);
  /* Bytes; reads shapes alone. With counted extents: those of outputs are the most. Null: none. */
  uint64_t (*scratch)(const ZlOp*, const void* state, const ZlCall*, int32_t on_gpu);
  uint64_t (*constants)(const ZlOp*, const void* state, const ZlConstant** list); /* null: none */
  int32_t (*run_cpu)(const ZlOp*, const void* state, const ZlCall*);  /* null: no such body */
  int32_t (*run_cuda)(const ZlOp*, const void* state, const ZlCall*); /* null: no such body */
};

typedef struct ZlOpLibrary {
  uint64_t size;
  uint32_t abi; /* ZL_OP_ABI */
  uint32_t reserved;
  const char* name;
  const char* version;
  const ZlOp* const* ops;
  uint64_t op_count;
} ZlOpLibrary;

/* The one symbol that a library of ops exports. Returns null if it cannot serve a host that knows
 * `host_abi` at most. What it returns lives as long as the process. */
#define ZL_OP_LIBRARY_SYMBOL "zerolane_op_library"
typedef const ZlOpLibrary* (*ZlOpLibraryFunction)(uint32_t host_abi);

#ifdef __cplusplus
}
#endif

#endif
