// SPDX-License-Identifier: Apache-2.0
// What the bodies of an op are given: tensors, scratch memory, constants, the stream. C++17.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "zerolane/half.h"
#include "zerolane/op_abi.h"
#include "zerolane/op_shape.h"

namespace zerolane::op {

namespace detail {
template <typename T>
struct DTypeOf;
#define ZL_DTYPE(type, code)                                       \
  template <>                                                      \
  struct DTypeOf<type> {                                           \
    static constexpr DLDataType kValue{code, sizeof(type) * 8, 1}; \
  };
ZL_DTYPE(bool, kDLBool)
ZL_DTYPE(int8_t, kDLInt)
ZL_DTYPE(int16_t, kDLInt)
ZL_DTYPE(int32_t, kDLInt)
ZL_DTYPE(int64_t, kDLInt)
ZL_DTYPE(uint8_t, kDLUInt)
ZL_DTYPE(uint16_t, kDLUInt)
ZL_DTYPE(uint32_t, kDLUInt)
ZL_DTYPE(uint64_t, kDLUInt)
ZL_DTYPE(Half, kDLFloat)
ZL_DTYPE(BFloat16, kDLBfloat)
ZL_DTYPE(float, kDLFloat)
ZL_DTYPE(double, kDLFloat)
#undef ZL_DTYPE
}  // namespace detail

// The element type of a C++ type: bool, the integers of 8 to 64 bits, Half, BFloat16, float,
// double.
template <typename T>
constexpr DLDataType dtype_of() {
  return detail::DTypeOf<std::remove_const_t<T>>::kValue;
}
constexpr bool same_dtype(DLDataType a, DLDataType b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

// A dense, row-major tensor, borrowed for the call.
template <typename T>
class View {
 public:
  View(T* data, const int64_t* extents, int rank) : data_(data), extents_(extents), rank_(rank) {}

  T* data() const { return data_; }
  int rank() const { return rank_; }
  // A negative axis counts from the last. The shape function has checked the rank.
  int64_t dim(int axis) const { return extents_[axis < 0 ? axis + rank_ : axis]; }
  const int64_t* dims() const { return extents_; }
  // Elements. Fits: the host has checked it.
  int64_t size() const {
    // Unsigned: beside an extent of zero the others may be anything.
    uint64_t count = 1;
    for (int axis = 0; axis < rank_; ++axis) count *= static_cast<uint64_t>(extents_[axis]);
    return static_cast<int64_t>(count);
  }
  T& operator[](int64_t index) const { return data_[index]; }
  T* begin() const { return data_; }
  T* end() const { return data_ + size(); }

 private:
  T* data_;
  const int64_t* extents_;
  int rank_;
};

// One execution of an op.
class Call {
 public:
  explicit Call(const ZlCall* call, bool on_gpu = false) : call_(call), on_gpu_(on_gpu) {}

  // In Self::scratch: which body asks.
  bool on_gpu() const { return on_gpu_; }

  // Inputs as the node has them: a variadic input counts once for each tensor.
  size_t input_count() const { return call_->input_count; }
  size_t output_count() const { return call_->output_count; }
  bool has_input(size_t index) const {
    return index < call_->input_count && call_->inputs[index] != nullptr;
  }
  bool wants_output(size_t index) const {
    return index < call_->output_count && call_->outputs[index] != nullptr;
  }
  DLDataType input_dtype(size_t index) const { return present_input(index).dtype; }
  // An extent of an input of any element type. A negative axis counts from the last.
  int64_t input_dim(size_t index, int axis) const {
    const DLTensor& tensor = present_input(index);
    return tensor.shape[axis < 0 ? axis + tensor.ndim : axis];
  }

  // Throws if the input was left out or has another element type.
  template <typename T>
  View<const T> input(size_t index) const {
    const DLTensor& tensor = present_input(index);
    check_dtype<T>(tensor, "input", index);
    return {static_cast<const T*>(tensor.data), tensor.shape, tensor.ndim};
  }
  // On the host not for outputs with a counted extent, whose memory comes from allocate().
  template <typename T>
  View<T> output(size_t index) const {
    const DLTensor& tensor = present_output(index);
    check_dtype<T>(tensor, "output", index);
    return {static_cast<T*>(tensor.data), tensor.shape, tensor.ndim};
  }
  // On the host: memory for an output with a counted extent, now that its shape is known.
  template <typename T>
  View<T> allocate(size_t index, std::initializer_list<int64_t> dims) const {
    const DLTensor& tensor = present_output(index);
    check_dtype<T>(tensor, "output", index);
    if (static_cast<int>(dims.size()) != tensor.ndim) {
      throw Error("output " + std::to_string(index) + " is allocated with rank " +
                      std::to_string(dims.size()) + ", expected " + std::to_string(tensor.ndim),
                  kZlInternal);
    }
    void* data = call_->allocate(call_, static_cast<uint32_t>(index), dims.begin());
    if (data == nullptr) throw Error("memory for an output could not be had", kZlOutOfMemory);
    return {static_cast<T*>(data), tensor.shape, tensor.ndim};
  }
  // On a GPU: where to write the counted extent, in the order of Shapes::counted(). GPU memory.
  int64_t* count(size_t index) const { return call_->counts[index]; }

  // What Self::scratch asked for; aligned to 64 bytes on the host and 256 on a GPU.
  template <typename T = unsigned char>
  T* scratch() const {
    return static_cast<T*>(call_->scratch);
  }
  // The nth of Self::constants, where this body runs.
  template <typename T>
  const T* constant(size_t index) const {
    return static_cast<const T*>(call_->constants[index]);
  }
  // On a GPU: the cudaStream_t to work on. Nothing else may be waited for.
  void* stream() const { return call_->stream; }

 private:
  const DLTensor& present_input(size_t index) const {
    if (!has_input(index)) throw Error("input " + std::to_string(index) + " was left out");
    return *call_->inputs[index];
  }
  const DLTensor& present_output(size_t index) const {
    if (!wants_output(index)) throw Error("output " + std::to_string(index) + " is not wanted");
    return *call_->outputs[index];
  }
  template <typename T>
  void check_dtype(const DLTensor& tensor, const char* role, size_t index) const {
    if (!same_dtype(tensor.dtype, dtype_of<T>())) {
      throw Error(std::string(role) + " " + std::to_string(index) +
                      " has another element type than the body reads",
                  kZlInternal);
    }
  }

  const ZlCall* call_;
  bool on_gpu_;
};

}  // namespace zerolane::op
