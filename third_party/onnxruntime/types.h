// SPDX-License-Identifier: Apache-2.0
// Our declarations of the ONNX Runtime C types that functions.inc mentions. See README.md beside this file.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct OrtAllocator;
struct OrtCustomOpDomain;
struct OrtCUDAProviderOptionsV2;
struct OrtEnv;
struct OrtEpDevice;
struct OrtIoBinding;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtMapTypeInfo;
struct OrtMemoryInfo;
struct OrtModelMetadata;
struct OrtOpAttr;
struct OrtOptionalTypeInfo;
struct OrtRunOptions;
struct OrtSequenceTypeInfo;
struct OrtSession;
struct OrtSessionOptions;
struct OrtStatus;
struct OrtTensorRTProviderOptionsV2;
struct OrtTensorTypeAndShapeInfo;
struct OrtThreadingOptions;
struct OrtTypeInfo;
struct OrtValue;

// Enumerations are 32-bit integers in the interface; values we use are named, others pass through.
using OrtErrorCode = int32_t;
using OrtLoggingLevel = int32_t;
using ExecutionMode = int32_t;
using GraphOptimizationLevel = int32_t;
using ONNXTensorElementDataType = int32_t;
using ONNXType = int32_t;
using OrtAllocatorType = int32_t;
using OrtMemType = int32_t;
using OrtOpAttrType = int32_t;

enum : OrtErrorCode {
  kOrtFail = 1,
  kOrtInvalidArgument = 2,
  kOrtNoSuchFile = 3,
  kOrtNoModel = 4,
  kOrtEngineError = 5,
  kOrtRuntimeException = 6,
  kOrtInvalidProtobuf = 7,
  kOrtNotImplemented = 9,
  kOrtInvalidGraph = 10,
  kOrtEpFail = 11,
  kOrtNotFound = 14,
};
enum : ONNXType {
  kOnnxTensor = 1,
  kOnnxSequence = 2,
  kOnnxMap = 3,
  kOnnxOpaque = 4,
  kOnnxSparseTensor = 5,
  kOnnxOptional = 6,
};
enum : OrtAllocatorType { kOrtDeviceAllocator = 0, kOrtArenaAllocator = 1 };
enum : OrtMemType { kOrtMemTypeDefault = 0 };
enum : OrtOpAttrType {
  kOrtAttrInt = 1,
  kOrtAttrInts = 2,
  kOrtAttrFloat = 3,
  kOrtAttrFloats = 4,
  kOrtAttrString = 5,
};

using OrtLoggingFunction = void (*)(void* param, OrtLoggingLevel severity, const char* category,
                                    const char* log_id, const char* code_location,
                                    const char* message);

struct OrtApiBase {
  const void* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

struct OrtShapeInferContext;

// The record that describes one custom op, laid out as of interface version 18. The library reads fields up to what
// `version` promises and calls them without asking whether they are null.
struct OrtCustomOp {
  uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const void* api, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetInputType)(const OrtCustomOp*, size_t);
  size_t (*GetInputTypeCount)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetOutputType)(const OrtCustomOp*, size_t);
  size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void* kernel, OrtKernelContext*);
  void (*KernelDestroy)(void* kernel);
  int32_t (*GetInputCharacteristic)(const OrtCustomOp*, size_t);
  int32_t (*GetOutputCharacteristic)(const OrtCustomOp*, size_t);
  OrtMemType (*GetInputMemoryType)(const OrtCustomOp*, size_t);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const void* api, const OrtKernelInfo*, void**);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
  size_t (*GetMayInplace)(int** inputs, int** outputs);
  void (*ReleaseMayInplace)(int* inputs, int* outputs);
  size_t (*GetAliasMap)(int** inputs, int** outputs);
  void (*ReleaseAliasMap)(int* inputs, int* outputs);
};
static_assert(sizeof(OrtCustomOp) == 208, "26 fields of 8 bytes");

}  // extern "C"
