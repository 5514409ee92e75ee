// SPDX-License-Identifier: Apache-2.0
// Our declarations of the TensorRT types that calls.inc and interfaces.h mention. Names are the
// vendor's without the leading I; enumerators in our spelling (kHALF is kHalf). See README.md
// beside this file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

struct CUevent_st;
struct CUstream_st;

namespace zerolane::trt {

using StreamHandle = CUstream_st*;  // cudaStream_t
using EventHandle = CUevent_st*;    // cudaEvent_t

// Objects of the library. An object is called through calls.h alone.
struct Builder;
struct BuilderConfig;
struct CudaEngine;
struct DimensionExpr;
struct EngineInspector;
struct ExecutionContext;
struct ExprBuilder;
struct HostMemory;
struct Layer;
struct NetworkDefinition;
struct OptimizationProfile;
struct Parser;
struct ParserError;
struct ParserRefitter;
struct PluginRegistry;
struct PluginV3Layer;  // its address is also that of its Layer
struct Refitter;
struct Runtime;
struct RuntimeCache;
struct RuntimeConfig;
struct SerializationConfig;
struct Tensor;
struct TimingCache;
struct WeightsManager;

// Numbers that all families share. Enumerations are 32-bit; values of later releases pass through.
// clang-format off
enum class APILanguage : int32_t { kCpp = 0, kPython = 1 };
enum class ActivationType : int32_t {
  kRelu = 0, kSigmoid = 1, kTanh = 2, kLeakyRelu = 3, kElu = 4, kSelu = 5, kSoftsign = 6, kSoftplus = 7, kClip = 8,
  kHardSigmoid = 9, kScaledTanh = 10, kThresholdedRelu = 11, kGeluErf = 12, kGeluTanh = 13 };
enum class AllocatorFlag : int32_t { kResizable = 0 };
enum class ComputeCapability : int32_t {
  kNone = 0, kCurrent = 1, kSm75 = 75, kSm80 = 80, kSm86 = 86, kSm89 = 89, kSm120 = 120, kSm121 = 121 };
enum class CudaGraphStrategy : int32_t { kDisabled = 0, kWholeGraphCapture = 1 };
enum class DLAWorkspaceAllocationStrategy : int32_t { kDefault = 0, kSharedStatic = 1 };
enum class DataType : int32_t {
  kFloat = 0, kHalf = 1, kInt8 = 2, kInt32 = 3, kBool = 4, kUint8 = 5, kFp8 = 6, kBf16 = 7, kInt64 = 8, kInt4 = 9,
  kFp4 = 10, kE8m0 = 11 };
enum class DeviceType : int32_t { kGpu = 0, kDla = 1 };
enum class DimensionOperation : int32_t {
  kSum = 0, kProd = 1, kMax = 2, kMin = 3, kSub = 4, kEqual = 5, kLess = 6, kFloorDiv = 7, kCeilDiv = 8 };
enum class DynamicShapesKernelSpecializationStrategy : int32_t { kLazy = 0, kEager = 1, kNone = 2 };
enum class ElementWiseOperation : int32_t {
  kSum = 0, kProd = 1, kMax = 2, kMin = 3, kSub = 4, kDiv = 5, kPow = 6, kFloorDiv = 7, kAnd = 8, kOr = 9, kXor = 10,
  kEqual = 11, kGreater = 12, kLess = 13 };
enum class EngineCapability : int32_t { kStandard = 0, kSafety = 1, kDlaStandalone = 2 };
// Bits of the word that getEngineValidity fills.
enum class EngineInvalidityDiagnostics : uint64_t {
  kVersionMismatch = 1, kUnsupportedCc = 2, kOldCudaDriver = 4, kOldCudaRuntime = 8, kInsufficientGpuMemory = 16,
  kMalformedEngine = 32, kCudaError = 64 };
enum class EngineStat : int32_t { kTotalWeightsSize = 0, kStrippedWeightsSize = 1 };
enum class EngineValidity : int32_t { kValid = 0, kSuboptimal = 1, kInvalid = 2 };
enum class ErrorCode : int32_t {
  kSuccess = 0, kUnspecifiedError = 1, kInternalError = 2, kInvalidArgument = 3, kInvalidConfig = 4,
  kFailedAllocation = 5, kFailedInitialization = 6, kFailedExecution = 7, kFailedComputation = 8, kInvalidState = 9,
  kUnsupportedState = 10 };
enum class ExecutionContextAllocationStrategy : int32_t { kStatic = 0, kOnProfileChange = 1, kUserManaged = 2 };
enum class HardwareCompatibilityLevel : int32_t { kNone = 0, kAmperePlus = 1, kSameComputeCapability = 2 /* 10.9 */ };
enum class LayerInformationFormat : int32_t { kOneline = 0, kJson = 1 };
enum class LayerType : int32_t {
  kConvolution = 0, kCast = 1, kActivation = 2, kPooling = 3, kLrn = 4, kScale = 5, kSoftmax = 6, kDeconvolution = 7,
  kConcatenation = 8, kElementwise = 9, kPlugin = 10, kUnary = 11, kPadding = 12, kShuffle = 13, kReduce = 14,
  kTopk = 15, kGather = 16, kMatrixMultiply = 17, kRaggedSoftmax = 18, kConstant = 19, kIdentity = 20, kPluginV2 = 21,
  kSlice = 22, kShape = 23, kParametricRelu = 24, kResize = 25, kTripLimit = 26, kRecurrence = 27, kIterator = 28,
  kLoopOutput = 29, kSelect = 30, kFill = 31, kQuantize = 32, kDequantize = 33, kCondition = 34, kConditionalInput = 35,
  kConditionalOutput = 36, kScatter = 37, kEinsum = 38, kAssertion = 39, kOneHot = 40, kNonZero = 41, kGridSample = 42,
  kNms = 43, kReverseSequence = 44, kNormalization = 45, kPluginV3 = 46, kSqueeze = 47, kUnsqueeze = 48,
  kCumulative = 49, kDynamicQuantize = 50, kAttentionInput = 51, kAttentionOutput = 52, kRotaryEmbedding = 53,
  kKvcacheUpdate = 54, kMoe = 55, kDistCollective = 56 };
enum class MatrixOperation : int32_t { kNone = 0, kTranspose = 1, kVector = 2 };
enum class MemoryPoolType : int32_t {
  kWorkspace = 0, kDlaManagedSram = 1, kDlaLocalDram = 2, kDlaGlobalDram = 3, kTacticDram = 4,
  kTacticSharedMemory = 5 };
enum class OptProfileSelector : int32_t { kMin = 0, kOpt = 1, kMax = 2 };
enum class ParserErrorCode : int32_t {
  kSuccess = 0, kInternalError = 1, kMemAllocFailed = 2, kModelDeserializeFailed = 3, kInvalidValue = 4,
  kInvalidGraph = 5, kInvalidNode = 6, kUnsupportedGraph = 7, kUnsupportedNode = 8, kUnsupportedNodeAttr = 9,
  kUnsupportedNodeInput = 10, kUnsupportedNodeDatatype = 11, kUnsupportedNodeDynamic = 12,
  kUnsupportedNodeShape = 13, kRefitFailed = 14 };
enum class PluginCapabilityType : int32_t { kCore = 0, kBuild = 1, kRuntime = 2 };
enum class PluginFieldType : int32_t {
  kFloat16 = 0, kFloat32 = 1, kFloat64 = 2, kInt8 = 3, kInt16 = 4, kInt32 = 5, kChar = 6, kDims = 7, kUnknown = 8,
  kBf16 = 9, kInt64 = 10, kFp8 = 11, kInt4 = 12, kFp4 = 13 };
enum class ProfilingVerbosity : int32_t { kLayerNamesOnly = 0, kNone = 1, kDetailed = 2 };
enum class RuntimePlatform : int32_t { kSameAsBuild = 0, kWindowsAmd64 = 1 };
enum class SeekPosition : int32_t { kSet = 0, kCur = 1, kEnd = 2 };
enum class Severity : int32_t { kInternalError = 0, kError = 1, kWarning = 2, kInfo = 3, kVerbose = 4 };
enum class TempfileControlFlag : int32_t { kAllowInMemoryFiles = 0, kAllowTemporaryFiles = 1 };
enum class TensorFormat : int32_t {
  kLinear = 0, kChw2 = 1, kHwc8 = 2, kChw4 = 3, kChw16 = 4, kChw32 = 5, kDhwc8 = 6, kCdhw32 = 7, kHwc = 8,
  kDlaLinear = 9, kDlaHwc4 = 10, kHwc16 = 11, kDhwc = 12 };
enum class TensorIOMode : int32_t { kNone = 0, kInput = 1, kOutput = 2 };
enum class TensorLocation : int32_t { kDevice = 0, kHost = 1 };
enum class TensorRTPhase : int32_t { kBuild = 0, kRuntime = 1 };
enum class TilingOptimizationLevel : int32_t { kNone = 0, kFast = 1, kModerate = 2, kFull = 3 };
enum class UnaryOperation : int32_t {
  kExp = 0, kLog = 1, kSqrt = 2, kRecip = 3, kAbs = 4, kNeg = 5, kSin = 6, kCos = 7, kTan = 8, kSinh = 9, kCosh = 10,
  kAsin = 11, kAcos = 12, kAtan = 13, kAsinh = 14, kAcosh = 15, kAtanh = 16, kCeil = 17, kFloor = 18, kErf = 19,
  kNot = 20, kSign = 21, kRound = 22, kIsinf = 23, kIsnan = 24 };
enum class WeightsRole : int32_t { kKernel = 0, kBias = 1, kShift = 2, kScale = 3, kConstant = 4, kAny = 5 };

// Flags that were renumbered, or that not every release has. These values are ours; the library's number of one comes
// from Calls::number, and only that may be passed to a call.
enum class BuilderFlag {
  kFp16, kInt8, kDebug, kGpuFallback, kRefit, kDisableTimingCache, kTf32, kSparseWeights, kSafetyScope,
  kObeyPrecisionConstraints, kPreferPrecisionConstraints, kDirectIo, kRejectEmptyAlgorithms, kVersionCompatible,
  kExcludeLeanRuntime, kFp8, kErrorOnTimingCacheMiss, kBf16, kDisableCompilationCache, kStripPlan, kRefitIdentical,
  kWeightStreaming, kInt4, kRefitIndividual, kStrictNans, kMonitorMemory, kFp4, kEditableTimingCache,
  kDistributiveIndependence, kRequireUserAllocation, kCount };
enum class NetworkFlag {  // NetworkDefinitionCreationFlag; createNetworkV2 takes a mask of 1 << number
  kExplicitBatch, kStronglyTyped, kPreferJitPythonPlugins, kPreferAotPythonPlugins, kCount };
enum class PreviewFeature {
  kProfileSharing0806, kAliasedPluginIo1003, kRuntimeActivationResize1010, kMultideviceRuntime1016, kCount };
enum class TacticSource { kCublas, kCublasLt, kCudnn, kEdgeMaskConvolutions, kJitConvolutions, kCount };
enum class SerializationFlag { kExcludeWeights, kExcludeLeanRuntime, kIncludeRefit, kCount };
enum class ParserFlag {  // OnnxParserFlag
  kNativeInstancenorm, kEnableUint8AndAsymmetricQuantizationDla, kReportCapabilityDla, kEnablePluginOverride,
  kAdjustForDla, kCount };
// clang-format on

inline constexpr int32_t kMaxDims = 8;

struct Dims {
  int32_t nbDims = 0;  // -1: unknown, or no such tensor
  int64_t d[kMaxDims] = {};
};

struct DimsExprs {
  int32_t nbDims = 0;
  const DimensionExpr* d[kMaxDims] = {};
};

struct Weights {
  DataType type = DataType::kFloat;
  const void* values = nullptr;
  int64_t count = 0;
};

struct PluginTensorDesc {
  Dims dims;
  DataType type;
  TensorFormat format;
  float scale;
};

struct DynamicPluginTensorDesc {
  PluginTensorDesc desc;
  Dims min;
  Dims max;
  Dims opt;
};

struct PluginField {
  const char* name;
  const void* data;
  PluginFieldType type;
  int32_t length;
};

struct PluginFieldCollection {
  int32_t nbFields;
  const PluginField* fields;
};

struct InterfaceInfo {
  const char* kind;
  int32_t major;
  int32_t minor;
};

struct TimingCacheKey {
  uint8_t data[16];
};

struct TimingCacheValue {
  uint64_t tacticHash;
  float timingMSec;
};

// What decides how these travel through a call: their sizes, and that they are copied as plain
// memory.
static_assert(sizeof(Dims) == 72 && offsetof(Dims, d) == 8);
static_assert(sizeof(DimsExprs) == 72 && offsetof(DimsExprs, d) == 8);
static_assert(sizeof(Weights) == 24 && offsetof(Weights, values) == 8);
static_assert(sizeof(PluginTensorDesc) == 88 && offsetof(PluginTensorDesc, type) == 72);
static_assert(sizeof(DynamicPluginTensorDesc) == 304 &&
              offsetof(DynamicPluginTensorDesc, min) == 88 &&
              offsetof(DynamicPluginTensorDesc, max) == 160 &&
              offsetof(DynamicPluginTensorDesc, opt) == 232);
static_assert(sizeof(PluginField) == 24 && offsetof(PluginField, length) == 20);
static_assert(sizeof(PluginFieldCollection) == 16 && sizeof(InterfaceInfo) == 16);
static_assert(sizeof(TimingCacheKey) == 16 && alignof(TimingCacheKey) == 1 &&
              sizeof(TimingCacheValue) == 16);
static_assert(std::is_trivially_copyable_v<Dims> && std::is_trivially_copyable_v<Weights> &&
              std::is_trivially_copyable_v<InterfaceInfo> &&
              std::is_trivially_copyable_v<TimingCacheValue>);

}  // namespace zerolane::trt
