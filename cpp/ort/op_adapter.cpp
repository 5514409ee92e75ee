// SPDX-License-Identifier: Apache-2.0
#include "ort/op_adapter.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <exception>
#include <map>
#include <utility>

#include "core/error.h"
#include "ort/op_cuda.h"
#include "ort/op_shapes.h"
#include "registry/attributes.h"
#include "registry/call.h"
#include "registry/shapes.h"

namespace zerolane::ort {

// What the library knows of one op. It hands the record to each callback; kernels keep a pointer.
struct SessionOps::Record : OrtCustomOp {
  Record(const SessionOps& session_ops, const OpEntry& op_entry)
      : OrtCustomOp{}, ops(session_ops), entry(op_entry) {}
  const SessionOps& ops;
  const OpEntry& entry;
  std::vector<DType> types;
  bool cuda = false;
  const Runtime& rt() const { return ops.rt_; }
};

namespace {

// Runs the body of a callback; an exception becomes a status with the code of the error in its
// text, none leaves.
template <typename Body>
OrtStatus* guarded(const Runtime& rt, Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const Error& error) {
    const std::string mark = std::string(kOpMark) + std::to_string(static_cast<int>(error.code()));
    return rt.api.CreateStatus(kOrtInvalidArgument, (mark + "] " + error.what()).c_str());
  } catch (const std::exception& error) {
    return rt.api.CreateStatus(kOrtFail, error.what());
  }
}

void ok(const Runtime& rt, OrtStatus* status, const OpEntry& entry) {
  if (status != nullptr) [[unlikely]]
    check(rt, status, "running op " + entry.name, entry.name);
}

// Asks twice, as the interface wants: for the size, then for the content. False where there is no
// such attribute.
template <typename Item, typename Get>
bool read_list(const Runtime& rt, Get get, std::vector<Item>* out) {
  size_t count = 0;
  OrtStatus* status = get(nullptr, &count);
  // Some releases report the first answer as an error that still tells the size.
  if (status != nullptr) rt.api.ReleaseStatus(status);
  if (status != nullptr && count == 0) return false;
  out->resize(count);
  if (count == 0) return true;
  status = get(out->data(), &count);
  if (status != nullptr) {
    rt.api.ReleaseStatus(status);
    return false;
  }
  out->resize(count);
  return true;
}

// The node's attributes as the kernel is told them.
class KernelAttributes {
 public:
  KernelAttributes(const Runtime& rt, const OrtKernelInfo* info) : rt_(rt), info_(info) {}

  bool read(const char* name, int64_t* value) const {
    return fine(rt_.api.KernelInfoGetAttribute_int64(info_, name, value));
  }
  bool read(const char* name, double* value) const {
    float number = 0;
    if (!fine(rt_.api.KernelInfoGetAttribute_float(info_, name, &number))) return false;
    *value = static_cast<double>(number);
    return true;
  }
  bool read(const char* name, std::string* text) const {
    std::vector<char> bytes;
    if (!read_list(
            rt_,
            [&](char* out, size_t* size) {
              return rt_.api.KernelInfoGetAttribute_string(info_, name, out, size);
            },
            &bytes)) {
      return false;
    }
    *text = std::string(bytes.data(), ::strnlen(bytes.data(), bytes.size()));
    return true;
  }
  bool read(const char* name, std::vector<int64_t>* list) const {
    return read_list(
        rt_,
        [&](int64_t* out, size_t* size) {
          return rt_.api.KernelInfoGetAttributeArray_int64(info_, name, out, size);
        },
        list);
  }
  bool read(const char* name, std::vector<float>* list) const {
    return read_list(
        rt_,
        [&](float* out, size_t* size) {
          return rt_.api.KernelInfoGetAttributeArray_float(info_, name, out, size);
        },
        list);
  }

 private:
  bool fine(OrtStatus* status) const {
    if (status != nullptr) rt_.api.ReleaseStatus(status);
    return status == nullptr;
  }
  const Runtime& rt_;
  const OrtKernelInfo* info_;
};

// The same as shape inference is told them.
class ShapeAttributes {
 public:
  ShapeAttributes(const Runtime& rt, const OrtShapeInferContext* context)
      : rt_(rt), context_(context) {}

  bool read(const char* name, int64_t* value) const {
    return read_one(name, kOrtAttrInt, value, sizeof *value);
  }
  bool read(const char* name, double* value) const {
    float number = 0;
    if (!read_one(name, kOrtAttrFloat, &number, sizeof number)) return false;
    *value = static_cast<double>(number);
    return true;
  }
  bool read(const char* name, std::string* text) const {
    std::vector<char> bytes;
    if (!read_many(name, kOrtAttrString, &bytes)) return false;
    *text = std::string(bytes.data(), ::strnlen(bytes.data(), bytes.size()));
    return true;
  }
  bool read(const char* name, std::vector<int64_t>* list) const {
    return read_many(name, kOrtAttrInts, list);
  }
  bool read(const char* name, std::vector<float>* list) const {
    return read_many(name, kOrtAttrFloats, list);
  }

