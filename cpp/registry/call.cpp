// SPDX-License-Identifier: Apache-2.0
#include "registry/call.h"

#include <algorithm>

namespace zerolane {
namespace {

constexpr uint64_t kMostScratch = uint64_t{1} << 46;

// A host kernel may read a tensor's address although it has no elements.
alignas(kAlignment) char g_nothing[kAlignment];

std::string dtype_list(const std::vector<DType>& dtypes) {
  std::string text;
  for (size_t i = 0; i < dtypes.size(); ++i) {
    text += (i == 0                   ? ""
             : i + 1 == dtypes.size() ? " or "
                                      : ", ") +
            std::string(dtype_name(dtypes[i]));
  }
  return text;
}

}  // namespace

struct OpCall::Record : ZlCall {
  explicit Record(OpCall& owner) : ZlCall{}, call(owner) {
    size = sizeof(ZlCall);
    input_count = static_cast<uint32_t>(owner.inputs_.size());
    output_count = static_cast<uint32_t>(owner.output_count());
    inputs = owner.input_pointers_.data();
    outputs = owner.output_pointers_.data();
    allocate = &Record::allocate_output;
    fail = &Record::note_failure;
  }

  static void note_failure(const ZlCall* self, int32_t code, const char* message) {
    OpCall& call = static_cast<const Record*>(self)->call;
    if (call.failed_) return;
    call.failed_ = true;
    call.code_ = op_failure_code(code);
    call.text_ = message;
  }

  static void* allocate_output(const ZlCall* self, uint32_t index, const int64_t* dims) {
    OpCall& call = static_cast<const Record*>(self)->call;
    try {
      if (index >= call.output_count() || !call.counted_[index] || !call.wanted_[index] ||
          call.allocate_ == nullptr) {
        note_failure(self, kZlInternal, "its body allocates an output that has memory already");
        return nullptr;
      }
      const Shape shape(std::span(dims, call.shapes_[index].rank()));
      for (size_t axis = 0; axis < shape.rank(); ++axis) {
        const int64_t most = call.shapes_[index][axis];
        const bool fits =
            call.counted_axis(index, axis) >= 0 ? shape[axis] <= most : shape[axis] == most;
        if (!fits) {
          note_failure(self, kZlInternal,
                       "its body allocates an output larger than its shape function allows");
          return nullptr;
        }
      }
      void* data = call.allocate_(call.owner_, index, shape);
      if (data == nullptr) return nullptr;
      call.shapes_[index] = shape;
      call.allocated_[index] = true;
      DLTensor& tensor = call.output_tensors_[index];
      tensor.data = data;
      tensor.shape = const_cast<int64_t*>(call.shapes_[index].data());
      return data;
    } catch (const Error& error) {
      note_failure(self, static_cast<int32_t>(error.code()), error.what());
      return nullptr;
    }
  }

  OpCall& call;
};

OpCall::OpCall(std::shared_ptr<const OpState> state) : state_(std::move(state)) {
  const size_t count = state_->entry().outputs.size();
  types_.resize(state_->entry().types.size());
  dtypes_.resize(count);
  shapes_.resize(count);
  counted_.resize(count);
  wanted_.assign(count, true);
  allocated_.resize(count);
  memory_.resize(count);
  output_tensors_.resize(count);
  output_pointers_.resize(count);
}

std::vector<OpInput>& OpCall::inputs(size_t count) {
  inputs_.resize(count);
  return inputs_;
}

void resolve_types(const OpState& state, const std::vector<OpInput>& inputs,
                   std::vector<DType>* types) {
  const OpEntry& entry = state.entry();
  const auto refuse = [&](const std::string& found, const std::string& remedy,
                          const std::string& subject) {
    throw make_error(Code::kInvalidArgument, "calling " + state.where(), found, remedy, subject);
  };
  const size_t least = entry.least_inputs();
  if (inputs.size() < least || (inputs.size() > entry.inputs.size() && !entry.variadic())) {
    std::string names;
    for (const auto& input : entry.inputs) names += (names.empty() ? "" : ", ") + input.name;
    refuse(std::to_string(inputs.size()) + " inputs were given, expected " + std::to_string(least) +
               (entry.variadic()               ? " or more"
                : least != entry.inputs.size() ? " to " + std::to_string(entry.inputs.size())
                                               : "") +
               " (" + names + ")",
           "give those", entry.name);
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const OpEntry::Argument& argument = entry.input(i);
    if (!inputs[i].present) {
      if (argument.kind != kZlOptional) {
        refuse("input '" + argument.name + "' was left out", "give it", argument.name);
      }
      continue;
    }
    const std::vector<DType>& allowed = entry.types[argument.type];
    const size_t decided_by = entry.decided_by[argument.type];
    const DType dtype = inputs[i].dtype;
    if (std::find(allowed.begin(), allowed.end(), dtype) == allowed.end()) {
      refuse("input '" + argument.name + "' is of " + std::string(dtype_name(dtype)) +
                 ", expected " + dtype_list(allowed),
             "convert it", argument.name);
    }
    if (decided_by < i && dtype != inputs[decided_by].dtype) {
      refuse("input '" + argument.name + "' is of " + std::string(dtype_name(dtype)) +
                 ", expected " + std::string(dtype_name(inputs[decided_by].dtype)) +
                 " like input '" + entry.input(decided_by).name + "'",
             "convert one of them", argument.name);
    }
  }
  types->resize(entry.types.size());
  for (size_t type = 0; type < types->size(); ++type) {
    const size_t by = entry.decided_by[type];
    (*types)[type] = by < entry.inputs.size() ? inputs[by].dtype : entry.types[type].front();
  }
}

bool OpCall::planned() const {
  if (!planned_ || known_.size() != inputs_.size()) return false;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const OpInput &now = inputs_[i], &then = known_[i];
    if (now.present != then.present) return false;
    if (now.present && (now.dtype != then.dtype || !(now.shape == then.shape))) return false;
  }
  return true;
}

