// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/batch_axes.h"
#include "runtime/batch_request.h"

namespace zerolane {

// What a batcher knows of its model besides the session.
struct BatchModel {
  std::shared_ptr<Session> session;
  BatchAxes axes;
  std::vector<std::vector<std::byte>> pads;  // one element an input, for what padding adds
};

// One execution at a time of joined requests: a context and the memory that requests are joined in,
// which grows to what runs need and is used again. One thread at a time.
class BatchRun {
 public:
  // `most`: rows that its memory is made for; a run may have more.
  BatchRun(const BatchModel& model, size_t most);

  // Runs requests of one group together and gives each its outputs, or all of them the error. Never
  // throws. Returns the nanoseconds of the run itself.
  int64_t run(std::span<BatchRequest* const> requests) noexcept;

 private:
  // Memory that grows to what is asked for.
  struct Piece {
    // A tensor in it; new memory has room for `most` extents on `axis`.
    Tensor take(DType dtype, const Shape& shape, size_t axis, int64_t most);
    std::shared_ptr<Storage> storage;
    size_t bytes = 0;
  };
  // The outputs of one run, all that its requests hold; serves again once nobody holds any.
  struct Outputs {
    explicit Outputs(size_t count) : tensors(count), memory(count) {}
    std::vector<Tensor> tensors;
    std::vector<Piece> memory;
  };
  static constexpr size_t kMostOutputs = 32;

  std::shared_ptr<Outputs> spare_outputs();
  void join(std::span<BatchRequest* const> requests, int64_t rows);
  void give_outputs(const BatchGroup& group, int64_t rows, Outputs& outputs);
  void take_outputs(std::span<BatchRequest* const> requests, int64_t rows, Outputs& outputs);

  const BatchModel& model_;
  const int64_t most_;
  std::unique_ptr<Context> context_;
  std::vector<Piece> joined_;  // one an input
  std::vector<std::shared_ptr<Outputs>> made_;
  size_t next_made_ = 0;
  std::vector<bool> requested_;  // outputs that the backend allocates
};

}  // namespace zerolane