 private:
  const OrtOpAttr* find(const char* name) const {
    const OrtOpAttr* found = nullptr;
    OrtStatus* status = rt_.api.ShapeInferContext_GetAttribute(context_, name, &found);
    if (status == nullptr) return found;
    rt_.api.ReleaseStatus(status);
    return nullptr;
  }
  bool read_one(const char* name, OrtOpAttrType type, void* out, size_t bytes) const {
    const OrtOpAttr* found = find(name);
    if (found == nullptr) return false;
    size_t size = 0;
    OrtStatus* status = rt_.api.ReadOpAttr(found, type, out, bytes, &size);
    if (status != nullptr) rt_.api.ReleaseStatus(status);
    return status == nullptr;
  }
  // Sizes are in bytes here.
  template <typename Item>
  bool read_many(const char* name, OrtOpAttrType type, std::vector<Item>* list) const {
    const OrtOpAttr* found = find(name);
    if (found == nullptr) return false;
    size_t bytes = 0;
    OrtStatus* status = rt_.api.ReadOpAttr(found, type, nullptr, 0, &bytes);
    if (status != nullptr) rt_.api.ReleaseStatus(status);
    list->resize(bytes / sizeof(Item));
    if (list->empty()) return true;
    status = rt_.api.ReadOpAttr(found, type, list->data(), bytes, &bytes);
    if (status != nullptr) rt_.api.ReleaseStatus(status);
    return status == nullptr;
  }
  const Runtime& rt_;
  const OrtShapeInferContext* context_;
};

// A node keeps whatever attributes it has; those of the op's that it has are read. One that has
// another type than the op says is told from one that is missing.
template <typename Source>
Attributes read_attributes(const OpEntry& entry, const Source& source) {
  Attributes given;
  const auto take = [&](const char* name, auto value) {
    if (!source.read(name, &value)) return false;
    using Value = decltype(value);
    if constexpr (std::is_same_v<Value, std::vector<float>>) {
      given.emplace_back(name, std::vector<double>(value.begin(), value.end()));
    } else {
      given.emplace_back(name, std::move(value));
    }
    return true;
  };
  for (uint64_t i = 0; i < entry.table->attribute_count; ++i) {
    const ZlAttribute& row = entry.table->attributes[i];
    bool found = false;
    switch (row.type) {
      case kZlInt:
        found = take(row.name, int64_t{0});
        break;
      case kZlFloat:
        found = take(row.name, double{0});
        break;
      case kZlString:
        found = take(row.name, std::string());
        break;
      case kZlInts:
        found = take(row.name, std::vector<int64_t>());
        break;
      default:
        found = take(row.name, std::vector<float>());
    }
    if (found) continue;
    // OpState says what is wrong with a value of another type.
    (void)(take(row.name, double{0}) || take(row.name, int64_t{0}) ||
           take(row.name, std::string()));
  }
  return given;
}

}  // namespace

// One node of a loaded model. Runs of several threads come at once.
struct SessionOps::Kernel {
  Kernel(const Record& op_record, std::shared_ptr<const OpState> op_state)
      : record(op_record), state(std::move(op_state)) {}
  ~Kernel() { delete idle.load(); }

  const Record& record;
  std::shared_ptr<const OpState> state;
  size_t inputs = 0;
  size_t outputs = 0;
  std::unique_ptr<OpOnCuda> cuda;      // null on the CPU
  std::atomic<OpCall*> idle{nullptr};  // one call that no run uses: taken and given back whole

  void compute(OrtKernelContext* context);
  void read_inputs(OrtKernelContext* context, OpCall& call) const;
};

