// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "core/error.h"
#include "core/tensor.h"
#include "registry/attributes.h"
#include "registry/shapes.h"

namespace zerolane {

// One input of a call: dense memory, or null for an input that was left out.
struct OpInput {
  const void* data = nullptr;
  bool present = false;
  DType dtype = DType::kNone;
  Shape shape;
};

// The element type that each type of an op has in a call; shapes and data are not looked at. Throws
// kInvalidArgument: too few or too many inputs, element types that the op does not take.
void resolve_types(const OpState& state, const std::vector<OpInput>& inputs,
                   std::vector<DType>* types);

// Runs an op on memory that the caller gives. Made for one state and used again and again: after
// the first call with some shapes it makes no heap allocation. One thread at a time.
//
//   call.inputs(n)[i] = ...;  call.plan();  call.set_output(k, data);  call.run_host();
class OpCall {
 public:
  explicit OpCall(std::shared_ptr<const OpState> state);
  OpCall(const OpCall&) = delete;
  OpCall& operator=(const OpCall&) = delete;

  const OpState& state() const noexcept { return *state_; }

  // As the node has them; a variadic input counts once for each tensor. Filled in by the caller.
  std::vector<OpInput>& inputs(size_t count);
  const OpInput& input(size_t index) const { return inputs_[index]; }
  // Where the data of an input is, of the type and shape that it had before.
  void set_input(size_t index, const void* data) { inputs_[index].data = data; }

  // Checks the inputs and computes the outputs' types and shapes. Throws kInvalidArgument (too few
  // or too many inputs, element types), kShapeMismatch (by the op), kOutOfMemory (sizes that no
  // memory has). Does nothing where types and shapes are those of the call before.
  void plan();

  size_t output_count() const { return shapes_.size(); }
  DType output_dtype(size_t index) const { return dtypes_[index]; }
  // With the most for extents that the data decides, until the run has told.
  const Shape& output_shape(size_t index) const { return shapes_[index]; }
  bool is_counted(size_t index) const { return counted_[index]; }
  size_t counted_extents() const { return shape_function_.counted(); }
  // Which counted extent an axis of an output is, or -1.
  int counted_axis(size_t index, size_t axis) const;
  // The shape of an output that a run on a GPU has filled: `counts` holds the counted extents.
  // Throws kUnsupported unless its elements lie dense at the start of the memory for the most: only
  // the first axis can be counted there.
  Shape counted_shape(size_t index, std::span<const int64_t> counts) const;

  // Where an output goes; before each run. Null: it is unwanted, which an optional one may be.
  void set_output(size_t index, void* data) { memory_[index] = data; }
  void skip_output(size_t index) { wanted_[index] = false; }
  // Takes skip_output() back.
  void want_output(size_t index) { wanted_[index] = true; }
  // Gives memory to outputs with counted extents on the host, once their shape is known; null for
  // failure. Called from within run_host().
  using Allocate = void* (*)(void* owner, size_t index, const Shape& shape);
  void set_allocator(Allocate allocate, void* owner) {
    allocate_ = allocate;
    owner_ = owner;
  }

  // Runs the body on the calling thread; blocks. All memory is the host's. Throws kUnsupported (no
  // CPU body) and what the body fails with; outputs are then undefined.
  void run_host();

  // Bytes of scratch memory for the planned call on a GPU.
  size_t cuda_scratch();
  // Enqueues the CUDA body on a stream of the device that holds all memory, and returns. `counts`:
  // device memory of an int64 for each counted extent; outputs with such extents have memory for
  // the most.
  void run_cuda(void* stream, void* scratch, std::span<int64_t* const> counts,
                const DeviceConstants& constants, int device);

 private:
  struct Record;  // the ZlCall that the body sees

  bool planned() const;
  void fill_tensors(DLDevice device);
  void check_status(int32_t status);

  std::shared_ptr<const OpState> state_;
  std::vector<OpInput> inputs_;
  bool planned_ = false;
  bool filled_ = false;         // the tensors below have the planned types and shapes
  DLDevice device_{};           // and this device
  std::vector<OpInput> known_;  // what was planned for
  OpShapes shape_function_;
  std::vector<OpShapes::Extents> extents_;
  std::vector<DType> types_;  // of the op's types, in this call
  std::vector<DType> dtypes_;
  std::vector<Shape> shapes_;
  std::vector<bool> counted_;
  std::vector<bool> wanted_;
  std::vector<bool> allocated_;  // by the body, in this run
  std::vector<void*> memory_;
  std::vector<DLTensor> input_tensors_, output_tensors_;
  std::vector<const DLTensor*> input_pointers_;
  std::vector<DLTensor*> output_pointers_;
  Buffer scratch_;
  Allocate allocate_ = nullptr;
  void* owner_ = nullptr;
  bool failed_ = false;
  Code code_ = Code::kInternal;
  std::string text_;
};

}  // namespace zerolane
