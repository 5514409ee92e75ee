// SPDX-License-Identifier: Apache-2.0
// Shapes of outputs, written once. The same function is run on numbers (to check a call and size
// its results), on partly unknown extents (ONNX shape inference) and on TensorRT's expressions.
// C++17.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>

#include "zerolane/op_abi.h"

namespace zerolane::op {

// What a function of an op throws; the host turns it into the error of its caller. The message says
// what was found against what was expected.
class Error : public std::exception {
 public:
  explicit Error(std::string message, int32_t code = kZlInvalidArgument)
      : message_(std::move(message)), code_(code) {}
  const char* what() const noexcept override { return message_.c_str(); }
  int32_t code() const noexcept { return code_; }

 private:
  std::string message_;
  int32_t code_;
};

// One extent: a number, or something that is only known later. Quotients are rounded towards minus
// infinity by `/`, up by ceil_divide. Valid during the call of the shape function.
class Dim {
 public:
  Dim() = default;  // no extent; assign one before use
  Dim(ZlShapes* host, ZlDim handle) : host_(host), handle_(handle) {}

  // The number, if it is known by now. A decision that hangs on it is not made for unknown ones, so
  // use it for checks; not to choose between shapes.
  std::optional<int64_t> known() const {
    int64_t value = 0;
    if (host_->calls->known(host_, handle_, &value) == 0) return std::nullopt;
    return value;
  }

  ZlDim handle() const { return handle_; }

  Dim operator+(Dim other) const { return combine(kZlAdd, other); }
  Dim operator-(Dim other) const { return combine(kZlSubtract, other); }
  Dim operator*(Dim other) const { return combine(kZlMultiply, other); }
  Dim operator/(Dim other) const { return combine(kZlFloorDivide, other); }
  Dim operator+(int64_t other) const { return *this + number(other); }
  Dim operator-(int64_t other) const { return *this - number(other); }
  Dim operator*(int64_t other) const { return *this * number(other); }
  Dim operator/(int64_t other) const { return *this / number(other); }
  friend Dim ceil_divide(Dim a, Dim b) { return a.combine(kZlCeilDivide, b); }
  friend Dim ceil_divide(Dim a, int64_t b) { return a.combine(kZlCeilDivide, a.number(b)); }
  friend Dim max(Dim a, Dim b) { return a.combine(kZlMax, b); }
  friend Dim max(Dim a, int64_t b) { return a.combine(kZlMax, a.number(b)); }
  friend Dim min(Dim a, Dim b) { return a.combine(kZlMin, b); }
  friend Dim min(Dim a, int64_t b) { return a.combine(kZlMin, a.number(b)); }

 private:
  Dim number(int64_t value) const { return {host_, host_->calls->number(host_, value)}; }
  Dim combine(int32_t operation, Dim other) const {
    return {host_, host_->calls->combine(host_, operation, handle_, other.handle_)};
  }

  ZlShapes* host_;
  ZlDim handle_;
};

inline constexpr int kMaxRank = 32;

// The extents of one tensor.
class Dims {
 public:
  Dims() = default;
  Dims(std::initializer_list<Dim> list) {
    for (const Dim& dim : list) push_back(dim);
  }

  int rank() const { return rank_; }
  Dim& operator[](int axis) { return dims_[axis]; }
  const Dim& operator[](int axis) const { return dims_[axis]; }
  void push_back(const Dim& dim) {
    if (rank_ == kMaxRank) throw Error("a tensor of more than 32 dimensions");
    dims_[rank_++] = dim;
  }
  const Dim* begin() const { return dims_; }
  const Dim* end() const { return dims_ + rank_; }

 private:
  int rank_ = 0;
  Dim dims_[kMaxRank];  // only the first rank_ are set
};

// What a shape function reads and writes: Self::shape(Shapes&) const. It sets every output. Ranks
// are always known; extents may not be.
class Shapes {
 public:
  explicit Shapes(ZlShapes* host) : host_(host) {}

  // Inputs as the node has them: a variadic input counts once for each tensor.
  size_t input_count() const { return host_->calls->input_count(host_); }
  bool has(size_t input) const { return input < input_count() && raw_rank(input) >= 0; }
  // Throws for an input that was left out.
  int rank(size_t input) const {
    const int found = input < input_count() ? raw_rank(input) : -1;
    if (found < 0) throw Error("input " + std::to_string(input) + " was left out");
    return found;
  }
  // A negative axis counts from the last.
  Dim dim(size_t input, int axis) const {
    const int found = rank(input);
    const int from_start = axis < 0 ? axis + found : axis;
    if (from_start < 0 || from_start >= found) {
      throw Error("input " + std::to_string(input) + " has rank " + std::to_string(found) +
                      ", expected one with axis " + std::to_string(axis),
                  kZlShapeMismatch);
    }
    return {host_, host_->calls->dim(host_, static_cast<uint32_t>(input), from_start)};
  }
  Dims dims(size_t input) const {
    Dims all;
    const int found = rank(input);
    for (int axis = 0; axis < found; ++axis) all.push_back(dim(input, axis));
    return all;
  }
  Dim number(int64_t value) const { return {host_, host_->calls->number(host_, value)}; }

  // An extent that the data decides: at most `most`; `usual` is what TensorRT tunes for. Only
  // outputs may use it, each one alone or as a factor of nothing else.
  Dim counted(Dim usual, Dim most) const {
    return {host_, host_->calls->counted(host_, usual.handle(), most.handle())};
  }

  void output(size_t index, const Dims& dims) const {
    ZlDim handles[kMaxRank];
    for (int axis = 0; axis < dims.rank(); ++axis) handles[axis] = dims[axis].handle();
    host_->calls->output(host_, static_cast<uint32_t>(index), dims.rank(), handles);
  }

  void require(bool holds, const std::string& message) const {
    if (!holds) throw Error(message, kZlShapeMismatch);
  }
  void require_rank(size_t input, int wanted) const {
    const int found = rank(input);
    if (found != wanted) {
      throw Error("input " + std::to_string(input) + " has rank " + std::to_string(found) +
                      ", expected " + std::to_string(wanted),
                  kZlShapeMismatch);
    }
  }
  // Both must be the same extent; fails where both are known and differ. `what` names them:
  // "the channels of x and scale". Returns the known one.
  Dim require_same(Dim a, Dim b, const char* what) const {
    const std::optional<int64_t> left = a.known(), right = b.known();
    if (left && right && *left != *right) {
      throw Error(std::string(what) + " are " + std::to_string(*left) + " and " +
                      std::to_string(*right) + ", expected the same",
                  kZlShapeMismatch);
    }
    return left ? a : b;
  }
  // Fails where the extent is known and outside [least, greatest].
  void require_between(Dim dim, int64_t least, int64_t greatest, const char* what) const {
    const std::optional<int64_t> found = dim.known();
    if (found && (*found < least || *found > greatest)) {
      throw Error(std::string(what) + " is " + std::to_string(*found) + ", expected " +
                      std::to_string(least) + " to " + std::to_string(greatest),
                  kZlShapeMismatch);
    }
  }

 private:
  int raw_rank(size_t input) const {
    return host_->calls->rank(host_, static_cast<uint32_t>(input));
  }

  ZlShapes* host_;
};

}  // namespace zerolane::op