void SessionOps::Kernel::read_inputs(OrtKernelContext* context, OpCall& call) const {
  const Api& api = record.rt().api;
  auto& all = call.inputs(inputs);
  for (size_t i = 0; i < inputs; ++i) {
    OpInput& input = all[i];
    const OrtValue* value = nullptr;
    ok(record.rt(), api.KernelContext_GetInput(context, i, &value), record.entry);
    input.present = value != nullptr;
    if (!input.present) continue;
    ONNXTensorElementDataType type = 0;
    size_t rank = 0;
    if (api.GetTensorElementTypeAndShapeDataReference != nullptr) [[likely]] {
      const int64_t* dims = nullptr;
      ok(record.rt(), api.GetTensorElementTypeAndShapeDataReference(value, &type, &dims, &rank),
         record.entry);
      const std::span extents(dims, rank);
      if (!std::ranges::equal(extents, input.shape.dims())) input.shape = Shape(extents);
    } else {
      Handle<OrtTensorTypeAndShapeInfo> info(api.ReleaseTensorTypeAndShapeInfo);
      std::array<int64_t, kMaxRank> dims;
      ok(record.rt(), api.GetTensorTypeAndShape(value, info.out()), record.entry);
      ok(record.rt(), api.GetTensorElementType(info.get(), &type), record.entry);
      ok(record.rt(), api.GetDimensionsCount(info.get(), &rank), record.entry);
      if (rank <= kMaxRank) {
        ok(record.rt(), api.GetDimensions(info.get(), dims.data(), rank), record.entry);
      }
      input.shape = Shape(std::span<const int64_t>(dims.data(), rank));
    }
    input.dtype = static_cast<DType>(type);
    void* data = nullptr;
    ok(record.rt(), api.GetTensorMutableData(const_cast<OrtValue*>(value), &data), record.entry);
    input.data = data;
  }
}

namespace {

// The outputs of one run of a node.
struct Outputs {
  const Runtime& rt;
  const OpEntry& entry;
  OrtKernelContext* context;
  std::vector<Buffer> unwanted;  // memory for what the body computes and nobody reads

  // Never null: outputs that the node does not want, and empty ones, have memory too.
  void* get(size_t index, const Shape& shape, DType dtype) {
    OrtValue* value = nullptr;
    ok(rt, rt.api.KernelContext_GetOutput(context, index, shape.data(), shape.rank(), &value),
       entry);
    void* data = nullptr;
    if (value != nullptr) ok(rt, rt.api.GetTensorMutableData(value, &data), entry);
    if (data != nullptr) return data;
    unwanted.push_back(host_pool()->allocate(dtype_bytes(dtype, shape.count())));
    return unwanted.back().data();
  }
};

}  // namespace

void SessionOps::Kernel::compute(OrtKernelContext* context) {
  std::unique_ptr<OpCall> call(idle.exchange(nullptr, std::memory_order_acquire));
  if (!call) call = std::make_unique<OpCall>(state);
  read_inputs(context, *call);
  call->plan();
  struct Target {
    Outputs outputs;
    OpCall& call;
  } target{{record.rt(), record.entry, context, {}}, *call};
  if (cuda) {
    cuda->run(*call, context, outputs);
  } else {
    for (size_t i = 0; i < call->output_count(); ++i) {
      if (i >= outputs) {
        call->skip_output(i);
      } else if (!call->is_counted(i)) {
        call->set_output(i, target.outputs.get(i, call->output_shape(i), call->output_dtype(i)));
      }
    }
    call->set_allocator(
        [](void* owner, size_t index, const Shape& shape) {
          auto& self = *static_cast<Target*>(owner);
          return self.outputs.get(index, shape, self.call.output_dtype(index));
        },
        &target);
    call->run_host();
  }
  delete idle.exchange(call.release(), std::memory_order_release);
}

namespace {

template <typename Target>
const Target& as(const OrtCustomOp* op) {
  return *static_cast<const Target*>(op);
}

}  // namespace

SessionOps::SessionOps(const Runtime& rt, const std::vector<OpUse>& uses, std::shared_ptr<Gpu> gpu,
                       const std::string& model)
    : rt_(rt), gpu_(std::move(gpu)), model_(model) {
  std::map<std::string, OrtCustomOpDomain*> by_name;
  for (const OpUse& use : uses) {
    const std::string name = use.domain + "::" + use.op;
    const int version =
        use.version > 0 && use.version < INT32_MAX ? static_cast<int>(use.version) : INT32_MAX;
    const OpEntry* entry = resolve_op(name, version);
    if (entry == nullptr) {
      missing_ += (missing_.empty() ? "" : ", ") + name;
      continue;
    }
    in_process_ |= entry->library->path.empty();
    OrtCustomOpDomain*& domain = by_name[use.domain];
    if (domain == nullptr) {
      domains_.emplace_back(rt.api.ReleaseCustomOpDomain);
      check(rt, rt.api.CreateCustomOpDomain(use.domain.c_str(), domains_.back().out()),
            "registering the ops of " + use.domain, use.domain);
      domain = domains_.back().get();
    }
    add_records(domain, *entry);
  }
}

SessionOps::~SessionOps() = default;

void SessionOps::add_to(OrtSessionOptions* options) const {
  for (const auto& domain : domains_) {
    check(rt_, rt_.api.AddCustomOpDomain(options, domain.get()), "registering ops", model_);
  }
}

