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
  // Memory that serves again once nobody holds it; new pieces have room for `most` extents on
  // `axis`.
  class Ring {
   public:
    Tensor take(DType dtype, const Shape& shape, size_t axis, int64_t most);

   private:
    static constexpr size_t kMost = 32;
    struct Piece {
      std::shared_ptr<Storage> storage;
      size_t bytes = 0;
    };
    std::vector<Piece> pieces_;
    size_t next_ = 0;
  };

  void join(std::span<BatchRequest* const> requests, int64_t rows);
  void give_outputs(const BatchGroup& group, int64_t rows);
  void take_outputs(std::span<BatchRequest* const> requests, int64_t rows);

  const BatchModel& model_;
  const int64_t most_;
  std::unique_ptr<Context> context_;
  std::vector<Ring> joined_;   // one an input
  std::vector<Ring> results_;  // one an output
  std::vector<Tensor> held_;   // joined inputs of this run
  std::vector<Tensor> outputs_;
  std::vector<bool> requested_;
};

}  // namespace zerolane