void OpCall::plan() {
  if (planned()) return;
  planned_ = filled_ = false;
  resolve_types(*state_, inputs_, &types_);
  extents_.resize(inputs_.size());
  for (size_t i = 0; i < inputs_.size(); ++i) {
    OpShapes::Extents& extents = extents_[i];
    extents.present = inputs_[i].present;
    extents.rank = extents.present ? inputs_[i].shape.rank() : 0;
    for (size_t axis = 0; axis < extents.rank; ++axis) {
      extents.dims[axis] = static_cast<ZlDim>(inputs_[i].shape[axis]);
    }
  }
  shape_function_.run(*state_, extents_);
  const OpEntry& entry = state_->entry();
  for (size_t i = 0; i < output_count(); ++i) {
    const OpShapes::Extents& extents = shape_function_.output(i);
    dtypes_[i] = types_[entry.outputs[i].type];
    wanted_[i] = extents.present;
    counted_[i] = false;
    std::array<int64_t, kMaxRank> dims;
    for (size_t axis = 0; axis < extents.rank; ++axis) {
      ZlDim dim = extents.dims[axis];
      if (OpShapes::is_counted(dim)) {
        counted_[i] = true;
        dim = shape_function_.most(OpShapes::count_of(dim));
      }
      if (!OpShapes::is_number(dim)) {
        OpShapes::throw_failure(*state_, Code::kInternal, "an extent of the result is unknown");
      }
      dims[axis] = static_cast<int64_t>(dim);
    }
    shapes_[i] = Shape(std::span<const int64_t>(dims.data(), extents.rank));
    try {
      (void)shapes_[i].count();
    } catch (const Error& error) {
      throw make_error(error.code(),
                       "sizing output " + std::to_string(i) + " of " + state_->where(),
                       error.what(), "give smaller inputs", entry.name);
    }
    memory_[i] = nullptr;
  }
  // A run tells counted extents in place of the most; such calls are planned anew.
  planned_ = std::find(counted_.begin(), counted_.end(), true) == counted_.end();
  known_ = inputs_;
}

int OpCall::counted_axis(size_t index, size_t axis) const {
  const ZlDim dim = shape_function_.output(index).dims[axis];
  return OpShapes::is_counted(dim) ? static_cast<int>(OpShapes::count_of(dim)) : -1;
}

Shape OpCall::counted_shape(size_t index, std::span<const int64_t> counts) const {
  std::array<int64_t, kMaxRank> dims;
  const Shape& most = shapes_[index];
  for (size_t axis = 0; axis < most.rank(); ++axis) {
    const int counted = counted_axis(index, axis);
    dims[axis] = counted < 0 ? most[axis] : counts[static_cast<size_t>(counted)];
    if (dims[axis] < 0 || dims[axis] > most[axis] || (axis > 0 && counted >= 0)) {
      throw make_error(Code::kUnsupported, "running " + state_->where() + " on a GPU",
                       "it counted " + std::to_string(dims[axis]) + " along axis " +
                           std::to_string(axis) + " of an output of at most " + most.text(),
                       "mend the op: only the first axis of an output can be counted on a GPU",
                       state_->entry().name);
    }
  }
  return Shape(std::span<const int64_t>(dims.data(), most.rank()));
}