void SessionOps::add_records(OrtCustomOpDomain* domain, const OpEntry& entry) {
  // Counts through all combinations, the last type fastest.
  std::vector<size_t> at(entry.types.size());
  for (;;) {
    std::vector<DType> types;
    for (size_t i = 0; i < at.size(); ++i) types.push_back(entry.types[i][at[i]]);
    if (entry.on_cpu()) add_record(domain, entry, types, false);
    if (entry.on_cuda() && gpu_ != nullptr) add_record(domain, entry, types, true);
    size_t axis = at.size();
    while (axis > 0 && ++at[axis - 1] == entry.types[axis - 1].size()) at[--axis] = 0;
    if (axis == 0) return;
  }
}

void SessionOps::add_record(OrtCustomOpDomain* domain, const OpEntry& entry,
                            std::vector<DType> types, bool cuda) {
  records_.push_back(std::make_unique<Record>(*this, entry));
  Record& op = *records_.back();
  op.types = std::move(types);
  op.cuda = cuda;
  op.version = 18;
  op.GetName = [](const OrtCustomOp* self) { return as<Record>(self).entry.op.c_str(); };
  op.GetExecutionProviderType = [](const OrtCustomOp* self) -> const char* {
    return as<Record>(self).cuda ? "CUDAExecutionProvider" : "CPUExecutionProvider";
  };
  op.GetInputType = [](const OrtCustomOp* self, size_t index) {
    const Record& record = as<Record>(self);
    return static_cast<int32_t>(record.types[record.entry.inputs[index].type]);
  };
  op.GetInputTypeCount = [](const OrtCustomOp* self) {
    return as<Record>(self).entry.inputs.size();
  };
  op.GetOutputType = [](const OrtCustomOp* self, size_t index) {
    const Record& record = as<Record>(self);
    return static_cast<int32_t>(record.types[record.entry.outputs[index].type]);
  };
  op.GetOutputTypeCount = [](const OrtCustomOp* self) {
    return as<Record>(self).entry.outputs.size();
  };
  op.GetInputCharacteristic = [](const OrtCustomOp* self, size_t index) {
    return as<Record>(self).entry.inputs[index].kind;  // the same numbers
  };
  op.GetOutputCharacteristic = [](const OrtCustomOp* self, size_t index) {
    return as<Record>(self).entry.outputs[index].kind;
  };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) -> OrtMemType {
    return kOrtMemTypeDefault;
  };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicInputHomogeneity = op.GetVariadicInputMinArity;
  op.GetVariadicOutputMinArity = op.GetVariadicInputMinArity;
  op.GetVariadicOutputHomogeneity = op.GetVariadicInputMinArity;
  op.CreateKernelV2 = [](const OrtCustomOp* self, const void*, const OrtKernelInfo* info,
                         void** kernel) {
    const Record& record = as<Record>(self);
    return guarded(record.rt(), [&] {
      const Api& api = record.rt().api;
      std::vector<char> name;
      read_list(
          record.rt(),
          [&](char* out, size_t* size) { return api.KernelInfo_GetNodeName(info, out, size); },
          &name);
      const std::string node(name.data(), ::strnlen(name.data(), name.size()));
      auto state = std::make_shared<const OpState>(
          record.entry, read_attributes(record.entry, KernelAttributes(record.rt(), info)),
          "node '" + node + "' (" + record.entry.name + ") of " + record.ops.model_);
      auto made = std::make_unique<Kernel>(record, state);
      ok(record.rt(), api.KernelInfo_GetInputCount(info, &made->inputs), record.entry);
      ok(record.rt(), api.KernelInfo_GetOutputCount(info, &made->outputs), record.entry);
      if (record.cuda) {
        made->cuda = std::make_unique<OpOnCuda>(record.rt(), record.ops.gpu_, std::move(state));
      }
      *kernel = made.release();
    });
  };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
    auto& self = *static_cast<Kernel*>(kernel);
    return guarded(self.record.rt(), [&] { self.compute(context); });
  };
  op.InferOutputShapeFn = [](const OrtCustomOp* self, OrtShapeInferContext* context) {
    const Record& record = as<Record>(self);
    return guarded(record.rt(), [&] {
      OpState state(record.entry,
                    read_attributes(record.entry, ShapeAttributes(record.rt(), context)),
                    "a node (" + record.entry.name + ") of " + record.ops.model_);
      infer_shapes(record.rt(), state, context);
    });
  };
  op.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  op.GetEndVersion = [](const OrtCustomOp*) { return INT32_MAX; };
  const auto none = [](int** inputs, int** outputs) -> size_t {
    *inputs = *outputs = nullptr;
    return 0;
  };
  op.GetMayInplace = none;
  op.ReleaseMayInplace = [](int*, int*) {};
  op.GetAliasMap = none;
  op.ReleaseAliasMap = op.ReleaseMayInplace;
  check(rt_, rt_.api.CustomOpDomain_Add(domain, &op), "registering op " + entry.name, entry.name);
}

}  // namespace zerolane::ort
