// SPDX-License-Identifier: Apache-2.0
#include "kernels/softmax_top_k.h"

#include "kernels/lanes.h"
#include "kernels/order_element.h"
#include "kernels/softmax_element.h"

namespace zerolane::kernels::ZL_ISA {
namespace {

ZL_ELEMENT void swap_keys(uint64_t* a, uint64_t* b) {
  const uint64_t kept = *a;
  *a = *b;
  *b = kept;
}

// Moves keys[at] down a heap of `count` keys, whose root is the least.
void sink(uint64_t* keys, size_t at, size_t count) {
  const uint64_t key = keys[at];
  for (size_t child = 2 * at + 1; child < count; child = 2 * at + 1) {
    if (child + 1 < count && keys[child + 1] < keys[child]) ++child;
    if (key <= keys[child]) break;
    keys[at] = keys[child];
    at = child;
  }
  keys[at] = key;
}

// A heap's keys, largest first.
void sort_heap(uint64_t* keys, size_t count) {
  for (size_t end = count; end-- > 1;) {
    swap_keys(&keys[0], &keys[end]);
    sink(keys, 0, end);
  }
}

void make_heap(uint64_t* keys, size_t count) {
  for (size_t i = count / 2; i-- > 0;) sink(keys, i, count);
}

// Puts the `wanted` largest of the keys in front, sorted, largest first: quicksort that leaves out
// what is not wanted, without branches that depend on the keys. All keys differ. `patience` is how
// many bad pivots may come before a heap takes over, so that no input costs quadratic time.
void sort_largest(uint64_t* keys, size_t count, size_t wanted, int patience) {
  while (count > 24) {
    if (patience-- == 0) {
      make_heap(keys, count);
      sort_heap(keys, count);
      return;
    }
    // The pivot, the median of three, goes to the front.
    uint64_t* middle = keys + count / 2;
    uint64_t* last = keys + count - 1;
    if (*middle < *last) swap_keys(middle, last);
    if (keys[0] < *middle) swap_keys(&keys[0], middle);
    if (*middle < *last) swap_keys(middle, last);
    swap_keys(&keys[0], middle);
    const uint64_t pivot = keys[0];
    size_t larger = 0;
    for (size_t i = 1; i < count; ++i) {
      const uint64_t key = keys[i];
      keys[i] = keys[larger + 1];
      keys[larger + 1] = key;
      larger += key > pivot ? 1 : 0;
    }
    swap_keys(&keys[0], &keys[larger]);
    if (larger + 1 < wanted) {
      sort_largest(keys + larger + 1, count - larger - 1, wanted - larger - 1, patience);
    }
    count = larger;
    wanted = wanted < larger ? wanted : larger;
  }
  for (size_t i = 1; i < count; ++i) {
    const uint64_t key = keys[i];
    size_t at = i;
    for (; at > 0 && keys[at - 1] < key; --at) keys[at] = keys[at - 1];
    keys[at] = key;
  }
}

// The largest of the keys offered, in a heap.
class LargestKeys {
 public:
  // At least `most` of the values to come are `bar` or more.
  LargestKeys(uint64_t* keys, size_t most, float bar) : keys_(keys), most_(most), bar_(bar) {}

  // Values below this need not be offered; NaN if all are to be.
  float bar() const { return bar_; }

  void offer(float value, size_t place) {
    const uint64_t key = rank_key(value, static_cast<uint32_t>(place));
    if (count_ < most_) {
      keys_[count_++] = key;
      if (count_ < most_) return;
      make_heap(keys_, most_);
    } else {
      if (key < keys_[0]) return;
      keys_[0] = key;
      sink(keys_, 0, most_);
    }
    bar_ = value_of(static_cast<uint32_t>(keys_[0] >> 32));
  }