void OpCall::fill_tensors(DLDevice device) {
  failed_ = false;
  const OpEntry& entry = state_->entry();
  const auto address = [](const void* data) {
    return data != nullptr ? const_cast<void*>(data) : g_nothing;
  };
  if (filled_ && device.device_type == device_.device_type &&
      device.device_id == device_.device_id) {
    for (size_t i = 0; i < inputs_.size(); ++i) input_tensors_[i].data = address(inputs_[i].data);
    for (size_t i = 0; i < output_count(); ++i) {
      output_tensors_[i].data = address(memory_[i]);
      const bool wanted = wanted_[i] || entry.outputs[i].kind == kZlRequired;
      output_pointers_[i] = wanted ? &output_tensors_[i] : nullptr;
    }
    return;
  }
  input_tensors_.resize(inputs_.size());
  input_pointers_.resize(inputs_.size());
  const auto fill = [&](DLTensor* tensor, const void* data, DType dtype, const Shape& shape) {
    tensor->data = address(data);
    tensor->device = device;
    tensor->ndim = static_cast<int32_t>(shape.rank());
    tensor->dtype = *to_dlpack(dtype);
    tensor->shape = const_cast<int64_t*>(shape.data());
    tensor->strides = nullptr;
    tensor->byte_offset = 0;
  };
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const OpInput& input = inputs_[i];
    if (input.present) fill(&input_tensors_[i], input.data, input.dtype, input.shape);
    input_pointers_[i] = input.present ? &input_tensors_[i] : nullptr;
  }
  for (size_t i = 0; i < output_count(); ++i) {
    fill(&output_tensors_[i], memory_[i], dtypes_[i], shapes_[i]);
    const bool wanted = wanted_[i] || entry.outputs[i].kind == kZlRequired;
    output_pointers_[i] = wanted ? &output_tensors_[i] : nullptr;
  }
  device_ = device;
  filled_ = true;
}

void OpCall::check_status(int32_t status) {
  if (status == 0 && !failed_) return;
  throw make_error(failed_ ? code_ : Code::kInternal, "running " + state_->where(),
                   failed_ ? text_ : "its body failed without a reason",
                   "give inputs that fit, or mend the op", state_->entry().name);
}

void OpCall::run_host() {
  const ZlOp* table = state_->entry().table;
  if (table->run_cpu == nullptr) {
    throw make_error(Code::kUnsupported, "running " + state_->where() + " on the CPU",
                     "the op has a CUDA body alone", "give arrays on a GPU, or write a CPU body",
                     state_->entry().name);
  }
  fill_tensors({kDLCPU, 0});
  Record record(*this);
  if (table->scratch != nullptr) {
    const uint64_t bytes = table->scratch(table, state_->get(), &record, /*on_gpu=*/0);
    check_status(0);
    if (bytes > kMostScratch) {
      throw make_error(Code::kOutOfMemory, "running " + state_->where(),
                       "it asks for " + std::to_string(bytes) + " bytes of scratch memory",
                       "use smaller inputs", state_->entry().name);
    }
    if (bytes > scratch_.bytes()) {
      scratch_ = {};
      scratch_ = host_pool()->allocate(bytes);
    }
    record.scratch = scratch_.data();
  }
  record.constants = state_->constants().data();
  std::fill(allocated_.begin(), allocated_.end(), false);
  check_status(table->run_cpu(table, state_->get(), &record));
  for (size_t i = 0; i < output_count(); ++i) {
    if (!counted_[i] || !wanted_[i] || allocated_[i]) continue;
    throw make_error(Code::kInternal, "running " + state_->where(),
                     "its body made no memory for output " + std::to_string(i),
                     "mend the op: call.allocate() is needed for it", state_->entry().name);
  }
}

size_t OpCall::cuda_scratch() {
  const ZlOp* table = state_->entry().table;
  if (table->scratch == nullptr) return 0;
  fill_tensors({kDLCUDA, 0});
  Record record(*this);
  const uint64_t bytes = table->scratch(table, state_->get(), &record, /*on_gpu=*/1);
  check_status(0);
  return bytes;
}

void OpCall::run_cuda(void* stream, void* scratch, std::span<int64_t* const> counts,
                      const DeviceConstants& constants, int device) {
  const ZlOp* table = state_->entry().table;
  if (table->run_cuda == nullptr) {
    throw make_error(
        Code::kUnsupported, "running " + state_->where() + " on a GPU", "the op has no CUDA body",
        "give arrays of the host, or write one (and build it where nvcc is)", state_->entry().name);
  }
  fill_tensors({kDLCUDA, device});
  Record record(*this);
  record.stream = stream;
  record.scratch = scratch;
  record.constants = constants.addresses().data();
  record.counts = counts.data();
  check_status(table->run_cuda(table, state_->get(), &record));
}

}  // namespace zerolane
