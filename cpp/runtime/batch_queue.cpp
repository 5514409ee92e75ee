// SPDX-License-Identifier: Apache-2.0
#include "runtime/batch_queue.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace zerolane {
namespace {

// How many requests that do not fit are passed over in search of ones that do.
constexpr size_t kPassed = 64;

int level_of(const BatchRequest& request) noexcept {
  return std::clamp(request.priority, BatchQueue::kLeast, BatchQueue::kMost) - BatchQueue::kLeast;
}

}  // namespace

void BatchQueue::push(BatchRequest& request) noexcept {
  const int level = level_of(request);
  List& list = lists_[static_cast<size_t>(level)];
  request.next_ = nullptr;
  (list.tail == nullptr ? list.head : list.tail->next_) = &request;
  list.tail = &request;
  filled_ |= 1U << level;
  ++count_;
  rows_ += static_cast<size_t>(request.rows_);
}

void BatchQueue::unlink(List& list, BatchRequest* before, BatchRequest& request) noexcept {
  (before == nullptr ? list.head : before->next_) = request.next_;
  if (list.tail == &request) list.tail = before;
  if (list.head == nullptr) filled_ &= ~(1U << (&list - lists_.data()));
  --count_;
  rows_ -= static_cast<size_t>(request.rows_);
}

BatchRequest* BatchQueue::remove(const std::function<bool(const BatchRequest&)>& is_it) {
  for (uint32_t left = filled_; left != 0;) {
    const int level = std::bit_width(left) - 1;
    left &= ~(1U << level);
    List& list = lists_[static_cast<size_t>(level)];
    BatchRequest* before = nullptr;
    for (BatchRequest* at = list.head; at != nullptr; before = at, at = at->next_) {
      if (!is_it(*at)) continue;
      unlink(list, before, *at);
      return at;
    }
  }
  return nullptr;
}

BatchRequest* BatchQueue::front() const noexcept {
  if (filled_ == 0) return nullptr;
  return lists_[static_cast<size_t>(std::bit_width(filled_) - 1)].head;
}

bool BatchQueue::can_join(const BatchRequest& first, const BatchRequest& other) noexcept {
  if (first.group_ != other.group_) return false;
  // Inputs without a batch dimension must be the same for all.
  const BatchGroup& group = *first.group_;
  for (size_t i = 0; i < group.shared.size(); ++i) {
    if (!group.shared[i]) continue;
    const View& mine = first.inputs[i];
    const View& its = other.inputs[i];
    if (mine.data != its.data && std::memcmp(mine.data, its.data, mine.bytes()) != 0) return false;
  }
  return true;
}

void BatchQueue::take(size_t rows, int64_t now_ns, std::vector<BatchRequest*>* batch,
                      std::vector<BatchRequest*>* late) noexcept {
  batch->clear();
  late->clear();
  size_t taken = 0;
  size_t passed = 0;
  for (uint32_t left = filled_; left != 0 && taken < rows && passed < kPassed;) {
    const int level = std::bit_width(left) - 1;
    left &= ~(1U << level);
    List& list = lists_[static_cast<size_t>(level)];
    BatchRequest* before = nullptr;
    for (BatchRequest* at = list.head; at != nullptr && taken < rows && passed < kPassed;) {
      BatchRequest* next = at->next_;
      if (at->deadline_ns < now_ns) {
        if (late->size() == late->capacity()) return;  // the next look takes the rest
        unlink(list, before, *at);
        late->push_back(at);
      } else if (batch->empty() || (taken + static_cast<size_t>(at->rows_) <= rows &&
                                    can_join(*batch->front(), *at))) {
        unlink(list, before, *at);
        batch->push_back(at);
        taken += std::max<size_t>(static_cast<size_t>(at->rows_), 1);
      } else {
        ++passed;
        before = at;
      }
      at = next;
    }
  }
}

}  // namespace zerolane