 private:
  uint64_t* keys_;
  size_t most_;
  size_t count_ = 0;
  float bar_;
};

// Vectors to work on at a time.
constexpr size_t kVectors = 4;
constexpr size_t kStep = kVectors * kLanes;

struct Bounds {
  float most;  // the largest element, NaN apart
  float bar;   // at least k elements are this or more
};

// One walk over the row: the largest element in each of kStep lanes. Of so many maxima the kth
// largest is a bar that few elements pass.
template <typename Element>
Bounds find_bounds(const Element* x, size_t n, size_t k) {
  const Floats least = Floats{} - __builtin_inff();
  Floats most[kVectors] = {least, least, least, least};
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    // NaN loses: it is not greater.
    for (size_t j = 0; j < kVectors; ++j) most[j] = larger_lanes(load(x + i + j * kLanes), most[j]);
  }
  for (size_t j = 0; i < n; i += kLanes, ++j) {
    const size_t count = n - i < kLanes ? n - i : kLanes;
    most[j] = larger_lanes(load_some(x + i, count, -__builtin_inff()), most[j]);
  }
  Bounds bounds{0, -__builtin_inff()};
  for (size_t round = 0; round < (k <= kStep ? k : 1); ++round) {
    const float all =
        largest_lane(larger_lanes(larger_lanes(most[0], most[1]), larger_lanes(most[2], most[3])));
    if (round == 0) bounds.most = all;
    if (k <= kStep) bounds.bar = all;
    // Equal ones go together: the bar is then lower than it could be.
    for (size_t j = 0; j < kVectors; ++j) most[j] = most[j] == all ? least : most[j];
  }
  return bounds;
}

// The sum of all weights. On the way, visit(vector, place of its first lane, lanes that count).
template <typename Element, typename Visit>
ZL_ELEMENT double sum_weights(const Element* x, size_t n, float most, float inverse_temperature,
                              const Visit& visit) {
  // Floats are summed over runs only, so that no sum grows much beyond its terms.
  constexpr size_t kRun = 64 * kStep;
  double sum = 0;
  size_t i = 0;
  while (i < n) {
    const size_t end = n - i < kRun ? n : i + kRun;
    Floats sums[kVectors] = {};
    for (; i + kStep <= end; i += kStep) {
      for (size_t j = 0; j < kVectors; ++j) {
        const Floats v = load(x + i + j * kLanes);
        sums[j] += softmax_weight(v, most, inverse_temperature);
        visit(v, i + j * kLanes, kLanes);
      }
    }
    for (; i < end; i += kLanes) {
      const size_t count = end - i < kLanes ? end - i : kLanes;
      const Floats v = load_some(x + i, count, -__builtin_inff());
      sums[0] += softmax_weight(v, most, inverse_temperature);
      visit(v, i, count);
    }
    const Floats all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    for (size_t j = 0; j < kLanes; ++j) sum += static_cast<double>(all[j]);
  }
  return sum;
}

// Few of many: a heap of the largest.
template <typename Element>
double find_few(const Element* x, size_t n, size_t k, Bounds bounds, float inverse_temperature,
                uint64_t* keys) {
  LargestKeys largest(keys, k, bounds.bar);
  const double sum =
      sum_weights(x, n, bounds.most, inverse_temperature, [&](Floats v, size_t from, size_t count) {
        // Written so that NaN passes, and everything passes a bar that is NaN.
        unsigned lanes = lanes_where(!(v < largest.bar()));
        if (__builtin_expect(lanes == 0, 1)) return;
        lanes &= static_cast<unsigned>((uint64_t{1} << count) - 1);
        for (; lanes != 0; lanes &= lanes - 1) {
          const size_t place = from + static_cast<size_t>(__builtin_ctz(lanes));
          largest.offer(static_cast<float>(x[place]), place);
        }
      });
  sort_heap(keys, k);
  return sum;
}

// Many: all keys are made and partly sorted, in `scratch`.
template <typename Element>
double find_many(const Element* x, size_t n, size_t k, Bounds bounds, float inverse_temperature,
                 uint64_t* keys, uint64_t* scratch) {
  for (size_t i = 0; i < n; ++i) {
    scratch[i] = rank_key(static_cast<float>(x[i]), static_cast<uint32_t>(i));
  }
  sort_largest(scratch, n, k, /*patience=*/64);
  __builtin_memcpy(keys, scratch, k * sizeof *keys);
  return sum_weights(x, n, bounds.most, inverse_temperature, [](Floats, size_t, size_t) {});
}

template <typename Element>
void run(const Element* logits, Element* probability, int64_t* index, size_t rows, size_t classes,
         size_t k, float temperature, uint64_t* scratch) {
  const float inverse_temperature = 1.0F / temperature;
  for (size_t row = 0; row < rows; ++row) {
    const Element* x = logits + row * classes;
    Element* p = probability + row * k;
    int64_t* place = index + row * k;
    // The keys are kept where the indices go: both are 64 bits.
    auto* keys = reinterpret_cast<uint64_t*>(place);
    const Bounds bounds = find_bounds(x, classes, k);
    const double sum = scratch == nullptr
                           ? find_few(x, classes, k, bounds, inverse_temperature, keys)
                           : find_many(x, classes, k, bounds, inverse_temperature, keys, scratch);
    for (size_t j = 0; j < k; ++j) {
      const uint32_t i = place_of(keys[j]);
      place[j] = i;
      const float w = softmax_weight(static_cast<float>(x[i]), bounds.most, inverse_temperature);
      p[j] = static_cast<Element>(static_cast<float>(static_cast<double>(w) / sum));
    }
  }
}

}  // namespace

void softmax_top_k_float32(const float* logits, float* probability, int64_t* index, size_t rows,
                           size_t classes, size_t k, float temperature, uint64_t* scratch) {
  run(logits, probability, index, rows, classes, k, temperature, scratch);
}

void softmax_top_k_float16(const Half* logits, Half* probability, int64_t* index, size_t rows,
                           size_t classes, size_t k, float temperature, uint64_t* scratch) {
  run(logits, probability, index, rows, classes, k, temperature, scratch);
}

void softmax_top_k_bfloat16(const BFloat16* logits, BFloat16* probability, int64_t* index,
                            size_t rows, size_t classes, size_t k, float temperature,
                            uint64_t* scratch) {
  run(logits, probability, index, rows, classes, k, temperature, scratch);
}

}  // namespace zerolane::kernels::ZL_ISA
