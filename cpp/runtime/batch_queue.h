// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/batch_request.h"

namespace zerolane {

// Waiting requests: by priority, then by age. Not thread-safe; allocates nothing.
class BatchQueue {
 public:
  static constexpr int kLeast = -8;
  static constexpr int kMost = 7;

  void push(BatchRequest& request) noexcept;
  // Takes out the first that `is_it` holds for, by priority, then by age; null for none.
  BatchRequest* remove(const std::function<bool(const BatchRequest&)>& is_it);
  // The request that is next, null if there is none.
  BatchRequest* front() const noexcept;
  size_t count() const noexcept { return count_; }
  size_t rows() const noexcept { return rows_; }

  // Takes the next request and those behind it that can share its run, up to `rows` rows (the first
  // one whatever it has), into `batch`. Requests whose deadline is before `now_ns` go to `late`.
  // `batch` has room for `rows` entries; `late` for one at least, and no more than
  // it has room for are taken.
  void take(size_t rows, int64_t now_ns, std::vector<BatchRequest*>* batch,
            std::vector<BatchRequest*>* late) noexcept;

 private:
  struct List {
    BatchRequest* head = nullptr;
    BatchRequest* tail = nullptr;
  };
  // Unlinks `request`, whose predecessor in its list is `before` (null: it is the head).
  void unlink(List& list, BatchRequest* before, BatchRequest& request) noexcept;
  static bool can_join(const BatchRequest& first, const BatchRequest& other) noexcept;

  std::array<List, kMost - kLeast + 1> lists_;
  uint32_t filled_ = 0;  // a bit a list that is not empty
  size_t count_ = 0;
  size_t rows_ = 0;
};

}  // namespace zerolane
